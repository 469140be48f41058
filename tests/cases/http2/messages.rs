//! Bodies, trailers and interim responses arrive whole, in their order, and at their time.

use dragoman_harness::http2::{End, Event, Frame, Http2Origin, Wire, each_way, request, value};
use dragoman_harness::net::server;
use dragoman_harness::{Net, Origin};

use crate::{connect, exactly, head, owned, rest};

#[test]
fn h6_trailers_pass_in_both_directions() {
    let net = Net::new();
    each_way(&net, |_| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.fields(request.stream, &[(":status", "200"), ("trailer", "grpc-status")], false)?;
            wire.data(request.stream, b"answer", false)?;
            let trailers =
                [("grpc-status", "5"), ("grpc-message", "no %E2%82%AC"), ("x-bin", "AAE"), ("x-bin", "Ag")];
            wire.fields(request.stream, &trailers, true)
        });
        let mut client = connect(&net);
        client.fields(1, &request("POST", "/a.B/C"), false).unwrap();
        client.data(1, b"question", false).unwrap();
        client.fields(1, &[("x-checksum", "abc"), ("x-more", "")], true).unwrap();
        let response = client.response(1).unwrap();
        assert_eq!((response.status(), &response.body[..], response.end), (200, &b"answer"[..], End::Whole));
        let expected =
            [("grpc-status", "5"), ("grpc-message", "no %E2%82%AC"), ("x-bin", "AAE"), ("x-bin", "Ag")];
        assert_eq!(response.trailers, owned(&expected));
        let seen = origin.requests().remove(0);
        assert_eq!(seen.body, b"question");
        assert_eq!(seen.trailers, owned(&[("x-checksum", "abc"), ("x-more", "")]));
    });
}

#[test]
fn h6_an_answer_of_one_head_ends_there() {
    // A gRPC error without a message has neither DATA nor trailers.
    let net = Net::new();
    each_way(&net, |_| {
        let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.fields(request.stream, &[(":status", "200"), ("grpc-status", "12")], true)
        });
        let mut client = connect(&net);
        client.post(1, "/a.B/C", b"").unwrap();
        let head = client.take(|event| match event {
            Event::Fields { fields, end, .. } => Some((fields.clone(), *end)),
            _ => None,
        });
        let (fields, end) = head.unwrap();
        assert_eq!((value(&fields, "grpc-status"), end), (Some("12"), true), "END_STREAM stands on the head");
    });
}

#[test]
fn h5_interim_responses_arrive_before_the_final_one() {
    let net = Net::new();
    each_way(&net, |_| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.fields(request.stream, &[(":status", "103"), ("link", "</a.css>; rel=preload")], false)?;
            wire.fields(request.stream, &[(":status", "103"), ("link", "</b.css>; rel=preload")], false)?;
            wire.respond(request.stream, "200", b"final")
        });
        let mut client = connect(&net);
        client.get(1, "/").unwrap();
        let response = client.response(1).unwrap();
        assert_eq!((response.status(), &response.body[..]), (200, &b"final"[..]));
        let links: Vec<_> = response.interim.iter().filter_map(|fields| value(fields, "link")).collect();
        assert_eq!(links, ["</a.css>; rel=preload", "</b.css>; rel=preload"]);
        assert_eq!(origin.requests().len(), 1);
    });
}

#[test]
fn h5_100_continue_comes_from_the_server_and_before_the_body() {
    let net = Net::new();
    each_way(&net, |_| {
        // The server says 100 on its own judgement: to a path that it does not like it says 413.
        let _origin = Origin::tcp(&net.servers, server(80), |peer| {
            let mut wire = Wire::server(peer, &[])?;
            for _ in 0..2 {
                let (stream, path) = wire.take(|event| match event {
                    Event::Fields { stream, fields, .. } => {
                        Some((*stream, value(fields, ":path")?.to_owned()))
                    }
                    _ => None,
                })?;
                if path == "/no" {
                    wire.fields(stream, &[(":status", "413")], true)?;
                    continue;
                }
                wire.fields(stream, &[(":status", "100")], false)?;
                let mut body = Vec::new();
                while !wire.take(|event| match event {
                    Event::Data { bytes, end, .. } => {
                        body.extend(bytes);
                        Some(*end)
                    }
                    _ => None,
                })? {}
                wire.respond(stream, "200", &body)?;
            }
            while wire.event().is_ok() {}
            Ok(())
        });
        let mut client = connect(&net);
        let expecting = |path| [&request("POST", path)[..], &[("expect", "100-continue")]].concat();
        client.fields(1, &expecting("/no"), false).unwrap();
        assert_eq!(client.response(1).unwrap().status(), 413, "no 100 was made up, none was waited for");
        client.fields(3, &expecting("/yes"), false).unwrap();
        // Not a byte of the body before the server has asked for it.
        client.take(|event| matches!(event, Event::Fields { stream: 3, .. }).then_some(())).unwrap();
        client.data(3, b"the body", true).unwrap();
        assert_eq!(client.response(3).unwrap().body, b"the body");
    });
}

#[test]
fn h5_an_early_answer_stops_the_upload() {
    let net = Net::new();
    each_way(&net, |way| {
        let _origin = Origin::tcp(&net.servers, server(80), |peer| {
            let mut wire = Wire::server(peer, &[])?;
            wire.take(|event| matches!(event, Event::Data { .. }).then_some(()))?;
            wire.respond(1, "413", b"too much")?;
            wire.send(&Frame::reset(1, 0))?;
            while wire.event().is_ok() {}
            Ok(())
        });
        let mut client = connect(&net);
        client.fields(1, &request("POST", "/upload"), false).unwrap();
        let broken = client.data(1, &vec![7; 100_000_000], true).unwrap_err();
        assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionAborted, "the upload went on");
        let response = client.response(1).unwrap();
        assert_eq!((response.status(), &response.body[..]), (413, &b"too much"[..]), "{way:?}");
        let code = client.take(|event| match event {
            Event::Reset { stream: 1, code } => Some(*code),
            _ => None,
        });
        assert_eq!(code.unwrap(), 0, "an early end is NO_ERROR: the answer is good");
    });
}

#[test]
fn bodies_of_many_shapes_arrive_whole() {
    const STREAMS: u32 = 24;
    let net = Net::new();
    let body = |n: u32| -> Vec<u8> { (0..n * n * 997).map(|at| (at ^ n).to_le_bytes()[0]).collect() };
    each_way(&net, |_| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.respond(request.stream, "200", &request.body)
        });
        let mut client = connect(&net);
        for n in 0..STREAMS {
            client.post(2 * n + 1, "/echo", &body(n)).unwrap();
        }
        for n in (0..STREAMS).rev() {
            let response = client.response(2 * n + 1).unwrap();
            assert!(response.body == body(n) && response.end == End::Whole, "stream {n}");
        }
        assert_eq!(origin.requests().len(), STREAMS as usize);
    });
}

#[test]
fn answers_without_a_body_keep_their_length_and_end() {
    let net = Net::new();
    each_way(&net, |_| {
        let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            let status = &request.path()[1..];
            wire.fields(
                request.stream,
                &[(":status", status), ("content-length", "5"), ("etag", "\"x\"")],
                true,
            )
        });
        let mut client = connect(&net);
        for (stream, method, path) in [(1, "HEAD", "/200"), (3, "HEAD", "/404"), (5, "GET", "/304")] {
            client.fields(stream, &request(method, path), true).unwrap();
            let response = client.response(stream).unwrap();
            assert_eq!((&path[1..], response.end), (response.field(":status").unwrap(), End::Whole));
            assert_eq!(
                (response.field("content-length"), response.body.len()),
                (Some("5"), 0),
                "{method} {path}"
            );
        }
    });
}

#[test]
fn both_directions_of_a_stream_flow_at_once() {
    // The answer begins before the question is over, and each waits for the other in turn.
    const TURNS: usize = 50;
    let net = Net::new();
    each_way(&net, |_| {
        let _origin = Origin::tcp(&net.servers, server(80), |peer| {
            let mut wire = Wire::server(peer, &[])?;
            let (stream, _) = wire.take(head)?;
            wire.fields(stream, &[(":status", "200")], false)?;
            for turn in 0..TURNS {
                assert_eq!(exactly(&mut wire, stream, turn.to_string().len()), turn.to_string().as_bytes());
                wire.data(stream, format!("re: {turn}").as_bytes(), false)?;
            }
            assert_eq!(rest(&mut wire, stream), b"");
            wire.data(stream, b"bye", true)?;
            while wire.event().is_ok() {}
            Ok(())
        });
        let mut client = connect(&net);
        client.fields(1, &request("POST", "/chat"), false).unwrap();
        client.take(|event| matches!(event, Event::Fields { stream: 1, .. }).then_some(())).unwrap();
        for turn in 0..TURNS {
            client.data(1, turn.to_string().as_bytes(), false).unwrap();
            let answer = format!("re: {turn}");
            assert_eq!(exactly(&mut client, 1, answer.len()), answer.as_bytes());
        }
        client.data(1, b"", true).unwrap();
        assert_eq!(rest(&mut client, 1), b"bye");
    });
}
