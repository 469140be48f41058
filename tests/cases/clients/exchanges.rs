//! What every client says, as far as it can be made to, and what its server answers.

use dragoman_harness::Message;
use dragoman_harness::origin::Reply;

/// Where every client finds its server: without a port in its Host.
pub(crate) const URL: &str = "http://198.18.0.2";
pub(crate) const PORT: u16 = 80;

/// The body that every client sends, whole or in chunks.
pub(crate) const BODY: &str = "hello, \0 and goodbye\r\n";

/// One exchange: method, target, how the body is sent, and header fields.
pub(crate) type Exchange = (&'static str, &'static str, Sent, &'static [&'static str]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Nothing,
    Length,
    Chunked,
}

/// What a relay that tidies up would change, as far as clients can be made to say it.
pub(crate) const EXCHANGES: [Exchange; 18] = [
    (
        "GET",
        "/a%2Fb/../c/./%7Ed//e;v=1;w/?x=%20&y=a+b&&z=%23&=~!",
        Sent::Nothing,
        &["X-Odd: two  inside,\"and\\\" more", "x-lower: 1", "X-UPPER: 2", "X-Empty: "],
    ),
    ("GET", "/twice", Sent::Nothing, &["X-Twice: 1", "Cookie: a=1; b=2", "X-Between: 0", "X-Twice: 2"]),
    ("HEAD", "/reason", Sent::Nothing, &[]),
    ("GET", "/reason", Sent::Nothing, &["Authorization: Bearer a.b~c+d/e=="]),
    ("GET", "/silent", Sent::Nothing, &[]),
    ("GET", "/case", Sent::Nothing, &[]),
    ("GET", "/chunked", Sent::Nothing, &["TE: trailers"]),
    ("GET", "/hints", Sent::Nothing, &[]),
    ("GET", "/unchanged", Sent::Nothing, &["If-None-Match: W/\"x\""]),
    ("GET", "/unchanged/long", Sent::Nothing, &["If-None-Match: W/\"x\""]),
    ("POST", "/length", Sent::Length, &["Content-Type: application/octet-stream"]),
    ("PUT", "/chunked", Sent::Chunked, &["Content-Type: text/plain"]),
    ("POST", "/reset", Sent::Length, &["Content-Type: text/plain"]),
    ("DELETE", "/none", Sent::Nothing, &[]),
    ("GET", "/old", Sent::Nothing, &[]),
    ("OPTIONS", "/x?", Sent::Nothing, &[]),
    ("GET", "/close", Sent::Nothing, &[]),
    ("GET", "/again", Sent::Nothing, &[]),
];

/// What the server says: forms that servers of any age send.
pub(crate) fn answer(request: &Message, _: usize) -> Reply {
    let head = |rest: &str| format!("HTTP/1.1 {rest}\r\n\r\n");
    let connection = request.header("connection").unwrap_or_default().to_lowercase();
    let old = request.word(2) == "HTTP/1.0";
    let closes = connection.contains("close") || old && !connection.contains("keep-alive");
    let text = match request.word(1) {
        "/reason" if request.word(0) == "HEAD" => head("200 A strange: phrase!\r\nContent-Length: 1234567"),
        "/reason" => head("200 A strange: phrase!\r\nContent-Length: 4") + "text",
        "/silent" => head("299 \r\ncontent-length:4") + "text",
        "/case" => {
            head(
                "200 OK\r\nset-cookie: a=1\r\nX-UPPER: 1\r\nSet-Cookie:   b=2; Path=/  \r\nx-lower:\r\n\
                  SET-COOKIE: a=3\r\nServer: nginx\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nCONTENT-length: 4",
            ) + "text"
        }
        "/chunked" => {
            head("200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked")
                + "005;name=\"v;w\";flag\r\nhello\r\n1\r\n!\r\n0;last\r\nX-Sum: 1\r\nx-sum:  2\r\n\r\n"
        }
        "/hints" => {
            head("103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>")
                + &head("102 Processing")
                + &head("200 OK\r\nContent-Length: 4")
                + "text"
        }
        "/unchanged" => head("304 Not Modified\r\nETag: W/\"x\""),
        "/unchanged/long" => head("304 Not Modified\r\nETag: W/\"x\"\r\nContent-Length: 99"),
        "/reset" => head("205 Reset Content\r\nContent-Length: 0"),
        "/none" => head("204 No Content\r\nX-Of: 204"),
        "/old" if old && closes => "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ntext".into(),
        "/old" => "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\ntext".into(),
        "/close" => {
            return Reply::SendAndClose(
                [&head("200 OK\r\nX-Until: close"), "text ".repeat(99).as_str()].concat().into(),
            );
        }
        _ => head("200 OK\r\nContent-Length: 4") + "text",
    };
    if closes { Reply::SendAndClose(text.into()) } else { Reply::Send(text.into()) }
}
