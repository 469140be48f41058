//! An app that dials thousands of addresses, for twice as many hosts: series and memory stay bounded, and no count is lost.
//! That a hundred thousand hosts leave no more is shown where they are counted, in `telemetry`: through sockets each costs time
//! that shows nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;

use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Net, Origin, Peer};

/// More than twice what any table of the proxy holds.
const ADDRESSES: u32 = 10_000;
/// For how many hosts it asks at each of them.
const HOSTS_EACH: u32 = 2;
/// By then the tables are full.
const FULL: u32 = 5000;
const THREADS: u32 = 4;
/// A network all of whose addresses S answers for.
const NETWORK: [u8; 2] = [10, 64];

#[test]
fn l6_thousands_of_addresses_leave_series_and_memory_bounded() {
    let net = Net::new();
    let [a, b] = NETWORK;
    net.servers.succeed(&format!("ip route add local {a}.{b}.0.0/16 dev lo"));
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
    let _origin = Origin::http(&net.servers, anywhere, |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "[defaults]\npool = {}\nretry = {}\nbreaker = {}\n");
    let dial = |from: u32, to: u32| {
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let app = &net.app;
                // Enters once: for each connection that would take longer than all the rest.
                scope.spawn(move || {
                    app.enter(|| (from + thread..to).step_by(THREADS as usize).for_each(ask));
                });
            }
        });
        dragoman.settle()
    };
    let few = dial(0, 200);
    dial(200, FULL);
    let before = resident_bytes(&dragoman);
    let all = dial(FULL, ADDRESSES);
    let after = resident_bytes(&dragoman);
    println!(
        "{} hosts at {ADDRESSES} addresses: {} series (after 200 addresses: {}), {after} bytes resident (after {FULL}: \
         {before})",
        ADDRESSES * HOSTS_EACH,
        all.count(),
        few.count()
    );
    assert_eq!(all.count(), few.count());
    assert!(after.saturating_sub(before) < 4 << 20, "{before} then {after} bytes");

    let asked = u64::from(ADDRESSES * HOSTS_EACH);
    let success = [("outcome", "success")];
    assert_eq!(all.sum("dragoman_attempts_total", &success), asked);
    assert_eq!(all.sum("dragoman_endpoint_attempts_total", &success), asked);
    assert_eq!(all.sum("dragoman_exchanges_total", &[("code", "200"), ("cause", "-")]), asked);
    assert_eq!(all.sum("dragoman_exchange_seconds_count", &[]), asked);
    assert_eq!(all.sum("dragoman_upstream_connections_total", &[]), asked, "dialled or reused");
    assert!(all.sum("dragoman_connect_seconds_count", &[]) >= u64::from(ADDRESSES));
    let endpoints = all.values("dragoman_endpoint_attempts_total", "endpoint");
    assert_eq!(endpoints.len(), 65, "64 and the others");
    let breakers = all.labels("dragoman_endpoint_breaker_state");
    assert_eq!(breakers, Some(BTreeSet::from(["destination", "endpoint"])));
}

fn ask(n: u32) {
    let [a, b] = NETWORK;
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(a, b, 0, 0)) + n + 1);
    let requests =
        (0..HOSTS_EACH).map(|host| format!("GET /{n} HTTP/1.1\r\nHost: h{host}.a{n}.test\r\n\r\n"));
    let mut client = Peer::new(TcpStream::connect((address, 80)).unwrap());
    client.send(requests.collect::<String>()).unwrap();
    for host in 0..HOSTS_EACH {
        let answer = client.response("GET").unwrap();
        assert_eq!(answer.status(), 200, "{host} of {n}: {}", answer.head);
    }
}

fn resident_bytes(dragoman: &Dragoman) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says VmRSS");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of kB") * 1024
}
