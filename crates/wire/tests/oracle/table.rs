//! Where dragoman's strict readers and hyper may differ, and why. Each row is shown by an example, whatever is
//! not in the table fails the test, and `docs/parser-differences.md` is this table.

use crate::compare::Comparison;

/// A known difference.
pub(crate) struct Difference {
    /// Who refuses, and in which words.
    pub(crate) refusal: Refusal,
    /// A request, or the response to a GET; `{a*65}` stands for 65 times the letter a.
    pub(crate) example: &'static str,
    pub(crate) why: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    Dragoman(&'static str),
    Hyper(&'static str),
}

/// The row that explains this difference.
pub(crate) fn explain(comparison: &Comparison) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|row| match (row.refusal, comparison) {
        (Refusal::Dragoman(words), Comparison::Stricter(why)) => words == why,
        (Refusal::Hyper(words), Comparison::Laxer(why)) => words == why,
        _ => false,
    })
}

impl Difference {
    pub(crate) fn example_bytes(&self) -> Vec<u8> {
        let mut text = String::new();
        let mut rest = self.example;
        while let Some((before, (unit, (count, after)))) =
            rest.split_once('{').and_then(|(before, repeated)| {
                let (unit, counted) = repeated.split_once('*')?;
                Some((before, (unit, counted.split_once('}')?)))
            })
        {
            text.push_str(before);
            text.push_str(&unit.repeat(count.parse().expect("a number of times")));
            rest = after;
        }
        text.push_str(rest);
        text.into_bytes()
    }
}

const fn stricter(words: &'static str, example: &'static str, why: &'static str) -> Difference {
    Difference { refusal: Refusal::Dragoman(words), example, why }
}

const fn laxer(words: &'static str, example: &'static str, why: &'static str) -> Difference {
    Difference { refusal: Refusal::Hyper(words), example, why }
}

/// Rows of dragoman's refusals first: of heads, of framing, of bodies, of limits.
#[rustfmt::skip]
pub(crate) const DIFFERENCES: &[Difference] = &[
    stricter("a line that ends in a bare LF", "GET / HTTP/1.1\nHost: a\n\n",
        "RFC 9112 §2.2 allows it to a recipient, and not all use that: what ends a line for one is part of a value for another."),
    stricter("an empty line before the head", "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "Two before a request are skipped, since some clients send one too many; before a response there are none (RFC 9112 §2.2)."),
    stricter("no Host field in HTTP/1.1", "GET / HTTP/1.1\r\n\r\n",
        "RFC 9112 §3.2 asks for a 400. Policy goes by that name."),
    stricter("two Host fields", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "One reader takes the first, another the last: policy would be looked up for a host that the server does not serve."),
    stricter("a Host field that is not a host", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "A separator in it lets two readers see two hosts; so does percent-encoding."),
    stricter("a URL and a Host field that name different hosts", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        "RFC 9112 §3.2.2 lets the URL win, and not all servers know."),
    stricter("a request target that is neither a path, a URL nor *", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "The authority form is for CONNECT alone (RFC 9112 §3.2.3); a path without its slash is read in different ways."),
    stricter("a request target whose host is not a host", "GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "As for Host: the target names whom the request is for."),
    stricter("CONNECT to something other than host:port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
        "RFC 9110 §9.3.6: there is no default port."),
    stricter("CONNECT with a body", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "What comes next is the tunnel to one reader and a body to another."),
    stricter("bytes after a request that is the last", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, \u{e9}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "hyper skips a Connection field with bytes beyond ASCII. dragoman finds the option, and reads no further."),
    stricter("both Content-Length and Transfer-Encoding", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "The classic of request smuggling (RFC 9112 §6.3 rule 3)."),
    stricter("two Transfer-Encoding fields", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Encoded once or twice? Readers disagree (TE.TE)."),
    stricter("a Transfer-Encoding whose last coding is not chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "One reader takes the first field, another the last (TE.TE)."),
    stricter("a transfer coding that is neither chunked nor a compression", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n",
        "A reader that does not know a coding may stop at it, and find no chunks (TE.TE)."),
    stricter("Transfer-Encoding in HTTP/1.0", "HTTP/1.0 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Faulty framing (RFC 9112 §6.1), refused even where the status or the method says that there is no body: hyper does not look then."),
    stricter("two different values of Content-Length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "As above."),
    stricter("a Content-Length that is not a number", "HTTP/1.1 204 No Content\r\nContent-Length: +5\r\n\r\n",
        "As above."),
    stricter("a Content-Length beyond 63 bits", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n",
        "A reader that keeps it in a signed integer sees a negative length."),
    stricter("a chunk size beyond 63 bits", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello",
        "As for Content-Length."),
    stricter("a chunk size of more than 16 digits", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{0*16}5\r\nhello\r\n0\r\n\r\n",
        "A reader that shifts digits into 64 bits loses the first ones."),
    stricter("a control byte in a chunk extension", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\0\r\nhello\r\n0\r\n\r\n",
        "Not in the grammar; among them is the bare LF that ends the line for some readers."),
    stricter("a chunk extension of more than 4 KiB", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;{a*4095}\r\nhello\r\n0\r\n\r\n",
        "A limit for each chunk; hyper has one of 16 KiB for the body."),
    stricter("a trailer name that is not a token", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n\r\n\r\n",
        "As in heads; the end of a body must be beyond doubt."),
    stricter("a control byte in a trailer value", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n\r\n",
        "As in heads."),
    stricter("a trailer that would change the framing or the host", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
        "RFC 9110 §6.5.1 forbids it: a reader that merges trailers into the head learns another framing."),
    stricter("more than 64 trailer fields", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{A: b\r\n*65}\r\n",
        "A limit; in practice there are two or three."),
    stricter("more than 8 KiB of trailers", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: {b*8192}\r\n\r\n",
        "A limit; hyper's is 16 KiB."),
    stricter("a method of more than 64 bytes", "{A*65} / HTTP/1.1\r\nHost: a\r\n\r\n",
        "The longest registered method has 17."),
    stricter("a head with more bytes than the limit", "GET / HTTP/1.1\r\nHost: a\r\nA: {a*65536}\r\n\r\n",
        "64 KiB unless configured otherwise; hyper takes about 400 KiB."),
    laxer("invalid URI", "GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n",
        "hyper keeps a target as a parsed URI: no `<`, `>` or `` ` `` in the path, no `<`, `>` or `\"` in the query, fewer marks yet in user \
         information, no bytes that are not UTF-8, no scheme of more than 64 letters. dragoman forwards what the server would have got \
         without it: none of these can end a target."),
    laxer("invalid content-length parsed", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        "RFC 9110 §8.6 lets a recipient refuse a list of equal lengths or take it as one; dragoman forwards it as one, so the next reader has no choice."),
];
