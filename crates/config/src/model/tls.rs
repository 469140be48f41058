//! TLS, as it was resolved. Files are named here and read elsewhere: a configuration is text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dragoman_policy::SpiffePattern;

use super::Protocol;

/// TLS towards the endpoints of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origination {
    /// The port to connect to in place of that of the original destination; endpoints of the destination's own have theirs.
    pub port: Option<u16>,
    /// The name or IP address to ask for; `None` is what the app calls the server: the host of a request, else the learnt
    /// name, else the address.
    pub server_name: Option<Arc<str>>,
    /// What the server must show.
    pub verify: Verify,
    /// Who may have signed the server's certificate; empty only where nothing is verified.
    pub roots: Vec<RootSource>,
    /// Files of revocation lists, in PEM.
    pub crls: Vec<PathBuf>,
    /// SHA-256 of the SubjectPublicKeyInfo of certificates, one of which the server's chain must have; empty is any.
    pub pins: Vec<[u8; 32]>,
    /// The lowest version that is spoken.
    pub min_version: TlsVersion,
    /// Whether the hybrid key exchange (X25519MLKEM768) is offered.
    pub post_quantum: bool,
    /// What is presented to a server that asks; `None` is nothing.
    pub identity: Option<IdentityFiles>,
}

/// What a server must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// A certificate for the name that was asked for.
    Name,
    /// A certificate with one of these SPIFFE IDs; never empty.
    Spiffe(Vec<SpiffePattern>),
    /// Nothing: `danger_accept_any_certificate`.
    Nothing,
}

/// Where trusted roots are from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RootSource {
    /// Mozilla's, as they were when dragoman was built.
    Webpki,
    /// The machine's.
    System,
    /// A file of certificates in PEM.
    Pem(PathBuf),
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdentityFiles {
    /// The chain, the own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// TLS of the connections that come to the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The port that they are redirected to, on all addresses; never 0.
    pub port: u16,
    /// What is presented to clients.
    pub identity: IdentityFiles,
    /// Who may have signed a client's certificate; never empty.
    pub roots: Vec<RootSource>,
    /// Files of revocation lists, in PEM.
    pub crls: Vec<PathBuf>,
    /// The lowest version that is spoken.
    pub min_version: TlsVersion,
    /// What holds for ports that are not in [`ports`](Self::ports).
    pub rest: InboundPort,
    /// What holds for a port of the app.
    pub ports: BTreeMap<u16, InboundPort>,
}

impl Inbound {
    /// What holds for this port of the app.
    pub fn at(&self, port: u16) -> &InboundPort {
        self.ports.get(&port).unwrap_or(&self.rest)
    }
}

/// Who may connect to a port of the app, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// Whether connections without TLS are passed on too.
    pub permissive: bool,
    /// What the app speaks.
    pub protocol: Protocol,
    /// One of these the client must be; empty is any whose certificate is trusted.
    pub allow: Vec<PeerPattern>,
}

/// Who a client must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerPattern {
    /// By a URI SAN.
    Spiffe(SpiffePattern),
    /// By a DNS SAN, which is compared without regard to case.
    Dns(Arc<str>),
}
