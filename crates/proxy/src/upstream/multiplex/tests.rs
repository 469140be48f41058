use super::*;
use std::future::ready;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use dragoman_config::{Config, Version};
use dragoman_telemetry::AccessLog;
use h2::server::Builder;
use tokio::net::{TcpListener, TcpStream};

use super::connection::handshake;
use crate::flow::http2::io::Io;
use crate::leg::Leg;

const PARAMS: PoolParams =
    PoolParams { max_idle: 9, idle: Duration::from_secs(60), max_age: None, max_size: None, min_warm: 0 };

const PATIENCE: Duration = Duration::from_secs(20);

/// A server whose connections take so many streams each; none of them is ever answered.
async fn serve(streams: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut builder = Builder::new();
                let connection = builder.max_concurrent_streams(streams).handshake::<_, bytes::Bytes>(stream);
                let mut connection = connection.await.unwrap();
                while connection.accept().await.is_some() {}
            });
        }
    });
    address
}

fn multiplexers() -> Multiplexers {
    let policy = InForce::new(Arc::new(Config::empty()), Arc::default());
    Multiplexers::new(Telemetry::new(vec!["default".into()], AccessLog::off()), policy)
}

fn key(endpoint: SocketAddr) -> PoolKey {
    PoolKey { endpoint, destination: Version { index: 0, generation: 1 }, secure: None }
}

async fn connect(address: SocketAddr) -> Result<Connected, Failed> {
    let io = Io::new(Leg::new(TcpStream::connect(address).await.unwrap())).unwrap();
    Ok(handshake(io, None, 65_536).await.unwrap())
}

/// Room, with all the time that it takes.
async fn lease(
    multiplexers: &Multiplexers,
    address: SocketAddr,
    params: &PoolParams,
    fresh: bool,
) -> Result<Lease, Failed> {
    multiplexers.lease(&key(address), params, PATIENCE, fresh, || connect(address)).await
}

async fn settled(multiplexers: &Multiplexers, address: SocketAddr) {
    for member in members(multiplexers, address) {
        member.settle().await;
    }
}

fn members(multiplexers: &Multiplexers, address: SocketAddr) -> Vec<Arc<Member>> {
    let shelf = lock(&multiplexers.shelves).get(&key(address)).map(Arc::clone);
    shelf.map_or(Vec::new(), |shelf| lock(&shelf.state).members.clone())
}

/// What the future gives without waiting.
fn at_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn streams_share_a_connection_up_to_the_servers_limit() {
    let (multiplexers, address) = (multiplexers(), serve(2).await);
    let mut leases = Vec::new();
    for reused in [false, true, false, true] {
        leases.push(lease(&multiplexers, address, &PARAMS, false).await.unwrap());
        assert_eq!(leases.last().unwrap().reused, reused);
    }
    assert_eq!(members(&multiplexers, address).len(), 2);
}

#[tokio::test]
async fn room_is_given_in_the_order_of_asking() {
    let params = PoolParams { max_size: Some(1), ..PARAMS };
    let (multiplexers, address) = (multiplexers(), serve(1).await);
    let first = lease(&multiplexers, address, &params, false).await.unwrap();
    settled(&multiplexers, address).await;
    let mut second = pin!(lease(&multiplexers, address, &params, false));
    let mut third = pin!(lease(&multiplexers, address, &params, false));
    assert!(at_once(second.as_mut()).is_none() && at_once(third.as_mut()).is_none());
    drop(first);
    let mut newcomer = pin!(lease(&multiplexers, address, &params, false));
    assert!(at_once(newcomer.as_mut()).is_none() && at_once(third.as_mut()).is_none(), "others were first");
    let second = second.await.unwrap();
    assert!(at_once(third.as_mut()).is_none());
    drop(second);
    third.await.unwrap();
    newcomer.await.unwrap();
}

#[tokio::test]
async fn who_gives_up_waiting_does_not_take_the_turn_along() {
    let params = PoolParams { max_size: Some(1), ..PARAMS };
    let (multiplexers, address) = (multiplexers(), serve(1).await);
    let first = lease(&multiplexers, address, &params, false).await.unwrap();
    settled(&multiplexers, address).await;
    let mut second = Box::pin(lease(&multiplexers, address, &params, false));
    let mut third = pin!(lease(&multiplexers, address, &params, false));
    assert!(at_once(second.as_mut()).is_none() && at_once(third.as_mut()).is_none());
    drop(first);
    drop(second);
    third.await.unwrap();
}

#[tokio::test]
async fn no_room_for_too_long_is_pool_full() {
    let params = PoolParams { max_size: Some(1), ..PARAMS };
    let (multiplexers, address) = (multiplexers(), serve(1).await);
    let _first = lease(&multiplexers, address, &params, false).await.unwrap();
    let (key, short) = (key(address), Duration::from_millis(10));
    let asked = multiplexers.lease(&key, &params, short, false, || connect(address));
    assert_eq!(asked.await.unwrap_err().cause, Cause::PoolFull);
}

#[tokio::test]
async fn who_waits_for_a_connection_fails_with_it_and_who_comes_later_tries_anew() {
    let (multiplexers, address) = (multiplexers(), serve(1).await);
    let refused = || Failed::there(Cause::ConnectRefused, None, Failure::Connect);
    let key = key(address);
    let one = multiplexers.lease(&key, &PARAMS, PATIENCE, false, || ready(Err(refused())));
    let other =
        multiplexers.lease(&key, &PARAMS, PATIENCE, false, || -> std::future::Ready<_> { unreachable!() });
    let (one, other) = tokio::join!(one, other);
    let causes = (one.unwrap_err().cause, other.unwrap_err().cause);
    assert_eq!(causes, (Cause::ConnectRefused, Cause::ConnectRefused));
    lease(&multiplexers, address, &PARAMS, false).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_before_it_is_used_says_by_what() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let multiplexers = multiplexers();
    let mut asked = pin!(lease(&multiplexers, address, &PARAMS, false));
    assert!(at_once(asked.as_mut()).is_none());
    let (stream, _) = listener.accept().await.unwrap();
    stream.readable().await.unwrap();
    dragoman_net::reset_on_close(&stream);
    drop(stream);
    // The exchange that it was made for does not get to look at it before.
    let is_over = |member: &Arc<Member>| member.is_over(Instant::now());
    while !members(&multiplexers, address).iter().any(is_over) {
        tokio::task::yield_now().await;
    }
    assert_eq!(asked.await.unwrap_err().cause, Cause::UpstreamReset);
}

#[tokio::test]
async fn a_fresh_connection_is_made_where_there_may_be_one_more() {
    let params = PoolParams { max_size: Some(2), ..PARAMS };
    let (multiplexers, address) = (multiplexers(), serve(9).await);
    for expected in [false, false, true] {
        let lease = lease(&multiplexers, address, &params, true).await.unwrap();
        assert_eq!(lease.reused, expected);
        settled(&multiplexers, address).await;
        drop(lease);
    }
}

#[tokio::test]
async fn a_connection_that_is_retired_or_too_old_makes_way_for_another() {
    // Long enough for a new one to be made in, on a busy machine.
    const AGE: Duration = Duration::from_millis(100);
    let params = PoolParams { max_size: Some(1), max_age: Some(AGE), ..PARAMS };
    let (multiplexers, address) = (multiplexers(), serve(9).await);
    let old = lease(&multiplexers, address, &params, false).await.unwrap();
    settled(&multiplexers, address).await;
    let born = members(&multiplexers, address)[0].made;
    while born.elapsed() <= AGE {
        tokio::task::yield_now().await;
    }
    assert!(!lease(&multiplexers, address, &params, false).await.unwrap().reused, "it was too old");
    drop(old);

    let (params, address) = (PoolParams { max_age: None, ..params }, serve(9).await);
    let going = lease(&multiplexers, address, &params, false).await.unwrap();
    going.retire();
    assert!(!lease(&multiplexers, address, &params, false).await.unwrap().reused);
}

#[tokio::test]
async fn what_is_idle_for_too_long_or_beyond_the_bound_is_let_go() {
    let params = PoolParams { max_idle: 1, ..PARAMS };
    let (multiplexers, address) = (multiplexers(), serve(1).await);
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(lease(&multiplexers, address, &params, false).await.unwrap());
    }
    let now = Instant::now();
    leases.truncate(1);
    assert!(multiplexers.reap(now).is_empty());
    assert_eq!(members(&multiplexers, address).len(), 2, "one in use, one idle");
    drop(leases);
    // As soon as the last connection is not being made any more, nothing is left.
    while !lock(&multiplexers.shelves).is_empty() {
        tokio::task::yield_now().await;
        multiplexers.reap(now + params.idle + PATIENCE);
    }
}

/// Ends exchanges one after the other, at times that differ.
fn end(leases: Vec<Lease>) {
    for lease in leases {
        drop(lease);
        let after = Instant::now();
        while Instant::now() <= after {
            std::hint::spin_loop();
        }
    }
}

#[tokio::test]
async fn where_there_are_too_many_the_least_recently_used_make_way() {
    const ENDPOINTS: usize = 8;
    let mut multiplexers = multiplexers();
    let (mut leases, mut endpoints) = (Vec::new(), Vec::new());
    for _ in 0..ENDPOINTS {
        let address = serve(9).await;
        endpoints.push(address);
        leases.push(lease(&multiplexers, address, &PARAMS, false).await.unwrap());
    }
    let busy = leases.remove(0);
    end(leases);
    multiplexers.most = 3;
    multiplexers.reap(Instant::now());
    let kept: Vec<_> = endpoints.iter().map(|address| members(&multiplexers, *address).len()).collect();
    assert_eq!(kept, [1, 0, 0, 0, 0, 1, 1, 1], "what is in use, and the three that were used last");
    drop(busy);
    multiplexers.reap(Instant::now());
    let kept: Vec<_> = endpoints.iter().map(|address| members(&multiplexers, *address).len()).collect();
    assert_eq!(kept, [1, 0, 0, 0, 0, 0, 1, 1]);
}

#[tokio::test]
async fn of_one_endpoint_the_least_recently_used_make_way() {
    let params = PoolParams { max_idle: 2, ..PARAMS };
    let (multiplexers, address) = (multiplexers(), serve(1).await);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(lease(&multiplexers, address, &params, false).await.unwrap());
    }
    let all = members(&multiplexers, address);
    // The first one is the one that was used last.
    leases.reverse();
    end(leases);
    multiplexers.reap(Instant::now());
    let left = members(&multiplexers, address);
    assert!(left.len() == 2 && Arc::ptr_eq(&left[0], &all[0]) && Arc::ptr_eq(&left[1], &all[1]));
}

#[tokio::test]
async fn an_endpoint_in_use_is_cold_until_enough_connections_are_idle() {
    let params = PoolParams { min_warm: 1, max_size: Some(2), ..PARAMS };
    let (multiplexers, address) = (multiplexers(), serve(9).await);
    let key = key(address);
    assert!(multiplexers.begin_filling(&key).is_none(), "nobody has used it");
    let _lease = lease(&multiplexers, address, &params, false).await.unwrap();
    assert_eq!(multiplexers.reap(Instant::now()), std::slice::from_ref(&key));
    let filling = multiplexers.begin_filling(&key).expect("the one connection is in use");
    assert!(multiplexers.begin_filling(&key).is_none(), "one at a time");
    let growth = filling.next().await.expect("there may be one more");
    growth.add(connect(address).await.unwrap()).await;
    assert!(filling.next().await.is_none(), "one is idle");
    drop(filling);
    assert!(multiplexers.reap(Instant::now()).is_empty());
    let later = Instant::now() + 2 * params.idle;
    assert!(multiplexers.reap(later).is_empty(), "nobody has used it for long");
}
