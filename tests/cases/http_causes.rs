//! Every way in which an exchange can end badly: the status or the end that the app sees, the name in the
//! answer's header, in the log and in the metrics, and who did it.

use std::time::Duration;

use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A policy that is not empty, so that dragoman answers where the server does not. With an empty one it
/// would relay what the server does.
const SOME: &str = "[defaults]\nrequest_id = true\n";

/// One server on port 80 and the proxy before it.
struct Case<'n> {
    net: &'n Net,
    dragoman: Dragoman<'n>,
    origin: Origin,
}

impl<'n> Case<'n> {
    fn new(
        net: &'n Net,
        configuration: &str,
        script: impl Fn(Peer) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let origin = Origin::tcp(&net.servers, server(80), script);
        Case { net, dragoman: Dragoman::start(net, configuration), origin }
    }

    fn connect(&self) -> Peer {
        self.net.app.connect(server(80))
    }

    /// A GET is answered by dragoman itself with this status, in the name of this cause and no other.
    fn answers(&self, status: u16, cause: &str, who: &str) {
        let answer = self.connect().exchange(GET).unwrap();
        assert_eq!(
            (answer.status(), answer.header("x-dragoman-cause")),
            (status, Some(cause)),
            "{}",
            answer.head
        );
        self.noted(&status.to_string(), cause, who);
    }

    /// The log and the metrics have exactly one exchange, with this status and cause.
    fn noted(&self, code: &str, cause: &str, who: &str) {
        let record = self.dragoman.records_where(1, |r| r["kind"] == "exchange").remove(0);
        assert_eq!((&record["cause"], &record["who"]), (&cause.into(), &who.into()), "{record}");
        let metrics = self.dragoman.settle();
        let labels = [("destination", "default"), ("code", code), ("cause", cause)];
        assert_eq!(metrics.sum("dragoman_exchanges_total", &labels), 1, "{record}");
        assert_eq!(metrics.sum("dragoman_exchanges_total", &[]), 1);
    }
}

/// A server that reads the request and answers with these bytes, then does what `end` says.
fn answering(
    bytes: &'static [u8],
    end: fn(Peer) -> std::io::Result<()>,
) -> impl Fn(Peer) -> std::io::Result<()> {
    move |mut peer| {
        peer.request()?;
        peer.send(bytes)?;
        end(peer)
    }
}

fn close(peer: Peer) -> std::io::Result<()> {
    drop(peer);
    Ok(())
}

fn hold(mut peer: Peer) -> std::io::Result<()> {
    peer.read_to_end().map(drop)
}

#[test]
fn l7_a_failure_has_one_name_and_is_told_once() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, SOME);
    let answer = net.app.connect(server(81)).exchange(GET).unwrap();
    let cause = answer.header("x-dragoman-cause").unwrap();
    let metrics = dragoman.settle();
    let failures = dragoman.records_where(1, |r| !r["cause"].is_null());
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert_eq!(failures[0]["cause"], cause);
    assert!(failures[0]["detail"].as_str().unwrap().contains("198.18.0.2:81"), "{}", failures[0]);
    let counted = ["dragoman_flows_total", "dragoman_exchanges_total"]
        .map(|name| metrics.sum(name, &[("cause", cause)]));
    assert_eq!(counted.iter().sum::<u64>(), 1, "{counted:?}");
    assert!(answer.text().contains(cause), "{}", answer.text());
}

#[test]
fn cause_upstream_reset_before_the_head_is_502() {
    let net = Net::new();
    Case::new(&net, SOME, answering(b"", Peer::reset)).answers(502, "upstream_reset", "upstream");
}

#[test]
fn cause_upstream_closed_before_the_head_is_502() {
    let net = Net::new();
    Case::new(&net, SOME, answering(b"HTTP/1.1 200 OK\r\nContent-", close)).answers(
        502,
        "upstream_closed",
        "upstream",
    );
}

#[test]
fn an_empty_configuration_relays_how_the_server_ended_it() {
    let net = Net::new();
    let resetting = Origin::tcp(&net.servers, server(81), answering(b"", Peer::reset));
    let case = Case::new(&net, "", answering(b"", close));
    assert_eq!(net.app.knock(server(80), GET.as_bytes()), (Vec::new(), false));
    assert_eq!(net.app.knock(server(81), GET.as_bytes()), (Vec::new(), true));
    assert_eq!(net.app.knock(server(82), GET.as_bytes()), (Vec::new(), true));
    assert_eq!((case.origin.seen().len(), resetting.seen().len()), (1, 1));
    let metrics = case.dragoman.settle();
    for cause in ["upstream_closed", "upstream_reset", "connect_refused"] {
        assert_eq!(metrics.sum("dragoman_exchanges_total", &[("code", "-"), ("cause", cause)]), 1, "{cause}");
    }
}

#[test]
fn cause_upstream_closed_within_the_body_is_not_a_whole_answer() {
    let net = Net::new();
    for partial in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let case = Case::new(&net, "[defaults]\nretry = {}\n", answering(partial, close));
        let mut client = case.connect();
        client.send(GET).unwrap();
        let (received, _) = client.read_to_reset().unwrap();
        assert_eq!(received, partial, "what came is passed on, and no end is made up");
        case.noted("200", "upstream_closed", "upstream");
        assert_eq!(case.origin.seen().len(), 1, "nothing is repeated after a head was forwarded");
        drop(case);
        net.app.succeed("nft delete table inet dragoman");
    }
}

#[test]
fn cause_upstream_reset_within_the_body_is_relayed() {
    let net = Net::new();
    let partial = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let case = Case::new(&net, SOME, answering(partial, Peer::reset_when_acknowledged));
    let mut client = case.connect();
    client.send(GET).unwrap();
    assert_eq!(client.read_to_reset().unwrap(), (partial.to_vec(), true));
    case.noted("200", "upstream_reset", "upstream");
}

#[test]
fn cause_bad_response_passes_nothing_on() {
    const BAD: &[&[u8]] = &[
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ];
    let net = Net::new();
    let case = Case::new(&net, SOME, |mut peer| {
        let n: usize = peer.request()?.and_then(|r| r.word(1)[1..].parse().ok()).unwrap_or(0);
        peer.send(BAD[n])?;
        peer.read_to_end().map(drop)
    });
    for (n, bad) in BAD.iter().enumerate() {
        let answer = case.connect().exchange(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
        let bad = String::from_utf8_lossy(bad);
        assert_eq!(
            (answer.status(), answer.header("x-dragoman-cause")),
            (502, Some("bad_response")),
            "{bad:?}"
        );
    }
    let metrics = case.dragoman.settle();
    let labels = [("code", "502"), ("cause", "bad_response")];
    assert_eq!(metrics.sum("dragoman_exchanges_total", &labels), BAD.len() as u64);
}

#[test]
fn cause_response_too_large_is_502() {
    let net = Net::new();
    let case =
        Case::new(&net, "[proxy]\nmax_head_bytes = '8KiB'\n[defaults]\nrequest_id = true\n", |mut peer| {
            peer.request()?;
            peer.send(format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(10_000)))?;
            hold(peer)
        });
    case.answers(502, "response_too_large", "upstream");
}

#[test]
fn cause_upstream_status_is_the_servers_own_answer() {
    let net = Net::new();
    let own = b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops";
    let case = Case::new(&net, SOME, answering(own, hold));
    let mut client = case.connect();
    client.send(GET).unwrap();
    assert_eq!(client.read_exact(own.len()).unwrap(), own, "as it came, with no header of ours");
    drop(client);
    case.noted("500", "upstream_status", "upstream");
}

#[test]
fn cause_try_timeout_is_504() {
    let net = Net::new();
    let case = Case::new(&net, "[defaults]\ntry_timeout = '200ms'\n", answering(b"", hold));
    case.answers(504, "try_timeout", "upstream");
}

#[test]
fn cause_timeout_is_504_over_all_attempts() {
    let net = Net::new();
    let configuration =
        "[defaults]\ntimeout = '2500ms'\ntry_timeout = '1s'\nretry = { attempts = 10, base = '1ms' }\n";
    let case = Case::new(&net, configuration, answering(b"", hold));
    case.answers(504, "timeout", "upstream");
    assert!((2..=4).contains(&case.origin.seen().len()), "{} attempts", case.origin.seen().len());
}

#[test]
fn cause_timeout_within_the_body_ends_the_exchange() {
    let net = Net::new();
    let partial = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let case = Case::new(&net, "[defaults]\ntimeout = '2s'\n", answering(partial, hold));
    let mut client = case.connect();
    client.send(GET).unwrap();
    assert_eq!(client.read_to_reset().unwrap().0, partial);
    case.noted("200", "timeout", "upstream");
}

#[test]
fn cause_app_closed_while_the_server_thinks() {
    let net = Net::new();
    let case = Case::new(&net, SOME, answering(b"", hold));
    let mut client = case.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    let seen = case.origin.connection(0);
    wait::until("the server has what was sent", wait::SOON, || seen.text().ends_with("half"));
    drop(client);
    case.noted("-", "app_closed", "app");
}

#[test]
fn cause_app_reset_while_the_server_thinks() {
    let net = Net::new();
    let case = Case::new(&net, SOME, answering(b"", hold));
    let mut client = case.connect();
    client.send(GET).unwrap();
    let seen = case.origin.connection(0);
    wait::until("the server has the request", wait::SOON, || seen.text().ends_with("\r\n\r\n"));
    client.reset().unwrap();
    case.noted("-", "app_reset", "app");
}

#[test]
fn cause_head_too_large_is_431_for_bytes_and_for_fields() {
    let net = Net::new();
    let configuration = "[proxy]\nmax_head_bytes = '8KiB'\nmax_headers = 16\n";
    let case = Case::new(&net, configuration, answering(b"", hold));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(16));
    for head in [long, many] {
        let answer = case.connect().exchange(head).unwrap();
        assert_eq!((answer.status(), answer.header("x-dragoman-cause")), (431, Some("head_too_large")));
    }
    assert_eq!(case.dragoman.settle().sum("dragoman_exchanges_total", &[("code", "431")]), 2);
    assert!(case.origin.seen().iter().all(|seen| seen.bytes.is_empty()));
}

#[test]
fn cause_request_timeout_is_408_for_a_head_that_does_not_end() {
    let net = Net::new();
    let case = Case::new(&net, "[proxy]\nrequest_head_timeout = '300ms'\n", answering(b"", hold));
    let mut client = case.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").unwrap();
    let answer = client.response("GET").unwrap();
    assert_eq!((answer.status(), answer.header("x-dragoman-cause")), (408, Some("request_timeout")));
    case.noted("408", "request_timeout", "app");
    assert!(case.origin.seen().iter().all(|seen| seen.bytes.is_empty()));
}

#[test]
fn an_idle_kept_connection_is_not_a_request_that_times_out() {
    let net = Net::new();
    let case = Case::new(&net, "[proxy]\nrequest_head_timeout = '300ms'\n", |mut peer| {
        while peer.request()?.is_some() {
            peer.send(response(200, "ok"))?;
        }
        Ok(())
    });
    let mut client = case.connect();
    for _ in 0..2 {
        assert_eq!(client.exchange(GET).unwrap().status(), 200);
        wait::pause(Duration::from_millis(700));
    }
    assert_eq!(case.dragoman.metrics().sum("dragoman_exchanges_total", &[("cause", "request_timeout")]), 0);
}

#[test]
fn cause_denied_by_host_is_403() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "[destination.no]\nhosts = ['*.no.test']\ndeny = true\n");
    let mut client = net.app.connect(server(80));
    assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: yes.test\r\n\r\n").unwrap().status(), 200);
    let answer = client.exchange("GET / HTTP/1.1\r\nHost: very.NO.test:80\r\n\r\n").unwrap();
    assert_eq!((answer.status(), answer.header("x-dragoman-cause")), (403, Some("denied")));
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(dragoman.record_of("denied")["destination"], "no");
}

/// A credential goes to the network that policy names for it, and nothing at all goes elsewhere: neither it nor the request
/// without it.
#[test]
fn cause_credential_withheld_outside_of_its_networks() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let near = server(80).ip();
    let dragoman = Dragoman::start(
        &net,
        &format!(
            "[destination.near]\nhosts = ['near.test']\nheaders.set.authorization = 'Bearer k'\n\
             danger_plain_text_credentials = ['{near}/32']\n\
             [destination.far]\nhosts = ['far.test']\ndanger_plain_text_credentials = ['192.0.2.0/24']\n\
             [destination.far.route.with]\npath = '/with'\nheaders.set.authorization = 'Bearer k'\n"
        ),
    );
    let mut client = net.app.connect(server(80));
    let mut ask = |host: &str, path: &str| {
        let answer = client.exchange(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        (answer.status(), answer.header("x-dragoman-cause").map(str::to_owned))
    };
    assert_eq!(ask("near.test", "/"), (200, None));
    assert_eq!(ask("far.test", "/with"), (403, Some("credential_withheld".into())));
    assert_eq!(ask("far.test", "/without"), (200, None));
    let seen: Vec<_> =
        origin.requests().iter().map(|it| it.header("authorization").map(str::to_owned)).collect();
    assert_eq!(seen, [Some("Bearer k".into()), None]);
    let record = dragoman.record_of("credential_withheld");
    assert_eq!((&record["destination"], &record["route"]), (&"far".into(), &"with".into()));
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_exchanges_total", &[("cause", "credential_withheld")]), 1);
}
