//! Connections that begin as HTTP and become something else: WebSocket, TLS, HTTP/2, and tunnels through a real proxy.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use dragoman_harness::dragoman::normal;
use dragoman_harness::net::{server, server_v4};
use dragoman_harness::origin::Reply;
use dragoman_harness::process::{self, Process, text};
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Net, Origin, programs, wait};

/// A server program in S, ready on `port`.
fn serve(net: &Net, scratch: &Scratch, command: &mut Command, port: u16) -> Process {
    let mut server = Process::start("server", command, &scratch.path().join("server.log"), None);
    server.wait_ready(wait::SOON, || net.servers.listens(port));
    server
}

fn python(net: &Net, program: &str, words: &[&str]) -> Command {
    let mut command = net.servers.command(programs::python());
    command.arg(programs::path(program)).args(words);
    command
}

/// Each line prints the same directly, under an empty configuration and under `normal.toml`. Returns what that is.
fn same_captured(net: &Net, lines: &[String]) -> Vec<String> {
    let run = |line: &String| {
        let out = net.app.shell(line);
        (out.status.code(), text(&out))
    };
    let direct: Vec<_> = lines.iter().map(run).collect();
    for configuration in ["", &normal()] {
        let dragoman = Dragoman::start(net, configuration);
        for (line, direct) in lines.iter().zip(&direct) {
            assert_eq!(run(line), *direct, "captured, then direct: {line}\n{}", dragoman.log());
        }
        let flows = dragoman.settle().sum("dragoman_flows_total", &[]);
        assert!(flows >= lines.len() as u64, "{flows} flows: not captured");
    }
    direct.into_iter().map(|(_, printed)| printed).collect()
}

#[test]
fn h3_websocket_clients_get_ten_thousand_messages_back() {
    let net = Net::new();
    let scratch = Scratch::new("websocket");
    let _server = serve(&net, &scratch, &mut python(&net, "websocket.py", &["serve", "80"]), 80);
    let (python, program) = (programs::python(), programs::path("websocket.py"));
    let of_python = format!("{} {} ask ws://198.18.0.2/", python.display(), program.display());
    let of_node = format!("node {} ws://198.18.0.2/", programs::path("node/websocket.mjs").display());
    let printed = same_captured(&net, &[of_python, of_node]);
    assert_eq!(
        printed,
        ["10000 echoed, closed by 1000 enough\n", "10000 echoed, closed by 1000 enough true\n"]
    );
}

/// Ten thousand masked frames of mixed size (RFC 6455 5.2), as bytes.
fn frames() -> Vec<u8> {
    const SIZES: [u16; 8] = [0, 1, 2, 125, 126, 127, 300, 1000];
    let frame = |n: usize| {
        let size = SIZES[n % SIZES.len()];
        let mut frame = vec![0x82];
        match u8::try_from(size).ok().filter(|size| *size < 126) {
            Some(size) => frame.push(0x80 | size),
            None => frame.extend([&[0xfe][..], &size.to_be_bytes()].concat()),
        }
        frame.extend((0..4 + size).map(|at| (usize::from(at) + n).to_le_bytes()[0]));
        frame
    };
    (0..10_000).flat_map(frame).collect()
}

#[test]
fn h3_each_direction_of_an_upgraded_connection_ends_by_itself() {
    let net = Net::new();
    let frames = frames();
    const SWITCH: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let origin = Origin::tcp(&net.servers, server(80), {
        let frames = frames.clone();
        move |mut peer| {
            let request = peer.request()?.expect("a request");
            peer.send(SWITCH)?;
            if request.word(1) == "/app-first" {
                let received = peer.read_to_end()?;
                return peer.send(received);
            }
            peer.send(&frames)?;
            peer.finish_sending()?;
            peer.read_to_end().map(drop)
        }
    });
    for configuration in ["", &normal()] {
        let dragoman = Dragoman::start(&net, configuration);
        for target in ["/app-first", "/server-first"] {
            let mut client = net.app.connect(server(80));
            let fields = "Connection: Upgrade\r\nUpgrade: websocket";
            client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).unwrap();
            assert_eq!(client.response("GET").unwrap().head, SWITCH);
            if target == "/server-first" {
                assert!(client.read_to_end().unwrap() == frames, "{target}");
            }
            client.send(&frames).unwrap();
            client.finish_sending().unwrap();
            let rest = client.read_to_end().unwrap();
            assert!(rest == if target == "/app-first" { &frames[..] } else { b"" }, "{target}");
        }
        assert_eq!(dragoman.settle().sum("dragoman_exchanges_total", &[("code", "101"), ("cause", "-")]), 2);
    }
    for connection in origin.seen() {
        let received = connection.bytes.so_far();
        assert!(received.ends_with(&frames), "{} bytes of {}", received.len(), frames.len());
    }
}

#[test]
fn h3_tls_begins_within_http() {
    let net = Net::new();
    let scratch = Scratch::new("tls");
    let certificate = scratch.path().join("both.pem").display().to_string();
    let openssl = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=inside \
                   -addext subjectAltName=DNS:inside -keyout";
    let arguments = openssl.split_whitespace().chain([&*certificate, "-out", &certificate]);
    process::succeed(Command::new("openssl").args(arguments));
    let _server =
        serve(&net, &scratch, &mut python(&net, "tls_upgrade.py", &["serve", "80", &certificate]), 80);
    let (python, program) = (programs::python(), programs::path("tls_upgrade.py"));
    let ask = format!("{} {} ask 198.18.0.2 80 {certificate}", python.display(), program.display());
    assert_eq!(same_captured(&net, &[ask]), ["both ways in TLSv1.3\n"]);
}

#[test]
fn h4_tunnels_through_squid() {
    let net = Net::new();
    let scratch = Scratch::new("squid");
    scratch.give_to("proxy");
    let directory = scratch.path().display();
    let configuration = format!(
        "http_port 3128\npid_filename none\ncache deny all\ncache_log {directory}/cache.log\n\
         logformat line %>a %rm %ru %>Hs\n\
         access_log stdio:{directory}/lines line\ncoredump_dir {directory}\nshutdown_lifetime 0\n\
         acl forbidden port 99\nhttp_access deny forbidden\nhttp_access allow all\nvia off\nforwarded_for delete\n"
    );
    let file = scratch.write("squid.conf", configuration);
    let mut command = net.servers.command("squid");
    command.arg("-N").arg("-f").arg(file);
    let _squid = serve(&net, &scratch, &mut command, 3128);
    let inner = SocketAddr::new(server_v4(1), 8080);
    let origin = Origin::http(&net.servers, inner, |request, _| Reply::status(200, request.word(1)));
    let curl = "curl -sS -i -x http://198.18.0.2:3128";
    let lines = [
        format!("{curl} -p http://{inner}/a%2Fb http://{inner}/c"),
        format!("{curl} http://{inner}/plain | grep -v '^Date:'"),
        format!("{curl} -p -o /dev/null -w '%{{http_connect}}' http://198.18.0.3:99/"),
    ];
    let printed = same_captured(&net, &lines);
    assert!(
        printed[0].contains("200 Connection established") && printed[0].ends_with("\r\n\r\n/c"),
        "{printed:?}"
    );
    assert!(printed[1].ends_with("/plain\n") && printed[2].starts_with("403"), "{printed:?}");
    let heads: Vec<_> = origin.requests().into_iter().map(|request| request.head).collect();
    let [direct, captured, under_policy] = [&heads[..3], &heads[3..6], &heads[6..]];
    assert_eq!(direct, captured);
    assert_eq!(direct[..2], under_policy[..2], "nobody looks into a tunnel");
    assert!(under_policy[2].contains("x-request-id: "), "what squid is asked for in the open is HTTP");
    let noted = fs::read_to_string(scratch.path().join("lines")).unwrap();
    let noted: Vec<_> = noted.lines().collect();
    assert_eq!(noted[..noted.len() / 3].repeat(3), noted, "squid's own record: peer, method, target, status");
}

#[test]
fn h2c_is_for_policy_to_allow() {
    let net = Net::new();
    let scratch = Scratch::new("h2c");
    let _server = serve(&net, &scratch, &mut python(&net, "h2c_upgrade.py", &["80"]), 80);
    let curl = || {
        net.app
            .succeed("curl -sS --http2 -w ' in %{http_version}\\n' http://198.18.0.2/1 http://198.18.0.2/2")
    };
    let upgraded = "HTTP/2 in 2\n".repeat(2);
    assert_eq!(curl(), upgraded);
    let dragoman = Dragoman::start(&net, "");
    assert_eq!(curl(), upgraded, "an empty configuration changes nothing");
    drop(dragoman);
    let _dragoman = Dragoman::start(&net, &normal());
    assert_eq!(curl(), "HTTP/1.1 in 1.1\n".repeat(2), "policy would not see what is said in HTTP/2");
}
