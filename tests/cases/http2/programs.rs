//! Unchanged HTTP/2 programs: each gets from an unchanged server what it gets without dragoman.

use std::fs;

use dragoman_harness::http2::way::POLICY;
use dragoman_harness::http2::{Http2Origin, Way, each_way};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, programs, servers};

/// A body that no window of the beginning holds.
const LARGE: usize = 3_000_000;

#[test]
fn curl_and_nghttp_get_and_upload_as_ever() {
    let net = Net::new();
    let nghttpd = servers::nghttpd(&net.servers);
    let www = nghttpd.directory().join("www");
    fs::write(www.join("large"), (0..LARGE).map(|n| ((n * 31) >> 3).to_le_bytes()[0]).collect::<Vec<_>>())
        .unwrap();
    fs::write(www.join("small"), "small\n").unwrap();
    let large = www.join("large").display().to_string();
    let base = "http://198.18.0.2";
    let curl = "curl -sS --http2-prior-knowledge";
    let lines = [
        format!("{curl} -i {base}/small | grep -v '^date:'"),
        format!("{curl} -I {base}/large | grep -v '^date:'"),
        format!("{curl} {base}/large | sha256sum"),
        format!(
            "{curl} -w '%{{http_code}} %{{http_version}} %{{size_upload}}' -o /dev/null -T {large} {base}/small"
        ),
        format!("{curl} -w '%{{http_code}}' -o /dev/null {base}/missing"),
        format!("{curl} http://[fd98::2]/small"),
        format!("nghttp -m 20 {base}/small | sort | uniq -c"),
        format!("nghttp --window-bits=30 --connection-window-bits=30 {base}/large | sha256sum"),
        // Not its --expect-continue: where the way is slow, nghttp sends its data twice and fails.
        format!("nghttp --no-dep --hexdump --data={large} {base}/small | tail -c 6"),
    ];
    let printed = std::cell::RefCell::new(Vec::<String>::new());
    each_way(&net, |way| {
        let all: Vec<String> = lines.iter().map(|line| net.app.succeed(line)).collect();
        if way == Way::Direct {
            assert!(all[0].starts_with("HTTP/2 200"), "{}", all[0]);
            assert_eq!(all[6].trim(), "20 small");
            *printed.borrow_mut() = all;
            return;
        }
        for ((line, direct), captured) in lines.iter().zip(&*printed.borrow()).zip(&all) {
            assert_eq!(captured, direct, "captured, then direct: {line}");
        }
    });
}

#[test]
fn h2load_loses_no_stream() {
    let net = Net::new();
    let nghttpd = servers::nghttpd(&net.servers);
    fs::write(nghttpd.directory().join("www/small"), vec![b's'; 2000]).unwrap();
    each_way(&net, |way| {
        for (requests, clients, streams) in [(2000, 1, 100), (2000, 20, 10)] {
            let line = format!("h2load -n {requests} -c {clients} -m {streams} http://198.18.0.2/small");
            let printed = net.app.succeed(&line);
            let expected = format!(
                "{requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, \
                 0 errored, 0 timeout"
            );
            assert!(printed.contains(&expected), "{way:?}: {printed}");
        }
    });
}

#[test]
fn python_and_node_exchange_what_they_do_without() {
    let net = Net::new();
    let clients = [
        (programs::python(), programs::path("http2_client.py")),
        ("node".into(), programs::path("node/http2_client.mjs")),
    ];
    let printed = std::cell::RefCell::new(Vec::<String>::new());
    each_way(&net, |way| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            let length = request.body.len().to_string();
            let kind = request.field("content-type").unwrap_or("none");
            let head = [
                (":status", "200"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
                ("x-kind", kind),
                ("x-length", &length),
            ];
            wire.fields(request.stream, &head, false)?;
            wire.data(request.stream, &request.body, false)?;
            wire.fields(request.stream, &[("x-checksum", "yes")], true)
        });
        let run = |(program, script): &(std::path::PathBuf, std::path::PathBuf)| {
            let mut command = net.app.bounded(program);
            dragoman_harness::process::succeed(command.arg(script).arg("http://198.18.0.2"))
        };
        let all: Vec<String> = clients.iter().map(run).collect();
        let requests = origin.requests().len();
        assert_eq!(requests, 2 * 42, "{all:#?}");
        if way == Way::Direct {
            *printed.borrow_mut() = all;
        } else {
            assert_eq!(all, *printed.borrow());
        }
    });
}

#[test]
fn h9_128_mib_in_each_direction_keep_memory_flat() {
    const BYTES: u64 = 128 << 20;
    let net = Net::new();
    let nghttpd = servers::nghttpd(&net.servers);
    let www = nghttpd.directory().join("www");
    // A file of nothing: what is measured is the proxy, not the disk.
    fs::File::create(www.join("huge")).unwrap().set_len(BYTES).unwrap();
    fs::write(www.join("small"), "small").unwrap();
    let dragoman = Dragoman::start(&net, POLICY);
    let huge = www.join("huge").display().to_string();
    let counted = net.app.succeed("curl -sS --http2-prior-knowledge http://198.18.0.2/huge | wc -c");
    assert_eq!(counted.trim(), BYTES.to_string());
    let up = format!(
        "curl -sS --http2-prior-knowledge -o /dev/null -w '%{{http_code}} %{{size_upload}}' -T {huge} http://198.18.0.2/small"
    );
    assert_eq!(net.app.succeed(&up), format!("200 {BYTES}"));
    let metrics = dragoman.settle();
    for direction in ["from_app", "to_app"] {
        assert!(metrics.sum("dragoman_bytes_total", &[("direction", direction)]) >= BYTES, "{direction}");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    println!("at most {peak} while 128 MiB passed in each direction");
    assert!(peak.trim_end_matches(" kB").parse::<u64>().unwrap() < 32 * 1024, "{peak}");
}
