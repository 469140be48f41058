//! The forwarder against resolvers on loopback that behave in every way but well.

mod streams;

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use dragoman_config::Config;
use dragoman_telemetry::{AccessLog, Telemetry};
use tokio::time::timeout;

use super::*;
use crate::testing::Folder;

const SOON: Duration = Duration::from_secs(20);
const A: u16 = 1;
const NO_SUCH_NAME: u8 = 3;
const SERVER_FAILURE: u8 = 2;

/// A query for the address of `a.test`, as the C library sends it.
fn query(id: u16) -> Vec<u8> {
    let header = [id, 0x0100, 1, 0, 0, 0].into_iter().flat_map(|word: u16| word.to_be_bytes());
    let question = b"\x01a\x04test\x00"
        .iter()
        .copied()
        .chain([A, 1].into_iter().flat_map(|word: u16| word.to_be_bytes()));
    header.chain(question).collect()
}

/// The answer to a query: its own bytes with this result, and an address if there is one.
fn answered(query: &[u8], rcode: u8, ip: Option<[u8; 4]>) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80 | rcode;
    if let Some(ip) = ip {
        answer[7] = 1;
        answer.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04");
        answer.extend_from_slice(&ip);
    }
    answer
}

fn good(query: &[u8]) -> Vec<u8> {
    answered(query, 0, Some([192, 0, 2, 1]))
}

fn failing(query: &[u8]) -> Vec<u8> {
    answered(query, SERVER_FAILURE, None)
}

fn rcode(answer: &[u8]) -> u8 {
    answer[3] & 15
}

/// A resolver that follows a script: which datagrams to send for the query number `n`, from 0.
struct Resolver {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    _task: JoinSet<()>,
}

impl Resolver {
    async fn start(script: impl Fn(&[u8], usize) -> Vec<Vec<u8>> + Send + 'static) -> Resolver {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut task = JoinSet::new();
        let seen = Arc::clone(&asked);
        task.spawn(async move {
            let mut buffer = vec![0; 65_535];
            for n in 0.. {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                seen.lock().unwrap().push(buffer[..length].to_vec());
                for reply in script(&buffer[..length], n) {
                    socket.send_to(&reply, peer).await.unwrap();
                }
            }
        });
        Resolver { address, asked, _task: task }
    }

    async fn good() -> Resolver {
        Resolver::start(|query, _| vec![good(query)]).await
    }

    async fn silent() -> Resolver {
        Resolver::start(|_, _| vec![]).await
    }

    async fn failing() -> Resolver {
        Resolver::start(|query, _| vec![failing(query)]).await
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// An address where nobody listens.
async fn dead() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

struct Rig {
    forwarder: Arc<Forwarder>,
    telemetry: Telemetry,
    _folder: Folder,
}

impl Rig {
    fn new(name: &str, resolvers: &[SocketAddr], options: &str) -> Rig {
        let folder = Folder::new(&format!("dns-{name}"));
        let lines = resolvers.iter().map(|it| format!("nameserver [{}]:{}\n", it.ip(), it.port()));
        let file = folder.write("resolv.conf", &format!("{}options {options}\n", lines.collect::<String>()));
        let text = format!("[dns]\nresolv_conf = '{}'\n", file.display());
        let config = Arc::new(Config::parse("test", &text, &|_| None).unwrap());
        let telemetry = Telemetry::new(vec!["default".into()], AccessLog::off());
        telemetry.dns().served();
        let forwarder = Forwarder::new(Arc::new(Shared::new(config, telemetry.clone(), vec![])));
        Rig { forwarder: Arc::new(forwarder), telemetry, _folder: folder }
    }

    async fn ask(&self, message: &[u8]) -> Vec<u8> {
        self.ask_over(message, DnsTransport::Udp).await
    }

    async fn ask_over(&self, message: &[u8], transport: DnsTransport) -> Vec<u8> {
        let peer = "127.0.0.1:1".parse().unwrap();
        timeout(SOON, self.forwarder.answer(message, peer, transport))
            .await
            .expect("an answer in time")
            .expect("one")
    }

    /// The sum of all series that begin so.
    fn metric(&self, start: &str) -> u64 {
        let page = self.telemetry.render();
        let lines = page.lines().filter(|line| line.starts_with(&format!("dragoman_dns_{start}")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    fn outcome(&self, outcome: DnsOutcome) -> u64 {
        let of = |transport: &DnsTransport| {
            self.metric(&format!("queries_total{{transport=\"{transport}\",outcome=\"{outcome}\"}}"))
        };
        DnsTransport::ALL.iter().map(of).sum()
    }

    fn host(&self) -> Option<Arc<str>> {
        self.forwarder.shared.names.get("192.0.2.1".parse().unwrap(), Instant::now())
    }
}

#[tokio::test]
async fn an_answer_is_passed_on_as_it_is_and_learnt_from() {
    let resolver = Resolver::good().await;
    let rig = Rig::new("pass", &[resolver.address], "");
    assert_eq!(rig.host(), None);
    let asked = query(7);
    assert_eq!(rig.ask(&asked).await, good(&asked));
    assert_eq!(rig.host().as_deref(), Some("a.test"));
    assert_eq!((rig.outcome(DnsOutcome::Answered), rig.metric("names"), rig.metric("pending")), (1, 1, 0));
    let sent = resolver.asked.lock().unwrap()[0].clone();
    assert_eq!(sent[2..], asked[2..], "all but the identifier");
}

#[tokio::test]
async fn identifiers_are_not_the_apps_and_do_not_repeat() {
    let resolver = Resolver::good().await;
    let rig = Rig::new("ids", &[resolver.address], "");
    for _ in 0..32 {
        rig.ask(&query(7)).await;
    }
    let ids: HashSet<_> = resolver.asked.lock().unwrap().iter().map(|sent| [sent[0], sent[1]]).collect();
    assert!(ids.len() > 28, "{} of 32 are different", ids.len());
}

#[tokio::test]
async fn only_an_answer_to_the_query_is_taken() {
    let resolver = Resolver::start(|query, _| {
        let mut other_id = good(query);
        other_id[1] ^= 1;
        let mut other_name = good(query);
        other_name[13] = b'b';
        let forged = |mut bytes: Vec<u8>| {
            *bytes.last_mut().unwrap() = 66;
            bytes
        };
        let cut = good(query)[..20].to_vec();
        let other_address = answered(query, 0, Some([192, 0, 2, 9]));
        let garbage = vec![0xff; 700];
        vec![
            forged(other_id),
            forged(other_name),
            vec![],
            cut,
            garbage,
            query.to_vec(),
            good(query),
            other_address,
        ]
    })
    .await;
    let rig = Rig::new("hostile", &[resolver.address], "");
    let asked = query(7);
    assert_eq!(rig.ask(&asked).await, good(&asked));
    assert_eq!(rig.host().as_deref(), Some("a.test"));
    let forged = rig.forwarder.shared.names.get("192.0.2.66".parse().unwrap(), Instant::now());
    assert_eq!((forged, rig.metric("strays"), rig.metric("retries")), (None, 6, 0));
}

#[tokio::test]
async fn an_answer_from_another_address_is_not_heard() {
    let elsewhere = UdpSocket::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
    let ready = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ready);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new("elsewhere", &[socket.local_addr().unwrap()], "");
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut buffer = [0; 512];
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        elsewhere.send_to(&answered(&buffer[..length], NO_SUCH_NAME, None), peer).unwrap();
        seen.lock().unwrap().push(peer);
        socket.send_to(&good(&buffer[..length]), peer).await.unwrap();
    });
    let asked = query(7);
    assert_eq!(rig.ask(&asked).await, good(&asked));
    assert_eq!(ready.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_resolver_that_fails_or_is_gone_leaves_the_answer_to_the_next() {
    let (failing, good_one) = (Resolver::failing().await, Resolver::good().await);
    let declining = Resolver::start(|query, _| vec![answered(query, 5, None)]).await;
    for (name, first) in
        [("failing", failing.address), ("declining", declining.address), ("dead", dead().await)]
    {
        // So long that only an immediate change is in time.
        let rig = Rig::new(&format!("next-{name}"), &[first, good_one.address], "timeout:30 attempts:1");
        assert_eq!(rcode(&rig.ask(&query(7)).await), 0, "{name}");
        assert_eq!((rig.outcome(DnsOutcome::Answered), rig.metric("retries")), (1, 1), "{name}");
    }
    assert_eq!((failing.asked(), declining.asked(), good_one.asked()), (1, 1, 3));
}

#[tokio::test]
async fn where_all_fail_the_app_gets_what_the_last_of_them_said() {
    let (one, other) = (Resolver::failing().await, Resolver::failing().await);
    let rig = Rig::new("all-fail", &[one.address, other.address], "timeout:30 attempts:5");
    let asked = query(7);
    assert_eq!(rig.ask(&asked).await, failing(&asked));
    assert_eq!((rig.outcome(DnsOutcome::Failed), one.asked(), other.asked()), (1, 1, 1));
}

#[tokio::test]
async fn where_all_are_gone_dragoman_says_so_at_once() {
    let rig = Rig::new("all-gone", &[dead().await, dead().await], "timeout:30");
    for transport in DnsTransport::ALL {
        let answer = rig.ask_over(&query(7), *transport).await;
        assert_eq!((rcode(&answer), &answer[..2]), (SERVER_FAILURE, &[0, 7][..]), "{transport}");
    }
    assert_eq!(rig.outcome(DnsOutcome::Unanswered), 2);
}

#[tokio::test]
async fn where_all_are_silent_dragoman_says_so_in_time_and_never_that_there_is_no_such_name() {
    let (one, other) = (Resolver::silent().await, Resolver::silent().await);
    let rig = Rig::new("all-silent", &[one.address, other.address], "timeout:1 attempts:2");
    let answer = rig.ask(&query(7)).await;
    assert_eq!(rcode(&answer), SERVER_FAILURE);
    assert_eq!((rig.outcome(DnsOutcome::Unanswered), one.asked(), other.asked()), (1, 2, 2));
    assert!(rig.forwarder.own.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_silent_resolver_is_asked_after_the_others_from_then_on() {
    let (silent, good_one) = (Resolver::silent().await, Resolver::good().await);
    let rig = Rig::new("silent", &[silent.address, good_one.address], "timeout:1");
    for _ in 0..3 {
        assert_eq!(rcode(&rig.ask(&query(7)).await), 0);
    }
    assert_eq!((silent.asked(), good_one.asked(), rig.metric("retries")), (1, 3, 1));
}

#[tokio::test]
async fn a_datagram_that_is_lost_is_sent_again() {
    let deaf_at_first = Resolver::start(|query, n| if n == 0 { vec![] } else { vec![good(query)] }).await;
    let rig = Rig::new("lost", &[deaf_at_first.address], "timeout:2");
    assert_eq!(rcode(&rig.ask(&query(7)).await), 0);
    assert_eq!((deaf_at_first.asked(), rig.metric("retries")), (2, 1));
    let asked = deaf_at_first.asked.lock().unwrap().clone();
    assert_eq!(asked[0], asked[1], "the same query");
}

/// The first resolver answers only when the second one was asked, which is silent.
#[tokio::test]
async fn an_answer_that_is_late_is_taken_all_the_same() {
    let slow = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addresses = [slow.local_addr().unwrap(), other.local_addr().unwrap()];
    let rig = Rig::new("late", &addresses, "timeout:4 attempts:1");
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut buffer = [0; 512];
        let (length, peer) = slow.recv_from(&mut buffer).await.unwrap();
        other.recv_from(&mut [0; 512]).await.unwrap();
        slow.send_to(&good(&buffer[..length]), peer).await.unwrap();
        // Kept open: an error of the second would end its try.
        poll_fn(|_| Poll::<()>::Pending).await;
        drop(other);
    });
    assert_eq!(rcode(&rig.ask(&query(7)).await), 0);
}

#[tokio::test]
async fn that_there_is_no_such_name_is_an_answer() {
    let resolver = Resolver::start(|query, _| vec![answered(query, NO_SUCH_NAME, None)]).await;
    let other = Resolver::good().await;
    let rig = Rig::new("nxdomain", &[resolver.address, other.address], "timeout:30");
    assert_eq!(rcode(&rig.ask(&query(7)).await), NO_SUCH_NAME);
    assert_eq!((rig.outcome(DnsOutcome::Answered), rig.host(), other.asked()), (1, None, 0));
}

#[tokio::test]
async fn what_is_longer_than_the_app_takes_is_asked_for_over_tcp() {
    let long = |query: &[u8]| [good(query), vec![0; 600]].concat();
    let resolver = Resolver::start(move |query, _| vec![long(query)]).await;
    let rig = Rig::new("long", &[resolver.address], "");
    let answer = rig.ask(&query(7)).await;
    assert_eq!((answer.len(), answer[2] & 2), (query(7).len(), 2), "empty, and TC");
    // What is 4 KiB to the app is no longer too long.
    let mut takes_more = query(8);
    takes_more[11] = 1;
    takes_more.extend_from_slice(b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00");
    let answer = rig.ask(&takes_more).await;
    assert_eq!(answer, long(&takes_more), "with its OPT record, as the resolver got it");
}

#[tokio::test]
async fn what_is_no_query_gets_no_answer_and_what_cannot_be_read_an_error() {
    let resolver = Resolver::good().await;
    let rig = Rig::new("noise", &[resolver.address], "");
    let peer = "127.0.0.1:1".parse().unwrap();
    for noise in [vec![], vec![0; 11], good(&query(7))] {
        assert_eq!(rig.forwarder.answer(&noise, peer, DnsTransport::Udp).await, None);
    }
    assert_eq!(rcode(&rig.ask(&query(7)[..20]).await), 1);
    assert_eq!((rig.outcome(DnsOutcome::Refused), resolver.asked()), (4, 0));
}

/// The future is dropped at each of the points at which it can wait.
#[tokio::test]
async fn a_query_that_is_given_up_leaves_nothing_behind() {
    let rig = Rig::new("cancel", &[Resolver::silent().await.address, dead().await], "timeout:1");
    let peer = "127.0.0.1:1".parse().unwrap();
    let asked = query(7);
    for transport in DnsTransport::ALL {
        for polls in 0..4 {
            let mut answer = pin!(rig.forwarder.answer(&asked, peer, *transport));
            for _ in 0..polls {
                let polled = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
                if polled.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }
    assert_eq!(rig.metric("pending"), 0);
    assert!(rig.forwarder.own.lock().unwrap().is_empty());
}
