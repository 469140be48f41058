//! DNS by way of dragoman: unchanged programs get the answers that they get without it, and flows get the policy of the
//! name that was asked.

mod crowd;
mod names;
mod trouble;

use dragoman_harness::dragoman::init;
use dragoman_harness::net::server_in_both_families;
use dragoman_harness::origin::Reply;
use dragoman_harness::process::{self, text};
use dragoman_harness::servers::{Server, dnsmasq};
use dragoman_harness::{Dragoman, Net, Origin};

/// What dragoman is told, beside policy.
const LISTEN: &str = "[dns]\nlisten = ['127.0.0.1:15053', '[::1]:15053']\n";

/// A namespace whose resolver is a dnsmasq in S that knows these lines.
fn net_with_resolver(lines: &str) -> (Net, Server) {
    let net = Net::new();
    net.app.set_resolv_conf("nameserver 198.18.0.2\n");
    let resolver = dnsmasq(&net.servers, lines);
    (net, resolver)
}

/// A proxy that gets the DNS queries of A, too.
fn start<'n>(net: &'n Net, configuration: &str) -> Dragoman<'n> {
    let dragoman = Dragoman::start_uncaptured(net, &format!("{LISTEN}{configuration}"));
    process::succeed(&mut init(net, &["install", "--capture-dns", "15053"]));
    dragoman
}

/// `dig` without what differs from one run to the next.
fn dig(question: &str) -> String {
    format!("dig +tries=1 +timeout=15 +nostats +nocmd +nocookie {question} | sed 's/, id: [0-9]*//'")
}

#[test]
fn programs_get_the_same_answers_with_dragoman_as_without() {
    let long = format!("txt-record=long.test,{}\n", "x".repeat(200)).repeat(30);
    let zone = "host-record=edge.cdn.test,198.18.0.2,fd98::2\ncname=www.shop.test,edge.cdn.test\n\
                ptr-record=2.0.18.198.in-addr.arpa,www.shop.test\n";
    let (net, resolver) = net_with_resolver(&format!("{zone}{long}"));
    let _web = server_in_both_families(80)
        .map(|address| Origin::http(&net.servers, address, |_, _| Reply::status(200, "hello")));
    let mut lines: Vec<_> = [
        "www.shop.test A",
        "www.shop.test AAAA",
        "www.shop.test ANY",
        "@fd98::2 www.shop.test A",
        "@fd98::2 +tcp www.shop.test A",
        "+noedns www.shop.test",
        "+dnssec +cd www.shop.test",
        "+ednsopt=65001:c0ffee www.shop.test",
        "WwW.ShOp.TeSt A",
        "nosuch.test A",
        "nosuch.shop.elsewhere A",
        "-x 198.18.0.2",
        // 6 KiB: in one datagram, cut short, and by TCP.
        "+bufsize=8192 long.test TXT",
        "+ignore long.test TXT",
        "+noedns +ignore long.test TXT",
        "long.test TXT",
        "+tcp long.test TXT",
        "+tcp +keepopen long.test TXT www.shop.test A",
    ]
    .iter()
    .map(|question| dig(question))
    .collect();
    let node = "node -e \"const d = require('dns').promises; (async () => { for (const n of ['www.shop.test', \
                'nosuch.test']) for (const f of ['resolve4', 'resolve6', 'resolveTxt', 'lookup']) \
                console.log(n, f, await d[f](n).catch((e) => e.code)); \
                console.log((await d.resolveTxt('long.test')).length) })()\"";
    lines.extend(
        [
            "getent ahosts www.shop.test",
            "getent hosts nosuch.test; echo $?",
            "python3 -c \"import socket; print(sorted(socket.getaddrinfo('www.shop.test', 80)))\"",
            "curl --silent --show-error http://www.shop.test/ http://www.shop.test/ --ipv4 --next http://www.shop.test/ --ipv6",
            "curl --silent http://nosuch.test/; echo $?",
            node,
        ]
        .map(str::to_owned),
    );
    let run = |line: &String| {
        let out = net.app.shell(line);
        (out.status.code(), text(&out))
    };
    let direct: Vec<_> = lines.iter().map(run).collect();
    assert!(direct[0].1.contains("198.18.0.2") && direct[15].1.contains("xxxx"), "{direct:?}");
    let asked_directly = resolver.log().matches("query[").count();
    let dragoman = start(&net, "");
    for (line, direct) in lines.iter().zip(&direct) {
        assert_eq!(run(line), *direct, "captured, then direct: {line}\n{}", dragoman.log());
    }
    let metrics = dragoman.settle();
    let answered = metrics.sum("dragoman_dns_queries_total", &[("outcome", "answered")]);
    let failed = metrics.sum("dragoman_dns_queries_total", &[("outcome", "failed")]);
    let asked = resolver.log().matches("query[").count() - asked_directly;
    assert!(failed > 0, "what dnsmasq does not know, it refuses");
    assert_eq!(answered + failed, asked as u64, "each query came by way of dragoman, and once");
    assert_eq!(metrics.sum("dragoman_dns_queries_total", &[]), answered + failed);
    assert!(metrics.sum("dragoman_dns_queries_total", &[("transport", "tcp")]) >= 5);
    assert_eq!(metrics.sum("dragoman_dns_names", &[]), 2);
}
