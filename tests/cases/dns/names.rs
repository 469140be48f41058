//! Flows that give no name get the policy of the one that the app asked for.

use std::net::SocketAddr;

use dragoman_harness::net::{server_v4, server_v6};
use dragoman_harness::{Dragoman, Net, Origin, Peer};

use super::{net_with_resolver, start};

const ZONE: &str = "host-record=db.test,198.18.0.3,fd98::3\nhost-record=other.test,198.18.0.3\n\
                    host-record=ads.test,198.18.0.4\nhost-record=own.test,198.18.0.5\ncname=alias.test,db.test\n";

const POLICY: &str = "[destination.db]\nhosts = ['db.test', '*.db.test']\nprotocol = 'opaque'\n\
                      [destination.ads]\nhosts = ['ads.test']\ndeny = true\n\
                      [destination.own]\nhosts = ['own.test']\nendpoints = ['198.18.0.6:7000']\n\
                      [destination.alias]\nhosts = ['alias.test']\nports = [7000]\n";

/// Has a program of A ask for a name.
fn ask(net: &Net, name: &str) {
    net.app.succeed(&format!("getent ahosts {name}"));
}

/// A server that speaks first, and echoes.
fn greeter(net: &Net, address: SocketAddr) -> Origin {
    Origin::tcp(&net.servers, address, |mut peer| {
        peer.send("220 hello\n")?;
        let said = peer.read_to_end()?;
        peer.send(said)
    })
}

/// What comes of a flow to `address`: its destination and its name, from the log.
fn flow(net: &Net, dragoman: &Dragoman<'_>, address: SocketAddr) -> (String, Option<String>) {
    let before = dragoman.records().len();
    let mut peer = net.app.connect(address);
    assert_eq!(peer.read_until(b"\n").unwrap(), b"220 hello\n");
    drop(peer);
    let record = dragoman.records_where(before + 1, |_| true).pop().unwrap();
    let text = |key: &str| record[key].as_str().map(str::to_owned);
    (text("destination").unwrap(), text("host"))
}

fn named(destination: &str, host: &str) -> (String, Option<String>) {
    (destination.to_owned(), Some(host.to_owned()))
}

#[test]
fn an_opaque_flow_gets_the_policy_of_the_name_that_was_asked_last() {
    let (net, _resolver) = net_with_resolver(ZONE);
    let db = SocketAddr::new(server_v4(1), 7000);
    let db_v6 = SocketAddr::new(server_v6(1), 7000);
    let _greeters = [db, db_v6].map(|address| greeter(&net, address));
    let dragoman = start(&net, POLICY);
    assert_eq!(flow(&net, &dragoman, db), ("default".into(), None), "nobody has asked");
    for (name, destination) in [("db.test", "db"), ("other.test", "default"), ("alias.test", "alias")] {
        ask(&net, name);
        assert_eq!(flow(&net, &dragoman, db), named(destination, name));
    }
    assert_eq!(flow(&net, &dragoman, db_v6), named("alias", "alias.test"), "each address of it");
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_total", &[("destination", "db")]), 1);
}

#[test]
fn the_endpoints_of_a_learnt_name_are_where_its_flows_go() {
    let (net, _resolver) = net_with_resolver(ZONE);
    let endpoint = greeter(&net, SocketAddr::new(server_v4(4), 7000));
    let dragoman = start(&net, POLICY);
    ask(&net, "own.test");
    // Nobody listens there.
    assert_eq!(flow(&net, &dragoman, SocketAddr::new(server_v4(3), 7000)), named("own", "own.test"));
    assert_eq!(endpoint.seen().len(), 1);
}

#[test]
fn a_learnt_name_that_is_denied_is_not_dialled() {
    let (net, _resolver) = net_with_resolver(ZONE);
    let ads = SocketAddr::new(server_v4(2), 7000);
    let origin = greeter(&net, ads);
    let dragoman = start(&net, POLICY);
    ask(&net, "ads.test");
    // One that speaks, and one that waits for the server.
    for first in [&b"\x01\x02"[..], b""] {
        let (came, reset) = net.app.knock(ads, first);
        assert_eq!((came, reset), (vec![], true), "{first:?}");
    }
    let records = dragoman.records_where(2, |record| record["cause"] == "denied");
    assert!(records.iter().all(|it| it["destination"] == "ads" && it["host"] == "ads.test"), "{records:?}");
    assert_eq!(origin.seen().len(), 0, "nothing was dialled");
}

#[test]
fn what_a_flow_says_itself_comes_before_what_was_learnt() {
    let (net, _resolver) = net_with_resolver(ZONE);
    let address = SocketAddr::new(server_v4(2), 80);
    let origin =
        Origin::http(&net.servers, address, |_, _| dragoman_harness::origin::Reply::status(200, "ok"));
    let policy = format!("{POLICY}[destination.shop]\nhosts = ['shop.test']\n");
    let dragoman = start(&net, &policy);
    ask(&net, "ads.test");
    let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let status = |host: &str| {
        let mut peer: Peer = net.app.connect(address);
        peer.exchange(get(host)).unwrap().status()
    };
    assert_eq!((status("shop.test"), status("ads.test")), (200, 403));
    assert_eq!(origin.requests().len(), 1);
    let shop = dragoman.records_where(1, |record| record["destination"] == "shop");
    assert_eq!(shop[0]["host"], "shop.test");
}

/// A server-first protocol where a rule by name could deny (docs/adr/0007): what was learnt is another name.
#[test]
fn a_learnt_name_that_is_not_denied_is_dialled_before_the_app_speaks() {
    let (net, _resolver) = net_with_resolver(ZONE);
    let db = SocketAddr::new(server_v4(1), 7000);
    let origin = greeter(&net, db);
    let dragoman = start(&net, "[destination.ads]\nhosts = ['ads.test']\ndeny = true\n");
    ask(&net, "db.test");
    assert_eq!(flow(&net, &dragoman, db), named("default", "db.test"));
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(dragoman.settle().sum("dragoman_early_dials_total", &[("result", "used")]), 1);
}

#[test]
fn a_flow_is_refused_at_once_where_its_learnt_name_has_nobody_behind_it() {
    let (net, _resolver) = net_with_resolver(ZONE);
    let dragoman = start(&net, POLICY);
    ask(&net, "db.test");
    let (came, reset) = net.app.knock(SocketAddr::new(server_v4(1), 7001), b"");
    assert_eq!((came, reset), (vec![], true));
    let record = dragoman.record_of("connect_refused");
    assert_eq!((&record["host"], &record["destination"]), (&"db.test".into(), &"db".into()));
}
