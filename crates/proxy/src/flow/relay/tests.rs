use super::*;
use crate::testing::{TLS_VERSIONS, Tls, pair};

use dragoman_policy::{Random, SplitMix64};
use dragoman_telemetry::{AccessLog, Telemetry};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Two legs and their far ends.
async fn legs() -> (Leg, TcpStream, Leg, TcpStream) {
    let ((near_app, far_app), (near_server, far_server)) = (pair().await, pair().await);
    (Leg::new(near_app), far_app, Leg::new(near_server), far_server)
}

fn record() -> FlowRecord {
    Telemetry::new(vec!["default".into()], AccessLog::off()).flow(([127, 0, 0, 1], 1).into())
}

/// A stopped reader looks to the kernel like one that is gone: the user timeout counts for a closed window too.
fn give_up_soon(leg: &Leg) {
    SockRef::from(leg.stream().tcp()).set_tcp_user_timeout(Some(Duration::from_millis(50))).unwrap();
}

async fn flood(mut stream: TcpStream) -> TcpStream {
    while stream.write_all(&[0; 65536]).await.is_ok() {}
    stream
}

#[tokio::test]
async fn cause_upstream_lost() {
    let (app, app_end, upstream, _stopped) = legs().await;
    give_up_soon(&upstream);
    let (sleepers, mut record) = (Sleepers::default(), record());
    let ((), mut app_end) = tokio::join!(relay(&sleepers, app, upstream, &mut record), flood(app_end));
    assert_eq!(record.cause, Some(Cause::UpstreamLost));
    assert!(app_end.read_u8().await.is_err(), "the app was reset");
    assert!(record.bytes_from_app > 0 && record.bytes_to_app == 0);
}

#[tokio::test]
async fn cause_app_lost() {
    let (app, _stopped, upstream, server_end) = legs().await;
    give_up_soon(&app);
    let (sleepers, mut record) = (Sleepers::default(), record());
    tokio::join!(relay(&sleepers, app, upstream, &mut record), flood(server_end));
    assert_eq!(record.cause, Some(Cause::AppLost));
    assert!(record.bytes_to_app > 0);
}

/// Writes until the other side takes no more. Unlike a write that fails, this leaves the socket's error for the read.
async fn fill(stream: &TcpStream) {
    let mut quiet = 0;
    while quiet < 20 {
        match stream.try_write(&[0; 65536]) {
            Ok(_) => quiet = 0,
            Err(_) => quiet += 1,
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn s4_a_reset_met_by_a_write_is_a_reset_for_the_other_side() {
    for side in [Side::App, Side::Upstream] {
        let (app, app_end, upstream, server_end) = legs().await;
        let (mut broken_end, mut other_end) = match side {
            Side::App => (app_end, server_end),
            Side::Upstream => (server_end, app_end),
        };
        let (sleepers, mut record) = (Sleepers::default(), record());
        let ends = async {
            broken_end.write_all(b"half an order").await.unwrap();
            // The relay waits to write to the side that does not read, which then resets.
            fill(&other_end).await;
            dragoman_net::reset_on_close(&broken_end);
            drop(broken_end);
            let mut got = Vec::new();
            let end = other_end.read_to_end(&mut got).await;
            (got, end)
        };
        let ((), (got, end)) = tokio::join!(relay(&sleepers, app, upstream, &mut record), ends);
        assert!(record.cause.is_some());
        assert_eq!(got, b"half an order", "{side:?}");
        assert!(
            end.is_err_and(|error| dragoman_net::is_reset(&error)),
            "{side:?}: a torn stream looks whole"
        );
    }
}

/// Bytes in which a lost, doubled or moved block shows.
fn numbered(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes.chunks_exact_mut(8).zip(0_u64..).for_each(|(chunk, n)| chunk.copy_from_slice(&n.to_le_bytes()));
    bytes
}

#[tokio::test]
async fn a_reset_in_the_midst_of_a_flood_makes_no_hole_in_it() {
    for side in [Side::App, Side::Upstream] {
        let (app, app_end, upstream, server_end) = legs().await;
        let (sender, mut receiver) = match side {
            Side::App => (app_end, server_end),
            Side::Upstream => (server_end, app_end),
        };
        let sent = numbered(64 << 20);
        let (sleepers, mut record) = (Sleepers::default(), record());
        let ends = async {
            // Both sockets and the pipe are full: the receiver reads nothing.
            let mut count = 0;
            let mut quiet = 0;
            while quiet < 20 {
                match sender.try_write(&sent[count..]) {
                    Ok(more) => (count, quiet) = (count + more, 0),
                    Err(_) => quiet += 1,
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            dragoman_net::reset_on_close(&sender);
            drop(sender);
            // It is a write that finds it.
            receiver.write_all(b"x").await.unwrap();
            let mut got = Vec::new();
            let end = receiver.read_to_end(&mut got).await;
            (got, end)
        };
        let ((), (got, end)) = tokio::join!(relay(&sleepers, app, upstream, &mut record), ends);
        assert!(got.len() > 1 << 20, "{side:?}: {}", got.len());
        assert!(got == sent[..got.len()], "{side:?}: bytes are missing from the midst");
        assert!(end.is_err_and(|error| dragoman_net::is_reset(&error)), "{side:?}");
        let moved = match side {
            Side::App => record.bytes_from_app,
            Side::Upstream => record.bytes_to_app,
        };
        assert_eq!(moved, got.len() as u64, "{side:?}");
    }
}

/// Returns when `count` flows sleep.
async fn asleep(sleepers: &Sleepers, count: usize) {
    while sleepers.len() != count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_silent_flow_sleeps_and_wakes_for_either_side() {
    let (app, mut app_end, upstream, mut server_end) = legs().await;
    let (sleepers, mut record) = (Sleepers::default(), record());
    let ends = async {
        for round in 0..50_u8 {
            asleep(&sleepers, 1).await;
            let (from, to) = if round % 2 == 0 {
                (&mut app_end, &mut server_end)
            } else {
                (&mut server_end, &mut app_end)
            };
            from.write_all(&[round; 3]).await.unwrap();
            let mut got = [0; 3];
            to.read_exact(&mut got).await.unwrap();
            assert_eq!(got, [round; 3]);
        }
        drop(app_end);
        assert_eq!(server_end.read(&mut [0]).await.unwrap(), 0, "an orderly end");
        server_end
    };
    tokio::join!(relay_with(&sleepers, app, upstream, &mut record, Patience::NONE), async {
        drop(ends.await);
    });
    assert_eq!((record.bytes_from_app, record.bytes_to_app, record.cause), (75, 75, None));
    assert!(sleepers.is_empty());
}

#[tokio::test]
async fn a_new_flow_sleeps_after_a_while_without_being_asked() {
    let (app, mut app_end, upstream, mut server_end) = legs().await;
    let (sleepers, mut record) = (Sleepers::default(), record());
    let ends = async {
        asleep(&sleepers, 1).await;
        app_end.write_all(b"x").await.unwrap();
        assert_eq!(server_end.read_u8().await.unwrap(), b'x');
        drop((app_end, server_end));
    };
    tokio::join!(relay(&sleepers, app, upstream, &mut record), ends);
    assert_eq!((record.bytes_from_app, record.cause), (1, None));
}

#[tokio::test]
async fn a_half_close_in_its_sleep_stays_a_half_close() {
    for side in [Side::App, Side::Upstream] {
        let (app, app_end, upstream, server_end) = legs().await;
        let (sleepers, mut record) = (Sleepers::default(), record());
        let (mut ended, mut other) =
            if side == Side::App { (app_end, server_end) } else { (server_end, app_end) };
        let ends = async {
            asleep(&sleepers, 1).await;
            ended.shutdown().await.unwrap();
            assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
            other.write_all(&[7; 100_000]).await.unwrap();
            drop(other);
            let mut got = Vec::new();
            ended.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, [7; 100_000]);
        };
        tokio::join!(relay_with(&sleepers, app, upstream, &mut record, Patience::NONE), ends);
        assert_eq!(record.cause, None, "{side:?}");
    }
}

#[tokio::test]
async fn a_reset_in_its_sleep_is_passed_on_after_the_bytes_before_it() {
    for (side, cause) in [(Side::App, Cause::AppReset), (Side::Upstream, Cause::UpstreamReset)] {
        let (app, app_end, upstream, server_end) = legs().await;
        let (sleepers, mut record) = (Sleepers::default(), record());
        let (mut broken, mut other) =
            if side == Side::App { (app_end, server_end) } else { (server_end, app_end) };
        let ends = async {
            asleep(&sleepers, 1).await;
            broken.write_all(b"half an order").await.unwrap();
            dragoman_net::reset_on_close(&broken);
            drop(broken);
            let mut got = Vec::new();
            let end = other.read_to_end(&mut got).await;
            assert_eq!(got, b"half an order", "{side:?}");
            assert!(end.is_err_and(|error| dragoman_net::is_reset(&error)), "{side:?}");
        };
        tokio::join!(relay_with(&sleepers, app, upstream, &mut record, Patience::NONE), ends);
        assert_eq!(record.cause, Some(cause));
    }
}

#[tokio::test]
async fn a_flow_that_is_cut_off_in_its_sleep_is_reset() {
    let (app, mut app_end, upstream, mut server_end) = legs().await;
    let (sleepers, mut record) = (Sleepers::default(), record());
    tokio::select! {
        () = relay_with(&sleepers, app, upstream, &mut record, Patience::NONE) => unreachable!("both live"),
        () = asleep(&sleepers, 1) => {}
    }
    for end in [&mut app_end, &mut server_end] {
        assert!(dragoman_net::is_reset(&end.read_u8().await.unwrap_err()));
    }
    assert!(sleepers.is_empty());
}

/// Writes `bytes` in pieces of all sizes, with and without pauses in which the flow may fall asleep.
async fn dribble(mut to: impl tokio::io::AsyncWrite + Unpin, bytes: &[u8], mut random: SplitMix64) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = [1, 1, 100, 20_000, 300_000][random.next_u64() as usize % 5];
        let (piece, later) = rest.split_at(rest.len().min(1 + random.next_u64() as usize % most));
        to.write_all(piece).await.unwrap();
        rest = later;
        if random.next_u64().is_multiple_of(4) {
            tokio::time::sleep(Duration::from_millis(random.next_u64() % 6)).await;
        }
    }
    to.shutdown().await.unwrap();
}

#[tokio::test]
async fn both_ways_at_once_in_pieces_of_all_sizes_between_sleeps() {
    const LENGTH: usize = 3_000_000;
    for seed in 0..8 {
        let (app, mut app_end, upstream, mut server_end) = legs().await;
        app_end.set_nodelay(true).unwrap();
        server_end.set_nodelay(true).unwrap();
        let (sleepers, mut record) = (Sleepers::default(), record());
        let sent = numbered(LENGTH);
        let (mut app_read, app_write) = app_end.split();
        let (mut server_read, server_write) = server_end.split();
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let (_, _, ends, ..) = tokio::join!(
            dribble(app_write, &sent, SplitMix64(seed)),
            dribble(server_write, &sent, SplitMix64(seed + 100)),
            async { (server_read.read_to_end(&mut up).await, app_read.read_to_end(&mut down).await) },
            relay_with(&sleepers, app, upstream, &mut record, Patience::NONE),
        );
        assert!(ends.0.is_ok() && ends.1.is_ok(), "seed {seed}: {ends:?}");
        assert!(up == sent && down == sent, "seed {seed}");
        assert_eq!(
            (record.bytes_from_app, record.bytes_to_app),
            (LENGTH as u64, LENGTH as u64),
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn a_crowd_sleeps_and_wakes_together() {
    const CROWD: usize = 300;
    let sleepers = Sleepers::default();
    let mut ends = Vec::new();
    let mut flows = Vec::new();
    for _ in 0..CROWD {
        let (app, app_end, upstream, server_end) = legs().await;
        ends.push((app_end, server_end));
        let sleepers = &sleepers;
        flows.push(Box::pin(async move {
            let mut record = record();
            relay_with(sleepers, app, upstream, &mut record, Patience::NONE).await;
            (record.bytes_from_app, record.cause)
        }));
    }
    let acts = async {
        for round in 0..3_u8 {
            asleep(&sleepers, CROWD).await;
            for (app_end, _) in &mut ends {
                app_end.write_all(&[round]).await.unwrap();
            }
            for (_, server_end) in &mut ends {
                assert_eq!(server_end.read_u8().await.unwrap(), round);
            }
        }
        asleep(&sleepers, CROWD).await;
        ends.clear();
    };
    let all = async {
        let mut done = Vec::new();
        let mut flows = flows;
        std::future::poll_fn(|context| {
            flows.retain_mut(|flow| match flow.as_mut().poll(context) {
                std::task::Poll::Ready(record) => {
                    done.push(record);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if flows.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        done
    };
    let ((), done) = tokio::join!(acts, all);
    assert!(done.iter().all(|record| *record == (3, None)), "{done:?}");
    assert!(sleepers.is_empty());
}

/// Two legs, the upstream's with TLS, and their far ends.
async fn legs_with_tls(tls: &Tls) -> (Leg, TcpStream, Leg, Stream) {
    let ((near_app, far_app), (near_server, far_server)) = (pair().await, tls.pair().await);
    (Leg::new(near_app), far_app, Leg::new(near_server), far_server)
}

#[tokio::test]
async fn bytes_through_tls_are_the_same_both_ways_and_so_are_their_ends() {
    const LENGTH: usize = 2_000_000;
    for version in TLS_VERSIONS {
        let tls = Tls::new(version);
        for seed in 0..4 {
            let (app, mut app_end, upstream, mut server_end) = legs_with_tls(&tls).await;
            let (sleepers, mut record) = (Sleepers::default(), record());
            let sent = numbered(LENGTH);
            let (mut app_read, app_write) = app_end.split();
            let (mut server_read, server_write) = tokio::io::split(&mut server_end);
            let (mut up, mut down) = (Vec::new(), Vec::new());
            let (_, _, ends, ..) = tokio::join!(
                dribble(app_write, &sent, SplitMix64(seed)),
                dribble(server_write, &sent, SplitMix64(seed + 100)),
                async { tokio::join!(server_read.read_to_end(&mut up), app_read.read_to_end(&mut down)) },
                relay_with(&sleepers, app, upstream, &mut record, Patience::NONE),
            );
            assert!(ends.0.is_ok() && ends.1.is_ok(), "seed {seed}: {ends:?}");
            assert!(up == sent && down == sent, "seed {seed}");
            assert_eq!((record.bytes_from_app, record.bytes_to_app), (LENGTH as u64, LENGTH as u64));
            assert_eq!(record.cause, None);
        }
    }
}

#[tokio::test]
async fn tls_that_is_cut_off_is_no_end_for_the_app() {
    for version in TLS_VERSIONS {
        let (app, mut app_end, upstream, mut server_end) = legs_with_tls(&Tls::new(version)).await;
        let (sleepers, mut record) = (Sleepers::default(), record());
        let ends = async {
            server_end.write_all(b"half an answer").await.unwrap();
            SockRef::from(server_end.tcp()).shutdown(std::net::Shutdown::Write).unwrap();
            let mut got = Vec::new();
            let end = app_end.read_to_end(&mut got).await;
            assert_eq!(got, b"half an answer");
            assert!(end.is_err_and(|error| dragoman_net::is_reset(&error)), "a torn stream looks whole");
        };
        tokio::join!(relay(&sleepers, app, upstream, &mut record), ends);
        assert_eq!(record.cause, Some(Cause::TlsTruncated));
    }
}

#[tokio::test]
async fn a_reset_is_one_through_tls_too() {
    for (side, cause) in [(Side::App, Cause::AppReset), (Side::Upstream, Cause::UpstreamReset)] {
        let (app, mut app_end, upstream, mut server_end) = legs_with_tls(&Tls::new(TLS_VERSIONS[1])).await;
        let (sleepers, mut record) = (Sleepers::default(), record());
        let ends = async {
            let mut got = Vec::new();
            let end = if side == Side::App {
                app_end.write_all(b"half an order").await.unwrap();
                dragoman_net::reset_on_close(&app_end);
                drop(app_end);
                server_end.read_to_end(&mut got).await
            } else {
                server_end.write_all(b"half an order").await.unwrap();
                server_end.reset_on_close();
                drop(server_end);
                app_end.read_to_end(&mut got).await
            };
            (got, end)
        };
        let ((), (got, end)) = tokio::join!(relay(&sleepers, app, upstream, &mut record), ends);
        assert_eq!((&got[..], record.cause), (&b"half an order"[..], Some(cause)));
        assert!(end.is_err_and(|error| dragoman_net::is_reset(&error)), "{side:?}");
        assert_eq!(record.cause, Some(cause));
    }
}
