//! What a flow speaks is found without a timeout and without a guess: upstream is dialled while the client
//! is silent, whoever speaks first decides, and silence decides nothing.

use std::time::{Duration, Instant};

use dragoman_harness::net::{server, server_in_both_families};
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Net, Origin, servers, wait};

/// A TLS 1.2 ClientHello in one record, with one cipher suite and a server name.
fn client_hello(name: &str) -> Vec<u8> {
    let short = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let mut sni = vec![0, 0];
    sni.extend(short(name.len() + 5));
    sni.extend(short(name.len() + 3));
    sni.push(0);
    sni.extend(short(name.len()));
    sni.extend(name.as_bytes());
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(short(sni.len()));
    body.extend(sni);
    let mut handshake = vec![1, 0];
    handshake.extend(short(body.len()));
    handshake.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(short(handshake.len()));
    record.extend(handshake);
    record
}

#[test]
fn s1_servers_that_speak_first_are_dialled_while_the_client_is_silent() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let mysql: &[u8] =
        b"\x4a\0\0\0\x0a8.0.36\0\x0b\0\0\0ABCDEFGH\0\xff\xf7\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0\
                         IJKLMNOPQRST\0mysql_native_password\0";
    let banners: [(&[u8], &str); 4] = [
        (mysql, "mysql"),
        (b"220 mail.example.org ESMTP\r\n", "smtp"),
        (b"220 ftp.example.org FTP server ready\r\n", "ftp"),
        (b"SSH-2.0-Example_1\r\n", "ssh"),
    ];
    for (n, (banner, protocol)) in (0..).zip(banners) {
        for address in server_in_both_families(7000 + n) {
            let origin = Origin::tcp(&net.servers, address, move |mut peer| {
                peer.send(banner)?;
                let answer = peer.read_exact(6)?;
                peer.send(answer)
            });
            let mut client = net.app.connect(address);
            // Not a byte has been sent: only a dial in advance can bring the banner.
            assert_eq!(client.read_exact(banner.len()).unwrap(), banner, "{protocol}");
            client.send("answer").unwrap();
            assert_eq!(client.read_to_end().unwrap(), b"answer", "{protocol}");
            drop(client);
            assert_eq!(origin.seen().len(), 1, "{protocol}: one flow is one connection");
            let original = address.to_string();
            let record = dragoman.records_where(1, |r| r["original_dst"] == original.as_str()).remove(0);
            assert_eq!(record["protocol"], protocol, "{record}");
        }
    }
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_early_dials_total", &[("result", "used")]), 8);
}

#[test]
fn s1_the_greeting_of_mysql_is_measured_direct_and_captured() {
    const ROUNDS: usize = 21;
    let net = Net::new();
    let _mariadb = servers::mariadb(&net.servers);
    let median = || {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let mut client = net.app.connect(server(3306));
            let greeting = client.read_exact(5).unwrap();
            times.push(start.elapsed());
            assert_eq!(greeting[4], 10, "the protocol version of a MySQL greeting");
        }
        times.sort();
        times[ROUNDS / 2]
    };
    let direct = median();
    let dragoman = Dragoman::start(&net, "");
    let captured = median();
    // A figure for the reader; what is asserted is that no timeout stands between the two.
    println!("MySQL greeting, median of {ROUNDS}: direct {direct:?}, captured {captured:?}");
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_total", &[("protocol", "mysql")]), ROUNDS as u64);
    assert_eq!(metrics.sum("dragoman_early_dials_total", &[("result", "used")]), ROUNDS as u64);
}

#[test]
fn s1_no_early_dial_where_a_deny_rule_may_still_apply() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "open"));
    let dragoman = Dragoman::start(&net, "[destination.secret]\nhosts = ['secret.test']\ndeny = true\n");
    let mut client = net.app.connect(server(80));
    // Long beside the 20 ms for which a dial may wait for a name.
    wait::pause(Duration::from_millis(300));
    assert_eq!(origin.seen().len(), 0, "dialled before the name was known");
    let refused = client.exchange("GET / HTTP/1.1\r\nHost: secret.test\r\n\r\n").unwrap();
    assert_eq!((refused.status(), refused.header("x-dragoman-cause")), (403, Some("denied")));
    let mut other = net.app.connect(server(80));
    assert_eq!(other.exchange("GET / HTTP/1.1\r\nHost: open.test\r\n\r\n").unwrap().text(), "open");
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(dragoman.record_of("denied")["destination"], "secret");
}

#[test]
fn s2_a_client_hello_in_one_byte_segments_over_five_seconds_is_tls() {
    let net = Net::new();
    let hello = client_hello("pay.example.com");
    let length = hello.len();
    let origin = Origin::tcp(&net.servers, server(8443), move |mut peer| {
        peer.read_exact(length)?;
        peer.send("server hello")
    });
    let dragoman = Dragoman::start(&net, "[destination.pay]\nsni = ['pay.example.com']\n");
    let mut client = net.app.connect(server(8443));
    client.send_slowly(&hello, Duration::from_secs(5)).unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"server hello");
    drop(client);
    assert_eq!(origin.connection(0).bytes.so_far(), hello);
    assert_eq!(origin.seen().len(), 1);
    let record = dragoman.records_where(1, |_| true).remove(0);
    assert_eq!((&record["protocol"], &record["destination"]), (&"tls".into(), &"pay".into()), "{record}");
}

#[test]
fn s2_silence_decides_nothing() {
    let net = Net::new();
    let hello = client_hello("late.test");
    let length = hello.len();
    let http = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "late but whole"));
    let _tls = Origin::tcp(&net.servers, server(443), move |mut peer| {
        peer.read_exact(length)?;
        peer.send("hello")
    });
    let configuration = "[destination.late]\nsni = ['late.test']\n[defaults]\nrequest_id = true\n";
    let dragoman = Dragoman::start(&net, configuration);
    let mut to_http = net.app.connect(server(80));
    let mut to_tls = net.app.connect(server(443));
    wait::pause(Duration::from_secs(3));
    let answer = to_http.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(answer.text(), "late but whole");
    assert!(
        http.requests()[0].header("x-request-id").is_some(),
        "taken for opaque: {}",
        http.requests()[0].head
    );
    assert_eq!(http.seen().len(), 1, "the connection dialled in advance is the one that is used");
    to_tls.send(&hello).unwrap();
    assert_eq!(to_tls.read_to_end().unwrap(), b"hello");
    drop(to_tls);
    assert_eq!(dragoman.records_where(1, |r| r["protocol"] == "tls")[0]["destination"], "late");
}

#[test]
fn s2_every_split_of_a_request_head_is_http() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let _dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let request = b"PROPFIND /a HTTP/1.1\r\nHost: a\r\n\r\n";
    for at in 1..request.len() {
        let mut client = net.app.connect(server(80));
        client.send(&request[..at]).unwrap();
        wait::pause(Duration::from_millis(2));
        client.send(&request[at..]).unwrap();
        assert_eq!(client.response("PROPFIND").unwrap().text(), "ok", "split at {at}");
    }
    assert!(origin.requests().iter().all(|request| request.header("x-request-id").is_some()));
}

#[test]
fn s2_a_grpc_server_that_speaks_first_is_not_opaque() {
    let net = Net::new();
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let origin = Origin::tcp(&net.servers, server(50051), move |mut peer| {
        peer.send(settings)?;
        peer.read_exact(preface.len() + settings.len())?;
        peer.send("frames")
    });
    let dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(50051));
    // The server has been dialled and has spoken before the client says a word.
    origin.connection(0);
    wait::pause(Duration::from_millis(200));
    client.send([&preface[..], settings].concat()).unwrap();
    assert_eq!(client.read_to_end().unwrap(), [settings, b"frames"].concat());
    drop(client);
    let record = dragoman.records_where(1, |_| true).remove(0);
    assert_eq!(record["protocol"], "http2", "{record}");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn s2_clients_that_speak_first_are_named() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let startup = b"\0\0\0\x13\0\x03\0\0user\0app\0\0\0";
    let first: [(&[u8], &str); 4] = [
        (b"\0\0\0\x08\x04\xd2\x16\x2f", "postgres"),
        (&startup[..], "postgres"),
        (b"*1\r\n$4\r\nPING\r\n", "redis"),
        (b"\x01\x02no protocol at all", "opaque"),
    ];
    for (n, (bytes, protocol)) in (0..).zip(first) {
        let address = server(7100 + n);
        let origin = Origin::tcp(&net.servers, address, move |mut peer| {
            peer.read_exact(bytes.len())?;
            peer.send("answer")
        });
        let mut client = net.app.connect(address);
        client.send(bytes).unwrap();
        assert_eq!(client.read_to_end().unwrap(), b"answer", "{protocol}");
        drop(client);
        assert_eq!(origin.connection(0).bytes.so_far(), bytes, "{protocol}");
        let original = address.to_string();
        let record = dragoman.records_where(1, |r| r["original_dst"] == original.as_str()).remove(0);
        assert_eq!(record["protocol"], protocol, "{record}");
    }
}

#[test]
fn cause_unexpected_protocol_fails_closed_on_either_side() {
    let net = Net::new();
    let banner = Origin::tcp(&net.servers, server(25), |mut peer| {
        peer.send("220 mail.example.org ESMTP\r\n")?;
        peer.read_to_end().map(drop)
    });
    let silent = Origin::tcp(&net.servers, server(80), |mut peer| peer.read_to_end().map(drop));
    let dragoman = Dragoman::start(&net, "[destination.web]\ncidrs = ['198.18.0.0/24']\nprotocol = 'http'\n");
    assert_eq!(net.app.knock(server(25), b""), (Vec::new(), true));
    assert_eq!(net.app.knock(server(80), b"\x16\x03\x01 not HTTP"), (Vec::new(), true));
    let records = dragoman.records_where(2, |r| r["cause"] == "unexpected_protocol");
    assert!(records.iter().all(|record| record["destination"] == "web"), "{records:#?}");
    for seen in banner.seen().iter().chain(&silent.seen()) {
        assert!(seen.bytes.is_empty(), "the server got {:?}", seen.text());
    }
}

#[test]
fn cause_denied_resets_before_anything_is_dialled() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(7000), |mut peer| peer.send("hello"));
    let dragoman =
        Dragoman::start(&net, "[destination.no]\ncidrs = ['198.18.0.2/32']\nports = [7000]\ndeny = true\n");
    // The client says nothing: the address alone decides.
    assert_eq!(net.app.knock(server(7000), b""), (Vec::new(), true));
    let record = dragoman.record_of("denied");
    assert_eq!((&record["who"], &record["destination"]), (&"dragoman".into(), &"no".into()), "{record}");
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(dragoman.settle().sum("dragoman_flows_total", &[("cause", "denied")]), 1);
}
