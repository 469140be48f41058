//! What connections to a destination are made with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::{CertificateRevocationListDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};

use crate::roots::Roots;
use crate::tickets::{ConnectionTickets, Tickets};
pub use crate::verify::Verify;
use crate::verify::{Chain, server_verifier};

/// The protocol that is agreed on in the handshake (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// None is offered.
    None,
    /// `http/1.1` is offered; a server that says nothing about it is taken to speak it.
    Http1,
    /// `h2` is offered, and has to be agreed to: see [`Self::is_met_by`].
    Http2,
}

impl Alpn {
    fn offered(self) -> Vec<Vec<u8>> {
        match self {
            Self::None => vec![],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
        }
    }

    /// Whether a server that agreed to `agreed` speaks what is needed.
    pub fn is_met_by(self, agreed: Option<&[u8]>) -> bool {
        self != Self::Http2 || agreed == Some(b"h2")
    }
}

/// What policy says and its files hold.
#[derive(Clone, Debug)]
pub struct ClientMaterial {
    /// Who may have signed the server's certificate.
    pub roots: Roots,
    /// What they have revoked; without a list nothing is asked about it.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// What the server must show.
    pub verify: Verify,
    /// SHA-256 of the SubjectPublicKeyInfo of keys, one of which the server's chain must have; empty is any.
    pub pins: Vec<[u8; 32]>,
    /// Whether TLS 1.2 is not spoken.
    pub tls13_only: bool,
    /// Whether the hybrid key exchange (X25519MLKEM768) is offered, before all others.
    pub post_quantum: bool,
    /// What to ask for, where policy says.
    pub server_name: Option<ServerName<'static>>,
    /// What is presented to a server that asks.
    pub identity: Option<Arc<CertifiedKey>>,
    /// Differs from that of any other material: no connection and no session is shared between two.
    pub generation: u64,
}

/// What the client's side of one connection is made with.
#[derive(Clone, Debug)]
pub struct ClientSide {
    pub(crate) config: Arc<ClientConfig>,
    /// What the session weighs for its store, where it is ours.
    pub(crate) tickets: Option<Arc<ConnectionTickets>>,
}

impl From<Arc<ClientConfig>> for ClientSide {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config, tickets: None }
    }
}

/// What connections to a destination are made with, as policy and its files are now.
#[derive(Debug)]
pub struct ClientConfigs {
    base: ClientConfig,
    tickets: Arc<Tickets>,
    server_name: Option<ServerName<'static>>,
    generation: u64,
}

impl ClientConfigs {
    /// Readies the material for use.
    ///
    /// # Errors
    /// A revocation list cannot be used.
    pub fn new(material: ClientMaterial, now: Instant) -> Result<Self, String> {
        let ClientMaterial {
            roots,
            crls,
            verify,
            pins,
            tls13_only,
            post_quantum,
            server_name,
            identity,
            generation,
        } = material;
        let provider = Arc::new(provider(post_quantum));
        let chain = Chain::new(roots.store(), &crls, &provider)?.with_pins(pins);
        let versions: &[_] = if tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(server_verifier(chain, verify));
        let mut base = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
            None => builder.with_no_client_auth(),
        };
        // What is sent before the handshake is done can be sent again by anybody.
        base.enable_early_data = false;
        Ok(Self { base, tickets: Arc::new(Tickets::new(now)), server_name, generation })
    }

    /// What a connection to `endpoint` is made with, which begins now. Sessions are resumed only between connections with the same
    /// endpoint, protocol and name.
    pub fn side(&self, alpn: Alpn, endpoint: SocketAddr, now: Instant) -> ClientSide {
        let tickets = Arc::new(self.tickets.at(endpoint, alpn, now));
        let mut config = self.base.clone();
        config.alpn_protocols = alpn.offered();
        config.resumption = Resumption::store(Arc::clone(&tickets) as _);
        ClientSide { config: Arc::new(config), tickets: Some(tickets) }
    }

    /// What to ask for, where policy says.
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }

    /// Differs from that of all others.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

fn provider(post_quantum: bool) -> CryptoProvider {
    let mut provider = default_provider();
    if !post_quantum {
        let hybrid = kx_group::X25519MLKEM768.name();
        provider.kx_groups.retain(|group| group.name() != hybrid);
    }
    provider
}

#[cfg(test)]
mod tests;
