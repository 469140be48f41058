//! A bad link between the two namespaces: a relay of Ethernet frames in user space that loses, delays, swaps,
//! doubles and throttles them. Not every kernel has `netem`; packet sockets are in all of them.
//!
//! What is not TCP passes unharmed: a lost ARP answer would be a second of silence that no case is about.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket};

use crate::net::{Namespace, add_veth};
use crate::process;

/// The devices of the relay: towards A, and towards S.
const ENDS: [&str; 2] = ["app", "servers"];

/// How far a frame falls behind that others overtake.
const BEHIND: Duration = Duration::from_millis(10);

/// How many bytes wait for a slow link, before the newest are lost.
const QUEUE: u64 = 64 * 1024;

/// The longest time until the relay notices that it is to end.
const ATTENTION: Duration = Duration::from_millis(20);

/// What a link does to TCP, in each direction. The default is a link that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// How many of a hundred frames of established connections are lost, below 50: at random, but never two in a row of one
    /// connection and direction. A run of lost retransmissions, each of which waits twice as long, would now and then
    /// outlast any case.
    pub lost_percent: u32,
    /// How many of a hundred arrive behind those that follow them.
    pub swapped_percent: u32,
    /// How many of a hundred arrive twice.
    pub doubled_percent: u32,
    /// How long each takes.
    pub delay: Duration,
    /// How many bytes pass in a second.
    pub bytes_per_second: Option<u32>,
}

/// How many frames had which fate.
#[derive(Debug, Default)]
pub struct Fates {
    /// Frames that were lost, those that a full queue had no room for among them.
    pub lost: AtomicU64,
    /// Frames that fell behind.
    pub swapped: AtomicU64,
    /// Frames that went twice.
    pub doubled: AtomicU64,
    /// Frames that waited for the link.
    pub delayed: AtomicU64,
}

/// The relay. It ends when dropped.
pub struct Link {
    weather: Arc<Mutex<Weather>>,
    fates: Arc<Fates>,
    ended: Arc<AtomicBool>,
    relay: Option<JoinHandle<()>>,
    // Dropped last: the relay works in it.
    _namespace: Namespace,
}

impl Link {
    /// Joins A and S by way of a namespace of the link's own. Gives each a device `eth0`, which is not up yet.
    pub(crate) fn between(namespace: Namespace, app: &Namespace, servers: &Namespace) -> Link {
        add_veth((app, "eth0", 10), (&namespace, ENDS[0], 11));
        add_veth((servers, "eth0", 20), (&namespace, ENDS[1], 21));
        for end in [app, servers] {
            // A frame on the wire has its checksum and is no longer than the wire takes.
            process::succeed(end.command("ethtool").args(["-K", "eth0", "tx", "off", "tso", "off"]));
        }
        namespace.succeed(&format!(
            "sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip link set {} up; ip link set {} up",
            ENDS[0], ENDS[1]
        ));
        let weather = Arc::<Mutex<Weather>>::default();
        let fates = Arc::<Fates>::default();
        let ended = Arc::<AtomicBool>::default();
        let relay = Relay {
            ends: namespace.enter(|| ENDS.map(packets)),
            weather: Arc::clone(&weather),
            fates: Arc::clone(&fates),
            waiting: BinaryHeap::new(),
            count: 0,
            lost: HashSet::new(),
            free_at: [Instant::now(); 2],
            // Any number but 0 does.
            random: 0x2545_f491_4f6c_dd1d,
        };
        let told = Arc::clone(&ended);
        let relay = Some(thread::spawn(move || relay.run(&told)));
        Link { weather, fates, ended, relay, _namespace: namespace }
    }

    /// Changes the weather for what enters the link from now on.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// What became of the frames so far.
    pub fn fates(&self) -> &Fates {
        &self.fates
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(relay) = self.relay.take() {
            let _ = relay.join();
        }
    }
}

/// A socket of this thread's namespace that has all frames of one device.
fn packets(device: &str) -> OwnedFd {
    let of_device = |address: nix::ifaddrs::InterfaceAddress| {
        let address = (address.interface_name == device).then_some(address.address?)?;
        address.as_link_addr().copied()
    };
    let address = getifaddrs().expect("the kernel lists devices").find_map(of_device);
    let address = address.unwrap_or_else(|| panic!("no device {device}"));
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .unwrap_or_else(|e| panic!("a packet socket: {e}"));
    bind(socket.as_raw_fd(), &address).unwrap_or_else(|e| panic!("a packet socket on {device}: {e}"));
    socket
}

/// A frame on its way: due, in the order of arrival, out of this end.
type Frame = Reverse<(Instant, u64, usize, Vec<u8>)>;

struct Relay {
    ends: [OwnedFd; 2],
    weather: Arc<Mutex<Weather>>,
    fates: Arc<Fates>,
    waiting: BinaryHeap<Frame>,
    count: u64,
    /// Connections, by the way they go and their ports, whose last frame was lost.
    lost: HashSet<(usize, [u8; 4])>,
    free_at: [Instant; 2],
    random: u64,
}

impl Relay {
    fn run(mut self, ended: &AtomicBool) {
        while !ended.load(Ordering::Relaxed) {
            let due =
                self.waiting.peek().map(|Reverse((due, ..))| due.saturating_duration_since(Instant::now()));
            let wait = due.unwrap_or(ATTENTION).min(ATTENTION);
            // Rounded up: a frame that is due in less than a millisecond is no reason to spin.
            let wait = PollTimeout::try_from(wait + Duration::from_micros(999)).expect("some milliseconds");
            let mut ends = [0, 1].map(|end| PollFd::new(self.ends[end].as_fd(), PollFlags::POLLIN));
            let _ = poll(&mut ends, wait);
            for from in 0..2 {
                self.take(from);
            }
            self.give();
        }
    }

    /// Takes what has arrived at an end.
    fn take(&mut self, from: usize) {
        let mut buffer = [0; 4096];
        while let Ok(length) = recv(self.ends[from].as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            let weather = *self.weather.lock().unwrap_or_else(PoisonError::into_inner);
            self.judge(1 - from, &buffer[..length], &weather);
        }
    }

    /// Decides what becomes of a frame that leaves by the end `to`.
    fn judge(&mut self, to: usize, frame: &[u8], weather: &Weather) {
        let now = Instant::now();
        let Some((ports, opens)) = tcp(frame) else { return self.push(now, to, frame) };
        // Of those after one that was lost none is, so the others are more often, to the same share of all.
        let chance = 100 * weather.lost_percent / (100 - weather.lost_percent);
        if !self.lost.remove(&(to, ports)) && !opens && self.happens(chance) {
            self.lost.insert((to, ports));
            self.fates.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Some(mut due) = self.through(to, frame.len(), weather.bytes_per_second, now) else {
            self.fates.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        due += weather.delay;
        if due > now {
            self.fates.delayed.fetch_add(1, Ordering::Relaxed);
        }
        if self.happens(weather.swapped_percent) {
            due += BEHIND;
            self.fates.swapped.fetch_add(1, Ordering::Relaxed);
        }
        if self.happens(weather.doubled_percent) {
            self.push(due, to, frame);
            self.fates.doubled.fetch_add(1, Ordering::Relaxed);
        }
        self.push(due, to, frame);
    }

    /// When a frame has passed a link of this rate; `None` where too much waits for it already.
    fn through(&mut self, to: usize, length: usize, rate: Option<u32>, now: Instant) -> Option<Instant> {
        let Some(rate) = rate else { return Some(now) };
        let nanoseconds = |bytes: u64| Duration::from_nanos(bytes * 1_000_000_000 / u64::from(rate));
        let free = self.free_at[to].max(now);
        if free - now > nanoseconds(QUEUE) {
            return None;
        }
        self.free_at[to] = free + nanoseconds(length as u64);
        Some(self.free_at[to])
    }

    fn push(&mut self, due: Instant, to: usize, frame: &[u8]) {
        self.count += 1;
        self.waiting.push(Reverse((due, self.count, to, frame.to_vec())));
    }

    /// Sends what is due. What the device does not take is lost, as on any link.
    fn give(&mut self) {
        let now = Instant::now();
        while self.waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            if let Some(Reverse((_, _, to, frame))) = self.waiting.pop() {
                let _ = send(self.ends[to].as_raw_fd(), &frame, MsgFlags::MSG_DONTWAIT);
            }
        }
    }

    /// Whether something happens that happens so many times of a hundred (xorshift64*: the same in each run).
    fn happens(&mut self, percent: u32) -> bool {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % 100 < u64::from(percent)
    }
}

/// The ports of an Ethernet frame that holds TCP in IPv4, and whether it opens a connection (SYN).
fn tcp(frame: &[u8]) -> Option<([u8; 4], bool)> {
    let is_tcp = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 6;
    let at = 14 + 4 * usize::from(frame.get(14)? & 15);
    let ports = frame.get(at..at + 4).filter(|_| is_tcp)?.try_into().ok()?;
    Some((ports, frame.get(at + 13)? & 2 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Net;
    use crate::net::server;
    use crate::origin::Origin;

    /// Bytes in which a lost, doubled or moved block shows.
    fn numbered(length: usize) -> Vec<u8> {
        (0_u64..).flat_map(u64::to_le_bytes).take(length).collect()
    }

    #[test]
    fn tcp_mends_what_each_weather_does_and_the_weather_did_it() {
        const LENGTH: usize = 100_000;
        let (net, link) = Net::with_link();
        let _origin = Origin::tcp(&net.servers, server(7000), |mut peer| {
            let bytes = peer.read_exact(LENGTH)?;
            peer.send(bytes)
        });
        let quiet = Weather::default();
        let fates = link.fates();
        for (weather, fate) in [
            (Weather { lost_percent: 10, ..quiet }, &fates.lost),
            (Weather { swapped_percent: 20, ..quiet }, &fates.swapped),
            (Weather { doubled_percent: 20, ..quiet }, &fates.doubled),
            (Weather { delay: Duration::from_millis(5), ..quiet }, &fates.delayed),
            (Weather { bytes_per_second: Some(1_000_000), ..quiet }, &fates.delayed),
        ] {
            link.set(weather);
            let before = fate.load(Ordering::Relaxed);
            let mut client = net.app.connect(server(7000));
            client.send(numbered(LENGTH)).unwrap();
            assert!(client.read_to_end().unwrap() == numbered(LENGTH), "{weather:?}");
            assert!(fate.load(Ordering::Relaxed) > before, "{weather:?} did nothing");
        }
    }
}
