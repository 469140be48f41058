//! HTTP/2: a client and a server cannot tell that dragoman is between them, hostile ones of either do no
//! harm, and policy holds for each stream.
//!
//! What is about fidelity is run three times: direct, which shows that the case itself is right; captured
//! with an empty configuration, where bytes pass as they are; and captured with a policy, where the proxy is
//! the server of one HTTP/2 connection and the client of another.

mod drained;
mod ends;
mod floods;
mod heads;
mod messages;
mod policy;
mod pool;
mod programs;
mod retries;
mod rules;
mod servers;
mod silence;
mod tunnels;
mod windows;

use std::fs;

use dragoman_harness::http2::hpack::Field;
use dragoman_harness::http2::{Event, Http2Origin, Response, Wire, request};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net};

/// A client of the server on port 80.
fn connect(net: &Net) -> Wire {
    Wire::client(net.app.connect(server(80)), &[]).unwrap()
}

/// Fields as they arrive.
fn owned(fields: &[(&str, &str)]) -> Vec<Field> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A field section, for [`Wire::take`].
fn head(event: &Event) -> Option<(u32, Vec<Field>)> {
    match event {
        Event::Fields { stream, fields, .. } => Some((*stream, fields.clone())),
        _ => None,
    }
}

/// DATA of a stream, for [`Wire::take`].
fn data(event: &Event, wanted: u32) -> Option<(Vec<u8>, bool)> {
    match event {
        Event::Data { stream, bytes, end } if *stream == wanted => Some((bytes.clone(), *end)),
        _ => None,
    }
}

/// The next bytes of a stream that stays open.
fn exactly(wire: &mut Wire, stream: u32, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
        let (bytes, end) = wire.take(|event| data(event, stream)).unwrap();
        all.extend(bytes);
        assert!(!end, "the stream ended");
    }
    all
}

/// All bytes up to the end of a stream.
fn rest(wire: &mut Wire, stream: u32) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let (bytes, end) = wire.take(|event| data(event, stream)).unwrap();
        all.extend(bytes);
        if end {
            return all;
        }
    }
}

/// One request on a connection of its own.
fn once(net: &Net, method: &str, body: &[u8]) -> Response {
    let mut client = connect(net);
    client.fields(1, &request(method, "/"), body.is_empty()).unwrap();
    if !body.is_empty() {
        client.data(1, body, true).unwrap();
    }
    client.response(1).unwrap()
}

/// A server on port 80 that answers each request with its body.
fn echo(net: &Net) -> Http2Origin {
    Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.respond(request.stream, "200", &request.body)
    })
}

/// How much memory the proxy has now (`VmRSS`).
fn resident_bytes(dragoman: &Dragoman) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says VmRSS");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of kB") * 1024
}
