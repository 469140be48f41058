use super::*;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A certificate that is its own root.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, key: key.serialize_der() }
    }

    fn key(&self) -> rustls::pki_types::PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }
}

/// What both sides are made of.
struct Setup {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Setup {
    fn new(version: &'static rustls::SupportedProtocolVersion) -> Self {
        let server = Identity::new("server.test");
        let roots = server.roots();
        Self {
            client: ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(roots)
                .with_no_client_auth()
                .into(),
            server: ServerConfig::builder_with_protocol_versions(&[version])
                .with_no_client_auth()
                .with_single_cert(vec![server.certificate.clone()], server.key())
                .unwrap()
                .into(),
        }
    }

    fn sessions(&self) -> Ends {
        let name = ServerName::try_from("server.test").unwrap();
        Ends {
            client: Session::client(Arc::clone(&self.client), name).unwrap(),
            server: Session::server(Arc::clone(&self.server)).unwrap(),
        }
    }

    fn connected(&self) -> Ends {
        let mut ends = self.sessions();
        ends.shake_hands(usize::MAX).unwrap();
        ends
    }
}

struct Ends {
    client: Session,
    server: Session,
}

/// Moves what waits to be sent, in pieces of at most `step` bytes. Whether there was any.
fn carry(from: &mut Session, to: &mut Session, step: usize) -> bool {
    let mut moved = false;
    while !from.outgoing().is_empty() {
        let count = from.outgoing().len().min(step);
        let piece = from.outgoing()[..count].to_vec();
        from.sent(count);
        give(to, &piece);
        let _ = to.advance();
        moved = true;
    }
    moved
}

fn give(to: &mut Session, bytes: &[u8]) {
    let read = |out: &mut Vec<u8>| {
        out.extend_from_slice(bytes);
        Ok(bytes.len())
    };
    assert_eq!(to.receive(read).unwrap(), bytes.len());
}

fn end(of: &mut Session) {
    assert_eq!(of.receive(|_| Ok(0)).unwrap(), 0);
}

impl Ends {
    fn shake_hands(&mut self, step: usize) -> Result<(), Failure> {
        loop {
            let moved = carry(&mut self.client, &mut self.server, step)
                | carry(&mut self.server, &mut self.client, step);
            self.client.advance()?;
            self.server.advance()?;
            if !moved {
                return Ok(());
            }
        }
    }
}

/// All that can be read now, and how it ended.
fn read_all(from: &mut Session, most: usize) -> (Vec<u8>, Result<Read, Failure>) {
    let mut all = Vec::new();
    loop {
        let before = all.len();
        match from.read(most, |bytes| all.extend_from_slice(bytes)) {
            Ok(Read::Some(count)) => {
                assert_eq!(all.len() - before, count);
                assert!(count <= most);
            }
            end => return (all, end),
        }
    }
}

fn write_all(to: &mut Session, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = to.write(bytes).unwrap();
        bytes = &bytes[count..];
    }
}

fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}

#[test]
fn a_handshake_in_pieces_of_every_size_is_done() {
    for version in VERSIONS {
        let setup = Setup::new(version);
        for step in [1, 2, 5, 6, 7, 100, 16_384] {
            let mut ends = setup.sessions();
            ends.shake_hands(step).unwrap();
            assert!(!ends.client.is_handshaking() && !ends.server.is_handshaking());
            assert_eq!(ends.client.version(), Some(version.version));
            write_all(&mut ends.client, b"ping");
            carry(&mut ends.client, &mut ends.server, step);
            assert_eq!(read_all(&mut ends.server, 100).0, b"ping");
        }
    }
}

#[test]
fn nothing_is_held_while_nothing_is_under_way() {
    for version in VERSIONS {
        let mut ends = Setup::new(version).connected();
        write_all(&mut ends.client, &numbered(100_000));
        carry(&mut ends.client, &mut ends.server, usize::MAX);
        assert_eq!(read_all(&mut ends.server, 1 << 20).0.len(), 100_000);
        for session in [&ends.client, &ends.server] {
            let Buffers { incoming, outgoing, plain, .. } = &session.buffers;
            assert_eq!([incoming, outgoing, plain].map(Vec::capacity), [0; 3]);
        }
    }
}

#[test]
fn bulk_both_ways_at_once_is_whole_however_it_is_cut_and_read() {
    for version in VERSIONS {
        let setup = Setup::new(version);
        for (step, most) in [(1, 1 << 20), (13, 1), (1447, 4096), (16_406, 16_384), (70_000, 100)] {
            let sent = numbered(if step == 1 || most == 1 { 40_000 } else { 400_000 });
            let mut ends = setup.connected();
            let (mut up, mut down) = (Vec::new(), Vec::new());
            for piece in sent.chunks(50_000) {
                write_all(&mut ends.client, piece);
                write_all(&mut ends.server, piece);
                while carry(&mut ends.client, &mut ends.server, step)
                    | carry(&mut ends.server, &mut ends.client, step)
                {
                    up.extend(read_all(&mut ends.server, most).0);
                    down.extend(read_all(&mut ends.client, most).0);
                }
            }
            assert!(up == sent && down == sent, "{step} {most}");
        }
    }
}

#[test]
fn bulk_goes_out_in_full_records() {
    let mut ends = Setup::new(&TLS13).connected();
    assert_eq!(ends.client.write(&numbered(1 << 20)).unwrap(), WRITE);
    let records: Vec<usize> = {
        let mut rest = ends.client.outgoing();
        std::iter::from_fn(|| {
            let length = rest.get(3..5).map(|length| usize::from(length[0]) << 8 | usize::from(length[1]))?;
            rest = &rest[5 + length..];
            Some(length)
        })
        .collect()
    };
    assert_eq!(records, [RECORD + 17; 4]);
}

#[test]
fn an_end_is_an_end_only_where_tls_says_so() {
    for version in VERSIONS {
        let setup = Setup::new(version);
        let mut ends = setup.connected();
        write_all(&mut ends.client, b"all");
        ends.client.close().unwrap();
        carry(&mut ends.client, &mut ends.server, 3);
        end(&mut ends.server);
        let (all, how) = read_all(&mut ends.server, 100);
        assert_eq!((&all[..], how.unwrap()), (&b"all"[..], Read::Ended), "{version:?}");
        // The other direction goes on.
        write_all(&mut ends.server, b"answer");
        carry(&mut ends.server, &mut ends.client, 100);
        assert_eq!(read_all(&mut ends.client, 100).0, b"answer");

        let mut ends = setup.connected();
        write_all(&mut ends.client, b"half");
        carry(&mut ends.client, &mut ends.server, 3);
        end(&mut ends.server);
        for expected in [&b"half"[..], b"", b""] {
            let (all, how) = read_all(&mut ends.server, 100);
            assert_eq!(all, expected);
            assert_eq!(how.unwrap_err().kind, FailureKind::Truncated);
        }
        assert!(!ends.server.settle() && ends.server.write(b"x").is_err());
    }
}

#[test]
fn a_last_word_is_unanswered_until_something_comes() {
    for version in VERSIONS {
        let setup = Setup::new(version);
        let mut ends = setup.connected();
        write_all(&mut ends.client, b"request");
        assert!(!ends.client.is_unanswered());
        ends.client.close().unwrap();
        assert!(ends.client.is_unanswered());
        end(&mut ends.client);
        assert_eq!(read_all(&mut ends.client, 100).1.unwrap_err().kind, FailureKind::Truncated);
        assert!(ends.client.is_unanswered(), "{version:?}");

        let mut ends = setup.connected();
        ends.client.close().unwrap();
        write_all(&mut ends.server, b"answer");
        carry(&mut ends.server, &mut ends.client, 1);
        assert!(!ends.client.is_unanswered(), "{version:?}");

        // What came before it and was not looked at is an answer too.
        let mut ends = setup.connected();
        write_all(&mut ends.server, b"answer");
        carry(&mut ends.server, &mut ends.client, 100);
        ends.client.close().unwrap();
        assert!(!ends.client.is_unanswered(), "{version:?}");
    }
}

#[test]
fn an_end_inside_of_a_record_or_of_the_handshake_is_none() {
    for version in VERSIONS {
        let setup = Setup::new(version);
        let mut ends = setup.connected();
        write_all(&mut ends.client, b"whole");
        carry(&mut ends.client, &mut ends.server, usize::MAX);
        write_all(&mut ends.client, b"torn");
        let cut = ends.client.outgoing()[..12].to_vec();
        give(&mut ends.server, &cut);
        end(&mut ends.server);
        let (all, how) = read_all(&mut ends.server, 100);
        assert_eq!((&all[..], how.unwrap_err().kind), (&b"whole"[..], FailureKind::Truncated));

        let mut ends = setup.sessions();
        carry(&mut ends.client, &mut ends.server, 100);
        let cut = ends.server.outgoing()[..50].to_vec();
        give(&mut ends.client, &cut);
        end(&mut ends.client);
        assert_eq!(ends.client.advance().unwrap_err().kind, FailureKind::Closed);
        assert_eq!(ends.client.close().unwrap_err().kind, FailureKind::Closed);
    }
}

#[test]
fn a_byte_that_is_wrong_anywhere_in_a_record_is_noticed_and_told() {
    for version in VERSIONS {
        let setup = Setup::new(version);
        let length = {
            let mut ends = setup.connected();
            write_all(&mut ends.client, b"content");
            ends.client.outgoing().len()
        };
        for at in 0..length {
            let mut ends = setup.connected();
            write_all(&mut ends.client, b"content");
            let mut bytes = ends.client.outgoing().to_vec();
            bytes[at] ^= 0x55;
            give(&mut ends.server, &bytes);
            end(&mut ends.server);
            let (all, how) = read_all(&mut ends.server, 100);
            // The version of a record means nothing (RFC 8446 §5.1).
            let legacy = (1..3).contains(&at) && version.version == ProtocolVersion::TLSv1_3;
            assert!(all.is_empty() || legacy, "{at}");
            let kind = how.unwrap_err().kind;
            assert!(matches!(kind, FailureKind::Protocol | FailureKind::Truncated), "{at}: {kind:?}");
            if kind == FailureKind::Protocol {
                carry(&mut ends.server, &mut ends.client, 7);
                let told = read_all(&mut ends.client, 100).1;
                assert!(told.is_err() || ends.server.outgoing().is_empty(), "{at}");
            }
        }
    }
}

#[test]
fn garbage_in_place_of_a_handshake_is_no_tls() {
    let setup = Setup::new(&TLS13);
    for garbage in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0", b"SSH-2.0-x\r\n", &[0xff; 300]]
    {
        for cut in 1..=garbage.len() {
            let mut ends = setup.sessions();
            ends.client.sent(ends.client.outgoing().len());
            give(&mut ends.client, &garbage[..cut]);
            let advanced = ends.client.advance();
            let failure = match advanced {
                Err(failure) => failure,
                Ok(()) => {
                    give(&mut ends.client, &garbage[cut..]);
                    end(&mut ends.client);
                    ends.client.advance().unwrap_err()
                }
            };
            assert!(
                matches!(failure.kind, FailureKind::Protocol | FailureKind::Closed),
                "{cut}: {failure:?}"
            );
        }
        let mut ends = setup.sessions();
        give(&mut ends.client, garbage);
        assert_eq!(ends.client.advance().unwrap_err().kind, FailureKind::Protocol);
        assert_eq!(ends.client.advance().unwrap_err().kind, FailureKind::Protocol, "it stays so");
    }
}

#[test]
fn a_message_that_does_not_end_is_not_waited_for() {
    let mut ends = Setup::new(&TLS13).sessions();
    // A ClientHello that claims 60 kB, a byte a record.
    let mut stream = vec![22, 3, 1, 0, 4, 1, 0, 0xea, 0x60];
    stream.extend([22, 3, 1, 0, 1, 0].repeat(60_000));
    let mut refused = None;
    for piece in stream.chunks(16_000) {
        give(&mut ends.server, piece);
        if let Err(failure) = ends.server.advance() {
            refused = Some(failure);
            break;
        }
        assert!(ends.server.buffers.unprocessed() <= MOST_UNPROCESSED);
    }
    drop(refused);
}

#[test]
fn new_keys_in_the_midst_change_nothing() {
    let mut ends = Setup::new(&TLS13).connected();
    let (mut up, mut sent) = (Vec::new(), Vec::new());
    for round in 0..20_u8 {
        refresh(if round % 2 == 0 { &mut ends.client } else { &mut ends.server });
        for piece in [[round; 10], [round + 100; 10]] {
            write_all(&mut ends.client, &piece);
            write_all(&mut ends.server, &piece);
            sent.extend_from_slice(&piece);
        }
        carry(&mut ends.client, &mut ends.server, 11);
        carry(&mut ends.server, &mut ends.client, 11);
        up.extend(read_all(&mut ends.server, 7).0);
        assert_eq!(read_all(&mut ends.client, 100).0.len(), 20);
    }
    assert!(up == sent);
    assert!(ends.client.settle() && ends.server.settle());
}

fn refresh(session: &mut Session) {
    assert!(session.settle(), "nothing waits");
    match &mut session.connection {
        Connection::Client(client) => refresh_in(client.process_tls_records(&mut [])),
        Connection::Server(server) => refresh_in(server.process_tls_records(&mut [])),
    }
    assert!(session.settle());
    assert!(!session.outgoing().is_empty(), "the new key is announced");
}

fn refresh_in<Data>(status: UnbufferedStatus<'_, '_, Data>) {
    match status.state.unwrap() {
        ConnectionState::WriteTraffic(traffic) => traffic.refresh_traffic_keys().unwrap(),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn what_comes_after_the_handshake_and_is_no_content_leaves_the_connection_open() {
    let mut ends = Setup::new(&TLS13).sessions();
    carry(&mut ends.client, &mut ends.server, usize::MAX);
    carry(&mut ends.server, &mut ends.client, usize::MAX);
    carry(&mut ends.client, &mut ends.server, usize::MAX);
    assert!(!ends.client.is_handshaking());
    let tickets = ends.server.outgoing().to_vec();
    assert!(tickets.len() > 100, "the server has tickets to give");
    let mut left = tickets.as_slice();
    while let [_, _, _, high, low, ..] = *left {
        let (record, next) = left.split_at(5 + usize::from(u16::from_be_bytes([high, low])));
        for (at, &byte) in record.iter().enumerate() {
            give(&mut ends.client, &[byte]);
            // Before its end it could be content as well.
            assert_eq!(ends.client.settle(), at + 1 == record.len(), "{at}");
            assert_eq!(ends.client.is_quiet(), at + 1 == record.len(), "{at}");
        }
        left = next;
    }
    assert_eq!(ends.client.buffers.incoming.capacity(), 0);
    write_all(&mut ends.server, b"unasked");
    let unasked = ends.server.outgoing()[tickets.len()..].to_vec();
    give(&mut ends.client, &unasked[..unasked.len() - 1]);
    assert!(!ends.client.settle(), "a part of it");
    give(&mut ends.client, &unasked[unasked.len() - 1..]);
    assert!(!ends.client.settle());
}

#[test]
fn a_second_connection_resumes() {
    for version in VERSIONS {
        let setup = Setup::new(version);
        for round in 0..3 {
            let mut ends = setup.connected();
            write_all(&mut ends.server, b"x");
            carry(&mut ends.server, &mut ends.client, usize::MAX);
            assert_eq!(read_all(&mut ends.client, 10).0, b"x");
            assert_eq!(ends.client.is_resumed(), round > 0);
            assert!(ends.client.peer_certificates().is_some());
        }
    }
}

#[test]
fn a_certificate_that_is_wanted_and_missing_is_told_to_the_client() {
    for version in VERSIONS {
        let (server, client) = (Identity::new("server.test"), Identity::new("client.test"));
        let verifier = WebPkiClientVerifier::builder(client.roots().into()).build().unwrap();
        let setup = Setup {
            client: ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(server.roots())
                .with_no_client_auth()
                .into(),
            server: ServerConfig::builder_with_protocol_versions(&[version])
                .with_client_cert_verifier(verifier)
                .with_single_cert(vec![server.certificate.clone()], server.key())
                .unwrap()
                .into(),
        };
        let mut ends = setup.sessions();
        let (mut of_client, mut of_server) = (None, None);
        for _ in 0..4 {
            carry(&mut ends.client, &mut ends.server, usize::MAX);
            of_server = of_server.or(ends.server.advance().err());
            carry(&mut ends.server, &mut ends.client, usize::MAX);
            of_client = of_client.or(ends.client.advance().err());
        }
        // In TLS 1.3 the client is done before the server has looked.
        let of_client = of_client.or_else(|| read_all(&mut ends.client, 100).1.err()).unwrap();
        assert_eq!(of_server.unwrap().kind, FailureKind::NoCertificate);
        assert_eq!(of_client.kind, FailureKind::OwnCertificateRefused, "{of_client}");
    }
}

#[test]
fn both_sides_of_a_refused_certificate_say_why() {
    for version in VERSIONS {
        let mut setup = Setup::new(version);
        setup.client = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(Identity::new("other.test").roots())
            .with_no_client_auth()
            .into();
        let mut ends = setup.sessions();
        let failure = ends.shake_hands(100).unwrap_err();
        assert_eq!(failure.kind, FailureKind::UnknownCa, "{failure}");
        carry(&mut ends.client, &mut ends.server, 100);
        let failure = ends.server.advance().unwrap_err();
        assert_eq!(failure.kind, FailureKind::OwnCertificateRefused, "{failure}");
    }
}
