//! A DNS message, taken as a query and as the answer to its own question: a message cut short teaches nothing that the
//! whole one does not, and what we answer ourselves is an answer to the query.
#![no_main]

use dragoman_wire::dns::{ADDRESSES_MAX, Address, Asked, MESSAGE_MAX, Query, Rcode, asked, set_id};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > MESSAGE_MAX {
        return;
    }
    let Some(query) = as_query(bytes) else { return };
    for mut own in [query.truncated(), query.failure(Rcode::SERVER_FAILURE, "why")] {
        assert_eq!(asked(&own), Asked::Noise, "nobody answers an answer");
        assert!(query.answer(query.id(), &own).is_some());
        set_id(&mut own, !query.id());
        assert!(query.answer(query.id(), &own).is_none());
    }
    let id = query.id();
    let whole = addresses(&query, id, bytes);
    assert!(whole.len() <= ADDRESSES_MAX);
    for eighth in 0..8 {
        let part = addresses(&query, id, &bytes[..bytes.len() * eighth / 8]);
        assert!(part.iter().all(|address| whole.iter().any(|other| other.ip == address.ip)), "at {eighth} of 8");
    }
});

/// The query that the message is, or is the answer to.
fn as_query(bytes: &[u8]) -> Option<Query> {
    let mut query = bytes.to_vec();
    *query.get_mut(2)? &= 0x7f;
    match asked(&query) {
        Asked::Query(query) => Some(query),
        Asked::Refused(answer) => {
            assert_eq!(asked(&answer), Asked::Noise);
            None
        }
        Asked::Noise => None,
    }
}

fn addresses(query: &Query, id: u16, bytes: &[u8]) -> Vec<Address> {
    query.answer(id, bytes).map_or_else(Vec::new, |answer| answer.addresses)
}
