use std::io::Write;
use std::time::Duration;

use dragoman_policy::SpiffePattern;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection};

use super::*;
use crate::testing::{Authority, Issued, leaf};

const WEB: &str = "spiffe://shop.test/web";

fn certified(issued: &Issued) -> Arc<CertifiedKey> {
    let provider = default_provider();
    let key = provider.key_provider.load_private_key(issued.key.clone_key()).unwrap();
    Arc::new(CertifiedKey::new(issued.chain.clone(), key))
}

fn material(ca: &Authority) -> ServerMaterial {
    let mut roots = Roots::default();
    roots.add_pem(ca.pem().as_bytes()).unwrap();
    let identity = certified(&ca.issue(&leaf(&["server.test", "spiffe://shop.test/pay"])));
    ServerMaterial { identity, name: None, roots, crls: Vec::new(), tls13_only: false }
}

fn client(
    ca: &Authority,
    own: Option<&Issued>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(16);
    config
}

/// A handshake in memory, and what each side has come to.
fn shake(
    config: &ClientConfig,
    server: &Server,
) -> (ClientConnection, ServerConnection, Result<(), Error>, Result<(), Error>) {
    let name = ServerName::try_from("server.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
    let mut end = ServerConnection::new(server.config()).unwrap();
    let (mut client_says, mut server_says) = (Ok(()), Ok(()));
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut unread = bytes.as_slice();
        while server_says.is_ok() && !unread.is_empty() {
            end.read_tls(&mut unread).unwrap();
            server_says = end.process_new_packets().map(drop);
        }
        let mut bytes = Vec::new();
        while end.wants_write() {
            end.write_tls(&mut bytes).unwrap();
        }
        let mut unread = bytes.as_slice();
        while client_says.is_ok() && !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client_says = client.process_new_packets().map(drop);
        }
    }
    (client, end, client_says, server_says)
}

const BOTH: [&[&rustls::SupportedProtocolVersion]; 2] = [&[&TLS13], &[&TLS12]];

/// The failure that a handshake's error carries.
fn failure(error: Result<(), Error>) -> Failure {
    match error.unwrap_err() {
        Error::InvalidCertificate(rustls::CertificateError::Other(rustls::OtherError(inner))) => {
            inner.downcast_ref::<Failure>().expect("of our own").clone()
        }
        other => panic!("{other:?}"),
    }
}

fn spiffe(pattern: &str) -> Allowed {
    Allowed::Spiffe(SpiffePattern::parse(pattern).unwrap())
}

#[test]
fn a_client_that_is_allowed_is_known() {
    let ca = Authority::new("ca");
    let own = ca.issue(&leaf(&[WEB, "web.test"]));
    for versions in BOTH {
        for allow in [
            vec![],
            vec![spiffe(WEB)],
            vec![spiffe("spiffe://other.test/*"), Allowed::Dns("WEB.test".into())],
        ] {
            let server = Server::new(&material(&ca), allow).unwrap();
            let (_, end, client_says, server_says) = shake(&client(&ca, Some(&own), versions), &server);
            assert_eq!((client_says, server_says), (Ok(()), Ok(())));
            let peer = server.recheck(end.peer_certificates().unwrap(), false, UnixTime::now()).unwrap();
            assert_eq!(peer.uri(), Some(WEB));
        }
    }
}

/// The client learns it too: in TLS 1.3 after its own handshake, but before any byte that it could take for an answer.
#[test]
fn a_client_that_is_not_allowed_is_refused_by_an_alert() {
    let (ca, stranger) = (Authority::new("ca"), Authority::new("stranger"));
    let cases = [
        (ca.issue(&leaf(&["spiffe://shop.test/other"])), FailureKind::WrongIdentity),
        (ca.issue(&leaf(&["web.test"])), FailureKind::WrongIdentity),
        (ca.issue(&leaf(&[WEB, "spiffe://shop.test/other"])), FailureKind::BadCertificate),
        (stranger.issue(&leaf(&[WEB])), FailureKind::UnknownCa),
    ];
    for (own, kind) in &cases {
        for versions in BOTH {
            let server = Server::new(&material(&ca), vec![spiffe(WEB)]).unwrap();
            let (_, _, client_says, server_says) = shake(&client(&ca, Some(own), versions), &server);
            let failure = failure(server_says);
            assert_eq!(failure.kind, *kind, "{}", failure.detail);
            assert!(matches!(client_says, Err(Error::AlertReceived(_))), "{client_says:?}");
        }
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let ca = Authority::new("ca");
    let server = Server::new(&material(&ca), Vec::new()).unwrap();
    for versions in BOTH {
        let (_, _, client_says, server_says) = shake(&client(&ca, None, versions), &server);
        assert_eq!(server_says, Err(Error::NoCertificatesPresented));
        assert!(matches!(client_says, Err(Error::AlertReceived(_))), "{client_says:?}");
    }
}

#[test]
fn who_offers_both_protocols_gets_the_older_one() {
    let ca = Authority::new("ca");
    let own = ca.issue(&leaf(&[WEB]));
    let server = Server::new(&material(&ca), Vec::new()).unwrap();
    for (offered, agreed) in
        [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&["h2"], Some(b"h2")), (&[], None)]
    {
        let mut config = client(&ca, Some(&own), &[&TLS13]);
        config.alpn_protocols = offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let (_, end, ..) = shake(&config, &server);
        assert_eq!(end.alpn_protocol(), agreed);
    }
}

/// A session goes on only under the rules under which it was agreed, and not beyond the time of its certificate.
#[test]
fn what_is_resumed_is_checked_again_and_never_under_other_rules() {
    let ca = Authority::new("ca");
    let own = ca.issue(&leaf(&[WEB]));
    for versions in BOTH {
        let material = material(&ca);
        let server = Server::new(&material, vec![spiffe(WEB)]).unwrap();
        let config = client(&ca, Some(&own), versions);
        let (mut first, mut end, ..) = shake(&config, &server);
        // What is said after the handshake brings the tickets along.
        end.writer().write_all(b"hello").unwrap();
        let mut bytes = Vec::new();
        end.write_tls(&mut bytes).unwrap();
        first.read_tls(&mut bytes.as_slice()).unwrap();
        first.process_new_packets().unwrap();

        let (_, end, ..) = shake(&config, &server);
        assert_eq!(end.handshake_kind(), Some(HandshakeKind::Resumed));
        let chain = end.peer_certificates().unwrap();
        assert_eq!(server.recheck(chain, true, UnixTime::now()).unwrap().uri(), Some(WEB));
        let late = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
        assert_eq!(server.recheck(chain, true, late).unwrap_err().kind, FailureKind::Expired);

        let other = Server::new(&material, vec![spiffe("spiffe://shop.test/other")]).unwrap();
        let (_, end, _, server_says) = shake(&config, &other);
        assert_eq!(failure(server_says).kind, FailureKind::WrongIdentity);
        assert_ne!(end.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn tls_1_2_is_refused_where_policy_says_so() {
    let ca = Authority::new("ca");
    let own = ca.issue(&leaf(&[WEB]));
    let server = Server::new(&ServerMaterial { tls13_only: true, ..material(&ca) }, Vec::new()).unwrap();
    let (_, _, client_says, server_says) = shake(&client(&ca, Some(&own), &[&TLS12]), &server);
    assert!(matches!(server_says, Err(Error::PeerIncompatible(_))), "{server_says:?}");
    assert!(client_says.is_err());
}
