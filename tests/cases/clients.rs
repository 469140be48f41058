//! Real HTTP clients cannot tell that dragoman is between them and their server: each makes the same exchanges
//! directly and captured, and the bytes are compared at both ends.
//!
//! At the server by the scripted origin, which keeps everything; at the client by `recorder.c`, which sits between
//! the program and the C library, since what a client prints is only its own view of the bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use dragoman_harness::dragoman::normal;
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::process::{self, Process};
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Message, Net, Origin, programs, wait};

/// Where every client finds its server: without a port in its Host.
const URL: &str = "http://198.18.0.2";
const PORT: u16 = 80;

/// The body that every client sends, whole or in chunks.
const BODY: &str = "hello, \0 and goodbye\r\n";

/// One exchange: method, target, how the body is sent, and header fields.
type Exchange = (&'static str, &'static str, Sent, &'static [&'static str]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    Length,
    Chunked,
}

/// What a relay that tidies up would change, as far as clients can be made to say it.
const EXCHANGES: [Exchange; 18] = [
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
fn answer(request: &Message, _: usize) -> Reply {
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

/// A client program and its arguments.
struct Client {
    words: Vec<String>,
    /// Where its plan and its request body are.
    _scratch: Scratch,
}

/// What was said on one run of a client.
struct Run {
    /// What the client printed.
    printed: String,
    /// Each request, in the order of arrival.
    requests: Vec<Message>,
    /// All bytes of each connection at the server.
    at_server: Vec<String>,
    /// All bytes that the client read, connection by connection, sorted: the recorder knows no order of them.
    at_client: Vec<String>,
}

impl Client {
    fn new(scratch: Scratch, words: impl IntoIterator<Item = impl Into<String>>) -> Client {
        Client { words: words.into_iter().map(Into::into).collect(), _scratch: scratch }
    }

    /// One of the programs that read a plan, with the words before the URL.
    fn planned<const N: usize>(words: [&str; N], can: impl Fn(&Exchange) -> bool) -> Client {
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
    fn script(script: &str) -> Client {
        let scratch = Scratch::new("plan");
        let body = scratch.write("body", BODY).display().to_string();
        Client::new(scratch, ["sh", "-c", &format!("BODY={body}\n{script}")])
    }

    fn run(&self, net: &Net) -> Run {
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

/// Fails with the place of the first difference, since whole streams are too long to compare by eye.
fn assert_same(what: &str, captured: &str, direct: &str) {
    let same = captured.chars().zip(direct.chars()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.chars().skip(same.saturating_sub(200)).take(400).collect::<String>();
    let (captured, direct) = (around(captured), around(direct));
    assert!(captured == direct, "{what} differ at byte {same}\ncaptured: {captured:?}\n  direct: {direct:?}");
}

/// Bytes as text, each one a character, so that a difference can be read.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The library that keeps what a program reads, built once.
fn recorder() -> &'static Path {
    static RECORDER: OnceLock<PathBuf> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorder.so");
        // Moved into place whole: two runs of this test may build it at once.
        let own = library.with_extension(std::process::id().to_string());
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&own);
        process::succeed(cc.arg(programs::path("recorder.c")).arg("-ldl"));
        fs::rename(&own, &library).expect("both are in one folder");
        library
    })
}

/// Runs a client directly, under an empty configuration and under `normal.toml`. Returns what was said directly.
fn is_unaware(client: &Client) -> Run {
    let net = Net::new();
    let direct = client.run(&net);
    assert!(!direct.at_client.is_empty(), "nothing was recorded at the client:\n{}", direct.printed);

    let dragoman = Dragoman::start(&net, "");
    let captured = client.run(&net);
    for n in 0..direct.at_server.len().max(captured.at_server.len()) {
        let connection = |run: &Run| run.at_server.get(n).cloned().unwrap_or_default();
        assert_same(&format!("requests on connection {n}"), &connection(&captured), &connection(&direct));
    }
    assert_same("responses", &captured.at_client.concat(), &direct.at_client.concat());
    assert_eq!(captured.at_client, direct.at_client, "the same bytes on other connections");
    assert_eq!(captured.printed, direct.printed);
    let flows = dragoman.settle().sum("dragoman_flows_total", &[]);
    assert_eq!(flows, direct.at_server.len() as u64, "each of the client's connections is a flow");
    drop(dragoman);

    let dragoman = Dragoman::start(&net, &normal());
    let under_policy = client.run(&net);
    assert_eq!(under_policy.requests.len(), direct.requests.len(), "{}", dragoman.log());
    for (captured, direct) in under_policy.requests.iter().zip(&direct.requests) {
        assert_same("heads under policy", &without_policy(&captured.head), &kept_alive(&direct.head));
        assert_same("bodies under policy", &latin1(&captured.body), &latin1(&direct.body));
    }
    // The server was not asked to close: what the app asked for is told by dragoman.
    let but_for_close = |run: &Run| run.at_client.concat().replace("Connection: close\r\n", "");
    assert_same("responses under policy", &but_for_close(&under_policy), &but_for_close(&direct));
    assert_eq!(under_policy.printed, direct.printed);
    direct
}

/// A captured head without the two fields that `normal.toml` adds, each of which must be there once.
fn without_policy(head: &str) -> String {
    let added = |name: &str| head.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((added("x-request-id: "), added("traceparent: 00-")), (1, 1), "{head}");
    let theirs = |line: &&str| !line.starts_with("x-request-id: ") && !line.starts_with("traceparent: ");
    head.split_inclusive('\n').filter(theirs).collect()
}

/// A head as it goes to a server whose connection is kept for others: an app's `close` is between it and dragoman.
fn kept_alive(head: &str) -> String {
    let items =
        |line: &str| line.to_lowercase().strip_prefix("connection:").map(|items| items.replace(' ', ""));
    let closes =
        |line: &&str| items(line.trim_end()).is_some_and(|items| items.split(',').any(|i| i == "close"));
    let (closing, others): (Vec<&str>, Vec<&str>) = head.split_inclusive('\n').partition(closes);
    let [line] = closing[..] else { return head.to_owned() };
    let kept = line.trim_end().replace(", close", "").replace("close", "");
    let kept = if kept.ends_with(": ") { String::new() } else { kept + "\r\n" };
    others[..others.len() - 1].concat() + &kept + "\r\n"
}

/// What a client can do that takes any other interim answer for the final one.
fn knows_100_alone(exchange: &Exchange) -> bool {
    exchange.1 != "/hints"
}

/// What a client can do that waits for the body whose length a 304 tells, and that never comes.
fn believes_304(exchange: &Exchange) -> bool {
    exchange.1 != "/unchanged/long"
}

#[test]
fn h1_python_http_client() {
    is_unaware(&python("http.client"));
}

#[test]
fn h1_python_requests() {
    is_unaware(&python("requests"));
}

#[test]
fn h1_python_httpx() {
    is_unaware(&python("httpx"));
}

#[test]
fn h1_python_aiohttp() {
    is_unaware(&python("aiohttp"));
}

fn python(library: &str) -> Client {
    let (python, program) = (programs::python(), programs::path("clients/client.py"));
    let can =
        |exchange: &Exchange| !matches!(library, "http.client" | "requests") || knows_100_alone(exchange);
    Client::planned([python.to_str().unwrap(), program.to_str().unwrap(), library], can)
}

#[test]
fn h1_node_http() {
    is_unaware(&node("http"));
}

#[test]
fn h1_node_fetch() {
    is_unaware(&node("fetch"));
}

#[test]
fn h1_node_undici() {
    is_unaware(&node("undici"));
}

fn node(library: &str) -> Client {
    let can = |exchange: &Exchange| library == "http" || believes_304(exchange);
    Client::planned(["node", programs::path("node/client.mjs").to_str().unwrap(), library], can)
}

#[test]
fn h1_perl_lwp() {
    is_unaware(&Client::planned(
        ["perl", programs::path("clients/client.pl").to_str().unwrap()],
        |exchange| knows_100_alone(exchange) && believes_304(exchange),
    ));
}

#[test]
fn h1_php_streams() {
    let can = |exchange: &Exchange| exchange.2 != Sent::Chunked && knows_100_alone(exchange);
    is_unaware(&Client::planned(["php", programs::path("clients/client.php").to_str().unwrap()], can));
}

#[test]
fn h1_ruby_net_http() {
    is_unaware(&Client::planned(["ruby", programs::path("clients/client.rb").to_str().unwrap()], |_| true));
}

#[test]
fn h1_java_http_client() {
    if !process::output(Command::new("sh").args(["-c", "command -v java"])).status.success() {
        println!("java is not installed here: its client is not tested");
        return;
    }
    let words = ["java", "-XX:TieredStopAtLevel=1", programs::path("clients/Client.java").to_str().unwrap()]
        .map(str::to_owned);
    is_unaware(&Client::planned(words.each_ref().map(String::as_str), |_| true));
}

#[test]
fn h1_curl() {
    let said = is_unaware(&curl("", |_| true));
    let targets: Vec<_> = said.requests.iter().map(|request| request.word(1)).collect();
    assert_eq!(targets, EXCHANGES.map(|exchange| exchange.1), "curl sends what it is told");
    assert!(
        said.requests[1].head.contains("X-Twice: 1\r\nCookie: a=1; b=2\r\nX-Between: 0\r\nX-Twice: 2\r\n")
    );
    assert_eq!(said.requests[11].text(), "16\r\nhello, \0 and goodbye\r\n\r\n0\r\n\r\n");
}

#[test]
fn h2_curl_http_1_0() {
    // Chunks in HTTP/1.0 are refused, as RFC 9112 6.1 asks for.
    is_unaware(&curl("--http1.0", |exchange| exchange.2 != Sent::Chunked));
}

fn curl(options: &str, can: impl Fn(&Exchange) -> bool) -> Client {
    let one = |(method, target, sent, fields): &Exchange| {
        // In curl's words a semicolon says that the value is empty.
        let field = |field: &&str| match field.strip_suffix(": ") {
            Some(name) => format!("-H '{name};' "),
            None => format!("-H '{field}' "),
        };
        let fields: String = fields.iter().map(field).collect();
        let method = if *method == "HEAD" { "-I".to_owned() } else { format!("-X {method}") };
        let body = match sent {
            Sent::Nothing => "",
            Sent::Length => "--data-binary @$BODY",
            Sent::Chunked => "--data-binary @$BODY -H 'Transfer-Encoding: chunked'",
        };
        format!("-sS --raw -i -g --path-as-is {options} {method} {body} {fields} '{URL}{target}'")
    };
    let each: Vec<_> = EXCHANGES.iter().filter(|exchange| can(exchange)).map(one).collect();
    Client::script(&format!("curl {}", each.join(" --next ")))
}

#[test]
fn h1_wget() {
    let wget = |(method, target, sent, fields): &Exchange| {
        let fields: Vec<_> = fields.iter().map(|field| format!("--header='{field}'")).collect();
        let body = if *sent == Sent::Nothing { "" } else { "--body-file=$BODY" };
        format!(
            "wget -q -S -O - --tries=1 --method={method} {body} {} '{URL}{target}' 2>&1 || echo $?\n",
            fields.join(" ")
        )
    };
    let each: String = EXCHANGES
        .iter()
        .filter(|exchange| exchange.2 != Sent::Chunked && believes_304(exchange))
        .map(wget)
        .collect();
    // Several on one connection.
    is_unaware(&Client::script(&format!(
        "{each}wget -q -O - --tries=1 {URL}/1 {URL}/case {URL}/old {URL}/chunked {URL}/2"
    )));
}

#[test]
fn h2_apache_bench() {
    let ab = |options: &str, target: &str| {
        format!(
            "ab -q -s 5 -n 5 -c 1 {options} {URL}{target} | grep -E 'Complete|Failed|Non-2xx|Keep-Alive|transferred'\n"
        )
    };
    is_unaware(&Client::script(
        &[
            ab("", "/case"),
            ab("-k", "/old"),
            ab("-k", "/close"),
            ab("-k -p $BODY -T text/plain", "/old"),
            ab("-i -H 'X-Odd:  two  spaces'", "/reason"),
        ]
        .concat(),
    ));
}

#[test]
fn h1_a_signature_over_the_request_stays_good() {
    let net = Net::new();
    let scratch = Scratch::new("sigv4");
    let mut serve = net.servers.command(programs::python());
    serve.arg(programs::path("sigv4.py")).args(["serve", "80"]);
    let mut server = Process::start("sigv4.py", &mut serve, &scratch.path().join("log"), None);
    server.wait_ready(wait::SOON, || net.servers.listens(80));
    // A second opinion on the algorithm.
    let key = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let curl = format!(
        "curl -sS --aws-sigv4 aws:amz:us-east-1:s3 -u {key} -o /dev/null -w 'curl %{{http_code}}\\n'"
    );
    let ask = || {
        let program = programs::path("sigv4.py").display().to_string();
        net.app
            .succeed(&format!("{} {program} ask {URL} && {curl} {URL}/plain", programs::python().display()))
    };
    let direct = ask();
    assert_eq!(direct.matches(" 200\n").count(), 8, "{direct}");
    assert!(direct.contains("\nforged 403\n"), "{direct}");
    for configuration in ["", &normal()] {
        let dragoman = Dragoman::start(&net, configuration);
        assert_eq!(ask(), direct, "{configuration}");
        assert_eq!(dragoman.settle().sum("dragoman_exchanges_total", &[]), 9);
    }
}
