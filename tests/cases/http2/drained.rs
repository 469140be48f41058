//! The proxy ends while an app has yet to read what it was answered: it gets every byte, and an orderly end behind them.

use std::io::ErrorKind;
use std::time::Duration;

use dragoman_harness::http2::{Event, Frame, Http2Origin, Wire, setting};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, wait};
use nix::sys::signal::Signal;
use socket2::SockRef;

const WIDE: u32 = 1 << 30;

/// Bytes that the proxy's kernel takes at once, and more than it does.
const SMALL: usize = 100_000;
const LARGE: usize = 6_000_000;

/// A client with wide windows whose kernel takes little, so that what it does not read waits at the proxy.
fn narrow_client(net: &Net) -> Wire {
    let peer = net.app.connect(server(80));
    SockRef::from(peer.stream()).set_recv_buffer_size(16 * 1024).unwrap();
    let mut client = Wire::client(peer, &[(setting::INITIAL_WINDOW_SIZE, WIDE)]).unwrap();
    client.send(&Frame::window(0, WIDE)).unwrap();
    client
}

/// Bytes of the first stream's body as they come, and how they and the connection end.
#[derive(Default)]
struct Reader {
    body: usize,
    is_whole: bool,
    went_away: Option<u32>,
    ended: Option<ErrorKind>,
}

impl Reader {
    fn read(&mut self, client: &mut Wire) {
        match client.event() {
            Ok(Event::Data { bytes, end, .. }) => {
                self.body += bytes.len();
                self.is_whole |= end;
            }
            Ok(Event::GoAway { code, .. }) => self.went_away = Some(code),
            Ok(_) => {}
            Err(error) => self.ended = Some(error.kind()),
        }
    }

    fn read_to_the_end(mut self, client: &mut Wire) -> Reader {
        while self.ended.is_none() {
            self.read(client);
        }
        self
    }
}

#[test]
fn l3_a_response_that_waits_to_be_read_is_read_to_its_end_before_the_proxy_ends() {
    for length in [SMALL, LARGE] {
        let net = Net::new();
        let _origin = Http2Origin::start(&net.servers, server(80), move |wire, request, _| {
            wire.respond(request.stream, "200", &vec![b'x'; length])
        });
        let native = "[proxy]\ndrain = '60s'\ndrain_quiet = '0s'\n[defaults]\npool = {}\n";
        let mut dragoman = Dragoman::start(&net, native);
        let mut client = narrow_client(&net);
        client.get(1, "/").unwrap();
        let mut reader = Reader::default();
        // Its last bytes are left to the kernel and to h2: the exchange is over.
        wait::until("the exchange is over", wait::SOON, || {
            if length == LARGE {
                reader.read(&mut client);
            }
            dragoman.records().iter().any(|record| record["kind"] == "exchange")
        });
        dragoman.signal(Signal::SIGTERM);
        // Longer than what is idle at the end is waited for.
        wait::pause(Duration::from_secs(1));
        let reader = reader.read_to_the_end(&mut client);
        assert_eq!((reader.body, reader.is_whole), (length, true), "of {length}: then {:?}", reader.ended);
        assert_eq!((reader.went_away, reader.ended), (Some(0), Some(ErrorKind::UnexpectedEof)));
        assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
        let records = dragoman.records();
        assert!(records.iter().all(|record| record["cause"].is_null()), "{records:#?}");
    }
}

/// As one that is stopped does: there is nothing to wait for.
#[test]
fn l3_an_idle_app_that_says_nothing_to_the_end_is_closed_in_order_all_the_same() {
    let net = Net::new();
    let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.respond(request.stream, "200", b"ok")
    });
    let native = "[proxy]\ndrain = '60s'\ndrain_quiet = '0s'\n[defaults]\npool = {}\n";
    let mut dragoman = Dragoman::start(&net, native);
    let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
    client.get(1, "/").unwrap();
    assert_eq!(client.response(1).unwrap().body, b"ok");
    client.round_trip().unwrap();
    (client.acknowledges, client.credits) = (false, false);
    dragoman.signal(Signal::SIGTERM);
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
    let reader = Reader::default().read_to_the_end(&mut client);
    assert_eq!((reader.went_away, reader.ended), (Some(0), Some(ErrorKind::UnexpectedEof)));
    assert!(dragoman.records().iter().all(|record| record["cause"].is_null()), "{:#?}", dragoman.records());
}
