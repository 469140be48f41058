//! Hellos of all kinds: each gets the policy of the name that a server would read in it, or that of no name.

use std::net::SocketAddr;

use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};

use super::ALLOW_LIST;
use super::hello::{ech, extension, grease, hello, message, names, padding, prefixed16, records, sni};

/// What is said, and the name that policy should see in it.
struct Said {
    what: &'static str,
    bytes: Vec<u8>,
    name: Option<&'static str>,
}

fn said(what: &'static str, name: Option<&'static str>, bytes: Vec<u8>) -> Said {
    Said { what, bytes, name }
}

/// The greatest that OpenSSL takes is twice as long, and no client is known that comes near.
fn too_long() -> Vec<u8> {
    let message = message(&[sni(b"pay.test"), padding(65_000)]);
    let extended = [&[message[0], 1, 0x10, 0][..], &message[4..], &vec![0; 6000]].concat();
    records(&extended, 16_384)
}

fn hellos() -> Vec<Said> {
    let pay = Some("pay.test");
    let named = |name: &[u8]| hello(&[sni(name)]);
    vec![
        said("the name", pay, named(b"pay.test")),
        said("capitals", pay, named(b"PAY.Test")),
        said("a final dot", pay, named(b"pay.test.")),
        said("grease", pay, hello(&[grease(0), sni(b"pay.test"), grease(5), grease(15)])),
        said("after 40 KiB", pay, hello(&[padding(40_000), sni(b"pay.test")])),
        said("in records of a byte", pay, records(&message(&[sni(b"pay.test")]), 1)),
        said("cut within the name", pay, records(&message(&[sni(b"pay.test")]), 100)),
        said("behind a name of another type", pay, hello(&[names(&[(7, b"other.test"), (0, b"pay.test")])])),
        said("an outer name", pay, hello(&[sni(b"pay.test"), ech()])),
        said("an older record version", pay, {
            let mut bytes = named(b"pay.test");
            bytes[2] = 0;
            bytes
        }),
        said("below the wildcard", Some("a.b.shop.test"), named(b"a.b.shop.test")),
        said("below it and denied", Some("evil.shop.test"), named(b"EVIL.shop.test")),
        said("the same with a dot", Some("evil.shop.test"), named(b"evil.shop.test.")),
        said("the wildcard's own name", Some("shop.test"), named(b"shop.test")),
        said("a name that ends alike", Some("notpay.test"), named(b"notpay.test")),
        said("another outer name", Some("public.test"), hello(&[sni(b"public.test"), ech()])),
        said("no name", None, hello(&[grease(1)])),
        said("no extension", None, hello(&[])),
        said("an empty name", None, named(b"")),
        said("an address", None, named(b"198.18.0.2")),
        said("an IPv6 address", None, named(b"fd98::2")),
        said("a NUL in the name", None, named(b"pay.test\0.evil.test")),
        said("a space behind it", None, named(b"pay.test ")),
        said("two dots", None, named(b"pay.test..")),
        said("the extension twice", None, hello(&[sni(b"pay.test"), sni(b"evil.test")])),
        said("twice the same", None, hello(&[sni(b"pay.test"), sni(b"pay.test")])),
        said("two names in one", None, hello(&[names(&[(0, b"pay.test"), (0, b"evil.test")])])),
        said(
            "a name that is longer than said",
            None,
            hello(&[extension(0, &prefixed16(b"\0\0\x20pay.test"))]),
        ),
        said("a hello longer than any", None, too_long()),
    ]
}

/// The destination by the allow-list.
fn destination(name: Option<&str>) -> &'static str {
    match name {
        Some("pay.test") => "pay",
        Some("evil.shop.test") => "evil",
        Some(name) if name.ends_with(".shop.test") => "shop",
        _ => "default",
    }
}

/// Bytes that repeat late, different for each seed.
fn noise(seed: u8) -> Vec<u8> {
    (0..100_003_u32).map(|n| (n % 251) as u8 ^ (n / 251) as u8 ^ seed).collect()
}

/// A server that says its part when it has heard so much, and then listens to the end.
fn talker(net: &Net, address: SocketAddr) -> Origin {
    Origin::tcp(&net.servers, address, |mut peer: Peer| {
        peer.read_exact(40)?;
        peer.send(noise(2))?;
        peer.finish_sending()?;
        peer.read_to_end().map(drop)
    })
}

/// Without a deny rule each passes as it is, both ways, whatever is in it.
#[test]
fn every_hello_passes_as_it_is_under_the_policy_of_its_name() {
    let net = Net::new();
    let origin = talker(&net, server(443));
    let dragoman =
        Dragoman::start(&net, &ALLOW_LIST.replace("deny = true\n", "").replace("deny = false\n", ""));
    for (n, Said { what, bytes, name }) in hellos().into_iter().enumerate() {
        let sent = [bytes, noise(1)].concat();
        let mut client = net.app.connect(server(443));
        client.send(&sent).unwrap();
        client.finish_sending().unwrap();
        assert!(client.read_to_end().unwrap() == noise(2), "{what}: other bytes came back");
        assert_eq!(client.received().len(), noise(2).len(), "{what}");
        let seen = origin.connection(n).bytes;
        wait::until(what, wait::SOON, || seen.len() == sent.len());
        assert!(seen.so_far() == sent, "{what}: the server saw other bytes");
        drop(client);
        let record = &dragoman.records_where(n + 1, |_| true)[n];
        let expected = (&"tls".into(), &destination(name).into(), &name.unwrap_or_default().into());
        let sni = record.get("sni").unwrap_or(&serde_json::Value::Null);
        let sni = if sni.is_null() { &"".into() } else { sni };
        assert_eq!((&record["protocol"], &record["destination"], sni), expected, "{what}: {record}");
    }
    dragoman.settle();
}

/// Where only some names are allowed, nothing else leaves, not even a SYN.
#[test]
fn an_allow_list_lets_nothing_else_out() {
    let net = Net::new();
    let origin = talker(&net, server(443));
    let dragoman = Dragoman::start(&net, ALLOW_LIST);
    let mut allowed = 0;
    for Said { what, bytes, name } in hellos() {
        let passes = matches!(destination(name), "pay" | "shop");
        let (answer, reset) = net.app.knock(server(443), &[bytes, vec![0; 40]].concat());
        allowed += usize::from(passes);
        assert_eq!((answer.is_empty(), origin.seen().len()), (!passes, allowed), "{what}");
        assert!(passes || reset, "{what}: a denied flow ends with a reset");
    }
    let metrics = dragoman.settle();
    let denied = metrics.sum("dragoman_flows_total", &[("cause", "denied")]);
    assert_eq!(usize::try_from(denied).unwrap(), hellos().len() - allowed);
    assert_eq!(origin.seen().len(), allowed);
    let evil = dragoman.records_where(2, |record| record["destination"] == "evil");
    assert_eq!((&evil[0]["cause"], &evil[0]["sni"]), (&"denied".into(), &"evil.shop.test".into()));
}

/// The first segment may end anywhere.
#[test]
fn a_name_is_found_wherever_segments_end() {
    let net = Net::new();
    let origin = talker(&net, server(443));
    let dragoman = Dragoman::start(&net, ALLOW_LIST);
    let bytes = [records(&message(&[grease(2), sni(b"pay.test"), ech()]), 90), vec![0; 40]].concat();
    for at in (1..bytes.len()).step_by(3) {
        let mut client = net.app.connect(server(443));
        client.send(&bytes[..at]).unwrap();
        net.app.enter(|| client.wait_acknowledged());
        client.send(&bytes[at..]).unwrap();
        client.finish_sending().unwrap();
        assert!(client.read_to_end().unwrap() == noise(2), "cut after {at} bytes");
    }
    let metrics = dragoman.settle();
    let whole = || origin.seen().iter().all(|seen| seen.bytes.so_far() == bytes);
    wait::until("the server has seen all", wait::SOON, whole);
    assert_eq!(metrics.values("dragoman_flows_total", "cause").keys().collect::<Vec<_>>(), ["-"]);
}
