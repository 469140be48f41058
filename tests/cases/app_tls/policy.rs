//! What policy does for TLS of the app's own, by its name: failover, retry, breaker.

use dragoman_harness::net::{server, server_v4};
use dragoman_harness::{Dragoman, Net, Origin};

use super::hello::{hello, sni};

fn greeter(net: &Net, port: u16) -> Origin {
    Origin::tcp(&net.servers, server(port), |mut peer| {
        peer.read_exact(40)?;
        peer.send("hello yourself")?;
        peer.finish_sending()?;
        peer.read_to_end().map(drop)
    })
}

/// Nothing has been sent when a connect is refused, so the next endpoint gets the whole hello.
#[test]
fn a_refused_connect_is_tried_again_at_another_endpoint() {
    const FLOWS: usize = 8;
    let net = Net::new();
    let origin = greeter(&net, 443);
    let configuration = format!(
        "[destination.pay]\nsni = ['pay.test']\nendpoints = ['{}:443', '{}:443']\nretry = {{ base = '1ms' }}\n",
        server_v4(1),
        server_v4(0)
    );
    let dragoman = Dragoman::start(&net, &configuration);
    let bytes = hello(&[sni(b"pay.test")]);
    for _ in 0..FLOWS {
        // Not where it dials, but whom it names, says where it goes.
        let (answer, reset) = net.app.knock(std::net::SocketAddr::new(server_v4(5), 443), &bytes);
        assert_eq!((String::from_utf8_lossy(&answer).as_ref(), reset), ("hello yourself", false));
    }
    let records = dragoman.records_where(FLOWS, |record| record["sni"] == "pay.test");
    assert_eq!(origin.seen().len(), FLOWS);
    assert!(origin.seen().iter().all(|seen| seen.bytes.so_far() == bytes));
    assert!(records.iter().all(|record| record["endpoint"] == server(443).to_string()), "{records:#?}");
    assert!(records.iter().any(|record| record["attempts"] == 2), "{records:#?}");
    let metrics = dragoman.settle();
    assert!(metrics.sum("dragoman_retries_total", &[("reason", "connect_refused")]) > 0);
}

/// Two names at one address have two breakers where they are two destinations.
#[test]
fn a_breaker_is_of_the_name() {
    let net = Net::new();
    let _origin = greeter(&net, 443);
    let configuration = format!(
        "[defaults]\nbreaker = {{ failures = 2, open = '60s' }}\n\
         [destination.down]\nsni = ['down.test']\nendpoints = ['{}:443']\n[destination.up]\nsni = ['up.test']\n",
        server_v4(1)
    );
    let dragoman = Dragoman::start(&net, &configuration);
    let knock = |name: &[u8]| net.app.knock(server(443), &hello(&[sni(name)]));
    for expected in ["connect_refused", "connect_refused", "breaker_open"] {
        assert_eq!(knock(b"down.test"), (Vec::new(), true));
        let record = dragoman.record_of(expected);
        assert_eq!((&record["sni"], &record["destination"]), (&"down.test".into(), &"down".into()));
    }
    dragoman.records_where(2, |record| record["cause"] == "connect_refused");
    assert_eq!(knock(b"up.test"), (b"hello yourself".to_vec(), false));
    assert_eq!(dragoman.settle().sum("dragoman_breakers", &[("state", "open")]), 1);
}

/// A name that is only claimed gets no further than the addresses that it may have.
#[test]
fn an_address_that_the_name_does_not_have_is_denied() {
    let net = Net::new();
    let origin = greeter(&net, 443);
    let configuration = format!(
        "[defaults]\ndeny = true\n[destination.pay]\nsni = ['pay.test']\ncidrs = ['{}/32']\nports = [443]\ndeny = false\n",
        server_v4(0)
    );
    let dragoman = Dragoman::start(&net, &configuration);
    let bytes = hello(&[sni(b"pay.test")]);
    assert_eq!(net.app.knock(server(443), &bytes), (b"hello yourself".to_vec(), false));
    let elsewhere = std::net::SocketAddr::new(server_v4(1), 443);
    assert_eq!(net.app.knock(elsewhere, &bytes), (Vec::new(), true));
    assert_eq!(net.app.knock(server(444), &bytes), (Vec::new(), true));
    assert_eq!(dragoman.records_where(2, |record| record["cause"] == "denied").len(), 2);
    assert_eq!(origin.seen().len(), 1);
}
