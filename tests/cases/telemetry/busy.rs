//! A proxy to which everything has happened that there is to count.

use std::net::UdpSocket;
use std::time::Duration;

use dragoman_harness::http2::{Http2Origin, Wire, request};
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::pki::{Pki, Spec};
use dragoman_harness::servers::{Server, dnsmasq};
use dragoman_harness::tls::{Front, Setting};
use dragoman_harness::{Dragoman, Net, Origin, Peer};

const POLICY: &str = "\
[trace]
endpoint = 'http://198.18.0.2:4318'

[dns]
listen = ['127.0.0.1:15053']

[destination.web]
ports = [80]
pool = {}
retry = { statuses = [503], base = '1ms', attempts = 2 }

[destination.sick]
ports = [81]
breaker = { failures = 1, open = '1h' }

[destination.calls]
ports = [82]
pool = {}
";

/// A proxy, the servers that it talks to, and flows that are still open.
pub(crate) struct Busy<'n> {
    pub(crate) dragoman: Dragoman<'n>,
    _servers: (Origin, Http2Origin, Origin, Front, Server),
    // Its files are the configuration's.
    _pki: Pki,
    open: Vec<Peer>,
}

impl<'n> Busy<'n> {
    /// Starts it and has everything happen once.
    pub(crate) fn start(net: &'n Net) -> Busy<'n> {
        let web = Origin::http(&net.servers, server(80), |request, _| match request.word(0) {
            "DELETE" => Reply::status(503, "not now"),
            "POST" => Reply::reset(),
            _ => Reply::status(200, "ok"),
        });
        let calls = Http2Origin::start(&net.servers, server(82), |wire, request, _| {
            let head = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")];
            wire.fields(request.stream, &head, true)
        });
        let banner = Origin::tcp(&net.servers, server(83), |mut peer| {
            peer.send("SSH-2.0-test\r\n")?;
            peer.more()
        });
        let pki = Pki::new();
        let (own, client) =
            (pki.issue(&Spec::dns("a.test")), pki.issue(&Spec::uri("spiffe://shop.test/app")));
        let secure = Front::start(&net.servers, server(443), server(80), Setting::of(&own));
        let tls = format!(
            "[destination.secure]\nports = [85]\ntls = {{ port = 443, server_name = 'a.test', roots = [{:?}], \
             identity = {{ certificate = {:?}, key = {:?} }} }}\n",
            pki.roots(),
            client.certificate,
            client.key
        );
        let names = dnsmasq(&net.servers, "host-record=a.test,198.18.0.2\n");
        net.app.set_resolv_conf("nameserver 198.18.0.2\n");
        let dragoman = Dragoman::start(net, &format!("{POLICY}{tls}"));
        let servers = (web, calls, banner, secure, names);
        let mut busy = Busy { dragoman, _servers: servers, _pki: pki, open: Vec::new() };
        busy.again(net);
        busy
    }

    /// Has everything happen once more.
    pub(crate) fn again(&mut self, net: &Net) {
        for (method, port, status) in [
            ("GET", 80, 200),
            ("DELETE", 80, 503),
            ("POST", 80, 502),
            ("GET", 81, 503),
            ("GET", 81, 503),
            ("GET", 85, 200),
        ] {
            let head = format!("{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
            let mut peer = net.app.connect(server(port));
            assert_eq!(peer.exchange(head).unwrap().status(), status, "{method} to {port}");
            self.open.push(peer);
        }
        let mut client = Wire::client(net.app.connect(server(82)), &[]).unwrap();
        let fields = [("te", "trailers"), ("content-type", "application/grpc")];
        client.fields(1, &[&request("POST", "/a.B/C")[..], &fields].concat(), true).unwrap();
        assert_eq!(client.response(1).unwrap().field("grpc-status"), Some("0"));
        let mut ssh = net.app.connect(server(83));
        assert_eq!(ssh.read_until(b"\n").unwrap(), b"SSH-2.0-test\r\n");
        // Nothing listens there, and no answer could say so to what is no HTTP.
        net.app.knock(server(84), b"\0\x01\x02\xff no HTTP \r\n\r\n");
        net.app.enter(resolve);
    }
}

/// Asks for the address of a.test.
fn resolve() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.connect("127.0.0.1:15053").unwrap();
    socket.send(b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01").unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(answer[length - 4..length], [198, 18, 0, 2]);
}
