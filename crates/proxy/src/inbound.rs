//! What connections from outside are served by: the rules of the port that they are for, readied for handshakes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dragoman_config::{Config, Destination, HeaderRules, InboundPort, PeerPattern, Policy, Protocol};
use dragoman_tls::peer::Peer;
use dragoman_tls::server::{Allowed, Server, ServerMaterial};

/// What an app is told of a client's certificate, in the form that Envoy documents.
const HEADER: &str = "x-forwarded-client-cert";

/// Serves what comes to the app.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// The destination of it all. A reload changes nothing of it.
    destination: Arc<Destination>,
    ready: Mutex<Option<Arc<Ready>>>,
}

/// Made of this material by these rules; another of either takes its place, and no session outlives it.
#[derive(Debug)]
struct Ready {
    generation: u64,
    material: Arc<ServerMaterial>,
    rest: Arc<Server>,
    ports: BTreeMap<u16, Arc<Server>>,
}

impl Inbound {
    /// `None` where connections to the app are none of our business.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let destination = Arc::clone(config.inbound_destination()?);
        Some(Self { destination, ready: Mutex::default() })
    }

    /// The number of its destination.
    pub(crate) fn index(&self) -> usize {
        self.destination.index
    }

    /// What handshakes on this port of the app are made with.
    ///
    /// # Errors
    /// The material is of no use.
    pub(crate) fn server(
        &self,
        config: &Config,
        material: Arc<ServerMaterial>,
        port: u16,
    ) -> Result<Arc<Server>, String> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let current = ready
            .as_ref()
            .filter(|it| it.generation == config.generation() && Arc::ptr_eq(&it.material, &material));
        let current = match current {
            Some(current) => Arc::clone(current),
            None => Arc::clone(ready.insert(Arc::new(Ready::new(config, material)?))),
        };
        Ok(Arc::clone(current.ports.get(&port).unwrap_or(&current.rest)))
    }

    /// The destination of a flow of this client, or of one without TLS, that speaks `protocol`. An app hears of a client what we
    /// say, and nothing that the client says itself.
    pub(crate) fn destination(
        &self,
        protocol: Protocol,
        client: Option<(&Peer, &ServerMaterial)>,
    ) -> Arc<Destination> {
        let set = client.map(|(peer, own)| (HEADER.to_owned(), peer.forwarded(own.name.as_deref())));
        let remove = removed().filter(|name| set.is_none() || name != HEADER).collect();
        let headers = HeaderRules { set: set.into_iter().collect(), remove, ..HeaderRules::default() };
        let mut destination = (*self.destination).clone();
        destination.policy = Arc::new(Policy { headers, ..Policy::default() });
        destination.protocol = protocol;
        Arc::new(destination)
    }
}

impl Ready {
    fn new(config: &Config, material: Arc<ServerMaterial>) -> Result<Self, String> {
        let inbound = config.inbound.as_ref().ok_or("there is no [inbound]")?;
        let server = |rules: &InboundPort| {
            let allow = rules.allow.iter().map(allowed).collect();
            Server::new(&material, allow).map(Arc::new)
        };
        let ports = inbound.ports.iter().map(|(port, rules)| Ok((*port, server(rules)?)));
        let ports = ports.collect::<Result<_, String>>()?;
        Ok(Self { generation: config.generation(), rest: server(&inbound.rest)?, ports, material })
    }
}

fn allowed(pattern: &PeerPattern) -> Allowed {
    match pattern {
        PeerPattern::Spiffe(pattern) => Allowed::Spiffe(pattern.clone()),
        PeerPattern::Dns(name) => Allowed::Dns(Arc::clone(name)),
    }
}

/// All that some server takes for the header: those that hand headers on as variables cannot tell `-` from `_`.
fn removed() -> impl Iterator<Item = String> {
    let joint = |choice: u8, place: u8| if choice & (1 << place) == 0 { '-' } else { '_' };
    (0..8).map(move |choice| {
        let [first, second, third] = [0, 1, 2].map(|place| joint(choice, place));
        format!("x{first}forwarded{second}client{third}cert")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_header_is_removed() {
        let removed: Vec<_> = removed().collect();
        assert_eq!((removed.len(), removed[0].as_str()), (8, HEADER));
        for spelling in ["x_forwarded_client_cert", "x-forwarded_client-cert"] {
            assert!(removed.iter().any(|name| name == spelling), "{spelling} {removed:?}");
        }
    }
}
