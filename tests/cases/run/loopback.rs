//! What is inside and what is not: 127.0.0.1, networks without a route, UDP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dragoman_harness::origin::Reply;
use dragoman_harness::{Net, Origin, net};

use crate::{User, says};

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn answers(net: &Net, address: SocketAddr, text: &'static str) -> Origin {
    Origin::http(&net.app, address, move |_, _| Reply::status(200, text))
}

const GET: &str = "curl -sS http://127.0.0.1:8080/; echo";

#[test]
fn the_services_of_the_host_are_there_unless_isolated() {
    let (net, user) = (Net::new(), User::new());
    let _v4 = answers(&net, local(8080), "host");
    let _v6 = answers(&net, "[::1]:8080".parse().unwrap(), "host by IPv6");
    let config = user.logging();
    let both = "curl -sS http://127.0.0.1:8080/ 'http://[::1]:8080/'";
    let captured = says(&mut user.run(&net, &["--config", &config, "--", "sh", "-c", both]));
    assert_eq!(captured, (Some(0), "hosthost by IPv6".to_owned(), String::new()));
    assert_eq!(user.destinations(), [local(8080), "[::1]:8080".parse().unwrap()]);
    let (code, out, err) =
        says(&mut user.run(&net, &["--isolate-loopback", "curl", "-sS", "http://127.0.0.1:8080/"]));
    assert_eq!((code, out.as_str()), (Some(56), ""), "{err}");
}

/// The command's own listener comes first, by either address of its, and is captured like any other.
#[test]
fn the_command_reaches_what_it_listens_on_itself_first() {
    let (net, user) = (Net::new(), User::new());
    let _host = answers(&net, local(8080), "host");
    let server = "import http.server as h, threading, urllib.request as u\n\
                  class Inside(h.BaseHTTPRequestHandler):\n\
                  \x20 def do_GET(self):\n\
                  \x20   self.send_response(200); self.end_headers(); self.wfile.write(b'inside')\n\
                  \x20 def log_message(self, *_): pass\n\
                  get = lambda to: print(u.urlopen('http://%s:8080/' % to).read().decode(), flush=True)\n\
                  get('127.0.0.1')\n\
                  s = h.ThreadingHTTPServer(('', 8080), Inside)\n\
                  threading.Thread(target=s.serve_forever).start()\n\
                  get('127.0.0.1'); get('198.18.0.1'); s.shutdown(); s.server_close(); get('127.0.0.1')\n";
    let config = user.logging();
    let run = ["--config", &config, "--", "/usr/bin/python3", "-c", server];
    let said = says(&mut user.run(&net, &run));
    assert_eq!(said, (Some(0), "host\ninside\ninside\nhost\n".to_owned(), String::new()));
    let own = SocketAddr::new(IpAddr::from([198, 18, 0, 1]), 8080);
    assert_eq!(user.destinations(), [local(8080), local(8080), local(8080), own]);
}

/// A plain port needs no listener: what dials it is captured.
#[test]
fn a_plain_port_leads_to_its_destination() {
    let (net, user) = (Net::new(), User::new());
    let _origin = Origin::http(&net.servers, net::server(80), |_, _| Reply::status(200, "orders"));
    let text = "[destination.orders]\nendpoints = [\"198.18.0.2:80\"]\n\
                [listener.orders]\naddress = \"127.0.0.1:9000\"\ndestination = \"orders\"\n";
    let config = user.home.write("plain.toml", text).display().to_string();
    let said =
        says(&mut user.run(&net, &["--config", &config, "--", "curl", "-sS", "http://127.0.0.1:9000/"]));
    assert_eq!(said, (Some(0), "orders".to_owned(), String::new()));
}

#[test]
fn nobody_there_is_a_reset_at_once() {
    let (net, user) = (Net::new(), User::new());
    let (code, _, err) = says(&mut user.run(&net, &["sh", "-c", GET]));
    assert_eq!(code, Some(0));
    assert!(err.contains("reset by peer"), "{err}");
}

/// A captured connect always succeeds: what the host cannot reach must not be connected to at all, or a client that
/// prefers IPv6 never falls back.
#[test]
fn what_the_host_has_no_route_to_is_unreachable_inside() {
    let (net, user) = (Net::new(), User::new());
    let connect = "import socket, sys\n\
                   for to in sys.argv[1:]:\n\
                   \x20 s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET)\n\
                   \x20 try: s.connect((to, 9)); print('connected')\n\
                   \x20 except OSError as e: print(e.strerror)\n";
    let run = |addresses: [&str; 4]| {
        let script = ["/usr/bin/python3", "-c", connect];
        says(&mut user.run(&net, &[&script[..], &addresses[..]].concat())).1
    };
    let addresses = ["198.18.0.2", "203.0.113.1", "fd98::2", "2001:db8::1"];
    assert_eq!(run(addresses), "connected\n".repeat(4));
    net.app.succeed("ip route del default; ip -6 route del default");
    let unreachable = "Network is unreachable\n";
    assert_eq!(run(addresses), ["connected\n", unreachable, "connected\n", unreachable].concat());
    net.app.succeed("ip -6 addr flush dev eth0 scope global");
    assert_eq!(run(addresses), ["connected\n", unreachable, unreachable, unreachable].concat());
}

#[test]
fn c8_udp_is_refused_but_to_the_command_itself() {
    let (net, user) = (Net::new(), User::new());
    let udp = "import socket\n\
               def ask(to, server=None):\n\
               \x20 s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_DGRAM)\n\
               \x20 s.settimeout(20)\n\
               \x20 try:\n\
               \x20   s.connect((to, 443 if not server else server.getsockname()[1])); s.send(b'x')\n\
               \x20   print('heard' if server and server.recv(1) else s.recv(1))\n\
               \x20 except PermissionError: print('refused')\n\
               \x20 except ConnectionRefusedError: print('refused')\n\
               own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); own.bind(('0.0.0.0', 0))\n\
               ask('198.18.0.2'); ask('fd98::2'); ask('127.0.0.1', own); ask('198.18.0.1', own)\n";
    let said = says(&mut user.run(&net, &["/usr/bin/python3", "-c", udp]));
    assert_eq!(said, (Some(0), "refused\nrefused\nheard\nheard\n".to_owned(), String::new()));
}
