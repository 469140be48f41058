//! gRPC: clients and servers of three languages are what they are without dragoman, and policy knows how a
//! call ended from where gRPC says it.

mod deadlines;
mod policy;
mod programs;

use dragoman_harness::Net;
use dragoman_harness::http2::{Response, Wire, request};
use dragoman_harness::net::server;

/// A message of one byte in its envelope: not compressed, length 1.
const MESSAGE: &[u8] = b"\0\0\0\0\x01m";

/// One call on a connection of its own, with these fields beside those that every call has.
fn call(net: &Net, more: &[(&str, &str)]) -> Response {
    let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
    let base = [("te", "trailers"), ("content-type", "application/grpc")];
    client.fields(1, &[&request("POST", "/a.B/C")[..], &base, more].concat(), false).unwrap();
    client.data(1, MESSAGE, true).unwrap();
    client.response(1).unwrap()
}

/// How a call ended, wherever the server said it.
fn status(response: &Response) -> Option<&str> {
    response.trailer("grpc-status").or(response.field("grpc-status"))
}

/// Answers a call with a message and a status in the trailers.
fn answer(wire: &mut Wire, stream: u32, status: &str) -> std::io::Result<()> {
    wire.fields(stream, &[(":status", "200"), ("content-type", "application/grpc")], false)?;
    wire.data(stream, MESSAGE, false)?;
    wire.fields(stream, &[("grpc-status", status)], true)
}

/// Answers a call with a status and nothing else, and with these fields beside it.
fn fail(wire: &mut Wire, stream: u32, status: &str, more: &[(&str, &str)]) -> std::io::Result<()> {
    let head = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)];
    wire.fields(stream, &[&head[..], more].concat(), true)
}
