//! The reader of DNS messages: answers of real servers, built messages, hostile ones.

use std::net::IpAddr;

use dragoman_wire::dns::{self, ADDRESSES_MAX, ALIASES_MAX, Address, Answer, Asked, Query, Rcode, asked};
use proptest::prelude::*;

const A: u16 = 1;
const CNAME: u16 = 5;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const AXFR: u16 = 252;
const IN: u16 = 1;

/// RD, as every stub resolver sets it.
const QUERY: u16 = 0x0100;
const RESPONSE: u16 = 0x8180;
const TRUNCATED: u16 = 0x0200;

/// A name on the wire, without compression.
fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

fn pointer(at: usize) -> Vec<u8> {
    (0xc000 | at as u16).to_be_bytes().to_vec()
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn question(text: &str, kind: u16) -> Vec<u8> {
    [name(text), words(&[kind, IN])].concat()
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let ttl = ttl.to_be_bytes();
    [owner, &words(&[kind, IN]), &ttl, &words(&[data.len() as u16]), data].concat()
}

fn opt(size: u16, flags: u16) -> Vec<u8> {
    [vec![0], words(&[41, size, 0, flags, 0])].concat()
}

fn message(id: u16, flags: u16, question: &[u8], answers: &[Vec<u8>], additional: &[Vec<u8>]) -> Vec<u8> {
    let count = |list: &[Vec<u8>]| list.len() as u16;
    let counts = [u16::from(!question.is_empty()), count(answers), 0, count(additional)];
    [words(&[id, flags]), words(&counts), question.to_vec(), answers.concat(), additional.concat()].concat()
}

fn query_of(bytes: &[u8]) -> Query {
    match asked(bytes) {
        Asked::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

fn plain(text: &str) -> Query {
    query_of(&message(7, QUERY, &question(text, A), &[], &[]))
}

fn response(text: &str, answers: &[Vec<u8>]) -> Vec<u8> {
    message(9, RESPONSE, &question(text, A), answers, &[])
}

fn addresses(query: &Query, bytes: &[u8]) -> Vec<(String, u32)> {
    let answer = query.answer(9, bytes).expect("an answer to the query");
    answer.addresses.iter().map(|Address { ip, ttl_seconds }| (ip.to_string(), *ttl_seconds)).collect()
}

fn address(text: &str) -> Vec<u8> {
    match text.parse().expect("an address") {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn owned(pairs: &[(&str, u32)]) -> Vec<(String, u32)> {
    pairs.iter().map(|(ip, ttl)| ((*ip).to_owned(), *ttl)).collect()
}

#[test]
fn what_dig_and_dnsmasq_say_is_read() {
    let query = query_of(include_bytes!("data/dig-9.18-query.bin"));
    assert_eq!(query.host().as_deref(), Some("www.shop.test"));
    assert_eq!(query.payload_max(), 1232);
    let answer = include_bytes!("data/dnsmasq-2.90-answer.bin");
    let answer = query.answer(query.id(), answer).expect("its answer");
    assert_eq!((answer.rcode, answer.truncated), (Rcode::NO_ERROR, false));
    let ips: Vec<_> = answer.addresses.iter().map(|address| address.ip.to_string()).collect();
    assert_eq!(ips, ["198.18.0.5"], "by way of an alias");
}

#[test]
fn a_query_is_known_by_its_question() {
    let query = plain("Www.Example.COM");
    assert_eq!((query.id(), query.host().as_deref()), (7, Some("www.example.com")));
    assert_eq!(query.payload_max(), 512);
    let with = |edns| query_of(&message(7, QUERY, &question("a", A), &[], &[edns]));
    assert_eq!(with(opt(4096, 0)).payload_max(), 4096);
    assert_eq!(with(opt(100, 0)).payload_max(), 512, "less is as if it said nothing (RFC 6891 §6.2.5)");
}

#[test]
fn what_is_no_query_is_not_answered() {
    for bytes in [&b""[..], &[0; 11], &response("a", &[])] {
        assert_eq!(asked(bytes), Asked::Noise);
    }
}

#[test]
fn a_query_that_cannot_be_read_gets_a_format_error() {
    let two = [words(&[7, QUERY, 2, 0, 0, 0]), question("a", A), question("b", A)].concat();
    let header = |questions: u16| words(&[7, QUERY, questions, 0, 0, 0]);
    let pointing = [header(1), pointer(12), words(&[A, IN])].concat();
    let reserved = [header(1), vec![0x41, b'a', 0], words(&[A, IN])].concat();
    let long = [header(1), [&[63][..], &[b'a'; 63]].concat().repeat(4), vec![0], words(&[A, IN])].concat();
    for bytes in [two, header(0), header(1), pointing, reserved, long] {
        let Asked::Refused(answer) = asked(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(answer, words(&[7, 0x8181, 0, 0, 0, 0]));
    }
}

#[test]
fn a_zone_transfer_is_refused_with_a_reason() {
    let bytes = message(7, QUERY, &question("zone.test", AXFR), &[], &[opt(1232, 0)]);
    let Asked::Refused(answer) = asked(&bytes) else { panic!("a transfer") };
    assert_eq!(answer[3] & 15, 4, "not implemented");
    assert!(answer.ends_with(b"zone transfers are not forwarded"));
}

#[test]
fn addresses_are_those_of_the_name_that_was_asked() {
    let query = plain("www.shop.test");
    let asked_name = pointer(12);
    let cases = [
        (vec![record(&asked_name, A, 300, &address("192.0.2.1"))], vec![("192.0.2.1", 300)]),
        (
            vec![
                record(&asked_name, A, 1, &address("192.0.2.1")),
                record(&asked_name, AAAA, 2, &address("fd00::1")),
            ],
            vec![("192.0.2.1", 1), ("fd00::1", 2)],
        ),
        // Another name's, a text, another class, and what is too long for an address.
        (vec![record(&name("other.test"), A, 300, &address("192.0.2.1"))], vec![]),
        (vec![record(&asked_name, TXT, 300, b"\x03abc")], vec![]),
        (vec![[&asked_name[..], &words(&[A, 3, 0, 9, 4]), &address("192.0.2.1")].concat()], vec![]),
        (vec![record(&asked_name, A, 300, &address("fd00::1"))], vec![]),
        (vec![record(&asked_name, AAAA, 300, &address("192.0.2.1"))], vec![]),
        // A time that cannot be is none.
        (vec![record(&asked_name, A, 0x8000_0000, &address("192.0.2.1"))], vec![("192.0.2.1", 0)]),
    ];
    for (answers, expected) in cases {
        assert_eq!(addresses(&query, &response("www.shop.test", &answers)), owned(&expected), "{answers:?}");
    }
}

#[test]
fn aliases_are_followed_in_any_order_with_the_least_of_their_times() {
    let records = [
        record(&pointer(12), CNAME, 60, &name("Edge.cdn.test")),
        record(&name("edge.CDN.test"), CNAME, 5, &name("pop.cdn.test")),
        record(&name("pop.cdn.test"), A, 300, &address("192.0.2.7")),
        record(&name("edge.cdn.test"), A, 300, &address("192.0.2.8")),
        record(&name("bank.test"), A, 300, &address("192.0.2.9")),
    ];
    let query = plain("www.shop.test");
    let expected = owned(&[("192.0.2.7", 5), ("192.0.2.8", 60)]);
    assert_eq!(addresses(&query, &response("www.shop.test", &records)), expected);
    let backwards: Vec<_> = records.into_iter().rev().collect();
    let expected: Vec<_> = expected.into_iter().rev().collect();
    assert_eq!(addresses(&query, &response("www.shop.test", &backwards)), expected);
}

#[test]
fn circles_of_aliases_end() {
    let query = plain("a.test");
    for circle in [&["a.test"][..], &["b.test", "a.test"], &["b.test", "c.test", "b.test"]] {
        let mut owner = "a.test";
        let mut records = Vec::new();
        for next in circle {
            records.push(record(&name(owner), CNAME, 60, &name(next)));
            owner = next;
        }
        records.push(record(&name(owner), A, 60, &address("192.0.2.1")));
        assert_eq!(addresses(&query, &response("a.test", &records)), owned(&[("192.0.2.1", 60)]));
    }
}

#[test]
fn aliases_and_addresses_are_bounded() {
    let step = |n: usize| record(&name(&format!("n{n}.test")), CNAME, 60, &name(&format!("n{}.test", n + 1)));
    for (length, reached) in [(ALIASES_MAX, 1), (ALIASES_MAX + 1, 0)] {
        let mut records: Vec<_> = (0..length).map(step).collect();
        records.push(record(&name(&format!("n{length}.test")), A, 60, &address("192.0.2.1")));
        assert_eq!(addresses(&plain("n0.test"), &response("n0.test", &records)).len(), reached, "{length}");
    }
    let many = vec![record(&pointer(12), A, 60, &address("192.0.2.1")); 4000];
    assert_eq!(addresses(&plain("a.test"), &response("a.test", &many)).len(), ADDRESSES_MAX);
}

#[test]
fn pointers_that_lead_nowhere_or_round_teach_nothing() {
    let query = plain("a.test");
    let start = response("a.test", &[]).len();
    let good = record(&pointer(12), A, 60, &address("192.0.2.1"));
    for to in [start, start + 1, 0x3fff] {
        let bad = record(&pointer(to), A, 60, &address("192.0.2.2"));
        assert_eq!(addresses(&query, &response("a.test", &[bad, good.clone()])), [], "{to:#x}");
    }
    // Two that point to each other, and a chain of pointers to pointers that goes on for long.
    let mut chain = vec![record(&pointer(12), TXT, 0, &pointer(start + 14))];
    chain.push(record(&pointer(start + 12), A, 60, &address("192.0.2.2")));
    assert_eq!(addresses(&query, &response("a.test", &chain)), []);
    let ladder: Vec<u8> = (0..2000)
        .flat_map(|step| pointer(if step == 0 { 12 } else { start + 12 + 2 * (step - 1) }))
        .collect();
    let top = pointer(start + 12 + 2 * 1999);
    let records = [record(&pointer(12), TXT, 0, &ladder), record(&top, A, 60, &address("192.0.2.2"))];
    assert_eq!(addresses(&query, &response("a.test", &records)), []);
    let low = pointer(start + 12 + 2 * 20);
    let records = [record(&pointer(12), TXT, 0, &ladder), record(&low, A, 60, &address("192.0.2.2"))];
    assert_eq!(addresses(&query, &response("a.test", &records)).len(), 1);
}

#[test]
fn a_name_has_at_most_255_bytes() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(name(&longest).len(), 255);
    assert_eq!(plain(&longest).host().map(|host| host.len()), Some(253));
    let too_long = message(7, QUERY, &question(&format!("{longest}b"), A), &[], &[]);
    assert!(matches!(asked(&too_long), Asked::Refused(_)));
    // Not by way of a pointer either: the owner is one label before the longest name.
    let records = [record(&[&b"\x01x"[..], &pointer(12)].concat(), A, 60, &address("192.0.2.1"))];
    assert_eq!(addresses(&plain(&longest), &response(&longest, &records)), []);
}

#[test]
fn only_names_of_hosts_have_a_text() {
    for text in ["", "a b.test", "a\u{7f}.test", "\u{fc}.test", "a/b", "*.test"] {
        assert_eq!(plain(text).host(), None, "{text:?}");
    }
    // A dot inside of a label is no end of it.
    let dotted = [words(&[7, QUERY, 1, 0, 0, 0]), b"\x03a.b\x00".to_vec(), words(&[A, IN])].concat();
    assert_eq!(query_of(&dotted).host(), None);
    assert_eq!(plain("_srv-1.a_b.TEST").host().as_deref(), Some("_srv-1.a_b.test"));
}

#[test]
fn what_answers_another_query_is_no_answer() {
    let query = plain("a.test");
    let right = response("a.test", &[record(&pointer(12), A, 60, &address("192.0.2.1"))]);
    assert!(query.answer(9, &right).is_some());
    assert!(query.answer(9, &response("A.tEST", &[])).is_some(), "case means nothing");
    assert!(query.answer(8, &right).is_none(), "another identifier");
    for (what, bytes) in [
        ("another name", response("b.test", &[])),
        ("another type", message(9, RESPONSE, &question("a.test", AAAA), &[], &[])),
        ("another class", message(9, RESPONSE, &[name("a.test"), words(&[A, 3])].concat(), &[], &[])),
        ("a query", message(9, QUERY, &question("a.test", A), &[], &[])),
        ("another opcode", message(9, RESPONSE | 2 << 11, &question("a.test", A), &[], &[])),
        ("no question", message(9, RESPONSE, &[], &[], &[])),
        ("no such name, of no question", message(9, RESPONSE | 3, &[], &[], &[])),
        ("cut off", right[..20].to_vec()),
    ] {
        assert_eq!(query.answer(9, &bytes), None, "{what}");
    }
    let cannot_read = message(9, RESPONSE | 1, &[], &[], &[]);
    assert_eq!(query.answer(9, &cannot_read).map(|answer| answer.rcode), Some(Rcode::FORMAT_ERROR));
}

#[test]
fn results_and_truncation_are_read() {
    let query = plain("a.test");
    for (flags, rcode, truncated) in
        [(0, 0, false), (2, 2, false), (3, 3, false), (TRUNCATED, 0, true), (TRUNCATED | 5, 5, true)]
    {
        let bytes = message(9, RESPONSE | flags, &question("a.test", A), &[], &[]);
        let expected = Answer { rcode: Rcode(rcode), truncated, addresses: vec![] };
        assert_eq!(query.answer(9, &bytes), Some(expected));
    }
}

#[test]
fn answers_of_our_own() {
    let query = plain("A.test");
    let failure = query.failure(Rcode::SERVER_FAILURE, "nobody answered");
    assert_eq!(failure, message(7, RESPONSE | 2, &question("A.test", A), &[], &[]), "as it was asked");
    assert_eq!(query.truncated(), message(7, RESPONSE | TRUNCATED, &question("A.test", A), &[], &[]));

    let asked_with_do = message(7, QUERY | 0x10, &question("a.test", A), &[], &[opt(4096, 0xffff)]);
    let query = query_of(&asked_with_do);
    assert_eq!(
        query.truncated(),
        message(7, RESPONSE | TRUNCATED | 0x10, &question("a.test", A), &[], &[opt(1232, 0x8000)])
    );
    let explained = [&b"\0\x0f\0\x06"[..], &words(&[23]), b"dead"].concat();
    let with_option = [vec![0], words(&[41, 1232, 0, 0x8000, explained.len() as u16]), explained].concat();
    assert_eq!(
        query.failure(Rcode::SERVER_FAILURE, "dead"),
        message(7, RESPONSE | 2 | 0x10, &question("a.test", A), &[], &[with_option])
    );
}

#[test]
fn an_explained_failure_fits_where_any_answer_does() {
    let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    let query = query_of(&message(7, QUERY, &question(&longest, A), &[], &[opt(512, 0)]));
    let failure = query.failure(Rcode::SERVER_FAILURE, &"é".repeat(300));
    assert!((500..=512).contains(&failure.len()), "{} bytes", failure.len());
    let mut answer = failure;
    dns::set_id(&mut answer, 9);
    assert_eq!(query.answer(9, &answer).map(|answer| answer.rcode), Some(Rcode::SERVER_FAILURE));
}

/// Any message, well made or nearly so.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let owner = prop_oneof![
        Just(pointer(12)),
        Just(name("a.test")),
        Just(name("b.test")),
        (0usize..200).prop_map(pointer),
        proptest::collection::vec(any::<u8>(), 0..12),
    ];
    let data = prop_oneof![
        Just(address("192.0.2.1")),
        Just(address("fd00::1")),
        Just(name("b.test")),
        Just(name("a.test")),
        (0usize..200).prop_map(pointer),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let kind = prop_oneof![Just(A), Just(AAAA), Just(CNAME), Just(TXT), any::<u16>()];
    let one = (owner, kind, any::<u32>(), data)
        .prop_map(|(owner, kind, ttl, data)| record(&owner, kind, ttl, &data));
    let records = proptest::collection::vec(one, 0..12);
    (records, any::<u16>(), 0usize..40).prop_map(|(records, flags, more)| {
        let mut bytes = message(9, flags, &question("a.test", A), &records, &[]);
        bytes[7] = bytes[7].wrapping_add(more as u8);
        bytes
    })
}

proptest! {
    #[test]
    fn a_message_that_is_cut_anywhere_teaches_no_more_than_the_whole(bytes in any_message()) {
        let query = plain("a.test");
        let mut before: Vec<Address> = Vec::new();
        for end in 0..=bytes.len() {
            let now = query.answer(9, &bytes[..end]).map_or_else(Vec::new, |answer| answer.addresses);
            prop_assert!(before.iter().all(|old| now.iter().any(|new| new.ip == old.ip)), "cut at {}", end);
            before = now;
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let query = plain("a.test");
        let _ = query.answer(9, &bytes);
        if let Asked::Query(query) = asked(&bytes) {
            let mut own = query.failure(Rcode::SERVER_FAILURE, "reason");
            prop_assert_eq!(u16::from_be_bytes([own[0], own[1]]), query.id());
            dns::set_id(&mut own, 9);
            prop_assert_eq!(query.answer(9, &own).map(|answer| answer.rcode), Some(Rcode::SERVER_FAILURE));
            prop_assert_eq!(asked(&own), Asked::Noise);
        }
    }

    #[test]
    fn a_query_with_one_byte_changed_is_no_other_one(at in 12usize..24, to in any::<u8>()) {
        let bytes = message(7, QUERY, &question("a.test", A), &[], &[]);
        prop_assert_eq!(bytes.len(), 24);
        let mut changed = bytes.clone();
        changed[at] = to;
        changed[2] |= 0x80;
        let same = changed[12..].eq_ignore_ascii_case(&bytes[12..]);
        prop_assert_eq!(query_of(&bytes).answer(7, &changed).is_some(), same);
    }
}
