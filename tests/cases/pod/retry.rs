//! The reason to have it: an app that knows nothing of retries, on a server that is busy.

use dragoman_harness::Origin;
use dragoman_harness::net::server_in_both_families;
use dragoman_harness::origin::Reply;
use dragoman_harness::pods::Node;

const SHOP: &str = include_str!("manifests/shop.yaml");

#[test]
fn one_request_of_the_app_is_three_attempts_by_policy_of_platform_and_app() {
    let node = Node::new();
    let origins = server_in_both_families(80).map(|address| {
        Origin::http(node.servers(), address, |_, n| match n {
            0 | 1 => Reply::status(503, "busy"),
            _ => Reply::status(200, "sold"),
        })
    });
    let pod = node.play(&node.inject(SHOP, &[]));
    assert_eq!(pod.wait_for("app", "done"), "soldsold\ndone\n", "{}", pod.log("app"));

    for (origin, path) in origins.iter().zip(["/four", "/six"]) {
        let requests = origin.requests();
        assert_eq!(requests.len(), 3);
        assert!(requests.iter().all(|request| request.word(1) == path), "{requests:?}");
    }
    let records = pod.records_where(2, |record| record["kind"] == "exchange");
    for (record, [path, server]) in records.iter().zip([["/four", "198.18.0.2:80"], ["/six", "[fd98::2]:80"]])
    {
        assert_eq!(record["attempts"], 3, "{record}");
        assert_eq!(record["status"], 200, "{record}");
        assert_eq!(record["destination"], "orders", "the app's own file has no say: {record}");
        assert_eq!((&record["path"], &record["original_dst"]), (&path.into(), &server.into()), "{record}");
    }
    let metrics = pod.metrics();
    assert_eq!(metrics.sum("dragoman_retries_total", &[("destination", "orders")]), 4);
}
