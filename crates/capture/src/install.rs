//! Putting rules into the kernel of this network namespace, and taking them out.

use std::fmt::{Display, Formatter};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::netlink::Nftables;
use crate::{Error, Family, Flows, Ipv6State, Options, Part, Plan, TABLE};

/// How often draining looks whether flows are left.
const DRAIN_INTERVAL: Duration = Duration::from_millis(200);

/// What [`install()`] would do on this host, without doing it. Needs no privilege.
///
/// # Errors
/// Options that make no sense, or IPv6 that is wanted and cannot be captured.
pub fn plan(options: &Options) -> Result<Plan, Error> {
    let family = Ipv6State::read()?.family(options.ipv6)?;
    Ok(Plan::new(options, family)?)
}

/// Installs the rules in one transaction, in place of what dragoman installed before; says what it installed.
///
/// # Errors
/// Nothing has changed when this returns an error.
pub fn install(options: &Options) -> Result<Plan, Error> {
    let plan = plan(options)?;
    let nftables = Nftables::open()?;
    match replace(&nftables, &plan) {
        Err(error) if plan.family == Family::Inet && lacks_inet_nat(&error) => {
            let family = Ipv6State::read()?.family_without_inet(options.ipv6)?;
            let plan = Plan::new(options, family)?;
            replace(&nftables, &plan).map(|()| plan)
        }
        done => done.map(|()| plan),
    }
}

/// What [`remove`] found.
#[derive(Debug)]
pub enum Removed {
    /// No table of dragoman's.
    Nothing,
    /// The table is gone. These flows were still being redirected: where no other NAT rule keeps translation
    /// going, the kernel has stopped to serve them.
    Table(Flows),
}

/// Deletes dragoman's table, and nothing else.
///
/// The kernel translates only while a rule that translates is there, so the removal of the last one cuts the flows
/// through it. With `drain`, new connections are let by first and the redirected flows have so long to end. `port`
/// tells which flows are redirected ones.
///
/// # Errors
/// Nothing was deleted when this returns an error.
pub fn remove(port: u16, drain: Option<Duration>) -> Result<Removed, Error> {
    let nftables = Nftables::open()?;
    let families = present(&nftables)?;
    if families.is_empty() {
        return Ok(Removed::Nothing);
    }
    let mut flows = Flows::through(port);
    if let Some(patience) = drain {
        for &family in &families {
            nftables.replace(&Plan::draining(family, port), &[])?;
        }
        flows = drained(port, patience);
    }
    nftables.delete(&families)?;
    Ok(Removed::Table(flows))
}

impl Display for Removed {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Removed::Nothing => write!(f, "nothing to remove: there is no table {TABLE}"),
            Removed::Table(Flows::Live(0)) => {
                write!(f, "removed table {TABLE}; no redirected flow was open")
            }
            Removed::Table(flows) => write!(
                f,
                "removed table {TABLE} under {flows} through the proxy; \
                 they break now unless other NAT rules keep translation on (--drain lets them end first)"
            ),
        }
    }
}

fn replace(nftables: &Nftables, plan: &Plan) -> Result<(), Error> {
    let stale: Vec<Family> = present(nftables)?.into_iter().filter(|&family| family != plan.family).collect();
    nftables.replace(plan, &stale)
}

fn present(nftables: &Nftables) -> Result<Vec<Family>, Error> {
    let mut families = Vec::new();
    for family in [Family::Inet, Family::Ip] {
        if nftables.has_table(family)? {
            families.push(family);
        }
    }
    Ok(families)
}

/// Linux before 5.2 has tables of family `inet`, but no NAT chain in them.
fn lacks_inet_nat(error: &Error) -> bool {
    matches!(
        error,
        Error::Refused {
            part: Part::Table(Family::Inet) | Part::Chain(Family::Inet),
            errno: Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT,
        }
    )
}

/// Waits until no redirected flow is left or the time is up.
fn drained(port: u16, patience: Duration) -> Flows {
    let deadline = Instant::now() + patience;
    // Nothing tells when a conntrack entry ends save a subscription to all of them; a channel that never speaks
    // is the clock.
    let (_silent, clock) = mpsc::channel::<()>();
    loop {
        let flows = Flows::through(port);
        let left = deadline.saturating_duration_since(Instant::now());
        match flows {
            Flows::Live(count) if count > 0 && !left.is_zero() => {
                let _ = clock.recv_timeout(left.min(DRAIN_INTERVAL));
            }
            flows => return flows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_only_a_refusal_of_the_inet_chain_is_a_lack_of_inet_nat() {
        let refused = |part, errno| lacks_inet_nat(&Error::Refused { part, errno });
        assert!(refused(Part::Chain(Family::Inet), Errno::ENOENT));
        assert!(refused(Part::Table(Family::Inet), Errno::EAFNOSUPPORT));
        assert!(!refused(Part::Chain(Family::Inet), Errno::ENOMEM));
        assert!(!refused(Part::Chain(Family::Ip), Errno::ENOENT));
        let rule = Part::Rule { number: 1, comment: String::new() };
        assert!(!refused(rule, Errno::ENOENT), "the same rule would fail for IPv4 alone too");
        assert!(!lacks_inet_nat(&Error::Privilege));
    }
}
