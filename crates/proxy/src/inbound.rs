//! What connections from outside are served by: the rules of the port that they are for, readied for handshakes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dragoman_config::{Config, Destination, HeaderRules, InboundPort, PeerPattern, Policy};
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

    /// The destination of a flow of this client, or of one without TLS. An app hears of a client what we say and nothing that
    /// the client says itself.
    pub(crate) fn destination(
        &self,
        rules: &InboundPort,
        client: Option<(&Peer, &ServerMaterial)>,
    ) -> Arc<Destination> {
        let set = client.map(|(peer, own)| (HEADER.to_owned(), peer.forwarded(own.name.as_deref())));
        let headers =
            HeaderRules { set: set.into_iter().collect(), remove: removed(), ..HeaderRules::default() };
        let policy = Arc::new(Policy { headers, ..Policy::default() });
        Arc::new(Destination { policy, protocol: rules.protocol, ..(*self.destination).clone() })
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
fn removed() -> Vec<String> {
    let words = ["x", "forwarded", "client", "cert"];
    (1..8_u8)
        .map(|choice| {
            let joined = words.iter().skip(1).enumerate().map(|(index, word)| {
                let joint = if choice & (1 << index) == 0 { '-' } else { '_' };
                format!("{joint}{word}")
            });
            words[0].to_owned() + &joined.collect::<String>()
        })
        .chain([HEADER.to_owned()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_header_is_removed() {
        let removed = removed();
        assert_eq!(removed.len(), 8);
        for spelling in ["x-forwarded-client-cert", "x_forwarded_client_cert", "x-forwarded_client-cert"] {
            assert!(removed.iter().any(|name| name == spelling), "{spelling} {removed:?}");
        }
    }
}
