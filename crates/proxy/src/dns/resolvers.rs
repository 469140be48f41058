//! The resolvers in the order in which a query tries them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::resolv_conf::Watched;

/// How often the file is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);
/// For how long a resolver that was silent comes after the others.
const DISTRUST: Duration = Duration::from_secs(30);

/// What one query is to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Each resolver once, the best first; never empty.
    pub(super) order: Vec<SocketAddr>,
    /// How often all of them are gone through.
    pub(super) rounds: u32,
    /// The time for all tries together.
    pub(super) timeout: Duration,
}

impl Plan {
    /// How long a try is waited for alone. The tries are spread over the whole time: the app's own resolver waits for that
    /// long and asks anew then, so that a resolver which is tried later is never tried.
    pub(super) fn step(&self) -> Duration {
        self.timeout / (self.order.len() as u32 * self.rounds)
    }

    /// The resolver of each try.
    pub(super) fn tries(&self) -> impl Iterator<Item = SocketAddr> {
        (0..self.rounds).flat_map(|_| self.order.iter().copied())
    }
}

/// The resolvers of the machine, and what is known of each.
#[derive(Debug)]
pub(super) struct Resolvers(Mutex<State>);

#[derive(Debug)]
struct State {
    file: Watched,
    looked: Instant,
    turn: usize,
    /// What is known of those in the file.
    known: HashMap<SocketAddr, Known>,
}

/// What is known of a resolver.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    heard: Option<Instant>,
    distrusted_until: Option<Instant>,
}

impl Resolvers {
    pub(super) fn new(path: &Path) -> Self {
        let (file, looked) = (Watched::new(path), Instant::now());
        Self(Mutex::new(State { file, looked, turn: 0, known: HashMap::new() }))
    }

    /// What the next query is to try.
    pub(super) fn plan(&self, now: Instant) -> Plan {
        let mut state = self.lock();
        if now.saturating_duration_since(state.looked) >= LOOK {
            state.looked = now;
            if state.file.look() {
                state.known.clear();
                tracing::info!(resolvers = ?state.file.conf.resolvers, "DNS: asking others from now on");
            }
        }
        state.plan(now)
    }

    /// It was asked at `asked` and said nothing in its time. That says little where it has answered other queries since:
    /// some names take long.
    pub(super) fn was_silent(&self, resolver: SocketAddr, asked: Instant, now: Instant) {
        self.change(resolver, |known| {
            if known.heard.is_none_or(|heard| heard < asked) {
                known.distrusted_until = Some(now + DISTRUST);
            }
        });
    }

    /// It has answered.
    pub(super) fn was_heard(&self, resolver: SocketAddr, now: Instant) {
        self.change(resolver, |known| *known = Known { heard: Some(now), distrusted_until: None });
    }

    fn change(&self, resolver: SocketAddr, change: impl FnOnce(&mut Known)) {
        let mut state = self.lock();
        // A query that began before the file changed may know others.
        if state.file.conf.resolvers.contains(&resolver) {
            change(state.known.entry(resolver).or_default());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn plan(&mut self, now: Instant) -> Plan {
        let conf = &self.file.conf;
        let mut order = conf.resolvers.clone();
        if conf.rotate {
            let first = self.turn % order.len();
            self.turn = self.turn.wrapping_add(1);
            order.rotate_left(first);
        }
        // The sort is stable: among equals the order of the file holds.
        order.sort_by_key(|resolver| {
            self.known
                .get(resolver)
                .is_some_and(|known| known.distrusted_until.is_some_and(|until| until > now))
        });
        Plan { order, rounds: conf.attempts, timeout: conf.timeout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 53))
    }

    fn resolvers(folder: &Folder, text: &str) -> Resolvers {
        Resolvers::new(&folder.write("resolv.conf", text))
    }

    const SECOND: Duration = Duration::from_secs(1);
    const THREE: &str = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";

    #[test]
    fn the_order_is_that_of_the_file_and_the_silent_come_last() {
        let folder = Folder::new("order");
        let (resolvers, now) = (resolvers(&folder, THREE), Instant::now());
        let order = |now| resolvers.plan(now).order;
        assert_eq!(order(now), [1, 2, 3].map(address));
        resolvers.was_silent(address(1), now, now);
        assert_eq!(order(now), [2, 3, 1].map(address));
        resolvers.was_silent(address(2), now, now);
        assert_eq!(order(now), [3, 1, 2].map(address));
        resolvers.was_heard(address(1), now);
        assert_eq!(order(now), [1, 3, 2].map(address));
        assert_eq!(order(now + DISTRUST), [1, 2, 3].map(address), "forgiven");
        for n in [1, 2, 3] {
            resolvers.was_silent(address(n), now + SECOND, now);
        }
        assert_eq!(order(now), [1, 2, 3].map(address), "all are equal");
    }

    #[test]
    fn one_slow_name_brings_no_distrust_to_a_resolver_that_answers_others() {
        let folder = Folder::new("slow");
        let (resolvers, start) = (resolvers(&folder, THREE), Instant::now());
        resolvers.was_heard(address(1), start + SECOND);
        resolvers.was_silent(address(1), start, start + SECOND * 2);
        assert_eq!(resolvers.plan(start + SECOND * 2).order[0], address(1));
        resolvers.was_silent(address(1), start + SECOND * 2, start + SECOND * 3);
        assert_eq!(resolvers.plan(start + SECOND * 3).order[0], address(2));
        resolvers.was_silent("10.9.9.9:53".parse().unwrap(), start, start);
        assert_eq!(resolvers.lock().known.len(), 1, "nothing is kept of those that are not named");
    }

    #[test]
    fn rotation_gives_each_its_turn() {
        let folder = Folder::new("rotate");
        let resolvers = resolvers(&folder, &format!("{THREE}options rotate timeout:3 attempts:1"));
        let now = Instant::now();
        let firsts: Vec<_> = (0..4).map(|_| resolvers.plan(now).order[0]).collect();
        assert_eq!(firsts, [1, 2, 3, 1].map(address));
    }

    #[test]
    fn tries_are_spread_over_the_whole_time() {
        let folder = Folder::new("spread");
        let plan = resolvers(&folder, THREE).plan(Instant::now());
        assert_eq!(plan.tries().collect::<Vec<_>>(), [1, 2, 3, 1, 2, 3].map(address));
        assert_eq!(plan.step() * 6, plan.timeout - Duration::from_nanos(2));
    }

    #[test]
    fn the_file_is_looked_at_once_a_second() {
        let folder = Folder::new("look");
        let (resolvers, start) = (resolvers(&folder, THREE), Instant::now());
        folder.write("resolv.conf", "nameserver 10.0.0.9");
        let soon = start + LOOK / 2;
        assert_eq!(resolvers.plan(soon).order.len(), 3);
        assert_eq!(resolvers.plan(start + LOOK + LOOK).order, [address(9)]);
    }
}
