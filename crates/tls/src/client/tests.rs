use std::time::Duration;

use rustls::client::ClientSessionStore;
use rustls::server::ProducesTickets;
use rustls::{
    ClientConnection, Connection, HandshakeKind, NamedGroup, ProtocolVersion, ServerConfig, ServerConnection,
};

use super::*;
use crate::session::Session;
use crate::testing::{Authority, Issued, leaf};

fn material(authority: &Authority) -> ClientMaterial {
    let mut roots = Roots::default();
    roots.add_pem(authority.pem().as_bytes()).unwrap();
    ClientMaterial {
        roots,
        crls: vec![],
        verify: Verify::Name,
        pins: vec![],
        tls13_only: false,
        post_quantum: true,
        server_name: None,
        identity: None,
        generation: 1,
    }
}

fn server(shown: &Issued, tls12_only: bool, alpn: &[&str]) -> Arc<ServerConfig> {
    let versions: &[_] = if tls12_only { &[&TLS12] } else { &[&TLS13, &TLS12] };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.chain.clone(), shown.key.clone_key())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// One connection, up to where the client has all that the server says at first.
fn connect(side: ClientSide, server: &Arc<ServerConfig>) -> Result<ClientConnection, rustls::Error> {
    let name = "a.test".try_into().unwrap();
    let mut client = Connection::Client(ClientConnection::new(side.config, name).unwrap());
    let mut server = Connection::Server(ServerConnection::new(Arc::clone(server)).unwrap());
    while client.wants_write() || server.wants_write() {
        for (from, to) in [(0, 1), (1, 0)] {
            let both = [&mut client, &mut server];
            let mut bytes = Vec::new();
            while both[from].wants_write() {
                both[from].write_tls(&mut bytes).unwrap();
            }
            let mut left = &bytes[..];
            while !left.is_empty() {
                both[to].read_tls(&mut left).unwrap();
                both[to].process_new_packets()?;
            }
        }
    }
    side.tickets.unwrap().weigh(1, || 0);
    match client {
        Connection::Client(client) => Ok(client),
        Connection::Server(_) => unreachable!(),
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

#[test]
fn sessions_are_resumed_with_the_same_endpoint_protocol_and_name_alone() {
    let authority = Authority::new("ca");
    let now = Instant::now();
    for tls12_only in [false, true] {
        let server = server(&authority.issue(&leaf(&["a.test"])), tls12_only, &[]);
        let configs = ClientConfigs::new(material(&authority), now).unwrap();
        let kind = |configs: &ClientConfigs, alpn, port, now| {
            connect(configs.side(alpn, at(port), now), &server).unwrap().handshake_kind().unwrap()
        };
        assert_ne!(kind(&configs, Alpn::None, 1, now), HandshakeKind::Resumed);
        for _ in 0..20 {
            assert_eq!(kind(&configs, Alpn::None, 1, now), HandshakeKind::Resumed);
        }
        assert_ne!(kind(&configs, Alpn::None, 2, now), HandshakeKind::Resumed, "another endpoint");
        assert_ne!(kind(&configs, Alpn::Http1, 1, now), HandshakeKind::Resumed, "another protocol");
        let other = ClientConfigs::new(material(&authority), now).unwrap();
        assert_ne!(kind(&other, Alpn::None, 1, now), HandshakeKind::Resumed, "other material");
        // In the next term the certificate has to be shown again.
        let later = now + Duration::from_secs(601);
        assert_ne!(kind(&configs, Alpn::None, 1, later), HandshakeKind::Resumed, "too long ago");
        assert_eq!(kind(&configs, Alpn::None, 1, later), HandshakeKind::Resumed);
    }
}

#[test]
fn what_comes_of_an_older_term_is_not_kept() {
    let authority = Authority::new("ca");
    let now = Instant::now();
    let server = server(&authority.issue(&leaf(&["a.test"])), false, &[]);
    let configs = ClientConfigs::new(material(&authority), now).unwrap();
    let old = configs.side(Alpn::None, at(1), now);
    let new = configs.side(Alpn::None, at(1), now + Duration::from_secs(601));
    connect(old, &server).unwrap();
    let first = connect(new, &server).unwrap();
    assert_ne!(first.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn what_is_remembered_is_bounded() {
    let now = Instant::now();
    let configs = ClientConfigs::new(material(&Authority::new("ca")), now).unwrap();
    for port in 1..=600 {
        let name = ServerName::try_from("a.test").unwrap();
        configs.tickets.at(at(port), Alpn::None, now).set_kx_hint(name, NamedGroup::X25519);
    }
    let shown = format!("{:?}", configs.tickets);
    assert_eq!(shown.matches("endpoint:").count(), 512);
}

/// Gives tickets of this size, in bytes, and takes none.
#[derive(Debug)]
struct Huge(usize);

impl ProducesTickets for Huge {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        3600
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        Some(vec![7; self.0])
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// Agrees with a server that gives so many tickets of this size at once, and takes in all that it says. `step`: the most bytes that
/// come in one piece.
fn take_tickets(side: ClientSide, mut server: ServerConfig, count: usize, size: usize, step: usize) {
    (server.ticketer, server.send_tls13_tickets) = (Arc::new(Huge(size)), count);
    let mut client = Session::client(side, "a.test".try_into().unwrap()).unwrap();
    let mut server = Session::server(Arc::new(server)).unwrap();
    while !client.outgoing().is_empty() || !server.outgoing().is_empty() {
        for (from, to) in [(0, 1), (1, 0)] {
            let both = [&mut client, &mut server];
            let said = both[from].outgoing().to_vec();
            both[from].sent(said.len());
            for piece in said.chunks(step) {
                let taken = both[to].receive(|room| {
                    room.extend_from_slice(piece);
                    Ok(piece.len())
                });
                assert_eq!(taken.unwrap(), piece.len());
                both[to].advance().unwrap();
                both[to].settle();
            }
        }
    }
    assert!(!client.is_handshaking() && client.is_quiet());
}

#[test]
fn what_a_server_gives_to_resume_by_is_bounded_in_bytes() {
    let authority = Authority::new("ca");
    let shown = authority.issue(&leaf(&["a.test"]));
    let now = Instant::now();
    // The size of a ticket, and how many are kept: of the two that each connection brings the next one takes one. A server of
    // TLS 1.2 gives one.
    for (size, kept) in [(200, 11..=11), (12_000, 2..=11), (30_000, 0..=8), (60_000, 0..=0)] {
        for (tls12_only, step) in [(false, 60_000), (false, 1000), (true, 60_000), (true, 1000)] {
            let configs = ClientConfigs::new(material(&authority), now).unwrap();
            for _ in 0..10 {
                let server = ServerConfig::clone(&server(&shown, tls12_only, &[]));
                take_tickets(configs.side(Alpn::None, at(1), now), server, 2, size, step);
            }
            let (weight, count) = configs.tickets.held();
            let meant = if tls12_only { (*kept.end()).min(1)..=1.min(*kept.end()) } else { kept.clone() };
            assert!(meant.contains(&count), "{size} {tls12_only} {step}: {count} are kept");
            assert!(weight >= count * size && weight <= 256 * 1024, "{size} {tls12_only} {step}: {weight}");
        }
    }
}

#[test]
fn what_all_servers_give_to_resume_by_is_bounded_in_bytes() {
    let authority = Authority::new("ca");
    let shown = authority.issue(&leaf(&["a.test"]));
    let now = Instant::now();
    let configs = ClientConfigs::new(material(&authority), now).unwrap();
    for port in 0..400 {
        let server = ServerConfig::clone(&server(&shown, false, &[]));
        take_tickets(configs.side(Alpn::None, at(port), now), server, 2, 15_000, 16_000);
    }
    let (weight, count) = configs.tickets.held();
    assert!(weight <= 16 << 20 && weight > 8 << 20 && weight >= count * 15_000, "{weight} {count}");
    let later = now + Duration::from_secs(601);
    configs.side(Alpn::None, at(1), later);
    assert_eq!(configs.tickets.held(), (0, 0), "in the next term");
}

#[test]
fn the_hybrid_key_exchange_is_the_first_choice_or_none() {
    let authority = Authority::new("ca");
    let server = server(&authority.issue(&leaf(&["a.test"])), false, &[]);
    for post_quantum in [true, false] {
        let material = ClientMaterial { post_quantum, ..material(&authority) };
        let configs = ClientConfigs::new(material, Instant::now()).unwrap();
        let client = connect(configs.side(Alpn::None, at(1), Instant::now()), &server).unwrap();
        let group = client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group == NamedGroup::X25519MLKEM768, post_quantum, "{group:?}");
    }
}

#[test]
fn the_lowest_version_holds() {
    let authority = Authority::new("ca");
    let shown = authority.issue(&leaf(&["a.test"]));
    let one = ClientConfigs::new(material(&authority), Instant::now()).unwrap();
    let client = connect(one.side(Alpn::None, at(1), Instant::now()), &server(&shown, true, &[])).unwrap();
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let material = ClientMaterial { tls13_only: true, ..material(&authority) };
    let other = ClientConfigs::new(material, Instant::now()).unwrap();
    assert!(connect(other.side(Alpn::None, at(1), Instant::now()), &server(&shown, true, &[])).is_err());
}

#[test]
fn a_protocol_is_offered_as_it_is_needed() {
    let authority = Authority::new("ca");
    let shown = authority.issue(&leaf(&["a.test"]));
    let both = server(&shown, false, &["h2", "http/1.1"]);
    let silent = server(&shown, false, &[]);
    let configs = ClientConfigs::new(material(&authority), Instant::now()).unwrap();
    for (alpn, agreed) in [(Alpn::None, None), (Alpn::Http1, Some("http/1.1")), (Alpn::Http2, Some("h2"))] {
        let client = connect(configs.side(alpn, at(1), Instant::now()), &both).unwrap();
        assert_eq!(client.alpn_protocol(), agreed.map(str::as_bytes));
        assert!(alpn.is_met_by(client.alpn_protocol()));
        let client = connect(configs.side(alpn, at(2), Instant::now()), &silent).unwrap();
        assert_eq!(client.alpn_protocol(), None);
        assert_eq!(alpn.is_met_by(None), alpn != Alpn::Http2);
    }
}

#[test]
fn early_data_is_never_sent() {
    let authority = Authority::new("ca");
    let configs = ClientConfigs::new(material(&authority), Instant::now()).unwrap();
    assert!(!configs.side(Alpn::None, at(1), Instant::now()).config.enable_early_data);
}
