//! Unchanged programs against real servers: what they print, and what the server notes, is the same with
//! dragoman in between as without. The policy is the one with everything turned on.

use std::fs;
use std::net::SocketAddr;

use dragoman_harness::dragoman::normal;
use dragoman_harness::net::{APP_V4, APP_V6, server_v4};
use dragoman_harness::process::{self, text};
use dragoman_harness::scratch::Scratch;
use dragoman_harness::wait;
use dragoman_harness::{Dragoman, Net, Origin, servers};

/// S's address in both families: as an argument, and inside a URL.
const SERVERS: [(&str, &str); 2] = [("198.18.0.2", "198.18.0.2"), ("fd98::2", "[fd98::2]")];

/// Runs each shell line directly, then captured, and fails unless both print the same and end alike.
/// Each line makes at least one connection. Returns what the direct runs printed.
fn same_captured(net: &Net, lines: &[String]) -> Vec<String> {
    let run = |line: &String| {
        let out = net.app.shell(line);
        assert!(out.status.code().is_some(), "{line}: {}", text(&out));
        (out.status.code(), text(&out))
    };
    let direct: Vec<_> = lines.iter().map(run).collect();
    let dragoman = Dragoman::start(net, &normal());
    for (line, direct) in lines.iter().zip(&direct) {
        assert_eq!(run(line), *direct, "captured, then direct: {line}\n{}", dragoman.log());
    }
    let flows = dragoman.settle().sum("dragoman_flows_total", &[]);
    assert!(flows >= lines.len() as u64, "{flows} flows of {} lines: not captured", lines.len());
    direct.into_iter().map(|(_, printed)| printed).collect()
}

/// A shell line for each of S's two families.
fn both_families(line: impl Fn(&str, &str) -> String) -> Vec<String> {
    SERVERS.iter().map(|(address, url)| line(address, url)).collect()
}

/// Bytes that compress badly and hold every value.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn curl_gets_puts_and_heads_as_ever() {
    let net = Net::new();
    let nginx =
        servers::nginx(&net.servers, "location /dav { dav_methods PUT; } location /gone { return 410; }");
    let files = nginx.directory();
    fs::create_dir(files.join("www/dav")).unwrap();
    fs::write(files.join("www/big"), noise(3_000_000)).unwrap();
    fs::write(files.join("www/a b"), "an odd name\n").unwrap();
    // There before the first PUT: each one answers 204 and none 201.
    fs::write(files.join("www/dav/up"), "").unwrap();
    let big = files.join("www/big").display().to_string();
    let undated = "| grep -vi '^date:'";
    let mut lines = Vec::new();
    for (_, url) in SERVERS {
        let base = format!("http://{url}");
        lines.extend([
            format!("curl -sSi {base}/a%20b?x=1 {undated}"),
            format!("curl -sSI {base}/big {undated}"),
            format!("curl -sS {base}/big | sha256sum"),
            format!("curl -sS --http1.0 {base}/big | sha256sum"),
            format!("curl -sS -r 1000-1999 {base}/big | sha256sum"),
            format!("curl -sSi {base}/gone {undated}"),
            format!("curl -sS -T {big} -H 'Expect: 100-continue' -w '%{{http_code}}' -o /dev/null {base}/dav/up"),
            format!("curl -sS -T {big} -H 'Transfer-Encoding: chunked' -w '%{{http_code}}' -o /dev/null {base}/dav/up"),
            format!("curl -sS {base}/dav/up {base}/big {base}/gone | sha256sum"),
        ]);
    }
    same_captured(&net, &lines);
    let stored = fs::read(files.join("www/dav/up")).unwrap();
    assert!(stored == noise(3_000_000), "the server stored other bytes than were sent");
    let noted = nginx.log();
    for peer in [APP_V4.to_string(), APP_V6.to_string()] {
        // Direct and captured: each line of the server's own log stands there an even number of times.
        let of_peer: Vec<_> = noted.lines().filter(|line| line.starts_with(&format!("{peer} "))).collect();
        assert_eq!(of_peer.len(), 2 * 11, "{of_peer:#?}");
        for line in &of_peer {
            assert_eq!(of_peer.iter().filter(|other| *other == line).count() % 2, 0, "{line}\n{noted}");
        }
    }
}

#[test]
fn curl_speaks_http2_and_tls_to_the_server_itself() {
    let net = Net::new();
    let keys = Scratch::new("keys");
    let directory = keys.path().display();
    servers::self_signed(&keys, "s.test");
    let tls = format!(
        "listen 443 ssl http2; listen [::]:443 ssl http2; ssl_certificate {directory}/cert; \
         ssl_certificate_key {directory}/key; listen 81 http2; listen [::]:81 http2; \
         location /who {{ return 200 '$ssl_server_name $server_protocol'; }}"
    );
    let _nginx = servers::nginx(&net.servers, &tls);
    let mut lines = Vec::new();
    for (_, url) in SERVERS {
        let tls = format!("curl -sS --cacert {directory}/cert --resolve s.test:443:{url} https://s.test/who");
        lines.extend([
            tls.clone(),
            format!("{tls} --http1.1"),
            format!("curl -sS --http2-prior-knowledge http://{url}:81/who"),
        ]);
    }
    let printed = same_captured(&net, &lines);
    assert_eq!(printed[..3], ["s.test HTTP/2.0", "s.test HTTP/1.1", " HTTP/2.0"]);
}

#[test]
fn python_clients_get_the_same_answers() {
    let net = Net::new();
    let address = |n| SocketAddr::new(server_v4(n), 8000);
    let echo = |request: &dragoman_harness::Message, _| {
        dragoman_harness::origin::Reply::status(200, &format!("{} {}", request.word(0), request.text()))
    };
    let origin = Origin::http(&net.servers, address(0), echo);
    let urllib = "import urllib.request as u; r = u.urlopen(u.Request('http://198.18.0.2:8000/p?q=1', data=b'x' * 100_000, \
                  headers={'X-Mixed-Case': 'v'})); print(r.status, r.headers['content-length'], len(r.read()))";
    let kept = "import http.client as h; c = h.HTTPConnection('198.18.0.2', 8000)\n\
                for n in range(3):\n  c.request('PUT', '/%d' % n, body=iter([b'a', b'b' * n]), encode_chunked=True, \
                headers={'Transfer-Encoding': 'chunked'}); r = c.getresponse(); print(r.status, r.read())";
    let lines = [format!("python3 -c \"{urllib}\""), format!("python3 -c \"{kept}\"")];
    let printed = same_captured(&net, &lines);
    assert!(printed[0].starts_with("200 "), "{}", printed[0]);
    let requests = origin.requests();
    assert_eq!(requests.len(), 8, "four direct and four captured");
    for (direct, captured) in requests[..4].iter().zip(&requests[4..]) {
        assert_eq!(direct.body, captured.body);
        // Connection is between neighbours: where flows share connections, the app's wish to close its own
        // is not the server's business.
        for line in direct.head.lines().filter(|line| !line.starts_with("Connection:")) {
            assert!(
                captured.head.lines().any(|other| other == line),
                "{line} is gone from {}",
                captured.head
            );
        }
    }
    // One connection of http.client stays one at the server.
    let mut ports: Vec<_> = origin.seen().iter().map(|seen| seen.peer.port()).collect();
    ports.dedup();
    assert!(ports.len() <= 4, "{ports:?}");
}

#[test]
fn psql_queries_copies_and_fails_alike() {
    let net = Net::new();
    let postgres = servers::postgres(&net.servers);
    let lines: Vec<String> = SERVERS
        .iter()
        .flat_map(|(address, _)| {
            let psql = format!("psql 'host={address} user=app password=secret dbname=postgres' -At");
            [
                format!("{psql} -c 'select 6*7, inet_client_addr()'"),
                format!("{psql} -c 'copy (select repeat(md5(n::text), 30) from generate_series(1, 3000) n) to stdout' | sha256sum"),
                format!("seq 20000 | {psql} -c 'create temp table t (n int)' -c 'copy t from stdin' -c 'select sum(n) from t'"),
                format!("{psql} -c 'select 1/0'"),
                format!("psql 'host={address} user=app password=wrong dbname=postgres' -c 'select 1' 2>&1 | sed 's/port [0-9]*//'"),
            ]
        })
        .collect();
    let printed = same_captured(&net, &lines);
    assert_eq!(printed[0], "42|198.18.0.1\n");
    assert_eq!(printed[2], "CREATE TABLE\nCOPY 20000\n200010000\n");
    assert!(printed[3].contains("division by zero"), "{}", printed[3]);
    let log = postgres.log();
    for peer in ["198.18.0.1", "fd98::1"] {
        let received = format!("connection received: host={peer} ");
        assert_eq!(log.matches(&received).count(), 10, "five direct and five captured from {peer}:\n{log}");
    }
}

#[test]
fn psql_connects_with_every_sslmode() {
    let net = Net::new();
    let plain = servers::postgres(&net.servers);
    let modes = ["disable", "allow", "prefer", "require"];
    let line = |mode| {
        let psql =
            format!("psql 'host=198.18.0.2 user=app password=secret dbname=postgres sslmode={mode}' -At");
        format!("{psql} -c 'select ssl from pg_stat_ssl where pid = pg_backend_pid()'")
    };
    let printed = same_captured(&net, &modes.map(line));
    assert_eq!(printed[..3], ["f\n", "f\n", "f\n"]);
    assert!(printed[3].contains("server does not support SSL"), "{}", printed[3]);
    drop(plain);
    net.app.succeed("nft delete table inet dragoman");

    let encrypted = servers::postgres_with_tls(&net.servers);
    let printed = same_captured(&net, &modes.map(line));
    assert_eq!(printed, ["f\n", "f\n", "t\n", "t\n"], "{}", encrypted.log());
}

#[test]
fn psql_cancels_its_own_query_by_a_second_connection() {
    let net = Net::new();
    let postgres = servers::postgres(&net.servers);
    let psql = "exec psql 'host=198.18.0.2 user=app password=secret dbname=postgres application_name=slow' \
                -c 'select pg_sleep(50)'";
    let dragoman = Dragoman::start(&net, &normal());
    let scratch = Scratch::new("psql");
    let log = scratch.path().join("log");
    let mut slow = process::Process::start("psql", net.app.command("sh").args(["-c", psql]), &log, None);
    let running = format!(
        "psql -h {} -U app -At postgres -c \"select count(*) from pg_stat_activity where application_name = 'slow' \
         and wait_event = 'PgSleep'\"",
        postgres.directory().display()
    );
    wait::until("the query runs", wait::SOON, || net.servers.succeed(&running) == "1\n");
    slow.signal(nix::sys::signal::Signal::SIGINT);
    assert!(!slow.wait(wait::SOON).success());
    assert!(slow.log().contains("canceling statement due to user request"), "{}", slow.log());
    assert_eq!(dragoman.settle().sum("dragoman_flows_total", &[("protocol", "postgres")]), 2);
}

#[test]
fn mysql_queries_alike() {
    let net = Net::new();
    let _mariadb = servers::mariadb(&net.servers);
    let lines: Vec<String> = SERVERS
        .iter()
        .flat_map(|(address, _)| {
            let mysql = format!("mariadb --no-defaults -h {address} -u app -psecret -N app");
            [
                format!("{mysql} -e 'select 6*7, substring_index(user(), \"@\", -1)'"),
                format!("{mysql} -e 'select repeat(\"x\", 1000000)' | sha256sum"),
                format!("{mysql} -e 'select nothing'"),
            ]
        })
        .collect();
    let printed = same_captured(&net, &lines);
    assert_eq!(printed[0], "42\t198.18.0.1\n");
    assert_eq!(printed[3], "42\tfd98::1\n");
}

#[test]
fn redis_cli_sets_gets_and_pipes_alike() {
    let net = Net::new();
    let _redis = servers::redis(&net.servers);
    let mut lines = both_families(|address, _| {
        format!(
            "redis-cli -h {address} flushall; redis-cli -h {address} set k v; redis-cli -h {address} get k"
        )
    });
    lines.extend(both_families(|address, _| {
        format!(
            "redis-cli -h {address} del n; for i in $(seq 5000); do printf 'incr n\\r\\n'; done | \
             redis-cli -h {address} --pipe | tail -1; redis-cli -h {address} get n"
        )
    }));
    let printed = same_captured(&net, &lines);
    assert_eq!(printed[0], "OK\nOK\nv\n");
    assert!(printed[2].ends_with("replies: 5000\n5000\n"), "{}", printed[2]);
}

#[test]
fn git_clones_the_same_tree_over_both_protocols() {
    let net = Net::new();
    let big = noise(2_000_000);
    let git = servers::git_daemon(&net.servers, &[("readme", b"hello\n"), ("noise", &big)]);
    let nginx =
        servers::nginx(&net.servers, &format!("location /git/ {{ alias {}/; }}", git.directory().display()));
    let work = Scratch::new("clones");
    let directory = work.path().display();
    let clone = |url: String| {
        format!(
            "rm -rf {directory}/c; git clone -q {url} {directory}/c 2>&1 && \
             git -C {directory}/c rev-parse HEAD && sha256sum {directory}/c/noise {directory}/c/readme"
        )
    };
    let mut lines = both_families(|_, url| clone(format!("git://{url}/repository.git")));
    lines.extend(both_families(|_, url| clone(format!("http://{url}/git/repository.git"))));
    let printed = same_captured(&net, &lines);
    assert!(printed.iter().all(|line| *line == printed[0] && line.contains("/c/noise")), "{printed:#?}");
    assert_eq!(git.log().matches("Request upload-pack").count(), 4, "{}", git.log());
    assert!(nginx.log().contains("/git/repository.git/info/refs"));
}

#[test]
fn ssh_runs_commands_and_returns_their_status() {
    let net = Net::new();
    let ssh = servers::ssh(&net.servers);
    let key = ssh.key.display();
    let log_in = format!(
        "ssh -q -i {key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes \
         -o IdentitiesOnly=yes"
    );
    let mut lines = both_families(|address, _| {
        format!("{log_in} root@{address} 'echo $SSH_CONNECTION | cut -d\" \" -f1,3; exit 7'")
    });
    lines.extend(both_families(|address, _| format!("seq 300000 | {log_in} root@{address} sha256sum")));
    let printed = same_captured(&net, &lines);
    assert_eq!(printed[0], "198.18.0.1 198.18.0.2\n");
    assert_eq!(printed[1], "fd98::1 fd98::2\n");
    assert_eq!(ssh.server.log().matches("Accepted publickey for root from 198.18.0.1").count(), 4);
}

#[test]
fn several_programs_at_once_do_not_disturb_each_other() {
    let net = Net::new();
    let nginx = servers::nginx(&net.servers, "");
    fs::write(nginx.directory().join("www/one"), noise(200_000)).unwrap();
    let line = "for i in $(seq 20); do (curl -sS http://198.18.0.2/one | sha256sum) & done; wait";
    let printed = same_captured(&net, &[line.to_owned()]);
    let mut sums: Vec<_> = printed[0].lines().collect();
    assert_eq!(sums.len(), 20);
    sums.dedup();
    assert_eq!(sums.len(), 1, "{sums:?}");
    wait::until("nginx has noted all", wait::SOON, || {
        nginx.log().matches("GET /one 200 200000").count() == 40
    });
}
