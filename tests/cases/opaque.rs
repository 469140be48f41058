//! Bytes that dragoman does not look at: relayed as they are, with the ends that each side meant.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dragoman_harness::net::{server, server_in_both_families};
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};
use nix::sys::signal::Signal;

/// First bytes of no protocol.
const OPAQUE: &[u8] = b"\x01\x02";

/// Connects and says something opaque, so that nothing waits for a protocol.
fn open(net: &Net, address: SocketAddr) -> Peer {
    let mut client = net.app.connect(address);
    client.send(OPAQUE).unwrap();
    client
}

/// Bytes in which a lost, doubled or moved block shows.
fn numbered(length: usize) -> Vec<u8> {
    (0_u64..).flat_map(u64::to_le_bytes).take(length).collect()
}

#[test]
fn s3_the_client_ends_its_half_and_still_gets_the_answer() {
    let net = Net::new();
    let _dragoman = Dragoman::start(&net, "");
    for address in server_in_both_families(7000) {
        let origin = Origin::tcp(&net.servers, address, |mut peer| {
            let all = peer.read_to_end()?;
            peer.send(numbered(3_000_000))?;
            peer.send(all)
        });
        let mut client = open(&net, address);
        client.send("the question").unwrap();
        client.finish_sending().unwrap();
        let answer = client.read_to_end().unwrap();
        assert_eq!(answer.len(), 3_000_000 + 14);
        assert!(answer.starts_with(&numbered(3_000_000)) && answer.ends_with(b"\x01\x02the question"));
        assert_eq!(origin.seen().len(), 1);
    }
}

#[test]
fn s3_the_server_ends_its_half_and_still_gets_what_follows() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    for address in server_in_both_families(7000) {
        let origin = Origin::tcp(&net.servers, address, |mut peer| {
            peer.read_exact(OPAQUE.len())?;
            peer.send("bye")?;
            peer.finish_sending()?;
            peer.read_to_end().map(drop)
        });
        let mut client = open(&net, address);
        assert_eq!(client.read_to_end().unwrap(), b"bye");
        client.send(numbered(1_000_000)).unwrap();
        drop(client);
        let seen = origin.connection(0);
        let expected = [OPAQUE, &numbered(1_000_000)].concat();
        wait::until("the server has it all", wait::SOON, || seen.bytes.len() == expected.len());
        assert!(seen.bytes.so_far() == expected);
    }
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_total", &[("protocol", "opaque"), ("cause", "-")]), 2);
    assert_eq!(metrics.sum("dragoman_bytes_total", &[("direction", "from_app")]), 2 * 1_000_002);
    assert_eq!(metrics.sum("dragoman_bytes_total", &[("direction", "to_app")]), 6);
}

#[test]
fn s4_a_reset_is_relayed_after_the_ten_megabytes_before_it() {
    const LENGTH: usize = 10 * 1024 * 1024;
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    for address in server_in_both_families(7000) {
        let _origin = Origin::tcp(&net.servers, address, |mut peer| {
            peer.read_exact(OPAQUE.len())?;
            peer.send(numbered(LENGTH))?;
            peer.reset_when_acknowledged()
        });
        let mut client = open(&net, address);
        let (received, reset) = client.read_to_reset().unwrap();
        assert_eq!((received.len(), reset), (LENGTH, true));
        assert!(received == numbered(LENGTH));
    }
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_total", &[("cause", "upstream_reset")]), 2);
}

#[test]
fn cause_upstream_reset_of_a_flow_names_the_server() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let _origin = Origin::tcp(&net.servers, server(7000), |mut peer| {
        peer.read_exact(OPAQUE.len())?;
        peer.reset()
    });
    assert_eq!(net.app.knock(server(7000), OPAQUE), (Vec::new(), true));
    let record = dragoman.record_of("upstream_reset");
    assert_eq!(
        (&record["who"], &record["endpoint"]),
        (&"upstream".into(), &"198.18.0.2:7000".into()),
        "{record}"
    );
}

#[test]
fn cause_app_reset_reaches_the_server_as_a_reset() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let (send, ended) = std::sync::mpsc::channel();
    let _origin = Origin::tcp(&net.servers, server(7000), move |mut peer| {
        peer.send("hello")?;
        send.send(peer.read_to_reset()?).expect("the case waits");
        Ok(())
    });
    let mut client = open(&net, server(7000));
    client.read_exact(5).unwrap();
    client.reset().unwrap();
    assert_eq!(ended.recv_timeout(wait::SOON).unwrap(), (OPAQUE.to_vec(), true));
    assert_eq!(dragoman.record_of("app_reset")["who"], "app");
}

#[test]
fn s6_a_refused_connection_is_reset_at_once_and_the_log_says_why() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    for address in server_in_both_families(7000) {
        assert_eq!(net.app.knock(address, OPAQUE), (Vec::new(), true));
        let original = address.to_string();
        let record = dragoman.records_where(1, |r| r["original_dst"] == original.as_str()).remove(0);
        assert_eq!(
            (&record["cause"], &record["who"]),
            (&"connect_refused".into(), &"upstream".into()),
            "{record}"
        );
    }
}

#[test]
fn cause_connect_refused_is_503_with_its_name_for_http() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    http_503(&net, server(81), "connect_refused");
    assert_eq!(
        dragoman.settle().sum("dragoman_exchanges_total", &[("cause", "connect_refused"), ("code", "503")]),
        1
    );
}

#[test]
fn cause_connect_timeout_of_a_port_that_drops() {
    let net = Net::new();
    rule(&net, "tcp dport 9000 drop");
    let dragoman = Dragoman::start(&net, "[defaults]\nconnect_timeout = '300ms'\n");
    assert_eq!(net.app.knock(server(9000), OPAQUE), (Vec::new(), true));
    assert_eq!(dragoman.record_of("connect_timeout")["who"], "network");
    http_503(&net, server(9000), "connect_timeout");
}

#[test]
fn cause_connect_unreachable_of_a_host_that_a_router_cannot_reach() {
    let net = Net::new();
    rule(&net, "ip protocol tcp tcp dport 9000 reject with icmp type host-unreachable");
    let dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    assert_eq!(net.app.knock(server(9000), OPAQUE), (Vec::new(), true));
    assert_eq!(dragoman.record_of("connect_unreachable")["who"], "network");
    http_503(&net, server(9000), "connect_unreachable");
}

#[test]
fn cause_connect_reset_while_the_connection_is_made() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer| peer.read_to_end().map(drop));
    // The last packet of the handshake is answered by a reset.
    rule(&net, "tcp dport 9000 tcp flags & (syn|ack) == ack reject with tcp reset");
    let dragoman = Dragoman::start(&net, "");
    assert_eq!(net.app.knock(server(9000), OPAQUE), (Vec::new(), true));
    assert_eq!(dragoman.record_of("connect_reset")["who"], "upstream");
}

#[test]
fn cause_connect_failed_shows_the_words_of_the_system() {
    let net = Net::new();
    net.app.succeed("ip rule add uidrange 1337-1337 to 198.18.0.2 blackhole");
    let dragoman = Dragoman::start(&net, "");
    assert_eq!(net.app.knock(server(9000), OPAQUE), (Vec::new(), true));
    let record = dragoman.record_of("connect_failed");
    assert!(record["detail"].as_str().unwrap_or_default().contains("nvalid argument"), "{record}");
}

#[test]
fn cause_ports_exhausted_is_said_and_harms_no_open_flow() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer| {
        while let Ok(byte) = peer.read_exact(1) {
            peer.send(byte)?;
        }
        Ok(())
    });
    let dragoman = Dragoman::start(&net, "");
    // One port for the proxy; the app binds its own.
    net.app.succeed("sysctl -qw net.ipv4.ip_local_port_range='40000 40000'");
    let bound = |port: u16| {
        net.app.enter(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from(([198, 18, 0, 1], port)).into()).unwrap();
            socket.connect(&server(9000).into()).unwrap();
            Peer::new(socket.into())
        })
    };
    let mut first = bound(30001);
    first.send(OPAQUE).unwrap();
    assert_eq!(first.read_exact(2).unwrap(), OPAQUE);
    let mut second = bound(30002);
    second.send(OPAQUE).unwrap();
    assert_eq!(second.read_to_reset().unwrap(), (Vec::new(), true));
    assert_eq!(dragoman.record_of("ports_exhausted")["who"], "dragoman");
    first.send("!").unwrap();
    assert_eq!(first.read_exact(1).unwrap(), b"!");
}

#[test]
fn a_connection_is_tried_again_while_nothing_has_been_sent() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer| {
        let bytes = peer.read_exact(OPAQUE.len())?;
        peer.send(bytes)
    });
    // The first two connections are refused by the host; the third is let in.
    rule(&net, "tcp dport 9000 tcp flags & (syn|ack) == syn numgen inc mod 3 < 2 reject with tcp reset");
    let dragoman = Dragoman::start(&net, "[defaults]\nretry = { attempts = 3, base = '10ms' }\n");
    let mut client = open(&net, server(9000));
    assert_eq!(client.read_to_end().unwrap(), OPAQUE);
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_flows_total", &[("cause", "-")]), 1);
}

#[test]
fn s5_both_legs_have_a_keepalive_under_conntracks_minute() {
    let net = Net::new();
    let _dragoman = Dragoman::start(&net, "");
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer| {
        peer.send("hello")?;
        peer.read_to_end().map(drop)
    });
    let mut client = open(&net, server(9000));
    client.read_exact(5).unwrap();
    let timers = |filter: &str| {
        let printed = net.app.succeed(&format!("ss -Htno state established '{filter}'"));
        let seconds = printed.lines().filter_map(|line| line.split_once("timer:(keepalive,"));
        seconds.map(|(_, rest)| rest.split("sec").next().unwrap().parse().unwrap()).collect::<Vec<u32>>()
    };
    for leg in ["sport = :15001", "dst 198.18.0.2:9000 and sport != :15001"] {
        // Acknowledgements on their way take the timer's place for a moment.
        let found =
            wait::until_some("a keepalive timer", wait::SOON, || Some(timers(leg)).filter(|t| !t.is_empty()));
        assert!(found.iter().all(|seconds| *seconds < 60), "{leg}: {found:?}");
    }
}

#[test]
fn s5_ended_flows_leave_no_descriptor() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let _half_closing = Origin::tcp(&net.servers, server(9000), |mut peer| {
        peer.finish_sending()?;
        peer.read_to_end().map(drop)
    });
    let _resetting = Origin::tcp(&net.servers, server(9001), |mut peer| {
        peer.read_exact(OPAQUE.len())?;
        peer.reset()
    });
    let before = dragoman.descriptors();
    for port in [9000, 9001, 9002] {
        let clients: Vec<Peer> = (0..40).map(|_| open(&net, server(port))).collect();
        for mut client in clients {
            client.read_to_reset().unwrap();
        }
    }
    dragoman.settle();
    wait::until("the descriptors are back", wait::SOON, || dragoman.descriptors() <= before);
}

#[test]
fn s5_flows_that_both_sides_reset_are_gone_at_once() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer| {
        let bytes = peer.read_exact(OPAQUE.len())?;
        peer.send(bytes)?;
        peer.read_to_end().map(drop)
    });
    // The server's kernel resets instead of acknowledging, so that these bytes stay unacknowledged for ever.
    rule(&net, "tcp dport 9000 meta length > 500 reject with tcp reset");
    // Several, since which of the two resets is met first is for the kernel to choose.
    let mut clients: Vec<Peer> = (0..10).map(|_| open(&net, server(9000))).collect();
    for client in &mut clients {
        assert_eq!(client.read_exact(2).unwrap(), OPAQUE);
    }
    // Stopped meanwhile, so that it meets the bytes and the app's reset at the same time.
    dragoman.signal(Signal::SIGSTOP);
    for mut client in clients {
        client.send([b'x'; 1000]).unwrap();
        client.reset().unwrap();
    }
    dragoman.signal(Signal::SIGCONT);
    let start = Instant::now();
    dragoman.settle();
    // Far below the half minute for which a reset may wait for an acknowledgement that can still come.
    assert!(start.elapsed() < Duration::from_secs(10), "open for {:?}", start.elapsed());
}

#[test]
fn s7_idle_flows_stay_and_still_carry_bytes() {
    const FLOWS: usize = 300;
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer| {
        while let Ok(byte) = peer.read_exact(2) {
            peer.send(byte)?;
        }
        Ok(())
    });
    let mut clients: Vec<Peer> = (0..FLOWS).map(|_| open(&net, server(9000))).collect();
    for client in &mut clients {
        assert_eq!(client.read_exact(2).unwrap(), OPAQUE);
    }
    assert_eq!(dragoman.metrics().sum("dragoman_flows_open", &[]), FLOWS as u64);
    // Longer than any timeout of the policy's defaults that concerns sniffing or connecting.
    wait::pause(Duration::from_secs(6));
    for (n, client) in clients.iter_mut().enumerate() {
        let word = u16::try_from(n).unwrap().to_be_bytes();
        client.send(word).unwrap();
        assert_eq!(client.read_exact(2).unwrap(), word);
    }
}

#[test]
fn declared_opaque_is_relayed_without_a_look() {
    let net = Net::new();
    let request = b"GET / HTTP/1.1\nbroken on purpose\r\n\r\n";
    let _origin = Origin::tcp(&net.servers, server(9000), move |mut peer| {
        let bytes = peer.read_exact(request.len())?;
        peer.send(bytes)
    });
    let dragoman = Dragoman::start(&net, "[destination.raw]\nports = [9000]\nprotocol = 'opaque'\n");
    let mut client = net.app.connect(server(9000));
    client.send(request).unwrap();
    assert_eq!(client.read_to_end().unwrap(), request);
    drop(client);
    assert_eq!(dragoman.records_where(1, |_| true)[0]["protocol"], "opaque");
}

/// A rule in the input chain of S, such as a broken network would be.
fn rule(net: &Net, rule: &str) {
    net.servers.succeed(&format!(
        "nft 'add table inet bad; add chain inet bad input {{ type filter hook input priority 0; }}; \
         add rule inet bad input {rule}'"
    ));
}

fn http_503(net: &Net, address: SocketAddr, cause: &str) {
    let answer = net.app.connect(address).exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((answer.status(), answer.header("x-dragoman-cause")), (503, Some(cause)));
}
