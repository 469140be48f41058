//! Sockets: what many queries at once, connections, and our own queries that come back meet.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::drain::Stage;

/// The longest answer there can be: the rest is a text that nobody reads.
fn longest(query: &[u8]) -> Vec<u8> {
    let mut answer = good(query);
    answer.resize(65_535, 0xee);
    answer
}

/// A resolver over TCP: what to write for each query, after its length if that is to be right.
async fn resolver(script: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            // The other side may have gone.
            let _ = stream.write_all(&script(&query)).await;
        }
    });
    (address, task)
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

async fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut message = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut message).await.unwrap();
    message
}

/// The app's end of a connection to a forwarder.
async fn connect(rig: &Rig) -> (TcpStream, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve::connections(Arc::clone(&rig.forwarder), listener));
    (TcpStream::connect(address).await.unwrap(), tasks)
}

async fn datagrams(rig: &Rig) -> (SocketAddr, JoinSet<()>) {
    let socket = dragoman_net::listen_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve::datagrams(Arc::clone(&rig.forwarder), UdpSocket::from_std(socket).unwrap()));
    (address, tasks)
}

#[tokio::test]
async fn the_longest_answer_is_whole_over_tcp() {
    let (address, _resolver) = resolver(|query| framed(&longest(query))).await;
    let rig = Rig::new("longest", &[address], "");
    let (mut app, _tasks) = connect(&rig).await;
    app.write_all(&framed(&query(7))).await.unwrap();
    assert_eq!(read_message(&mut app).await, longest(&query(7)));
    assert_eq!(rig.host().as_deref(), Some("a.test"));
}

#[tokio::test]
async fn queries_may_be_split_anywhere_and_follow_each_other_at_once() {
    let (address, _resolver) = resolver(|query| framed(&good(query))).await;
    let rig = Rig::new("split", &[address], "");
    let (mut app, _tasks) = connect(&rig).await;
    app.set_nodelay(true).unwrap();
    let two = [framed(&query(1)), framed(&query(2))].concat();
    for at in 1..two.len() {
        app.write_all(&two[..at]).await.unwrap();
        tokio::task::yield_now().await;
        app.write_all(&two[at..]).await.unwrap();
        let mut ids = [read_message(&mut app).await[1], read_message(&mut app).await[1]];
        ids.sort_unstable();
        assert_eq!(ids, [1, 2], "split at {at}");
    }
}

#[tokio::test]
async fn an_app_that_ends_its_side_gets_all_answers_and_then_the_end() {
    let (address, _resolver) = resolver(|query| framed(&good(query))).await;
    let rig = Rig::new("half", &[address], "");
    let (mut app, _tasks) = connect(&rig).await;
    // More than wait at once.
    let queries: Vec<u8> = (0..200).flat_map(|id| framed(&query(id))).collect();
    app.write_all(&queries).await.unwrap();
    app.shutdown().await.unwrap();
    let mut ids = HashSet::new();
    for _ in 0..200 {
        let answer = timeout(SOON, read_message(&mut app)).await.expect("an answer in time");
        ids.insert(u16::from_be_bytes([answer[0], answer[1]]));
    }
    assert_eq!(ids.len(), 200);
    assert_eq!(timeout(SOON, app.read(&mut [0])).await.expect("the end in time").unwrap(), 0);
}

#[tokio::test]
async fn what_is_not_dns_ends_its_connection() {
    let rig = Rig::new("garbage", &[dead().await], "");
    for garbage in
        [&b"\x00\x00"[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x00\x05hello", b"\x00\x0c\xff\xff\xff"]
    {
        let (mut app, _tasks) = connect(&rig).await;
        app.write_all(garbage).await.unwrap();
        app.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(SOON, app.read_to_end(&mut rest)).await.expect("the end in time");
        assert_eq!(rest, b"", "{garbage:?}");
    }
}

/// What a resolver writes for a query.
type Script = fn(&[u8]) -> Vec<u8>;

#[tokio::test]
async fn a_resolver_that_breaks_off_over_tcp_leaves_the_answer_to_the_next() {
    let (right, _right) = resolver(|query| framed(&good(query))).await;
    let broken: [Script; 5] = [
        |_| vec![],
        |query| framed(&good(query))[..30].to_vec(),
        |query| framed(&failing(query)),
        |_| framed(&[]),
        |query| framed(&[&[!query[0], query[1]], &good(query)[2..]].concat()),
    ];
    for (which, script) in broken.into_iter().enumerate() {
        let (first, _first) = resolver(script).await;
        let rig = Rig::new(&format!("broken-{which}"), &[first, right], "timeout:30");
        assert_eq!(rcode(&rig.ask_over(&query(7), DnsTransport::Tcp).await), 0, "{which}");
        assert_eq!(rig.metric("retries"), 1, "{which}");
    }
}

#[tokio::test]
async fn a_resolver_that_says_nothing_over_tcp_is_not_waited_for_without_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new("tcp-silent", &[silent.local_addr().unwrap()], "timeout:1");
    assert_eq!(rcode(&rig.ask_over(&query(7), DnsTransport::Tcp).await), SERVER_FAILURE);
    assert_eq!(rig.outcome(DnsOutcome::Unanswered), 1);
}

#[tokio::test]
async fn our_own_query_that_comes_back_ends_the_loop() {
    for name in ["udp", "tcp"] {
        // The forwarder is its own resolver, as if capture redirected what it sends.
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = own.local_addr().unwrap();
        let rig = Rig::new(&format!("loop-{name}"), &[address], "timeout:30");
        own.set_nonblocking(true).unwrap();
        let udp = dragoman_net::listen_udp(address).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve::connections(Arc::clone(&rig.forwarder), TcpListener::from_std(own).unwrap()));
        tasks.spawn(serve::datagrams(Arc::clone(&rig.forwarder), UdpSocket::from_std(udp).unwrap()));
        let transport = if name == "udp" { DnsTransport::Udp } else { DnsTransport::Tcp };
        assert_eq!(rcode(&rig.ask_over(&query(7), transport).await), SERVER_FAILURE);
        let outcomes = (rig.outcome(DnsOutcome::Looped), rig.outcome(DnsOutcome::Unanswered));
        assert_eq!(outcomes, (COMEBACKS_MAX as u64 + 1, 1), "{name}");
    }
}

/// What conntrack does to a query from a port that an app has just had: this way, and the next one not.
#[tokio::test]
async fn a_query_that_comes_back_once_is_sent_again_from_another_port() {
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new("comeback", &[front.local_addr().unwrap()], "timeout:30 attempts:1");
    let mut task = JoinSet::new();
    let forwarder = Arc::clone(&rig.forwarder);
    task.spawn(async move {
        let mut buffer = [0; 512];
        let (length, peer) = front.recv_from(&mut buffer).await.unwrap();
        let back = forwarder.answer(&buffer[..length], peer, DnsTransport::Udp).await.unwrap();
        front.send_to(&back, peer).await.unwrap();
        let (length, other) = front.recv_from(&mut buffer).await.unwrap();
        assert_ne!(peer, other);
        front.send_to(&good(&buffer[..length]), other).await.unwrap();
    });
    assert_eq!(rig.ask(&query(7)).await, good(&query(7)));
    task.join_next().await.unwrap().unwrap();
    assert_eq!((rig.outcome(DnsOutcome::Looped), rig.outcome(DnsOutcome::Answered)), (1, 1));
}

#[tokio::test]
async fn a_thousand_queries_at_once_are_all_answered() {
    let resolver = Resolver::good().await;
    let rig = Rig::new("thousand", &[resolver.address], "timeout:20");
    let (address, _tasks) = datagrams(&rig).await;
    let app = dragoman_net::listen_udp("127.0.0.1:0".parse().unwrap()).unwrap();
    let app = UdpSocket::from_std(app).unwrap();
    let mut ids = HashSet::new();
    for batch in 0..10 {
        for id in 0..100 {
            app.send_to(&query(batch * 100 + id), address).await.unwrap();
        }
        // A datagram that found no room is sent again, as any resolver would.
        while ids.len() < usize::from(batch + 1) * 100 {
            let mut answer = [0; 512];
            match timeout(Duration::from_secs(2), app.recv(&mut answer)).await {
                Ok(length) => assert!(ids.insert([answer[0], answer[1]]) && length.unwrap() > 12),
                Err(_) => {
                    let missing = (0..(batch + 1) * 100).filter(|id| !ids.contains(&id.to_be_bytes()));
                    for id in missing.collect::<Vec<_>>() {
                        app.send_to(&query(id), address).await.unwrap();
                    }
                }
            }
        }
    }
    assert_eq!(rig.metric("pending"), 0);
}

#[tokio::test]
async fn what_was_handed_over_is_read_no_further_and_answered() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new("handed", &[socket.local_addr().unwrap()], "timeout:30 attempts:1");
    let (address, mut tasks) = datagrams(&rig).await;
    let app = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    app.send_to(&query(7), address).await.unwrap();
    let mut buffer = [0; 512];
    let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
    rig.forwarder.shared.drain.advance(Stage::HandedOver);
    tokio::task::yield_now().await;
    socket.send_to(&good(&buffer[..length]), peer).await.unwrap();
    let mut answer = [0; 512];
    let length = timeout(SOON, app.recv(&mut answer)).await.expect("an answer in time").unwrap();
    assert_eq!(&answer[..length], good(&query(7)));
    timeout(SOON, tasks.join_next()).await.expect("it ends").unwrap().unwrap();
}
