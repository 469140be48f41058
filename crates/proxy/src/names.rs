//! Names of addresses, learnt from the DNS answers that go to the app.
//!
//! An app that asks for a name and then connects to an address that it got for it most likely means that name, and for
//! most protocols there is no other way to know. It is a guess all the same (docs/dns.md): the last name that was asked
//! counts for each of its addresses, whichever program asked it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dragoman_wire::dns::Address;

use crate::bounded::Bounded;

/// The most addresses.
const ADDRESSES: usize = 4096;

/// For how long a name is known at least after it was asked or used. Programs keep an address for longer than they were
/// told to: the JVM for 30 s or for ever, pools of database connections for the half hour that a connection lives, many
/// a server from its start on. To forget too early changes the policy of a flow that is the same as the one before it; to
/// forget late harms no more than a name that was asked a moment ago, since a new one takes its place.
const KEPT_MIN: Duration = Duration::from_secs(60 * 60);
/// And at most: a day, as other resolvers' caches.
const KEPT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Which name each address was given for.
#[derive(Debug)]
pub(crate) struct Names {
    /// Whether anything was ever learnt: most proxies see no DNS, and then no flow takes a lock.
    any: AtomicBool,
    known: Mutex<Bounded<IpAddr, Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    host: Arc<str>,
    until: Instant,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self { any: AtomicBool::new(false), known: Mutex::new(Bounded::new(ADDRESSES)) }
    }

    /// The app is about to get these addresses for `host`. Returns how many addresses are known.
    pub(crate) fn learn(&self, host: &str, addresses: &[Address], now: Instant) -> usize {
        let host: Arc<str> = host.into();
        let mut known = self.lock();
        for address in addresses {
            let ttl = Duration::from_secs(address.ttl_seconds.into());
            let until = now + ttl.clamp(KEPT_MIN, KEPT_MAX);
            known.insert(address.ip.to_canonical(), Known { host: Arc::clone(&host), until });
        }
        self.any.store(true, Ordering::Release);
        known.len()
    }

    /// The name for which the app got this address last.
    pub(crate) fn get(&self, ip: IpAddr, now: Instant) -> Option<Arc<str>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let ip = ip.to_canonical();
        let mut known = self.lock();
        let Known { host, until } = known.get(&ip)?;
        if until <= now {
            known.remove(&ip);
            return None;
        }
        if until < now + KEPT_MIN {
            known.insert(ip, Known { host: Arc::clone(&host), until: now + KEPT_MIN });
        }
        Some(host)
    }

    fn lock(&self) -> MutexGuard<'_, Bounded<IpAddr, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: u32 = 2 * 60 * 60;

    fn address(ip: &str, ttl_seconds: u32) -> Address {
        Address { ip: ip.parse().unwrap(), ttl_seconds }
    }

    fn get(names: &Names, ip: &str, now: Instant) -> Option<String> {
        names.get(ip.parse().unwrap(), now).map(|host| host.to_string())
    }

    #[test]
    fn the_name_that_was_asked_last_counts_for_each_of_its_addresses() {
        let (names, now) = (Names::new(), Instant::now());
        assert_eq!(get(&names, "192.0.2.1", now), None);
        assert_eq!(names.learn("a", &[address("192.0.2.1", 1), address("fd00::1", 1)], now), 2);
        assert_eq!(names.learn("b", &[address("192.0.2.1", 1)], now), 2);
        assert_eq!(get(&names, "192.0.2.1", now).as_deref(), Some("b"));
        assert_eq!(get(&names, "::ffff:192.0.2.1", now).as_deref(), Some("b"), "the same address");
        assert_eq!(get(&names, "fd00::1", now).as_deref(), Some("a"));
        assert_eq!(get(&names, "fd00::2", now), None);
    }

    #[test]
    fn a_name_is_known_for_its_time_to_live_or_an_hour_and_for_a_day_at_most() {
        for (ttl, kept) in [(0, KEPT_MIN), (TTL, Duration::from_secs(TTL.into())), (u32::MAX, KEPT_MAX)] {
            let (names, now) = (Names::new(), Instant::now());
            names.learn("a", &[address("192.0.2.1", ttl)], now);
            assert_eq!(get(&names, "192.0.2.1", now + kept), None, "{ttl}");
            names.learn("a", &[address("192.0.2.1", ttl)], now);
            assert!(get(&names, "192.0.2.1", now + kept - Duration::from_nanos(1)).is_some(), "{ttl}");
        }
    }

    #[test]
    fn a_name_that_is_used_stays_known() {
        let (names, start) = (Names::new(), Instant::now());
        names.learn("a", &[address("192.0.2.1", 1)], start);
        let mut now = start;
        for _ in 0..100 {
            now += KEPT_MIN / 2;
            assert!(get(&names, "192.0.2.1", now).is_some());
        }
        assert_eq!(get(&names, "192.0.2.1", now + KEPT_MIN), None);
    }

    #[test]
    fn it_is_bounded_and_forgets_what_is_not_used() {
        let (names, now) = (Names::new(), Instant::now());
        names.learn("kept", &[address("fd00::1", 1)], now);
        for n in 0..100_000_u32 {
            let ip = IpAddr::from(n.to_be_bytes());
            assert!(names.learn("many", &[Address { ip, ttl_seconds: 1 }], now) <= ADDRESSES);
            if n % 1000 == 0 {
                assert!(get(&names, "fd00::1", now).is_some());
            }
        }
        assert_eq!(get(&names, "0.0.0.1", now), None);
    }
}
