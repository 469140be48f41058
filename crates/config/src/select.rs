//! Which destination a flow belongs to.
//!
//! A destination matches when every kind of key that it states matches: `cidrs` and `ports` the original
//! destination, `hosts` the name of an HTTP request, `sni` that of a TLS handshake. One that states names
//! needs a name: without one, or with one of the other kind, it does not match. What gives no name at all is matched by
//! `hosts` with the name for which the app got its address from DNS, if that is known.
//!
//! Of those that match, the most specific wins. A name says more than an address and an address more than
//! a port, so they are compared in this order:
//!
//! 1. an exact name, then the longer wildcard, then no name;
//! 2. the longer CIDR prefix, then none;
//! 3. the narrower range of ports, then none;
//! 4. the name of the destination, in alphabetical order.
//!
//! Names are found in a hash table (one look-up for the exact name, one per label for wildcards), because
//! this happens for each exchange; what is left to compare are the few destinations that share a name.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use ipnet::IpNet;

use crate::{
    model::{ByAddress, Destination, Listener, Name},
    value::{
        name::{NamePattern, comparable, without_port},
        net::Ports,
    },
};

/// What a destination matches; a list that is empty is not stated.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DestinationMatch {
    pub(crate) hosts: Vec<NamePattern>,
    pub(crate) sni: Vec<NamePattern>,
    pub(crate) cidrs: Vec<IpNet>,
    pub(crate) ports: Vec<Ports>,
    /// It states nothing because a plain port leads to it, or what comes to the app, and nothing else does.
    pub(crate) by_port_alone: bool,
}

/// How specific a match by address is: prefix length plus one, then how narrow the range of ports is;
/// each 0 if not stated.
pub(crate) type AddressRank = (u16, u32);

impl DestinationMatch {
    /// Whether it states nothing, and so matches whatever no other destination does.
    pub(crate) fn is_everything(&self) -> bool {
        !self.by_port_alone && !self.is_named() && self.cidrs.is_empty() && self.ports.is_empty()
    }

    pub(crate) fn is_named(&self) -> bool {
        !self.hosts.is_empty() || !self.sni.is_empty()
    }

    /// `address` has no mapped IPv4.
    pub(crate) fn by_address(&self, address: SocketAddr) -> Option<AddressRank> {
        if self.by_port_alone {
            return None;
        }
        let network =
            best(&self.cidrs, |cidr| cidr.contains(&address.ip()).then(|| u16::from(cidr.prefix_len()) + 1))?;
        let ports = best(&self.ports, |ports| {
            let inside = (ports.first..=ports.last).contains(&address.port());
            inside.then(|| u32::from(u16::MAX) + 1 - u32::from(ports.last - ports.first))
        })?;
        Some((network, ports))
    }

    /// Whether it matches everything that `other` matches, and each time at least as specifically.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let contains =
            |own: &[NamePattern], other: &[NamePattern]| other.iter().all(|name| own.contains(name));
        !(self.by_port_alone || other.by_port_alone)
            && self.is_named() == other.is_named()
            && contains(&self.hosts, &other.hosts)
            && contains(&self.sni, &other.sni)
            && covers(&self.cidrs, &other.cidrs)
            && covers(&self.ports, &other.ports)
    }
}

fn covers<T: PartialEq>(own: &[T], other: &[T]) -> bool {
    own.is_empty() == other.is_empty() && other.iter().all(|item| own.contains(item))
}

/// The best rank among those of a list that match: 0 if nothing is stated, `None` if nothing matches.
fn best<T, R: Ord + From<u8>>(list: &[T], rank: impl Fn(&T) -> Option<R>) -> Option<R> {
    if list.is_empty() { Some(R::from(0)) } else { list.iter().filter_map(rank).max() }
}

/// The destinations, arranged to be found.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// The one that matches everything, then by name; what follows holds places in this list.
    destinations: Vec<Arc<Destination>>,
    hosts: Names,
    sni: Names,
    /// Those that state no name, without the first.
    nameless: Vec<usize>,
    /// Those that state names.
    named: Vec<usize>,
    /// Those that plain ports lead to, by where these listen.
    at_listeners: Vec<(SocketAddr, usize)>,
}

/// The destinations that state a name, by name.
#[derive(Clone, Debug, Default)]
struct Names {
    exact: HashMap<String, Vec<usize>>,
    below: HashMap<String, Vec<usize>>,
}

impl Index {
    /// The first destination is the one that matches everything.
    pub(crate) fn new(destinations: Vec<Arc<Destination>>) -> Self {
        let (mut hosts, mut sni) = (Names::default(), Names::default());
        let (mut nameless, mut named) = (Vec::new(), Vec::new());
        for (place, destination) in destinations.iter().enumerate().skip(1) {
            let matches = &destination.matches;
            if matches.is_named() { &mut named } else { &mut nameless }.push(place);
            hosts.add(&matches.hosts, place);
            sni.add(&matches.sni, place);
        }
        Self { destinations, hosts, sni, nameless, named, at_listeners: Vec::new() }
    }

    /// The same with other values for its destinations, which match the same in the same order.
    pub(crate) fn with_destinations(self, destinations: Vec<Arc<Destination>>) -> Self {
        Self { destinations, ..self }
    }

    /// The same with plain ports that lead to destinations; those to one that is not there lead nowhere.
    pub(crate) fn with_listeners(mut self, listeners: &[Listener]) -> Self {
        let place = |listener: &Listener| {
            let place = self.destinations.iter().position(|it| it.name == listener.destination)?;
            Some((listener.address, place))
        };
        self.at_listeners = listeners.iter().filter_map(place).collect();
        self
    }

    /// The destination that the plain port at `address` leads to.
    pub(crate) fn at_listener(&self, address: SocketAddr) -> Option<&Arc<Destination>> {
        let (_, place) = self.at_listeners.iter().find(|(own, _)| *own == address)?;
        Some(&self.destinations[*place])
    }

    pub(crate) fn destinations(&self) -> &[Arc<Destination>] {
        &self.destinations
    }

    pub(crate) fn lookup(&self, address: SocketAddr, name: Name<'_>) -> &Arc<Destination> {
        if let Some(destination) = self.at_listener(address) {
            return destination;
        }
        let address = canonical(address);
        let named = match name {
            Name::None => None,
            Name::Host(host) => self.by_name(&self.hosts, without_port(host), address),
            Name::Sni(name) => self.by_name(&self.sni, name, address),
        };
        &self.destinations[named.or_else(|| self.most_specific(&self.nameless, address)).unwrap_or(0)]
    }

    pub(crate) fn by_address(&self, address: SocketAddr, learnt: Option<&str>) -> ByAddress {
        let destination = Arc::clone(self.lookup(address, learnt.map_or(Name::None, Name::Host)));
        let address = canonical(address);
        let learnt = learnt.is_some();
        let mut undecided = ByAddress { destination, name_may_decide: false, name_may_deny: false, learnt };
        if self.at_listener(address).is_some() {
            return undecided;
        }
        for destination in self.named.iter().map(|index| &self.destinations[*index]) {
            if destination.matches.by_address(address).is_some() {
                undecided.name_may_decide = true;
                undecided.name_may_deny |= destination.deny && !learnt;
            }
        }
        undecided
    }

    fn by_name(&self, names: &Names, name: &str, address: SocketAddr) -> Option<usize> {
        if names.exact.is_empty() && names.below.is_empty() {
            return None;
        }
        let name = comparable(name)?;
        names.candidates(&name).find_map(|candidates| self.most_specific(candidates, address))
    }

    /// Candidates come in alphabetical order, so the first of equals is kept.
    fn most_specific(&self, candidates: &[usize], address: SocketAddr) -> Option<usize> {
        let mut found: Option<(AddressRank, usize)> = None;
        for index in candidates {
            let Some(rank) = self.destinations[*index].matches.by_address(address) else { continue };
            if found.is_none_or(|(best, _)| rank > best) {
                found = Some((rank, *index));
            }
        }
        found.map(|(_, index)| index)
    }
}

impl Names {
    fn add(&mut self, patterns: &[NamePattern], index: usize) {
        for pattern in patterns {
            let (table, name) = match pattern {
                NamePattern::Exact(name) => (&mut self.exact, name),
                NamePattern::Below(name) => (&mut self.below, name),
            };
            table.entry(name.clone()).or_default().push(index);
        }
    }

    /// The destinations that state this name or a wildcard above it, the most specific pattern first.
    fn candidates<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [usize]> {
        let parents = name.match_indices('.').filter(|(dot, _)| *dot > 0).map(|(dot, _)| &name[dot + 1..]);
        let wildcards = parents.filter_map(|parent| self.below.get(parent));
        self.exact.get(name).into_iter().chain(wildcards).map(Vec::as_slice)
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
