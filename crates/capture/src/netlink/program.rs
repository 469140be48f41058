//! A rule as a program for the register machine of nf_tables: load a field of the packet into a register, compare
//! it or look it up in a set, and if all comparisons hold, return or redirect.

use nix::libc;

use super::layout::Family;
use super::message::Attributes;
use super::set::Set;
use crate::options::PortRange;
use crate::plan::{Action, IpVersion, Match, Nets, Rule, Transport};

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_SET_ID: u16 = 4;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_REDIR_REG_PROTO_MIN: u16 = 1;
const NFTA_REDIR_REG_PROTO_MAX: u16 = 2;
const NFTA_REDIR_FLAGS: u16 = 3;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
/// What the routing table knows of the packet's destination: NFT_FIB_RESULT_ADDRTYPE and NFTA_FIB_F_DADDR of
/// linux/netfilter/nf_tables.h, RTN_LOCAL of linux/rtnetlink.h.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_OF_DESTINATION: u32 = 1 << 1;
const LOCAL: u32 = 2;
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;
/// The verdict has a register of its own; values go through the first of 16 bytes.
const VERDICT: u32 = libc::NFT_REG_VERDICT as u32;
const VALUE: u32 = libc::NFT_REG_1 as u32;
/// The second register of 16 bytes, for the end of a range.
const END: u32 = libc::NFT_REG_2 as u32;
/// The bit of an invalid packet in the word that `ct state` loads (NF_CT_STATE_INVALID_BIT), and of a translated
/// destination in that of `ct status` (IPS_DST_NAT).
const INVALID_BIT: u32 = 1;
const DST_NAT_BIT: u32 = 1 << 5;

/// Offsets and lengths in bytes: RFC 791 section 3.1, RFC 8200 section 3, RFC 9293 section 3.1 and RFC 768
/// (which has its ports where TCP has them).
const IPV4_DESTINATION: Field = Field { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset: 16, len: 4 };
const IPV6_DESTINATION: Field = Field { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset: 24, len: 16 };
const DESTINATION_PORT: Field = Field { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, len: 2 };
const TCP_FLAGS: Field = Field { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset: 13, len: 1 };
/// RFC 792 and RFC 4443 section 3.1.
const ICMP_PORT_UNREACHABLE: u8 = 3;
const ICMPV6_PORT_UNREACHABLE: u8 = 4;
const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;

/// A rule's expressions, and the sets that they look things up in.
pub(super) struct Program {
    pub(super) expressions: Attributes,
    pub(super) sets: Vec<Set>,
}

struct Field {
    base: libc::c_int,
    offset: u32,
    len: u32,
}

impl Program {
    /// `sets` counts the sets of the whole transaction: a rule names its sets by number before they have a name.
    pub(super) fn compile(family: Family, rule: &Rule, sets: &mut u32) -> Program {
        let mut program = Program { expressions: Attributes::default(), sets: Vec::new() };
        for one in &rule.matches {
            program.condition(family, one, sets);
        }
        program.action(family, rule.action);
        program
    }

    fn condition(&mut self, family: Family, one: &Match, sets: &mut u32) {
        match one {
            Match::SocketGid(gids) => {
                self.meta(libc::NFT_META_SKGID);
                self.owner(gids, Set::gids, sets);
            }
            Match::SocketUid(uids) => {
                self.meta(libc::NFT_META_SKUID);
                self.owner(uids, Set::uids, sets);
            }
            Match::Mark(mark) => {
                self.meta(libc::NFT_META_MARK);
                self.equals(&mark.to_ne_bytes(), true);
            }
            Match::Loopback => self.interface(libc::NFT_META_OIFNAME, "lo"),
            Match::FromHere => self.interface(libc::NFT_META_IIFNAME, "lo"),
            Match::ForAnother => self.not_local(),
            Match::Interface(name) => self.interface(libc::NFT_META_OIFNAME, name),
            Match::Version(version) => self.version(family, *version),
            Match::Destination { nets, within } => {
                let (version, field, set) = match nets {
                    Nets::V4(nets) => (IpVersion::V4, IPV4_DESTINATION, Set::ipv4(nets, number(sets))),
                    Nets::V6(nets) => (IpVersion::V6, IPV6_DESTINATION, Set::ipv6(nets, number(sets))),
                };
                self.version(family, version);
                self.load(&field);
                self.lookup(set, *within);
            }
            Match::Port { of, ports, within } => {
                self.transport(*of);
                self.load(&DESTINATION_PORT);
                match ports[..] {
                    [port] => self.equals(&port.to_be_bytes(), *within),
                    _ => self.lookup(Set::ports(ports, number(sets)), *within),
                }
            }
            Match::Syn => self.syn(true),
            Match::TcpButSyn => self.syn(false),
            Match::TcpInvalid => {
                self.transport(Transport::Tcp);
                self.ct_bit(libc::NFT_CT_STATE, INVALID_BIT);
            }
            Match::Translated => self.ct_bit(libc::NFT_CT_STATUS, DST_NAT_BIT),
        }
    }

    fn action(&mut self, family: Family, action: Action) {
        match action {
            Action::Leave => self.verdict(libc::NFT_RETURN),
            Action::Drop => self.verdict(libc::NF_DROP),
            Action::Redirect(ports) => self.redirect(ports),
            Action::Reset => self.reject(libc::NFT_REJECT_TCP_RST, 0),
            Action::Unreachable => match family {
                Family::Inet => {
                    self.reject(libc::NFT_REJECT_ICMPX_UNREACH, libc::NFT_REJECT_ICMPX_PORT_UNREACH as u8);
                }
                Family::Ip => self.reject(libc::NFT_REJECT_ICMP_UNREACH, ICMP_PORT_UNREACHABLE),
                Family::Ip6 => self.reject(libc::NFT_REJECT_ICMP_UNREACH, ICMPV6_PORT_UNREACHABLE),
            },
        }
    }

    fn verdict(&mut self, code: libc::c_int) {
        self.immediate(VERDICT, |data| {
            data.nest(NFTA_DATA_VERDICT, |verdict| verdict.number(NFTA_VERDICT_CODE, code as u32));
        });
    }

    fn redirect(&mut self, ports: PortRange) {
        let PortRange { first, last } = ports;
        self.immediate(VALUE, |data| data.bytes(NFTA_DATA_VALUE, &first.to_be_bytes()));
        if first != last {
            self.immediate(END, |data| data.bytes(NFTA_DATA_VALUE, &last.to_be_bytes()));
        }
        self.expression("redir", |redir| {
            redir.number(NFTA_REDIR_REG_PROTO_MIN, VALUE);
            if first != last {
                redir.number(NFTA_REDIR_REG_PROTO_MAX, END);
            }
            redir.number(NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
        });
    }

    fn reject(&mut self, kind: libc::c_int, code: u8) {
        self.expression("reject", |reject| {
            reject.number(NFTA_REJECT_TYPE, kind as u32);
            reject.bytes(NFTA_REJECT_ICMP_CODE, &[code]);
        });
    }

    fn not_local(&mut self) {
        self.expression("fib", |fib| {
            fib.number(NFTA_FIB_DREG, VALUE);
            fib.number(NFTA_FIB_RESULT, FIB_ADDRESS_TYPE);
            fib.number(NFTA_FIB_FLAGS, FIB_OF_DESTINATION);
        });
        self.equals(&LOCAL.to_ne_bytes(), false);
    }

    fn interface(&mut self, of: libc::c_int, name: &str) {
        self.meta(of);
        // A name fills its whole register.
        let mut register = [0; 16];
        register[..name.len()].copy_from_slice(name.as_bytes());
        self.equals(&register, true);
    }

    /// The packets of a table for one version of IP are of that version.
    fn version(&mut self, family: Family, version: IpVersion) {
        let protocol = match version {
            IpVersion::V4 => libc::NFPROTO_IPV4,
            IpVersion::V6 => libc::NFPROTO_IPV6,
        };
        if family == Family::Inet {
            self.meta(libc::NFT_META_NFPROTO);
            self.equals(&[protocol as u8], true);
        }
    }

    fn transport(&mut self, of: Transport) {
        let protocol = match of {
            Transport::Tcp => libc::IPPROTO_TCP,
            Transport::Udp => libc::IPPROTO_UDP,
        };
        self.meta(libc::NFT_META_L4PROTO);
        self.equals(&[protocol as u8], true);
    }

    fn syn(&mut self, equal: bool) {
        self.transport(Transport::Tcp);
        self.load(&TCP_FLAGS);
        self.mask(&[FIN_SYN_RST_ACK]);
        self.equals(&[SYN], equal);
    }

    /// Whether conntrack has set this bit of its word on the packet's flow.
    fn ct_bit(&mut self, key: libc::c_int, bit: u32) {
        self.expression("ct", |ct| {
            ct.number(NFTA_CT_DREG, VALUE);
            ct.number(NFTA_CT_KEY, key as u32);
        });
        self.mask(&bit.to_ne_bytes());
        self.equals(&[0; 4], false);
    }

    fn owner(&mut self, ids: &[u32], set: fn(&[u32], u32) -> Set, sets: &mut u32) {
        match ids {
            [id] => self.equals(&id.to_ne_bytes(), true),
            _ => self.lookup(set(ids, number(sets)), true),
        }
    }

    fn meta(&mut self, key: libc::c_int) {
        self.expression("meta", |meta| {
            meta.number(NFTA_META_DREG, VALUE);
            meta.number(NFTA_META_KEY, key as u32);
        });
    }

    fn load(&mut self, field: &Field) {
        self.expression("payload", |payload| {
            payload.number(NFTA_PAYLOAD_DREG, VALUE);
            payload.number(NFTA_PAYLOAD_BASE, field.base as u32);
            payload.number(NFTA_PAYLOAD_OFFSET, field.offset);
            payload.number(NFTA_PAYLOAD_LEN, field.len);
        });
    }

    fn equals(&mut self, value: &[u8], equal: bool) {
        let operator = if equal { libc::NFT_CMP_EQ } else { libc::NFT_CMP_NEQ };
        self.expression("cmp", |cmp| {
            cmp.number(NFTA_CMP_SREG, VALUE);
            cmp.number(NFTA_CMP_OP, operator as u32);
            cmp.nest(NFTA_CMP_DATA, |data| data.bytes(NFTA_DATA_VALUE, value));
        });
    }

    fn mask(&mut self, mask: &[u8]) {
        self.expression("bitwise", |bitwise| {
            bitwise.number(NFTA_BITWISE_SREG, VALUE);
            bitwise.number(NFTA_BITWISE_DREG, VALUE);
            bitwise.number(NFTA_BITWISE_LEN, mask.len() as u32);
            bitwise.nest(NFTA_BITWISE_MASK, |data| data.bytes(NFTA_DATA_VALUE, mask));
            bitwise.nest(NFTA_BITWISE_XOR, |data| data.bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]));
        });
    }

    fn lookup(&mut self, set: Set, within: bool) {
        self.expression("lookup", |lookup| {
            lookup.text(NFTA_LOOKUP_SET, Set::NAME);
            lookup.number(NFTA_LOOKUP_SREG, VALUE);
            lookup.number(NFTA_LOOKUP_SET_ID, set.id);
            if !within {
                lookup.number(NFTA_LOOKUP_FLAGS, libc::NFT_LOOKUP_F_INV as u32);
            }
        });
        self.sets.push(set);
    }

    fn immediate(&mut self, register: u32, fill: impl FnOnce(&mut Attributes)) {
        self.expression("immediate", |immediate| {
            immediate.number(NFTA_IMMEDIATE_DREG, register);
            immediate.nest(NFTA_IMMEDIATE_DATA, fill);
        });
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Attributes)) {
        self.expressions.nest(NFTA_LIST_ELEM, |expression| {
            expression.text(NFTA_EXPR_NAME, name);
            expression.nest(NFTA_EXPR_DATA, fill);
        });
    }
}

fn number(sets: &mut u32) -> u32 {
    *sets += 1;
    *sets
}
