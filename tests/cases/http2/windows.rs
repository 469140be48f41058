//! Flow control: a reader that stalls stops its writer, and nobody else. What lies between the two is
//! bounded by windows, so that memory is too.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use dragoman_harness::http2::frame::WINDOW;
use dragoman_harness::http2::way::POLICY;
use dragoman_harness::http2::{End, Event, Frame, Http2Origin, Way, Wire, each_way, setting, value};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, Origin, wait};

use crate::{connect, resident_bytes};

const MIB: usize = 1 << 20;

/// What the proxy may take from a writer beyond what its reader takes: windows of its own.
const BETWEEN: usize = 2 * MIB;

/// Long beside what loopback needs to fill every window.
const SETTLED: Duration = Duration::from_millis(300);

/// A writer's count once its reader has stalled.
fn settled(sent: &AtomicUsize) -> usize {
    wait::until("the window is used", wait::SOON, || sent.load(Ordering::Relaxed) >= WINDOW);
    wait::pause(SETTLED);
    sent.load(Ordering::Relaxed)
}

fn is_bounded(way: Way, sent: usize) {
    match way {
        Way::Direct | Way::Observed => assert_eq!(sent, WINDOW, "the reader's window and no more"),
        Way::Governed => assert!(sent <= WINDOW + BETWEEN, "{sent} bytes were taken from the writer"),
    }
}

/// Takes DATA of a stream until there are this many bytes or the stream ends.
fn take_bytes(wire: &mut Wire, wanted: u32, length: usize) -> io::Result<usize> {
    let mut taken = 0;
    while taken < length {
        let (bytes, end) = wire.take(|event| match event {
            Event::Data { stream, bytes, end } if *stream == wanted => Some((bytes.len(), *end)),
            _ => None,
        })?;
        taken += bytes;
        if end {
            break;
        }
    }
    Ok(taken)
}

/// Gives back what was taken while the reader stalled, and goes on as a reader that does not.
fn resume(wire: &mut Wire, stream: u32, taken: usize) -> io::Result<()> {
    wire.credits = true;
    for stream in [0, stream] {
        wire.send(&Frame::window(stream, taken as u32))?;
    }
    Ok(())
}

#[test]
fn h9_a_client_that_stalls_stops_the_server() {
    const BODY: usize = 16 * MIB;
    let net = Net::new();
    each_way(&net, |way| {
        let (tell, told) = mpsc::channel();
        let _origin = Http2Origin::start(&net.servers, server(80), move |wire, request, _| {
            tell.send(wire.sent()).unwrap();
            wire.respond(request.stream, "200", &vec![9; BODY])
        });
        let mut client = connect(&net);
        client.credits = false;
        client.get(1, "/").unwrap();
        let sent = told.recv().unwrap();
        assert_eq!(take_bytes(&mut client, 1, WINDOW).unwrap(), WINDOW);
        is_bounded(way, settled(&sent));
        resume(&mut client, 1, WINDOW).unwrap();
        let response = client.response(1).unwrap();
        assert_eq!((response.end, response.body.len()), (End::Whole, BODY - WINDOW));
    });
}

#[test]
fn h9_a_server_that_stalls_stops_the_client() {
    const BODY: usize = 16 * MIB;
    let net = Net::new();
    each_way(&net, |way| {
        let (go, gone) = mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let _origin = Origin::tcp(&net.servers, server(80), move |peer| {
            let mut wire = Wire::server(peer, &[])?;
            wire.credits = false;
            let taken = take_bytes(&mut wire, 1, WINDOW)?;
            gone.lock().unwrap().recv().unwrap();
            resume(&mut wire, 1, taken)?;
            let rest = take_bytes(&mut wire, 1, usize::MAX)?;
            wire.respond(1, "200", (taken + rest).to_string().as_bytes())?;
            while wire.event().is_ok() {}
            Ok(())
        });
        let mut client = connect(&net);
        let sent = client.sent();
        let answer = thread::scope(|scope| {
            let upload = scope.spawn(|| {
                client.post(1, "/", &vec![9; BODY]).unwrap();
                client.response(1).unwrap().body
            });
            is_bounded(way, settled(&sent));
            go.send(()).unwrap();
            upload.join().unwrap()
        });
        assert_eq!(answer, BODY.to_string().as_bytes());
    });
}

#[test]
fn a_stream_that_stalls_does_not_hold_up_another() {
    const BODY: usize = 4 * MIB;
    let net = Net::new();
    each_way(&net, |_| {
        // A thread for each of the two would be a server; two chunks in turn do as well and stay a script.
        let _origin = Origin::tcp(&net.servers, server(80), |peer| {
            let mut wire = Wire::server(peer, &[])?;
            let (slow, fast) = (stream_of(&mut wire, "/slow")?, stream_of(&mut wire, "/fast")?);
            for stream in [slow, fast] {
                wire.fields(stream, &[(":status", "200")], false)?;
            }
            wire.data(slow, &[0; WINDOW], false)?;
            wire.data(fast, &vec![1; BODY], true)?;
            wire.data(slow, &vec![0; BODY - WINDOW], true)?;
            while wire.event().is_ok() {}
            Ok(())
        });
        let mut client = connect(&net);
        client.credits = false;
        client.send(&Frame::window(0, 64 * MIB as u32)).unwrap();
        client.get(1, "/slow").unwrap();
        client.get(3, "/fast").unwrap();
        client.send(&Frame::window(3, BODY as u32)).unwrap();
        assert_eq!(
            take_bytes(&mut client, 3, usize::MAX).unwrap(),
            BODY,
            "the fast one waits for the slow one"
        );
        client.send(&Frame::window(1, BODY as u32)).unwrap();
        assert_eq!(take_bytes(&mut client, 1, usize::MAX).unwrap(), BODY);
    });
}

fn stream_of(wire: &mut Wire, path: &str) -> io::Result<u32> {
    wire.take(|event| match event {
        Event::Fields { stream, fields, .. } if value(fields, ":path") == Some(path) => Some(*stream),
        _ => None,
    })
}

#[test]
fn windows_of_one_byte_and_windows_that_shrink_still_carry() {
    let net = Net::new();
    each_way(&net, |_| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.respond(request.stream, "200", &request.body)
        });
        let mut client =
            Wire::client(net.app.connect(server(80)), &[(setting::INITIAL_WINDOW_SIZE, 1)]).unwrap();
        client.post(1, "/", &[7; 100]).unwrap();
        assert_eq!(client.response(1).unwrap().body, [7; 100]);
        // The window of a stream that is open goes below zero, and is then made up for.
        client.credits = false;
        client.send(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1000)])).unwrap();
        client.post(3, "/", &[8; 5000]).unwrap();
        assert_eq!(take_bytes(&mut client, 3, 1000).unwrap(), 1000);
        client.send(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0)])).unwrap();
        client.send(&Frame::window(3, 1500)).unwrap();
        assert_eq!(take_bytes(&mut client, 3, 500).unwrap(), 500);
        client.send(&Frame::window(3, 3500)).unwrap();
        assert_eq!(take_bytes(&mut client, 3, usize::MAX).unwrap(), 3500);
        assert_eq!(origin.requests().len(), 2);
    });
}

#[test]
fn h9_many_readers_that_stall_cost_no_memory() {
    const STREAMS: u32 = 100;
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |peer| {
        // Fills each stream's window as far as the other side lets it.
        let mut wire = Wire::server(peer, &[])?;
        let mut open = Vec::new();
        loop {
            if let Event::Fields { stream, .. } = wire.event()? {
                wire.fields(stream, &[(":status", "200")], false)?;
                open.push(stream);
            }
            for stream in &open {
                let room = wire.room(*stream).min(MIB);
                if room > 0 {
                    wire.data(*stream, &vec![5; room], false)?;
                }
            }
        }
    });
    let dragoman = Dragoman::start(&net, POLICY);
    let mut warm = connect(&net);
    warm.get(1, "/").unwrap();
    take_bytes(&mut warm, 1, WINDOW).unwrap();
    let before = resident_bytes(&dragoman);
    let clients: Vec<Wire> = (0..8)
        .map(|_| {
            let mut client = connect(&net);
            client.credits = false;
            (0..STREAMS).for_each(|n| client.get(2 * n + 1, "/").unwrap());
            // Which of its streams has the connection's window is the proxy's choice.
            client.take(|event| matches!(event, Event::Data { .. }).then_some(())).unwrap();
            client
        })
        .collect();
    wait::pause(SETTLED);
    let after = resident_bytes(&dragoman);
    let grown = after.saturating_sub(before);
    println!("{} streams that stall: {} KiB, {} KiB in all", 8 * STREAMS, grown / 1024, after / 1024);
    assert!(grown < 64 * MIB, "{grown} bytes for {} streams that stall", 8 * STREAMS);
    drop((clients, warm));
    dragoman.settle();
}

#[test]
fn ten_thousand_streams_are_open_at_once_over_a_hundred_connections() {
    const CONNECTIONS: usize = 100;
    const STREAMS: u32 = 100;
    let net = Net::new();
    each_way(&net, |way| {
        // No answer before every request has come.
        let arrived = Arc::new((Mutex::new(0), Condvar::new()));
        let count = Arc::clone(&arrived);
        let _origin = Origin::tcp(&net.servers, server(80), move |peer| {
            let mut wire = Wire::server(peer, &[])?;
            let mut waiting = Vec::new();
            wire.peer().stream().set_read_timeout(Some(Duration::from_millis(20)))?;
            loop {
                match wire.event() {
                    Ok(Event::Fields { stream, .. }) => {
                        waiting.push(stream);
                        *count.0.lock().unwrap() += 1;
                        count.1.notify_all();
                    }
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        if *count.0.lock().unwrap() >= CONNECTIONS * STREAMS as usize {
                            for stream in waiting.drain(..) {
                                wire.respond(stream, "200", b"all are here")?;
                            }
                        }
                    }
                    Err(e) => return Err(e),
                }
            }
        });
        let mut clients: Vec<Wire> = (0..CONNECTIONS).map(|_| connect(&net)).collect();
        for client in &mut clients {
            (0..STREAMS).for_each(|n| client.get(2 * n + 1, "/").unwrap());
        }
        for client in &mut clients {
            for n in 0..STREAMS {
                assert_eq!(client.response(2 * n + 1).unwrap().body, b"all are here", "{way:?}");
            }
        }
        assert_eq!(*arrived.0.lock().unwrap(), CONNECTIONS * STREAMS as usize, "each request once");
    });
}
