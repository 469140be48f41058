//! Names: DNS is asked through dragoman, other ways to resolve are hidden, and what is learnt decides by name.

use std::fs;

use dragoman_harness::origin::Reply;
use dragoman_harness::{Net, Origin, net, process, servers};

use crate::{User, said, says};

/// Names of the servers, and an answer that does not fit into a datagram.
const RECORDS: &str = "host-record=s.test,198.18.0.2,fd98::2\nhost-record=other.test,198.18.0.3\n";

/// A configuration that logs and asks the resolver in S.
fn asking(user: &User, more: &str) -> String {
    let resolvers = user.home.write("resolv.conf", "nameserver 198.18.0.2\n");
    let log = fs::read_to_string(user.logging()).unwrap();
    let text = format!("{log}[dns]\nresolv_conf = {:?}\n{more}", resolvers.display().to_string());
    user.home.write("dns.toml", text).display().to_string()
}

#[test]
fn names_are_resolved_by_the_hosts_resolvers_whoever_is_asked() {
    let (net, user) = (Net::new(), User::new());
    let big: String = (0..400).map(|n| format!("txt-record=big.test,record-{n}-of-many\n")).collect();
    let _dns = servers::dnsmasq(&net.servers, &(RECORDS.to_owned() + &big));
    // By both versions: a captured connect always succeeds, so curl stays with the one that it tries first.
    let _origins = net::server_in_both_families(80)
        .map(|address| Origin::http(&net.servers, address, |_, _| Reply::status(200, "here")));
    let config = asking(&user, "");
    let script = "getent ahostsv4 s.test | head -n 1 | cut -d' ' -f1; curl -sS http://s.test/; echo; \
                  dig +short @192.0.2.53 s.test AAAA; dig +short @::1 other.test; dig +short +notcp big.test TXT | wc -l; \
                  dig +short big.test TXT | sort -u | wc -l; getent ahosts nobody.test || echo none; \
                  dig no.test | grep -o NXDOMAIN";
    let (code, out, err) = says(&mut user.run(&net, &["--config", &config, "--", "sh", "-c", script]));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[..4], ["198.18.0.2", "here", "fd98::2", "198.18.0.3"], "{out}");
    assert_eq!(lines[5..], ["400", "none", "NXDOMAIN"], "{out}");
}

/// A flow that names nothing itself is told by the name that its address was asked for.
#[test]
fn policy_by_name_holds_for_what_names_nothing() {
    let (net, user) = (Net::new(), User::new());
    let _dns = servers::dnsmasq(&net.servers, RECORDS);
    let _redis = servers::redis(&net.servers);
    let config = asking(&user, "[destination.other]\nhosts = [\"other.test\"]\ndeny = true\n");
    let script = "redis-cli -h s.test ping; redis-cli -h other.test ping 2>&1 | cut -d: -f1";
    let said = says(&mut user.run(&net, &["--config", &config, "--", "sh", "-c", script]));
    assert_eq!(said, (Some(0), "PONG\nError\n".to_owned(), String::new()));
}

#[test]
fn other_ways_to_resolve_are_hidden() {
    let (net, user) = (Net::new(), User::new());
    let servers = "import os, socket, subprocess, sys\n\
                   paths = ['/run/nscd/socket', '/run/systemd/resolve/io.systemd.Resolve']\n\
                   listeners = []\n\
                   for path in paths:\n\
                   \x20 os.makedirs(os.path.dirname(path)); s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()\n\
                   \x20 os.chmod(path, 0o666); listeners.append(s)\n\
                   uid = int(sys.argv[1])\n\
                   sys.exit(subprocess.run(sys.argv[2:], user=uid, group=uid, extra_groups=[]).returncode)\n";
    let asks = "import socket\n\
                for path in ['/run/nscd/socket', '/run/systemd/resolve/io.systemd.Resolve']:\n\
                \x20 try: socket.socket(socket.AF_UNIX).connect(path); print('answers')\n\
                \x20 except OSError as e: print(e.strerror)\n\
                print(open('/etc/resolv.conf').read())\n";
    let servers = user.home.write("servers.py", servers);
    let asks = user.home.write("asks.py", asks);
    let resolv_conf = user.home.write("zone", "nameserver fe80::1%eth0\nsearch a.test\n");
    let run = |dragoman: &str| {
        let script = format!(
            "mount --make-rprivate / && mount -t tmpfs none /run && mount --bind {} $(realpath /etc/resolv.conf) && \
             exec /usr/bin/python3 {} {} {dragoman} /usr/bin/python3 {}",
            resolv_conf.display(),
            servers.display(),
            user.uid,
            asks.display()
        );
        said(&process::output(net.app.bounded("unshare").args(["--mount", "--", "sh", "-c", &script])))
    };
    let before = fs::read_to_string("/etc/resolv.conf").unwrap();
    let direct = run("env");
    assert_eq!(direct.1, "answers\nanswers\nnameserver fe80::1%eth0\nsearch a.test\n\n", "{}", direct.2);
    let captured = run(&format!("{} run --", user.dragoman.display()));
    let refused = "Connection refused\n".repeat(2);
    assert_eq!(captured, (Some(0), refused + "search a.test\nnameserver 127.0.0.1\n\n", String::new()));
    assert_eq!(fs::read_to_string("/etc/resolv.conf").unwrap(), before);
}
