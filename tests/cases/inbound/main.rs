//! TLS of the connections that come to the app: who may connect, what the app is told of it, and what those who may not
//! find out, on both sides.

mod clients;
mod killed;
mod mixed;
mod pair;
mod refused;
mod rotation;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use dragoman_harness::dragoman::init_in;
use dragoman_harness::net::{APP_V4, APP_V6};
use dragoman_harness::pki::{Issued, Pki, Spec};
use dragoman_harness::{Dragoman, Namespace, Net, process, wait};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version};

/// Who the app is, and who may connect to it.
const PAY: &str = "spiffe://shop.test/pay";
const WEB: &str = "spiffe://shop.test/web";

/// Both versions, each alone.
const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// An app in A with dragoman before it, whose clients are in S.
struct Rig {
    net: Net,
    pki: Pki,
    /// The app's identity.
    pay: Issued,
    /// The identity of a client that may connect.
    web: Issued,
}

impl Rig {
    fn new() -> Rig {
        let pki = Pki::new();
        let pay = pki.issue(&Spec::uri(PAY).and_dns("pay.test"));
        let web = pki.issue(&Spec::uri(WEB).and_dns("web.test"));
        Rig { net: Net::new(), pki, pay, web }
    }

    /// Where clients find the app.
    fn app(port: u16) -> SocketAddr {
        (APP_V4, port).into()
    }

    /// The same over IPv6.
    fn app_v6(port: u16) -> SocketAddr {
        (APP_V6, port).into()
    }

    /// The table of what comes to the app, with these further lines in it.
    fn inbound(&self, lines: &str) -> String {
        format!(
            "[inbound]\nidentity = {{ certificate = '{}', key = '{}' }}\nroots = ['{}']\n{lines}\n",
            self.pay.certificate.display(),
            self.pay.key.display(),
            self.pki.roots().display(),
        )
    }

    /// Starts the proxy before the app, with what comes from outside captured.
    fn start(&self, configuration: &str) -> Dragoman<'_> {
        self.start_with(configuration, &[])
    }

    /// The same with further options of `dragoman-init`.
    fn start_with(&self, configuration: &str, options: &[&str]) -> Dragoman<'_> {
        let dragoman = Dragoman::start_in(&self.net.app, configuration);
        let arguments = [&["install", "--inbound"], options].concat();
        process::succeed(&mut init_in(&self.net.app, &arguments));
        dragoman
    }

    /// What a client with this identity, if any, is made with.
    fn client(&self, identity: Option<&Issued>, version: &'static SupportedProtocolVersion) -> ClientConfig {
        client_of(&[&self.pki], identity, version)
    }

    /// curl in S as this client.
    fn curl(&self, identity: &Issued) -> Command {
        let mut curl = self.net.servers.bounded("curl");
        curl.args(["-sS", "--resolve", &format!("pay.test:8080:{APP_V4}")]);
        curl.arg("--cacert").arg(self.pki.roots());
        curl.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key);
        curl
    }
}

/// What a client is made with that trusts these authorities.
fn client_of(
    authorities: &[&Pki],
    identity: Option<&Issued>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    authorities.iter().for_each(|it| roots.add(it.certificate().clone()).expect("a root"));
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version that there is")
        .with_root_certificates(roots);
    match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key_der())
            .expect("the two belong together"),
        None => builder.with_no_client_auth(),
    }
}

/// How many handshakes with clients there were: full ones, resumed ones, failed ones.
fn handshakes(dragoman: &Dragoman) -> [u64; 3] {
    let metrics = dragoman.settle();
    ["full", "resumed", "failed"].map(|result| {
        let labels = [("destination", "inbound"), ("result", result)];
        metrics.sum("dragoman_tls_handshakes_total", &labels)
    })
}

/// A client's connection.
type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connects in this namespace; the handshake comes with the first bytes.
fn connect(namespace: &Namespace, config: ClientConfig, address: SocketAddr) -> Tls {
    let stream =
        namespace.enter(|| TcpStream::connect_timeout(&address, wait::SOON)).expect("it is captured");
    stream.set_read_timeout(Some(wait::SOON)).expect("an open socket");
    let name = ServerName::try_from("pay.test").expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a configuration of use");
    StreamOwned::new(session, stream)
}

/// Reads so many bytes.
fn read(tls: &mut Tls, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    tls.read_exact(&mut bytes).expect("so much is to come");
    bytes
}

/// What a client is told that asks `GET /` and may not: the alert, in the words of rustls, or how the connection ended.
fn told(mut tls: Tls) -> String {
    let written = tls.write_all(b"GET / HTTP/1.1\r\nHost: pay.test\r\n\r\n");
    let ended = written.and_then(|()| tls.read_to_end(&mut Vec::new()));
    match ended {
        Ok(count) => panic!("it was answered with {count} bytes"),
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it was told nothing"),
        Err(error) => error.to_string(),
    }
}
