use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dragoman_config::{Config, Destination};
use dragoman_net::OrigDst;
use dragoman_policy::Verdict;
use dragoman_telemetry::{AccessLog, Telemetry};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::flow::exchange::plan::Lookup;
use crate::shared::Shared;
use crate::upstream::pool::{PoolKey, Pooled, Wanted};
use crate::upstream::state::Endpoint;

/// Two destinations, of which a reload changes one.
fn policy(timeout: &str) -> Config {
    let text = format!(
        "[defaults]\nbreaker = {{ failures = 1, open = '1h' }}\npool = {{}}\n[destination.changes]\n\
         hosts = ['changes']\ntimeout = '{timeout}'\n[destination.stays]\nhosts = ['stays']\n"
    );
    Config::parse("test", &text, &|_| None).unwrap()
}

fn rig() -> Shared {
    let config = policy("1s");
    let telemetry = Telemetry::new(config.names().to_vec(), AccessLog::off());
    Shared::new(Arc::new(config), telemetry, vec![])
}

fn named(shared: &Shared, name: &str) -> Arc<Destination> {
    let config = shared.config.now();
    Arc::clone(config.destinations().iter().find(|it| &*it.name == name).unwrap())
}

fn address() -> SocketAddr {
    "192.0.2.1:80".parse().unwrap()
}

/// The endpoint of that destination as it is now, after a failure that opened its breaker.
fn opened(shared: &Shared, name: &str) -> Arc<Endpoint> {
    let endpoint = shared.endpoints.get(&named(shared, name), None, address());
    endpoint.admit(Instant::now()).unwrap().report(Verdict::Failure);
    endpoint
}

fn is_closed(shared: &Shared, destination: &Destination) -> bool {
    shared.endpoints.get(destination, None, address()).is_closed(Instant::now())
}

/// How many endpoints the metrics tell of.
fn observed(shared: &Shared) -> usize {
    shared.observe().iter().map(|(_, state)| state.endpoints.len()).sum()
}

#[test]
fn a_breaker_outlives_a_reload_that_does_not_touch_its_destination() {
    let shared = rig();
    let before = named(&shared, "changes");
    opened(&shared, "stays");
    let in_use = opened(&shared, "changes");
    shared.apply(policy("2s")).unwrap();
    assert!(!is_closed(&shared, &named(&shared, "stays")), "still open");
    assert_eq!(observed(&shared), 1, "what changed is forgotten");
    assert!(is_closed(&shared, &named(&shared, "changes")), "as new");

    // What is under way by the old policy keeps the breaker that it had, and nobody is told of it.
    assert!(Arc::ptr_eq(&in_use, &shared.endpoints.get(&before, None, address())));
    assert_eq!(observed(&shared), 2);
    drop(in_use);
    shared.apply(policy("2s")).unwrap();
    assert!(is_closed(&shared, &before), "in use no longer, it is gone");
}

/// A connection of ours, and the server's end of it.
async fn pair(listener: &TcpListener) -> (Pooled, TcpStream) {
    let connected = TcpStream::connect(listener.local_addr().unwrap());
    let (stream, accepted) = tokio::join!(connected, listener.accept());
    (Pooled { stream: stream.unwrap().into(), made: Instant::now() }, accepted.unwrap().0)
}

/// Whether the other end closes it, without a reset.
async fn is_closed_in_order(server: &TcpStream) -> bool {
    let read = timeout(Duration::from_secs(10), server.peek(&mut [0])).await;
    matches!(read, Ok(Ok(0)))
}

#[tokio::test]
async fn idle_connections_of_a_destination_that_changed_are_closed_and_no_more_are_kept() {
    let shared = rig();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stays, changes) = (named(&shared, "stays"), named(&shared, "changes"));
    let key = |of: &Destination| PoolKey { endpoint: address(), destination: of.version(), secure: None };
    let mut servers = Vec::new();
    for destination in [&stays, &changes, &changes] {
        let (connection, server) = pair(&listener).await;
        shared.pool.put(&key(destination), connection, &destination.pool.unwrap(), Instant::now());
        servers.push(server);
    }
    let in_use = shared.pool.take(&key(&changes), Wanted::Open, Instant::now()).expect("one of two");
    shared.apply(policy("2s")).unwrap();
    assert!(shared.pool.take(&key(&stays), Wanted::Open, Instant::now()).is_some());
    assert!(shared.pool.take(&key(&changes), Wanted::Open, Instant::now()).is_none());
    assert!(is_closed_in_order(&servers[1]).await);
    assert!(servers[2].try_read(&mut [0]).is_err(), "the one in use is still open");

    shared.pool.put(&key(&changes), in_use, &changes.pool.unwrap(), Instant::now());
    assert!(is_closed_in_order(&servers[2]).await, "it ends with its exchange");
    assert!(shared.pool.take(&key(&changes), Wanted::Open, Instant::now()).is_none());
}

#[test]
fn the_next_exchange_of_a_flow_has_the_new_policy_and_one_under_way_the_old() {
    let shared = rig();
    let mut lookup = Lookup::default();
    let mut find = || lookup.find(&shared.config.now(), OrigDst(address()), "changes");
    let (first, second) = (find(), find());
    assert!(Arc::ptr_eq(&first, &second));
    shared.apply(policy("2s")).unwrap();
    assert_eq!(find().policy.timeout, Some(Duration::from_secs(2)));
    assert_eq!(first.policy.timeout, Some(Duration::from_secs(1)));
}

#[test]
fn nothing_is_left_of_policies_that_were_replaced() {
    let shared = rig();
    let stays = opened(&shared, "stays");
    for round in 0..500 {
        let _ = opened(&shared, "changes");
        let replaced = Arc::downgrade(&shared.config.now());
        shared.apply(policy(&format!("{}s", 1 + (round + 1) % 2))).unwrap();
        assert_eq!(replaced.upgrade().map(|config| config.generation()), None, "nobody keeps it");
        let now = shared.config.now();
        assert_eq!((now.generation(), now.names().len(), observed(&shared)), (round + 2, 3, 1));
    }
    assert!(Arc::ptr_eq(&stays, &shared.endpoints.get(&named(&shared, "stays"), None, address())));
}

/// Exchanges that end while one policy follows the other: whatever the order, nothing idle is left that no exchange
/// will ever ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_connection_slips_past_a_reload() {
    const RELOADS: u64 = 500;
    let shared = Arc::new(rig());
    let mut exchanges = JoinSet::new();
    for _ in 0..3 {
        let shared = Arc::clone(&shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        exchanges.spawn(async move {
            let (mut reused, mut server) = (0, None);
            while shared.config.now().generation() < RELOADS {
                let destination = named(&shared, "changes");
                let key = PoolKey { endpoint: address(), destination: destination.version(), secure: None };
                let connection = match shared.pool.take(&key, Wanted::Open, Instant::now()) {
                    Some(connection) => {
                        reused += 1;
                        connection
                    }
                    None => {
                        let (connection, other_end) = pair(&listener).await;
                        server = Some(other_end);
                        connection
                    }
                };
                tokio::task::yield_now().await;
                shared.pool.put(&key, connection, &destination.pool.unwrap(), Instant::now());
            }
            drop(server);
            reused
        });
    }
    while shared.config.now().generation() < RELOADS {
        shared.apply(policy(&format!("{}s", 1 + shared.config.now().generation() % 2))).unwrap();
        tokio::task::yield_now().await;
    }
    let reused: u64 = exchanges.join_all().await.iter().sum();
    let destination = named(&shared, "changes");
    let key = PoolKey { endpoint: address(), destination: destination.version(), secure: None };
    while shared.pool.take(&key, Wanted::Open, Instant::now()).is_some() {}
    let idle = shared.observe().iter().map(|(_, state)| state.http1_idle).sum::<usize>();
    assert_eq!(idle, 0, "{reused} reused");
}
