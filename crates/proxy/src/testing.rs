//! What the unit tests of this crate share.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use dragoman_tls::session::Session;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};

use crate::stream::{Stream, TlsStream};

/// Both ends of a connection over loopback: that of whoever connected, and that of whoever accepted.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// Both versions of TLS.
pub(crate) const TLS_VERSIONS: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// A client and a server that trust one another to speak one version of TLS.
pub(crate) struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    pub(crate) fn new(version: &'static SupportedProtocolVersion) -> Self {
        let made = rcgen::generate_simple_self_signed(["server.test".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let client = ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots);
        let server = ServerConfig::builder_with_protocol_versions(&[version]).with_no_client_auth();
        Self {
            client: Arc::new(client.with_no_client_auth()),
            server: Arc::new(server.with_single_cert(vec![certificate], key.into()).unwrap()),
        }
    }

    pub(crate) fn client(&self) -> Session {
        let name = ServerName::try_from("server.test").unwrap();
        Session::client(Arc::clone(&self.client), name).unwrap()
    }

    pub(crate) fn server(&self) -> Session {
        Session::server(Arc::clone(&self.server)).unwrap()
    }

    /// TLS on both ends of a connection: the client's and the server's.
    pub(crate) async fn on(&self, (client, server): (TcpStream, TcpStream)) -> (Stream, Stream) {
        // As all connections of the data path: else what is written behind the tickets waits for these.
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let client = Box::new(TlsStream::new(client, self.client()));
        let server = Box::new(TlsStream::new(server, self.server()));
        let done = tokio::join!(client.handshake(&[]), server.handshake(&[]));
        assert!(matches!(done, (Ok(()), Ok(()))), "{done:?}");
        (Stream::Tls(client), Stream::Tls(server))
    }

    pub(crate) async fn pair(&self) -> (Stream, Stream) {
        self.on(pair().await).await
    }
}

/// A folder of one test's own, removed with this value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// `name` tells it from those of other tests of this crate.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dragoman-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where the file of this name is, or would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file whole, in place of the one before.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (new, path) = (self.0.join("new"), self.0.join(name));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
