//! Resolvers that are gone, that change, and rules that lead dragoman to itself.

use std::fs;

use dragoman_harness::dragoman::init;
use dragoman_harness::scratch::Scratch;
use dragoman_harness::servers::dnsmasq;
use dragoman_harness::{Dragoman, Net, process, wait};

use super::{LISTEN, dig, net_with_resolver, start};

const ZONE: &str = "host-record=www.test,198.18.0.2\n";

#[test]
fn a_resolver_that_is_gone_leaves_the_query_to_the_next() {
    let (net, _resolver) = net_with_resolver(ZONE);
    net.app.set_resolv_conf("nameserver 198.18.0.8\nnameserver fd98::8\nnameserver fd98::2\n");
    let dragoman = start(&net, "");
    for question in ["www.test", "+tcp www.test"] {
        assert!(net.app.succeed(&dig(&format!("@198.18.0.8 {question}"))).contains("198.18.0.2"));
    }
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_dns_queries_total", &[("outcome", "answered")]), 2);
    assert!(metrics.sum("dragoman_dns_retries_total", &[]) >= 2);
}

#[test]
fn where_no_resolver_is_left_the_app_is_told_so_and_why() {
    let net = Net::new();
    net.app.set_resolv_conf("nameserver 198.18.0.8\nnameserver fd98::8\n");
    let dragoman = start(&net, "");
    for question in ["www.test", "+tcp www.test"] {
        let said = net.app.succeed(&dig(&format!("@198.18.0.8 {question}")));
        assert!(said.contains("status: SERVFAIL"), "{said}");
        assert!(said.contains("dragoman got no answer from 198.18.0.8:53: "), "{said}");
        assert!(said.to_lowercase().contains("[fd98::8]:53: connection refused"), "{said}");
    }
    // A failure, which is worth another try, and not that there is no such name.
    let line = "python3 -c \"import socket\ntry: socket.getaddrinfo('www.test', 80)\n\
                except socket.gaierror as e: print(e.errno == socket.EAI_AGAIN)\"";
    assert_eq!(net.app.succeed(line), "True\n");
    let metrics = dragoman.settle();
    let unanswered = metrics.sum("dragoman_dns_queries_total", &[("outcome", "unanswered")]);
    assert_eq!(unanswered, metrics.sum("dragoman_dns_queries_total", &[]));
}

#[test]
fn the_resolvers_of_a_changed_file_are_asked() {
    let net = Net::new();
    let scratch = Scratch::new("resolv");
    let file = scratch.write("resolv.conf", "nameserver 198.18.0.8\n");
    let configuration = format!("{LISTEN}resolv_conf = '{}'\n", file.display());
    let dragoman = Dragoman::start_uncaptured(&net, &configuration);
    let ask = || net.app.succeed(&dig("@127.0.0.1 -p 15053 www.test"));
    assert!(ask().contains("SERVFAIL"));
    let _resolver = dnsmasq(&net.servers, ZONE);
    // Whole, and by another file in its place, as the tools do that keep it.
    fs::rename(scratch.write("new", "nameserver fd98::2\n"), &file).unwrap();
    wait::until("the new one is asked", wait::SOON, || ask().contains("198.18.0.2"));
    assert!(dragoman.log().contains("asking others from now on"), "{}", dragoman.log());
}

#[test]
fn our_own_queries_that_are_captured_end_with_a_reason() {
    let (net, resolver) = net_with_resolver(ZONE);
    let dragoman = Dragoman::start_uncaptured(&net, LISTEN);
    // Not the group that the proxy has.
    process::succeed(&mut init(&net, &["install", "--capture-dns", "15053", "--proxy-gid", "4242"]));
    for question in ["www.test", "+tcp www.test"] {
        let said = net.app.succeed(&dig(question));
        assert!(
            said.contains("SERVFAIL") && said.contains("dragoman's own queries come back to it"),
            "{said}"
        );
    }
    let metrics = dragoman.metrics();
    assert_eq!(metrics.sum("dragoman_dns_queries_total", &[("outcome", "unanswered")]), 2);
    let looped = metrics.sum("dragoman_dns_queries_total", &[("outcome", "looped")]);
    assert!((2..=8).contains(&looped), "{looped}: each was sent a few times, and then no more");
    assert_eq!(resolver.log().matches("query[").count(), 0);
    assert_eq!(dragoman.log().matches("own queries come back").count(), 1, "said once");
}
