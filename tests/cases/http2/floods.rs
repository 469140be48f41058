//! Hostile clients that flood: each flood has its end, costs the proxy no more than a bounded share of memory, and
//! leaves the next client served as ever.

use std::io;
use std::io::ErrorKind;
use std::time::Duration;

use dragoman_harness::http2::way::POLICY;
use dragoman_harness::http2::{
    End, Event, Frame, Http2Origin, Wire, code, flag, hpack, kind, request, setting,
};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net};

use crate::rules::{head, open};
use crate::{connect, echo, resident_bytes};

const MIB: usize = 1 << 20;

/// What any one flood may cost.
const COST: usize = 24 * MIB;

/// A proxy before a server that answers everything, and what a flood did to them.
struct Flooded<'n> {
    net: &'n Net,
    origin: Http2Origin,
    dragoman: Dragoman<'n>,
    before: usize,
}

impl<'n> Flooded<'n> {
    fn new(net: &'n Net) -> Flooded<'n> {
        let origin = echo(net);
        let dragoman = Dragoman::start(net, POLICY);
        let mut client = connect(net);
        client.post(1, "/", b"warm").unwrap();
        assert_eq!(client.response(1).unwrap().body, b"warm");
        drop(client);
        let before = resident_bytes(&dragoman);
        Flooded { net, origin, dragoman, before }
    }

    /// Sends what `wave` makes for each number until the proxy ends the connection, no longer reads, or
    /// `waves` of them were taken. Returns how many were sent, and the code of the end.
    fn flood(&self, waves: u32, wave: impl Fn(u32) -> Vec<u8>) -> (u32, Option<u32>) {
        self.flood_within(Duration::from_secs(10), waves, wave)
    }

    /// The same where the proxy is taken to read no longer after a time without a read.
    fn flood_within(
        &self,
        patience: Duration,
        waves: u32,
        wave: impl Fn(u32) -> Vec<u8>,
    ) -> (u32, Option<u32>) {
        let mut client = connect(self.net);
        client.peer().stream().set_write_timeout(Some(patience)).unwrap();
        let mut sent = 0;
        while sent < waves {
            match client.raw(&wave(sent)) {
                Ok(()) => sent += 1,
                Err(e) if is_end(&e) || e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
        }
        let grown = resident_bytes(&self.dragoman).saturating_sub(self.before);
        println!("{sent} waves of {} bytes: grown by {} KiB", wave(0).len(), grown / 1024);
        assert!(grown < COST, "grown by {grown} bytes");
        let _ = client.peer().finish_sending();
        (sent, client.ended_with().unwrap())
    }

    /// A good client is served as ever, and nothing is left of the bad one.
    fn is_well(&self) {
        let mut client = connect(self.net);
        client.post(1, "/", b"well").unwrap();
        assert_eq!(client.response(1).unwrap().body, b"well");
        drop(client);
        self.dragoman.settle();
    }
}

fn is_end(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

#[test]
fn streams_that_are_opened_and_reset_without_end_are_ended() {
    const WAVES: u32 = 50_000;
    let net = Net::new();
    let case = Flooded::new(&net);
    let (sent, code) = case.flood(WAVES, |n| {
        let stream = 2 * n + 1;
        [head(stream, 5, &request("GET", "/")).bytes(), Frame::reset(stream, code::CANCEL).bytes()].concat()
    });
    assert_eq!(code, Some(code::ENHANCE_YOUR_CALM), "after {sent}");
    assert!(
        case.origin.requests().len() < WAVES as usize / 10,
        "{} reached the server",
        case.origin.requests().len()
    );
    case.is_well();
}

#[test]
fn streams_that_are_broken_so_that_the_proxy_resets_them_are_ended() {
    let net = Net::new();
    let case = Flooded::new(&net);
    let (sent, code) = case.flood(50_000, |n| {
        let stream = 2 * n + 1;
        [open(stream).bytes(), Frame::window(stream, (1 << 31) - 1).bytes()].concat()
    });
    assert!(
        matches!(code, Some(code::ENHANCE_YOUR_CALM | code::FLOW_CONTROL_ERROR)),
        "{code:?} after {sent}"
    );
    case.is_well();
}

#[test]
fn a_field_section_without_end_is_ended() {
    let net = Net::new();
    let case = Flooded::new(&net);
    for size in [0, 1, 16_384] {
        let fields = [&hpack::encode(&request("GET", "/"))[..], &[0, 1, b'x', 127, 128, 127]].concat();
        let (sent, code) = case.flood(20_000, |n| match n {
            0 => Frame::new(kind::HEADERS, flag::END_STREAM, 1, fields.clone()).bytes(),
            _ => Frame::new(kind::CONTINUATION, 0, 1, vec![b'v'; size]).bytes(),
        });
        let allowed =
            [Some(code::ENHANCE_YOUR_CALM), Some(code::PROTOCOL_ERROR), Some(code::COMPRESSION_ERROR)];
        assert!(allowed.contains(&code), "{code:?} after {sent} frames of {size} bytes");
    }
    assert_eq!(case.origin.requests().len(), 1, "nothing of it reached the server");
    case.is_well();
}

#[test]
fn cause_head_too_large_is_431_on_one_stream_alone() {
    let net = Net::new();
    let case = Flooded::new(&net);
    let mut client = connect(&net);
    let value = "v".repeat(30_000);
    let fields = [&request("GET", "/large")[..], &[("a", &value[..]), ("b", &value), ("c", &value)]].concat();
    client.fields(1, &fields, true).unwrap();
    client.get(3, "/small").unwrap();
    let refused = client.response(1).unwrap();
    assert_eq!(refused.status(), 431);
    assert_eq!(client.response(3).unwrap().status(), 200, "its neighbour is served");
    assert!(case.origin.requests().iter().all(|request| request.path() != "/large"));
    // The greatest number of fields holds too.
    let name: Vec<String> = (0..300).map(|n| format!("x-{n}")).collect();
    let many = name.iter().map(|name| (&name[..], "v"));
    client.fields(5, &request("GET", "/large").into_iter().chain(many).collect::<Vec<_>>(), true).unwrap();
    assert_eq!(client.response(5).unwrap().status(), 431, "300 fields");
    drop(client);
    let metrics = case.dragoman.settle();
    let labels = [("code", "431"), ("cause", "head_too_large")];
    assert_eq!(metrics.sum("dragoman_exchanges_total", &labels), 2);
    assert!(case.origin.requests().iter().all(|request| request.path() != "/large"));
    case.is_well();
}

#[test]
fn a_compressed_head_that_grows_without_bound_is_refused() {
    let net = Net::new();
    let case = Flooded::new(&net);
    let mut client = connect(&net);
    // One entry of 3,000 bytes, then 16,000 references to it: 48 MB of fields in one frame.
    let mut entry = hpack::encode(&request("GET", "/bomb"));
    entry.extend([0x40, 1, b'x', 127, 0xb9, 0x16]);
    entry.extend([b'v'; 3000]);
    let bomb = [&entry[..], &[0xbe; 13_000]].concat();
    client.send(&Frame::new(kind::HEADERS, 5, 1, bomb)).unwrap();
    let response = client.response(1).unwrap();
    let refused = response.status() == 431 || matches!(response.end, End::Reset(_) | End::GoneAway(_));
    assert!(refused, "{response:?}");
    let grown = resident_bytes(&case.dragoman).saturating_sub(case.before);
    assert!(grown < COST, "grown by {grown} bytes");
    assert_eq!(case.origin.requests().len(), 1);
    drop(client);
    case.is_well();
}

#[test]
fn questions_whose_answers_are_not_read_cost_no_memory() {
    let net = Net::new();
    let case = Flooded::new(&net);
    let waves: [(&str, Vec<u8>); 3] = [
        ("PING", Frame::ping([1; 8]).bytes()),
        ("SETTINGS", Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 70_000)]).bytes()),
        ("unknown", Frame::new(0xbe, 0, 0, [0; 8]).bytes()),
    ];
    for (what, wave) in waves {
        let wave = wave.repeat(1000);
        let (sent, code) = case.flood_within(Duration::from_secs(1), 2000, |_| wave.clone());
        println!("{what}: {sent} thousand, {code:?}");
        case.is_well();
    }
}

#[test]
fn data_that_says_nothing_costs_nothing() {
    let net = Net::new();
    let case = Flooded::new(&net);
    let empty = Frame::new(kind::DATA, 0, 1, []).bytes().repeat(1000);
    let (sent, code) = case.flood(500, |n| if n == 0 { open(1).bytes() } else { empty.clone() });
    assert!(matches!(code, None | Some(code::ENHANCE_YOUR_CALM | code::NO_ERROR)), "{code:?} after {sent}");
    case.is_well();
}

#[test]
fn data_beyond_the_window_is_refused() {
    let net = Net::new();
    let _origin = dragoman_harness::Origin::tcp(&net.servers, server(80), |peer| {
        let mut wire = Wire::server(peer, &[])?;
        wire.credits = false;
        while wire.event().is_ok() {}
        Ok(())
    });
    let dragoman = Dragoman::start(&net, POLICY);
    let before = resident_bytes(&dragoman);
    let mut client = connect(&net);
    client.send(&open(1)).unwrap();
    let chunk = Frame::new(kind::DATA, 0, 1, vec![0; 16_000]).bytes();
    let taken = (0..8000).take_while(|_| client.raw(&chunk).is_ok()).count();
    let code = client.take(|event| match event {
        Event::Reset { code, .. } | Event::GoAway { code, .. } => Some(*code),
        _ => None,
    });
    assert_eq!(code.unwrap(), code::FLOW_CONTROL_ERROR, "after {taken} frames");
    let grown = resident_bytes(&dragoman).saturating_sub(before);
    assert!(grown < COST, "grown by {grown} bytes");
    drop(client);
    dragoman.settle();
}
