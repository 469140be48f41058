//! Putting rules into the kernel of this network namespace, and taking them out.

use std::fmt::{Display, Formatter};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::error::Attempt;
use crate::iptables::{self, Backend};
use crate::netlink::{Family, Layout, Nftables};
use crate::options::PortRange;
use crate::plan::ChainKind;
use crate::{Error, Flows, Ipv6State, Options, Plan, TABLE};

/// How often draining looks whether flows are left.
const DRAIN_INTERVAL: Duration = Duration::from_millis(200);

/// What [`install()`] would do on this host, without doing it. Needs no privilege.
///
/// # Errors
/// Options that make no sense, or IPv6 that is wanted and cannot be captured.
pub fn plan(options: &Options) -> Result<Plan, Error> {
    let ipv6 = Ipv6State::read()?.captured(options.ipv6)?;
    Ok(Plan::new(options, ipv6)?)
}

/// A way to put rules into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One nf_tables transaction over netlink.
    Nftables {
        /// With one table for both versions of IP, or else with one for each.
        together: bool,
    },
    /// The programs of iptables.
    Iptables(Backend),
}

/// What [`install()`] did.
#[derive(Debug)]
pub struct Installed {
    /// The rules that are in place now.
    pub plan: Plan,
    /// How they got there.
    pub way: Way,
}

/// Installs the rules, in place of what dragoman installed before, by whichever way. Over netlink that is one
/// transaction; what a kernel lacks for it makes the next way be tried.
///
/// # Errors
/// Nothing has changed when this returns an error, unless that is [`Error::HalfDone`] or [`Error::Leftover`].
pub fn install(options: &Options) -> Result<Installed, Error> {
    let installed = install_by(options, Way::replace)?;
    installed.way.clear_others().map_err(|error| Error::Leftover(Box::new(error)))?;
    Ok(installed)
}

/// The same in a network namespace where no rules have been: nothing is looked for.
///
/// # Errors
/// As for [`install()`].
pub fn install_anew(options: &Options) -> Result<Installed, Error> {
    install_by(options, Way::add)
}

fn install_by(options: &Options, put: fn(Way, &Plan) -> Result<(), Error>) -> Result<Installed, Error> {
    let state = Ipv6State::read()?;
    let ipv6 = state.captured(options.ipv6)?;
    let mut plans = vec![Plan::new(options, ipv6)?];
    if ipv6 && state.is_dispensable(options.ipv6) {
        plans.extend(Plan::new(options, false));
    }
    let mut attempts = Vec::new();
    for plan in plans {
        for way in Way::all(plan.ipv6) {
            match put(way, &plan) {
                Ok(()) => return Ok(Installed { plan, way }),
                Err(error) if error.is_lack() => {
                    attempts.push(Attempt { way, ipv6: plan.ipv6, error: Box::new(error) });
                }
                Err(error) => return Err(error),
            }
        }
    }
    Err(Error::NoWay(attempts))
}

/// What [`remove`] found.
#[derive(Debug)]
pub enum Removed {
    /// Nothing of dragoman's.
    Nothing,
    /// The rules that were in these places are gone. These flows were still being redirected: where no other NAT
    /// rule keeps translation going, the kernel has stopped to serve them.
    Rules(Vec<&'static str>, Flows),
}

/// Deletes dragoman's rules, wherever they are, and nothing else.
///
/// The kernel translates only while a rule that translates is there, so the removal of the last one cuts the flows
/// through it. With `drain`, new connections are let by first and the redirected flows have so long to end. `ports`
/// and `inbound` tell which flows are redirected ones, those from inside and those from outside.
///
/// # Errors
/// Nothing was deleted when this returns an error, unless there were rules in more than one place.
pub fn remove(ports: PortRange, inbound: u16, drain: Option<Duration>) -> Result<Removed, Error> {
    let places = places()?;
    if places.is_empty() {
        return Ok(Removed::Nothing);
    }
    let redirects = [ports, PortRange::one(inbound)];
    let mut flows = Flows::through(&redirects);
    if let Some(patience) = drain {
        places.iter().try_for_each(|place| place.drain(ports))?;
        flows = drained(&redirects, patience);
    }
    places.iter().try_for_each(Place::clear)?;
    Ok(Removed::Rules(places.iter().map(Place::name).collect(), flows))
}

impl Way {
    /// In the order in which they are tried.
    fn all(ipv6: bool) -> impl Iterator<Item = Way> {
        let layouts: &[bool] = if ipv6 { &[true, false] } else { &[false] };
        let nftables = layouts.iter().map(|&together| Way::Nftables { together });
        nftables.chain(Backend::ALL.into_iter().map(Way::Iptables))
    }

    fn replace(self, plan: &Plan) -> Result<(), Error> {
        match self {
            Way::Nftables { together } => Nftables::open()?.replace(plan, families(together, plan)),
            Way::Iptables(backend) => backend.replace(plan),
        }
    }

    fn add(self, plan: &Plan) -> Result<(), Error> {
        match self {
            Way::Nftables { together } => Nftables::open()?.add(plan, families(together, plan)),
            Way::Iptables(backend) => backend.replace(plan),
        }
    }

    /// Takes out what a former run put elsewhere.
    fn clear_others(self) -> Result<(), Error> {
        places()?.iter().filter(|place| !place.is_of(self)).try_for_each(Place::clear)
    }
}

fn families(together: bool, plan: &Plan) -> &'static [Family] {
    (if together { Layout::Together } else { Layout::Apart }).families(plan)
}

/// Where rules of dragoman's are.
enum Place {
    Tables(Nftables, Vec<Family>),
    Iptables(Backend),
}

/// Looks everywhere; a kernel without nf_tables may still have ip_tables.
fn places() -> Result<Vec<Place>, Error> {
    let mut places = Vec::new();
    let nftables = Nftables::open().and_then(|nftables| Ok((nftables.tables()?, nftables)));
    let backends = match nftables {
        Ok((families, nftables)) => {
            let backends = Backend::installed(Some(&nftables))?;
            if !families.is_empty() {
                places.push(Place::Tables(nftables, families));
            }
            backends
        }
        Err(Error::NoNftables { .. }) => Backend::installed(None)?,
        Err(error) => return Err(error),
    };
    places.extend(backends.into_iter().map(Place::Iptables));
    Ok(places)
}

impl Place {
    fn clear(&self) -> Result<(), Error> {
        match self {
            Place::Tables(nftables, families) => nftables.delete(families),
            Place::Iptables(backend) => backend.remove(),
        }
    }

    fn drain(&self, ports: PortRange) -> Result<(), Error> {
        match self {
            Place::Tables(nftables, families) => nftables.replace(&Plan::draining(true, ports), families),
            Place::Iptables(backend) => backend.replace(&Plan::draining(backend.has_ipv6(), ports)),
        }
    }

    fn is_of(&self, way: Way) -> bool {
        match self {
            Place::Tables(..) => matches!(way, Way::Nftables { .. }),
            Place::Iptables(backend) => way == Way::Iptables(*backend),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Place::Tables(..) => "table dragoman",
            Place::Iptables(_) => "the iptables chains DRAGOMAN_OUTPUT",
        }
    }
}

impl Display for Way {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Way::Nftables { together: true } => f.write_str("nf_tables over netlink"),
            Way::Nftables { together: false } => {
                f.write_str("nf_tables over netlink with a table for each version of IP")
            }
            Way::Iptables(backend) => backend.fmt(f),
        }
    }
}

impl Display for Installed {
    /// Where the rules are.
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let rules = self.plan.rule_count();
        match self.way {
            Way::Nftables { together: true } => write!(f, "table inet {TABLE}, {rules} rules"),
            Way::Nftables { .. } if self.plan.ipv6 => write!(f, "tables ip and ip6 {TABLE}, {rules} rules"),
            Way::Nftables { .. } => write!(f, "table ip {TABLE}, {rules} rules"),
            Way::Iptables(backend) => {
                let inbound = self.plan.chains.iter().any(|chain| chain.kind == ChainKind::InboundNat);
                let also = if inbound { format!(" and {}", iptables::INBOUND_CHAIN) } else { String::new() };
                let own = iptables::CHAIN;
                write!(f, "by {backend}, chains {own}{also} of tables nat and filter, {rules} rules")
            }
        }
    }
}

impl Display for Removed {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Removed::Nothing => write!(f, "nothing to remove: there is no table {TABLE}"),
            Removed::Rules(places, Flows::Live(0)) => {
                write!(f, "removed {}; no redirected flow was open", places.join(" and "))
            }
            Removed::Rules(places, flows) => write!(
                f,
                "removed {} under {flows} through the proxy; \
                 they break now unless other NAT rules keep translation on (--drain lets them end first)",
                places.join(" and ")
            ),
        }
    }
}

/// Waits until no redirected flow is left or the time is up.
fn drained(redirects: &[PortRange], patience: Duration) -> Flows {
    let deadline = Instant::now() + patience;
    // Nothing tells when a conntrack entry ends save a subscription to all of them; a channel that never speaks
    // is the clock.
    let (_silent, clock) = mpsc::channel::<()>();
    loop {
        let flows = Flows::through(redirects);
        let left = deadline.saturating_duration_since(Instant::now());
        match flows {
            Flows::Live(count) if count > 0 && !left.is_zero() => {
                let _ = clock.recv_timeout(left.min(DRAIN_INTERVAL));
            }
            flows => return flows,
        }
    }
}
