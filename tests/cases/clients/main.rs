//! Real HTTP clients cannot tell that dragoman is between them and their server: each makes the same exchanges
//! directly and captured, and the bytes are compared at both ends.
//!
//! At the server by the scripted origin, which keeps everything; at the client by `recorder.c`, which sits between
//! the program and the C library, since what a client prints is only its own view of the bytes.

mod exchanges;
mod run;

use std::process::Command;

use dragoman_harness::dragoman::normal;
use dragoman_harness::process::{self, Process};
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Net, programs, wait};

use exchanges::{EXCHANGES, Exchange, Sent, URL};
use run::{Client, Run, latin1};

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
    // The server was not asked to close: what the app asked for is told by dragoman, in place of the server's word.
    let but_for_connection = |run: &Run| {
        let heard = run.at_client.concat();
        heard.replace("Connection: close\r\n", "").replace("Connection: keep-alive\r\n", "")
    };
    assert_same("responses under policy", &but_for_connection(&under_policy), &but_for_connection(&direct));
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

/// Fails with the place of the first difference, since whole streams are too long to compare by eye.
fn assert_same(what: &str, captured: &str, direct: &str) {
    let same = captured.chars().zip(direct.chars()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.chars().skip(same.saturating_sub(200)).take(400).collect::<String>();
    let (captured, direct) = (around(captured), around(direct));
    assert!(captured == direct, "{what} differ at byte {same}\ncaptured: {captured:?}\n  direct: {direct:?}");
}
