use super::*;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use dragoman_config::Config;
use dragoman_telemetry::AccessLog;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PARAMS: PoolParams =
    PoolParams { max_idle: 2, idle: Duration::from_secs(60), max_age: None, max_size: None, min_warm: 0 };

const SECOND: Duration = Duration::from_secs(1);

/// A connection of ours, and the server's end of it.
async fn pair(made: Instant) -> (Pooled, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (Pooled { stream: client.unwrap().into(), made }, accepted.unwrap().0)
}

fn pool() -> Pool {
    let policy = Config::parse("test", "[destination.b]\nports = [1]\n", &|_| None).unwrap();
    Pool::new(
        Telemetry::new(policy.names().to_vec(), AccessLog::off()),
        InForce::new(Arc::new(policy), Arc::default()),
    )
}

fn key(destination: usize) -> PoolKey {
    let destination = Version { index: destination, generation: 1 };
    PoolKey { endpoint: "192.0.2.1:80".parse().unwrap(), destination, secure: None }
}

fn port(pooled: &Pooled) -> u16 {
    pooled.stream.tcp().local_addr().unwrap().port()
}

/// What the future gives without waiting.
fn at_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

async fn is_closed(mut server: TcpStream) -> bool {
    matches!(server.read(&mut [0]).await, Ok(0))
}

fn idle_closed(pool: &Pool) -> usize {
    let metrics = pool.telemetry.render();
    let name = "dragoman_upstream_idle_closed_total{destination=\"default\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn last_in_first_out_per_key_and_bounded() {
    let (pool, now) = (pool(), Instant::now());
    let mut servers = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..3 {
        let (client, server) = pair(now).await;
        ports.push(port(&client));
        servers.push(server);
        pool.put(&key(0), client, &PARAMS, now);
    }
    assert!(pool.take(&key(1), Wanted::Open, now).is_none(), "another key");
    let taken: Vec<_> =
        std::iter::from_fn(|| pool.take(&key(0), Wanted::Open, now)).map(|pooled| port(&pooled)).collect();
    assert_eq!(taken, [ports[1], ports[0]], "the third found no room");
}

#[tokio::test]
async fn a_closed_or_speaking_connection_is_not_reused() {
    for wanted in [Wanted::Fresh, Wanted::Open, Wanted::Likely] {
        let (pool, now) = (pool(), Instant::now());
        let (client, server) = pair(now).await;
        drop(server);
        client.stream.tcp().readable().await.unwrap();
        pool.put(&key(0), client, &PARAMS, now);
        let (client, mut server) = pair(now).await;
        server.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        client.stream.tcp().readable().await.unwrap();
        pool.put(&key(0), client, &PARAMS, now);
        assert!(pool.take(&key(0), wanted, now).is_none());
        assert_eq!(idle_closed(&pool), 2);
    }
}

#[tokio::test]
async fn h7_a_request_that_cannot_be_repeated_takes_only_a_fresh_connection() {
    let (pool, now) = (pool(), Instant::now());
    let (client, _server) = pair(now).await;
    pool.put(&key(0), client, &PARAMS, now);
    let later = now + FRESH + Duration::from_millis(1);
    assert!(pool.take(&key(0), Wanted::Fresh, later).is_none());
    assert!(pool.take(&key(0), Wanted::Open, later).is_some());
}

#[tokio::test]
async fn idle_for_too_long_is_closed() {
    let (pool, now) = (pool(), Instant::now());
    let (client, server) = pair(now).await;
    pool.put(&key(0), client, &PARAMS, now);
    assert!(pool.reap(now + PARAMS.idle).is_empty());
    assert!(is_closed(server).await);
    let shelves = pool.lock();
    assert_eq!((shelves.count, shelves.by_key.len()), (0, 0));
}

#[tokio::test]
async fn a_connection_takes_no_new_exchange_after_its_age() {
    let params = PoolParams { max_age: Some(10 * SECOND), ..PARAMS };
    let (pool, now) = (pool(), Instant::now());
    let (client, server) = pair(now).await;
    pool.put(&key(0), client, &params, now + 9 * SECOND);
    let taken = pool.take(&key(0), Wanted::Open, now + 9 * SECOND).expect("it is not old yet");
    pool.put(&key(0), taken, &params, now + 9 * SECOND);
    assert!(pool.take(&key(0), Wanted::Open, now + 10 * SECOND).is_none(), "idle for a second, and too old");
    assert!(is_closed(server).await);
    let (client, server) = pair(now).await;
    pool.put(&key(0), client, &params, now + 11 * SECOND);
    assert!(is_closed(server).await, "it grew old in use");
}

#[tokio::test]
async fn places_bound_what_is_in_use_and_go_round_in_order() {
    let params = PoolParams { max_size: Some(1), ..PARAMS };
    let (pool, now, key) = (pool(), Instant::now(), key(0));
    let first = at_once(std::pin::pin!(pool.place(&key, &params, now))).expect("nobody has one");
    let mut second = std::pin::pin!(pool.place(&key, &params, now));
    let mut third = std::pin::pin!(pool.place(&key, &params, now));
    assert!(at_once(second.as_mut()).is_none() && at_once(third.as_mut()).is_none());
    let (client, _server) = pair(now).await;
    let expected = port(&client);
    pool.put(&key, client, &params, now);
    drop(first);
    assert!(at_once(third.as_mut()).is_none(), "the second was first");
    let second = at_once(second).expect("a place is free");
    let taken = pool.take(&key, Wanted::Open, now).expect("whoever has a place finds the connection");
    assert_eq!(port(&taken), expected);
    drop((taken, second));
    assert!(at_once(third).is_some());
    assert!(at_once(std::pin::pin!(pool.place(&key, &PARAMS, now))).is_some(), "and nobody holds it now");
}

#[tokio::test]
async fn an_idle_connection_that_is_of_no_use_makes_way() {
    let params = PoolParams { max_size: Some(2), ..PARAMS };
    let (pool, now, key) = (pool(), Instant::now(), key(0));
    let (oldest, server) = pair(now).await;
    let (newer, _server) = pair(now).await;
    let kept = port(&newer);
    pool.put(&key, oldest, &params, now);
    pool.put(&key, newer, &params, now + SECOND);
    let _place = pool.place(&key, &params, now).await;
    pool.make_room(&key);
    assert!(is_closed(server).await);
    assert_eq!(pool.take(&key, Wanted::Open, now).map(|pooled| port(&pooled)), Some(kept));
    assert_eq!(idle_closed(&pool), 1);
    pool.make_room(&key);
    assert_eq!(idle_closed(&pool), 1, "there is room");
}

#[tokio::test]
async fn where_there_are_too_many_the_least_recently_used_make_way() {
    let (pool, now) = (Pool { most: 3, ..pool() }, Instant::now());
    let of = |last: u8| PoolKey { endpoint: ([192, 0, 2, last], 80).into(), ..key(0) };
    let mut servers = Vec::new();
    for n in [0, 1, 2] {
        let (client, server) = pair(now).await;
        servers.push(server);
        pool.put(&of(n), client, &PARAMS, now + SECOND * n.into());
    }
    let used = pool.take(&of(0), Wanted::Open, now).expect("it is idle");
    pool.put(&of(0), used, &PARAMS, now + 3 * SECOND);
    assert_eq!(idle_closed(&pool), 0, "there is room for three");
    let (client, _server) = pair(now).await;
    pool.put(&of(3), client, &PARAMS, now + 4 * SECOND);
    let oldest = servers.remove(1);
    assert!(is_closed(oldest).await);
    let (count, shelves) = {
        let shelves = pool.lock();
        (shelves.count, shelves.by_key.len())
    };
    assert_eq!((idle_closed(&pool), count, shelves), (1, 3, 3));
    for n in [0, 2, 3] {
        assert!(pool.take(&of(n), Wanted::Open, now).is_some(), "{n}");
    }
}

#[tokio::test]
async fn one_that_finds_no_room_at_its_endpoint_closes_no_other() {
    let (pool, now) = (Pool { most: 2, ..pool() }, Instant::now());
    let params = PoolParams { max_idle: 1, ..PARAMS };
    let other = PoolKey { endpoint: "192.0.2.2:80".parse().unwrap(), ..key(0) };
    let mut servers = Vec::new();
    for (key, later) in [(&other, 0), (&key(0), 1), (&key(0), 2)] {
        let (client, server) = pair(now).await;
        servers.push(server);
        pool.put(key, client, &params, now + later * SECOND);
    }
    assert_eq!(idle_closed(&pool), 0);
    assert!(pool.take(&other, Wanted::Open, now).is_some());
}

#[tokio::test]
async fn warm_is_filled_by_one_at_a_time_and_within_the_size() {
    let params = PoolParams { max_size: Some(2), min_warm: 2, ..PARAMS };
    let (pool, now, key) = (pool(), Instant::now(), key(0));
    assert!(!pool.begin_filling(&key), "nobody has used it");
    let used = pool.place(&key, &params, now).await;
    assert!(pool.begin_filling(&key) && !pool.begin_filling(&key));
    let (client, _one) = pair(now).await;
    let place = pool.place_to_fill(&key).expect("one of two is in use");
    assert!(pool.place_to_fill(&key).is_none(), "the other is being made");
    pool.put(&key, client, &params, now);
    drop(place);
    assert!(pool.place_to_fill(&key).is_none(), "one in use and one idle are two");
    drop(used);
    assert!(pool.place_to_fill(&key).is_some());
    let (client, _two) = pair(now).await;
    pool.put(&key, client, &params, now);
    assert!(pool.place_to_fill(&key).is_none(), "enough are warm");
    pool.end_filling(&key);
    assert!(!pool.begin_filling(&key));
}

#[tokio::test]
async fn warmth_lasts_as_long_as_use() {
    let params = PoolParams { min_warm: 1, ..PARAMS };
    let (pool, now) = (pool(), Instant::now());
    drop(pool.place(&key(0), &params, now).await);
    assert_eq!(pool.reap(now + PARAMS.idle - SECOND), [key(0)]);
    let (client, _server) = pair(now).await;
    // A connection made ahead of need is not use.
    pool.put(&key(0), client, &params, now + PARAMS.idle - SECOND);
    assert!(pool.reap(now + PARAMS.idle - SECOND).is_empty(), "it is warm");
    assert!(pool.reap(now + 2 * PARAMS.idle).is_empty(), "nobody uses it");
    assert!(pool.lock().by_key.is_empty());
}
