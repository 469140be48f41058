//! Anonymous sets: what a rule looks an address, a port or an owner up in. One rule with a set costs the same for
//! one network as for thousands.

use ipnet::{Ipv4Net, Ipv6Net};
use nix::libc;

use super::layout::Family;
use super::message::{Attributes, Batch};
use crate::TABLE;
use crate::error::Part;

const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_DESC_SIZE: u16 = 1;
/// nft's note to itself in NFTA_SET_USERDATA: type, length, and the byte order of the keys as a 32-bit number.
const UDATA_KEY_BYTE_ORDER: [u8; 2] = [0, 4];
const HOST_ORDER: u32 = 1;
const NETWORK_ORDER: u32 = 2;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_LIST_SET_ID: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_DATA_VALUE: u16 = 1;
/// Elements per message: the list of them is one attribute, which must stay below 64 KiB.
const CHUNK: usize = 1000;

/// What nft calls the type of a key; it decides how `nft list` prints the elements.
#[derive(Clone, Copy)]
enum KeyType {
    Ipv4Address = 7,
    Ipv6Address = 8,
    Port = 13,
    Uid = 24,
    Gid = 25,
}

impl KeyType {
    fn byte_order(self) -> u32 {
        match self {
            KeyType::Uid | KeyType::Gid => HOST_ORDER,
            KeyType::Ipv4Address | KeyType::Ipv6Address | KeyType::Port => NETWORK_ORDER,
        }
    }
}

/// A set that exists only for the rule which names it by `id`.
pub(super) struct Set {
    pub(super) id: u32,
    key: KeyType,
    key_len: u32,
    /// The elements are ranges: each key starts one or ends the one before.
    ranges: bool,
    elements: Vec<Element>,
}

struct Element {
    key: Vec<u8>,
    end: bool,
}

impl Set {
    /// The kernel numbers anonymous sets by this pattern.
    pub(super) const NAME: &str = "__set%d";

    /// Networks must be sorted and without overlap.
    pub(super) fn ipv4(nets: &[Ipv4Net], id: u32) -> Set {
        let ranges = nets.iter().map(|net| {
            let after = u32::from(net.broadcast()).checked_add(1);
            (net.network().octets().to_vec(), after.map(|after| after.to_be_bytes().to_vec()))
        });
        Set { id, key: KeyType::Ipv4Address, key_len: 4, ranges: true, elements: edges(ranges) }
    }

    /// Networks must be sorted and without overlap.
    pub(super) fn ipv6(nets: &[Ipv6Net], id: u32) -> Set {
        let ranges = nets.iter().map(|net| {
            let after = u128::from(net.broadcast()).checked_add(1);
            (net.network().octets().to_vec(), after.map(|after| after.to_be_bytes().to_vec()))
        });
        Set { id, key: KeyType::Ipv6Address, key_len: 16, ranges: true, elements: edges(ranges) }
    }

    pub(super) fn ports(ports: &[u16], id: u32) -> Set {
        Set::of(KeyType::Port, 2, ports.iter().map(|port| port.to_be_bytes().to_vec()), id)
    }

    pub(super) fn uids(uids: &[u32], id: u32) -> Set {
        Set::of(KeyType::Uid, 4, uids.iter().map(|uid| uid.to_ne_bytes().to_vec()), id)
    }

    pub(super) fn gids(gids: &[u32], id: u32) -> Set {
        Set::of(KeyType::Gid, 4, gids.iter().map(|gid| gid.to_ne_bytes().to_vec()), id)
    }

    fn of(key: KeyType, key_len: u32, keys: impl Iterator<Item = Vec<u8>>, id: u32) -> Set {
        let elements = keys.map(|key| Element { key, end: false }).collect();
        Set { id, key, key_len, ranges: false, elements }
    }

    /// Adds the set and its elements to the transaction, as a part of the rule that needs it.
    pub(super) fn add(&self, batch: &mut Batch, family: Family, part: &Part) {
        let ranges = if self.ranges { libc::NFT_SET_INTERVAL } else { 0 };
        let flags = libc::NFT_SET_ANONYMOUS | libc::NFT_SET_CONSTANT | ranges;
        batch.push(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, family, part.clone(), |set| {
            set.text(NFTA_SET_TABLE, TABLE);
            set.text(NFTA_SET_NAME, Set::NAME);
            set.number(NFTA_SET_FLAGS, flags as u32);
            set.number(NFTA_SET_KEY_TYPE, self.key as u32);
            set.number(NFTA_SET_KEY_LEN, self.key_len);
            set.nest(NFTA_SET_DESC, |size| size.number(NFTA_SET_DESC_SIZE, self.elements.len() as u32));
            set.number(NFTA_SET_ID, self.id);
            set.bytes(
                NFTA_SET_USERDATA,
                &[&UDATA_KEY_BYTE_ORDER[..], &self.key.byte_order().to_ne_bytes()].concat(),
            );
        });
        for chunk in self.elements.chunks(CHUNK) {
            batch.push(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, family, part.clone(), |list| {
                list.text(NFTA_SET_ELEM_LIST_TABLE, TABLE);
                list.text(NFTA_SET_ELEM_LIST_SET, Set::NAME);
                list.number(NFTA_SET_ELEM_LIST_SET_ID, self.id);
                list.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| chunk.iter().for_each(|one| one.add(list)));
            });
        }
    }
}

impl Element {
    fn add(&self, list: &mut Attributes) {
        list.nest(NFTA_LIST_ELEM, |element| {
            if self.end {
                element.number(NFTA_SET_ELEM_FLAGS, libc::NFT_SET_ELEM_INTERVAL_END as u32);
            }
            element.nest(NFTA_SET_ELEM_KEY, |key| key.bytes(NFTA_DATA_VALUE, &self.key));
        });
    }
}

/// The edges of sorted ranges, each (first address, address after the last unless that is the end of the address
/// space). Ranges that touch are joined, or the kernel would see one key start and end at once. The list opens
/// with an end at zero, as nft's does: the gap before the first range is a range of its own.
fn edges(ranges: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Vec<Element> {
    let mut elements: Vec<Element> = Vec::new();
    for (first, after) in ranges {
        match elements.last() {
            Some(last) if last.key == first => drop(elements.pop()),
            None if first.iter().any(|&byte| byte != 0) => {
                elements.push(Element { key: vec![0; first.len()], end: true });
                elements.push(Element { key: first, end: false });
            }
            _ => elements.push(Element { key: first, end: false }),
        }
        elements.extend(after.map(|key| Element { key, end: true }));
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::Set;

    fn edges(nets: &[&str]) -> Vec<(String, bool)> {
        let nets: Vec<ipnet::Ipv4Net> = nets.iter().map(|net| net.parse().unwrap()).collect();
        let shown = |key: &[u8]| key.iter().map(u8::to_string).collect::<Vec<_>>().join(".");
        Set::ipv4(&nets, 1).elements.iter().map(|one| (shown(&one.key), one.end)).collect()
    }

    fn edge(key: &str, end: bool) -> (String, bool) {
        (key.to_owned(), end)
    }

    #[test]
    fn networks_become_edges_and_neighbours_are_joined() {
        assert_eq!(
            edges(&["10.0.0.0/8", "11.0.0.0/16", "192.168.1.1/32"]),
            [
                edge("0.0.0.0", true),
                edge("10.0.0.0", false),
                edge("11.1.0.0", true),
                edge("192.168.1.1", false),
                edge("192.168.1.2", true),
            ]
        );
    }

    #[test]
    fn the_ends_of_the_address_space_have_no_edge_beyond() {
        assert_eq!(edges(&["0.0.0.0/0"]), [edge("0.0.0.0", false)]);
        assert_eq!(edges(&["0.0.0.0/1", "255.255.255.255/32"]).len(), 3);
        assert_eq!(edges(&["255.255.255.255/32"]), [edge("0.0.0.0", true), edge("255.255.255.255", false)]);
    }
}
