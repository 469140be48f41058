//! Links that lose, swap, double, delay and throttle: all arrives, later.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dragoman_harness::http2::{End, Http2Origin, Wire};
use dragoman_harness::link::Fates;
use dragoman_harness::origin::response;
use dragoman_harness::{Net, Origin, Weather};

use crate::case::{Case, PATIENT};
use crate::page::{self, Row};
use crate::protocol::{ALL, Protocol, Sight};

/// What goes there and comes back, in bytes: a dozen frames each way.
const LENGTH: usize = 16 * 1024;

/// Has each app send a body through this weather, and take it back.
fn weather(fault: &'static str, weather: Weather, fate: fn(&Fates) -> &AtomicU64) {
    let (net, link) = Net::with_link();
    let case = Case::new(&net, fault, &format!("{PATIENT}connect_timeout = '2m'\n"));
    let servers = Servers::start(&net);
    link.set(weather);
    let rows: Vec<Row> = thread::scope(|scope| {
        let send = |protocol: &Protocol| {
            let (protocol, net, case) = (*protocol, &net, &case);
            scope.spawn(move || {
                let begun = Instant::now();
                let sight = there_and_back(net, protocol);
                page::note_time(fault, protocol, begun.elapsed());
                case.row(protocol, sight)
            })
        };
        let ends: Vec<_> = ALL.iter().map(send).collect();
        ends.into_iter().map(|end| end.join().expect("what failed is said above")).collect()
    });
    assert!(fate(link.fates()).load(Ordering::Relaxed) > 0, "{fault}: the weather did nothing");
    link.set(Weather::default());
    drop(servers);
    case.finish(&rows);
}

/// Servers that answer with what they get.
struct Servers {
    _plain: Vec<Origin>,
    _http2: Vec<Http2Origin>,
}

impl Servers {
    fn start(net: &Net) -> Servers {
        let http1 = |protocol: Protocol| {
            Origin::tcp(&net.servers, protocol.address(), |mut peer| {
                while let Some(request) = peer.request()? {
                    peer.send(response(200, &String::from_utf8_lossy(&letters(&request.body))))?;
                }
                Ok(())
            })
        };
        let opaque = Origin::tcp(&net.servers, Protocol::Opaque.address(), |mut peer| {
            let bytes = peer.read_exact(LENGTH)?;
            peer.send(bytes)
        });
        let http2 = |protocol: Protocol| {
            Http2Origin::start(&net.servers, protocol.address(), |wire, request, _| {
                wire.respond(request.stream, "200", &request.body)
            })
        };
        Servers {
            _plain: vec![http1(Protocol::Http1), http1(Protocol::ToHttp1), opaque],
            _http2: vec![http2(Protocol::Http2), http2(Protocol::ToHttp2)],
        }
    }
}

fn there_and_back(net: &Net, protocol: Protocol) -> Sight {
    // Letters that are no digits of a chunk's size.
    let body: Vec<u8> = (0..LENGTH).map(|n| b'g' + u8::try_from(n % 17).expect("below 17")).collect();
    let mut peer = net.app.connect(protocol.address());
    let (status, got) = match protocol {
        Protocol::Opaque => {
            let marked = [b"\x01\x02", &body[2..]].concat();
            peer.send(&marked).expect("an app sends");
            assert!(peer.read_exact(LENGTH).expect("an app gets its answer") == marked);
            (0, body.clone())
        }
        Protocol::Http1 | Protocol::ToHttp2 => {
            let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {LENGTH}\r\n\r\n");
            let answer = peer.exchange([head.as_bytes(), &body].concat()).expect("an app gets its answer");
            (answer.status(), letters(&answer.body))
        }
        Protocol::Http2 | Protocol::ToHttp1 => {
            let mut wire = Wire::client(peer, &[]).expect("an app says its preface");
            wire.post(1, "/", &body).expect("an app sends");
            let answer = wire.response(1).expect("an app gets its answer");
            assert_eq!(answer.end, End::Whole);
            (answer.status(), answer.body)
        }
    };
    assert!(got == body, "{}: {} other bytes", protocol.name(), got.len());
    let words = if status == 0 { "all of it".to_owned() } else { format!("{status}, all of it") };
    Sight { words, status, cause: None }
}

/// A body without the sizes of its chunks.
fn letters(body: &[u8]) -> Vec<u8> {
    body.iter().copied().filter(|byte| (b'g'..=b'z').contains(byte)).collect()
}

#[test]
fn a_link_that_loses() {
    weather("30 % of the packets lost", Weather { lost_percent: 30, ..Weather::default() }, |fates| {
        &fates.lost
    });
}

#[test]
fn a_link_that_swaps() {
    weather("30 % of the packets swapped", Weather { swapped_percent: 30, ..Weather::default() }, |fates| {
        &fates.swapped
    });
}

#[test]
fn a_link_that_doubles() {
    weather("30 % of the packets doubled", Weather { doubled_percent: 30, ..Weather::default() }, |fates| {
        &fates.doubled
    });
}

#[test]
fn a_link_that_is_slow() {
    let slow = Weather { delay: Duration::from_millis(100), ..Weather::default() };
    weather("100 ms of delay each way", slow, |fates| &fates.delayed);
}

#[test]
fn a_link_that_is_narrow() {
    let narrow = Weather { bytes_per_second: Some(100_000), ..Weather::default() };
    weather("100 kB a second", narrow, |fates| &fates.delayed);
}
