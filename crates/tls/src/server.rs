//! What connections that come to the app are made with.
//!
//! Who the client is, and whether it may connect, is decided inside the handshake: a client that may not is told so by an
//! alert, which its own side can show. A session that goes on without certificates was agreed under the very same rules,
//! as those that are remembered belong to one configuration; what time changes is checked anew by [`Server::recheck`].

use std::fmt;
use std::sync::Arc;

use dragoman_policy::SpiffePattern;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ServerConfig, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::KeyUsage;

use crate::failure::{Failure, FailureKind};
use crate::peer::Peer;
use crate::roots::Roots;
use crate::verify::{Chain, in_words_of_rustls};

/// The protocols that are agreed to (ALPN), the first that a client offers. Who offers both may be led to an app that speaks
/// only the older one; who needs the newer one offers nothing else.
const PROTOCOLS: [&[u8]; 2] = [b"http/1.1", b"h2"];

/// Sessions that are remembered for each set of rules, to be resumed.
const SESSIONS: usize = 1024;

/// Who a client must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// By its only URI.
    Spiffe(SpiffePattern),
    /// By one of its DNS names, without regard to case.
    Dns(Arc<str>),
}

impl Allowed {
    fn is(&self, peer: &Peer) -> bool {
        match self {
            Self::Spiffe(pattern) => peer.uri().is_some_and(|uri| pattern.matches(uri)),
            Self::Dns(name) => peer.dns().any(|own| own.eq_ignore_ascii_case(name)),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(pattern) => write!(f, "`{pattern}`"),
            Self::Dns(name) => write!(f, "`dns:{name}`"),
        }
    }
}

/// What policy says and its files hold.
#[derive(Clone, Debug)]
pub struct ServerMaterial {
    /// What is presented to clients.
    pub identity: Arc<CertifiedKey>,
    /// The URI that it is for, if there is one: what an app is told to whom its clients have spoken.
    pub name: Option<String>,
    /// Who may have signed a client's certificate.
    pub roots: Roots,
    /// What they have revoked; without a list nothing is asked about it.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// Whether TLS 1.2 is not spoken.
    pub tls13_only: bool,
}

/// What connections are made with, by one set of rules about who may connect.
#[derive(Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    clients: Arc<Clients>,
}

impl Server {
    /// Readies the material for use by these rules; without any, whoever is trusted may connect.
    ///
    /// # Errors
    /// A revocation list cannot be used, or the identity is of no use.
    pub fn new(material: &ServerMaterial, allow: Vec<Allowed>) -> Result<Self, String> {
        let provider = Arc::new(default_provider());
        let chain = Chain::new(material.roots.store(), &material.crls, &provider)?;
        let clients = Arc::new(Clients::new(chain, &material.roots, allow, &provider));
        let versions: &[_] = if material.tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let verifier: Arc<dyn ClientCertVerifier> = Arc::clone(&clients) as _;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&material.identity))));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        // What is sent before the handshake is done can be sent again by anybody.
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), clients })
    }

    /// What a connection that begins now is made with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Who the client is that presented this chain. Of a session that was resumed nobody has looked at the chain again:
    /// `resumed` has it checked, as its time may be over.
    ///
    /// # Errors
    /// It may not connect, or not any more.
    pub fn recheck(
        &self,
        chain: &[CertificateDer<'_>],
        resumed: bool,
        now: UnixTime,
    ) -> Result<Peer, Failure> {
        let (own, above) = chain.split_first().ok_or_else(|| {
            Failure::new(FailureKind::NoCertificate, "the client has presented no certificate")
        })?;
        if resumed { self.clients.verify(own, above, now) } else { Peer::of(own) }
    }
}

/// The check of clients, in the words of rustls.
#[derive(Debug)]
struct Clients {
    chain: Chain,
    allow: Vec<Allowed>,
    /// The names of the roots, by which a client chooses a certificate.
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    fn new(chain: Chain, roots: &Roots, allow: Vec<Allowed>, provider: &CryptoProvider) -> Self {
        let hints = roots.store().subjects();
        Self { chain, allow, hints, algorithms: provider.signature_verification_algorithms }
    }

    fn verify(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Peer, Failure> {
        self.chain.verify(own, above, KeyUsage::client_auth(), now)?;
        let peer = Peer::of(own)?;
        if self.allow.is_empty() || self.allow.iter().any(|allowed| allowed.is(&peer)) {
            return Ok(peer);
        }
        let allowed: Vec<_> = self.allow.iter().map(Allowed::to_string).collect();
        let detail = format!("the client is {peer}, and allowed is {}", allowed.join(" or "));
        Err(Failure::new(FailureKind::WrongIdentity, detail))
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.verify(end_entity, intermediates, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(failure) => Err(in_words_of_rustls(failure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
