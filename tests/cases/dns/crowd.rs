//! A thousand queries at once.

use dragoman_harness::{process, programs};

use super::{net_with_resolver, start};

#[test]
fn a_thousand_queries_at_once_get_each_its_own_answer() {
    let records = |n: u32| format!("host-record=n{n}.test,10.1.{}.{}\n", n / 256, n % 256);
    let (net, _resolver) = net_with_resolver(&(0..1000).map(records).collect::<String>());
    let dragoman = start(&net, "");
    // The second crowd comes while conntrack still knows the ports of the first, and of what dragoman asked for it.
    for _ in 0..2 {
        let mut python = net.app.bounded("python3");
        let said = process::succeed(python.arg(programs::path("dns_crowd.py")).arg("198.18.0.2"));
        assert_eq!(said, "1000 right\n");
    }
    let metrics = dragoman.settle();
    assert!(metrics.sum("dragoman_dns_queries_total", &[("outcome", "answered")]) >= 2000);
    assert_eq!(metrics.sum("dragoman_dns_queries_total", &[("outcome", "looped")]), 0);
    assert_eq!(metrics.sum("dragoman_dns_names", &[]), 1000);
}
