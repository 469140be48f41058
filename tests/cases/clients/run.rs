//! One run of a client program, with the bytes at both ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use dragoman_harness::net::server;
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Message, Net, Origin, process, programs};

use super::exchanges::{BODY, EXCHANGES, Exchange, PORT, Sent, URL, answer};

/// A client program and its arguments.
pub(crate) struct Client {
    words: Vec<String>,
    /// Where its plan and its request body are.
    _scratch: Scratch,
}

/// What was said on one run of a client.
pub(crate) struct Run {
    /// What the client printed.
    pub(crate) printed: String,
    /// Each request, in the order of arrival.
    pub(crate) requests: Vec<Message>,
    /// All bytes of each connection at the server.
    pub(crate) at_server: Vec<String>,
    /// All bytes that the client read, connection by connection, sorted: the recorder knows no order of them.
    pub(crate) at_client: Vec<String>,
}

impl Client {
    fn new(scratch: Scratch, words: impl IntoIterator<Item = impl Into<String>>) -> Client {
        Client { words: words.into_iter().map(Into::into).collect(), _scratch: scratch }
    }

    /// One of the programs that read a plan, with the words before the URL.
    pub(crate) fn planned<const N: usize>(words: [&str; N], can: impl Fn(&Exchange) -> bool) -> Client {
        let scratch = Scratch::new("plan");
        let line = |(method, target, sent, fields): &Exchange| {
            let sent = match sent {
                Sent::Nothing => "-",
                Sent::Length => "length",
                Sent::Chunked => "chunked",
            };
            [&[*method, *target, sent], *fields].concat().join("\t")
        };
        let lines: Vec<_> = EXCHANGES.iter().filter(|exchange| can(exchange)).map(line).collect();
        let plan = scratch.write("plan", lines.join("\n") + "\n").display().to_string();
        Client::new(scratch, words.into_iter().chain([URL, &plan]))
    }

    /// A shell script, in which `$BODY` is a file with the request body.
    pub(crate) fn script(script: &str) -> Client {
        let scratch = Scratch::new("plan");
        let body = scratch.write("body", BODY).display().to_string();
        Client::new(scratch, ["sh", "-c", &format!("BODY={body}\n{script}")])
    }

    pub(crate) fn run(&self, net: &Net) -> Run {
        let origin = Origin::http(&net.servers, server(PORT), answer);
        let scratch = Scratch::new("records");
        let mut command = net.app.bounded(&self.words[0]);
        command.args(&self.words[1..]).env("LD_PRELOAD", recorder());
        command.env("RECORDER_PORT", PORT.to_string()).env("RECORDER_DIRECTORY", scratch.path());
        let printed = process::succeed(&mut command);
        let records = fs::read_dir(scratch.path()).expect("a scratch directory can be read");
        let read = |entry: std::io::Result<fs::DirEntry>| latin1(&fs::read(entry.unwrap().path()).unwrap());
        let mut at_client: Vec<_> = records.map(read).collect();
        at_client.sort();
        Run {
            printed,
            requests: origin.requests(),
            at_server: origin.seen().iter().map(|seen| latin1(&seen.bytes.so_far())).collect(),
            at_client,
        }
    }
}

/// Bytes as text, each one a character, so that a difference can be read.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The library that keeps what a program reads, built once.
fn recorder() -> &'static Path {
    static RECORDER: OnceLock<PathBuf> = OnceLock::new();
    RECORDER.get_or_init(|| programs::library("recorder.c", Path::new(env!("CARGO_TARGET_TMPDIR"))))
}
