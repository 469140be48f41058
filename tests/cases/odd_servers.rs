//! Servers that do not speak HTTP as it should be spoken. Where nothing of policy holds, the app meets them as it would
//! without dragoman; where policy holds, what they say is refused. Either way, what answers nothing reaches nobody.

use dragoman_harness::net::server;
use dragoman_harness::origin::response;
use dragoman_harness::{Dragoman, Net, Origin, Peer};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Answers of servers that many clients read, and what is odd about each.
const ODD: &[(&str, &[u8])] = &[
    ("bare LFs", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    ("ICY", b"ICY 200 OK\r\nicy-name: radio\r\n\r\n\xff\xfb\x90"),
    ("HTTP/0.9", b"<html>\r\n<p>hello\r\n"),
    ("HTTP/0.9 without a line", b"hello"),
    ("a version that is none", b"HTTP/1.10 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
    ("a space before a colon", b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 2\r\n\r\nok"),
    ("a fold", b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nok"),
    ("an interim answer first", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    ("a bad chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n"),
    (
        "a bad second chunk",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1 1\nk\r\n0\r\n\r\n",
    ),
    ("an upgrade", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nnews"),
    ("a head that is cut", b"HTTP/1.1 200 OK\r\nContent-Le"),
];

/// A server that gives this answer to each of two requests, and then ends.
fn answering_twice(net: &Net, answer: &'static [u8]) -> Origin {
    Origin::tcp(&net.servers, server(80), move |mut peer: Peer| {
        for _ in 0..2 {
            peer.read_until(b"\r\n\r\n")?;
            peer.send(answer)?;
            if answer.ends_with(b"Le") {
                break;
            }
        }
        Ok(())
    })
}

#[test]
fn an_empty_configuration_passes_on_what_is_no_http() {
    let net = Net::new();
    for governed in [false, true] {
        let dragoman = governed.then(|| Dragoman::start(&net, ""));
        for (what, answer) in ODD {
            let origin = answering_twice(&net, answer);
            let mut client = net.app.connect(server(80));
            client.send(GET).unwrap();
            assert_eq!(client.read_exact(answer.len()).unwrap(), *answer, "{what}");
            if !answer.ends_with(b"Le") {
                // The connection goes on, and who looks for the answer to this one is the app.
                client.send(GET).unwrap();
                assert_eq!(client.read_exact(answer.len()).unwrap(), *answer, "{what}");
            }
            assert_eq!(client.read_to_end().unwrap(), b"", "{what}");
            assert_eq!(origin.seen().len(), 1, "{what}");
        }
        if let Some(dragoman) = dragoman {
            let metrics = dragoman.settle();
            let told = |cause| metrics.sum("dragoman_exchanges_total", &[("cause", cause)]);
            assert_eq!(told("bad_response"), ODD.len() as u64 - 1, "it is told all the same");
            assert_eq!(told("upstream_closed"), 1);
        }
    }
}

#[test]
fn the_rest_of_a_request_is_passed_on_too() {
    const LENGTH: usize = 4 << 20;
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| {
        peer.read_until(b"\r\n\r\n")?;
        peer.send("ICY 200 OK\r\n\r\n")?;
        peer.read_to_end().map(drop)
    });
    let _dragoman = Dragoman::start(&net, "");
    let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {LENGTH}\r\n\r\n");
    let body: Vec<u8> = (0..LENGTH as u32).map(|n| (n % 251) as u8).collect();
    let mut client = net.app.connect(server(80));
    client.send(&head).unwrap();
    client.send(&body).unwrap();
    client.finish_sending().unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"ICY 200 OK\r\n\r\n");
    assert!(origin.connection(0).bytes.so_far() == [head.as_bytes(), &body].concat());
}

#[test]
fn what_is_no_http_is_refused_where_policy_holds_or_a_name_could_decide() {
    let net = Net::new();
    for policy in
        ["[defaults]\nrequest_id = true\n", "[destination.secret]\nhosts = ['secret.test']\ndeny = true\n"]
    {
        let dragoman = Dragoman::start(&net, policy);
        for (what, answer) in ODD.iter().filter(|(_, answer)| !answer.ends_with(b"Le")) {
            let origin = answering_twice(&net, answer);
            let mut client = net.app.connect(server(80));
            client.send(GET).unwrap();
            let _ = client.send("GET / HTTP/1.1\r\nHost: secret.test\r\n\r\n");
            let _ = client.finish_sending();
            let (bytes, _) = client.read_to_reset().unwrap();
            let text = String::from_utf8_lossy(&bytes);
            let refused =
                text.contains("HTTP/1.1 502 ") && text.contains("x-dragoman-cause: bad_response\r\n");
            // A body goes bad after its head.
            assert!(refused || answer.starts_with(&bytes), "{what}: {text}");
            assert!(!origin.connection(0).text().contains("secret.test"), "{what}");
        }
        drop(dragoman);
        net.app.succeed("nft delete table inet dragoman");
    }
}

#[test]
fn bytes_beyond_a_response_answer_no_other_request() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| {
        while let Some(request) = peer.request()? {
            peer.send(response(200, request.word(1)) + &response(200, "to nobody"))?;
        }
        Ok(())
    });
    for policy in ["", "[defaults]\npool = {}\n"] {
        let dragoman = Dragoman::start(&net, policy);
        let before = origin.seen().len();
        let mut client = net.app.connect(server(80));
        // The second is there before the first is answered: nothing is told of the server in between.
        client
            .send("GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .unwrap();
        for expected in ["/1", "/2"] {
            assert_eq!(client.response("GET").unwrap().text(), expected, "{policy:?}");
        }
        assert_eq!(origin.seen().len() - before, 2, "the connection that said too much is not used again");
        drop(client);
        drop(dragoman);
        net.app.succeed("nft delete table inet dragoman");
    }
}
