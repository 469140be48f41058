//! A TLS server that stands before a scripted one and does what a case tells it, right or wrong: it hands what it
//! decrypts to the server behind it and encrypts what comes back.
//!
//! The server behind it is any [`Origin`](crate::Origin) or [`Http2Origin`](crate::http2::Http2Origin), which takes its
//! connection only when the handshake has come to its good end: a server that has seen no connection has got no byte.
//!
//! ```no_run
//! # use dragoman_harness::{Net, Origin, net::server, origin::Reply, pki::{Pki, Spec}, tls::{Front, Setting, behind}};
//! let (net, pki) = (Net::new(), Pki::new());
//! let origin = Origin::http(&net.servers, behind(8000), |_, _| Reply::status(200, "ok"));
//! let front = Front::start(&net.servers, server(443), behind(8000), Setting::of(&pki.issue(&Spec::dns("a.test"))));
//! // … then `front.handshakes()` says who came, and `origin.requests()` what they asked for.
//! ```

mod serve;

use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use socket2::SockRef;

use crate::net::Namespace;
use crate::peer::Bytes;
use crate::pki::{Issued, Pki};
use crate::wait;

/// What stands in place of TLS where a case asks for garbage: what a plain web server says to a ClientHello.
pub const GARBAGE: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nThis is not a port for TLS.\r\n";

/// How often it is said: so that it is more than a record that has begun before it.
const GARBAGE_TIMES: usize = 1000;

/// Where a server that only a [`Front`] speaks to listens: S's loopback.
pub fn behind(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The versions that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    Both,
    /// TLS 1.2 alone.
    Only12,
    /// TLS 1.3 alone.
    Only13,
}

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// When this many bytes were sent, those of the handshake included; 0 is in place of the ServerHello.
    Byte(usize),
    /// When this many bytes of the server behind were sent, after a good handshake.
    Answer(usize),
}

/// What a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Silence, until the other side goes away.
    Stall,
    /// [`GARBAGE`], then silence.
    Garbage,
    /// The end of the connection, without a word of TLS.
    Close,
    /// A reset.
    Reset,
}

/// How a front behaves.
#[derive(Clone)]
pub struct Setting {
    /// The certificates that it shows, its own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: Arc<PrivateKeyDer<'static>>,
    /// What it speaks.
    pub versions: Versions,
    /// The protocols that it agrees to (ALPN), the best first. With none, it agrees to nothing and goes on.
    pub alpn: Vec<&'static str>,
    /// Whose clients alone it serves; `None` is everybody, and nobody is asked.
    pub clients: Option<CertificateDer<'static>>,
    /// What goes wrong, and where.
    pub fault: Option<(At, Fault)>,
    /// Whether it says close_notify before it ends.
    pub notifies: bool,
    /// The most bytes that it sends at once.
    pub segment: usize,
    /// Whether it changes its keys before all that it says (TLS 1.3's KeyUpdate).
    pub updates_keys: bool,
    /// Whether sessions may be resumed.
    pub resumes: bool,
}

impl Setting {
    /// A good server with this certificate.
    pub fn of(identity: &Issued) -> Setting {
        Setting {
            chain: identity.chain.clone(),
            key: Arc::new(identity.key_der()),
            versions: Versions::Both,
            alpn: Vec::new(),
            clients: None,
            fault: None,
            notifies: true,
            segment: usize::MAX,
            updates_keys: false,
            resumes: true,
        }
    }

    /// With a fault.
    #[must_use]
    pub fn with_fault(self, at: At, fault: Fault) -> Setting {
        Setting { fault: Some((at, fault)), ..self }
    }

    /// For clients with a certificate of this authority alone.
    #[must_use]
    pub fn for_clients_of(self, authority: &Pki) -> Setting {
        Setting { clients: Some(authority.certificate().clone()), ..self }
    }

    fn config(&self) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[_] = match self.versions {
            Versions::Both => &[&version::TLS13, &version::TLS12],
            Versions::Only12 => &[&version::TLS12],
            Versions::Only13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("the provider has both versions");
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone()).expect("an authority of this harness");
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.expect("one root is enough"))
            }
        };
        let key = self.key.clone_key();
        let mut config = builder.with_single_cert(self.chain.clone(), key).expect("a pair that matches");
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        if !self.resumes {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config
    }
}

/// A handshake that came to its good end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
    /// The protocol that was agreed to (ALPN).
    pub alpn: Option<String>,
    /// The version, as rustls calls it: `TLSv1_3`.
    pub version: String,
    /// Whether it went on with an old session.
    pub resumed: bool,
    /// The client's own certificate.
    pub client: Option<CertificateDer<'static>>,
}

/// A connection as the front saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who connected.
    pub peer: SocketAddr,
    /// Every byte that arrived, as it stood on the wire.
    pub wire: Bytes,
    /// Every byte that was decrypted.
    pub plain: Bytes,
    /// What became of the handshake; `None` while it is under way.
    pub handshake: Option<Result<Handshake, String>>,
    /// How the client ended its direction: whether with close_notify; `None` while it has not.
    pub notified: Option<bool>,
}

/// A TLS server in a namespace. It stops listening when dropped.
pub struct Front {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    listener: std::net::TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl Front {
    /// Listens on `address` and hands what it decrypts to a server at `behind`.
    pub fn start(namespace: &Namespace, address: SocketAddr, behind: SocketAddr, setting: Setting) -> Front {
        let listener = namespace.listen(address);
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let config = Arc::new(setting.config());
        let setting = Arc::new(setting);
        let accept = {
            let listener = listener.try_clone().expect("a listener can be duplicated");
            let seen = Arc::clone(&seen);
            move || {
                while let Ok((stream, peer)) = listener.accept() {
                    let (wire, plain) = (Bytes::default(), Bytes::default());
                    let at = {
                        let mut seen = lock(&seen);
                        let (wire, plain) = (wire.clone(), plain.clone());
                        seen.push(Seen { peer, wire, plain, handshake: None, notified: None });
                        seen.len() - 1
                    };
                    let note = Note { all: Arc::clone(&seen), at, plain };
                    let (config, setting) = (Arc::clone(&config), Arc::clone(&setting));
                    thread::spawn(move || serve::serve(stream, wire, behind, config, &setting, &note));
                }
            }
        };
        // A thread inherits the namespace of the one that starts it.
        let acceptor = namespace.enter(|| thread::spawn(accept));
        Front { address, seen, listener, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every connection so far, in the order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// The handshakes that came to their good end so far, in the order of their connections.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.seen().into_iter().filter_map(|seen| seen.handshake?.ok()).collect()
    }

    /// Waits until the handshake of connection number `n`, from 0, has come to an end.
    pub fn handshake(&self, n: usize) -> Result<Handshake, String> {
        let what = format!("handshake {n} at {}", self.address);
        wait::until_some(&what, wait::SOON, || lock(&self.seen).get(n)?.handshake.clone())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Wakes the acceptor: accept(2) on a socket that is shut down fails.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Where a connection's thread notes what it sees.
struct Note {
    all: Arc<Mutex<Vec<Seen>>>,
    at: usize,
    plain: Bytes,
}

impl Note {
    fn set(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut lock(&self.all)[self.at]);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Net, server};
    use crate::origin::{Origin, Reply};
    use crate::pki::Spec;
    use crate::process;

    /// A front on port 443 for `shop.test` before an HTTP server, and what curl gets there.
    struct Case {
        net: Net,
        pki: Pki,
        origin: Origin,
        front: Front,
    }

    impl Case {
        fn new(pki: Pki, setting: impl FnOnce(&Pki, Setting) -> Setting) -> Case {
            let net = Net::new();
            let origin = Origin::http(&net.servers, behind(8000), |request, _| {
                Reply::SendAndClose(format!("HTTP/1.1 200 X\r\n\r\n{}", request.text()).into_bytes())
            });
            let setting = setting(&pki, Setting::of(&pki.issue(&Spec::dns("shop.test"))));
            let front = Front::start(&net.servers, server(443), behind(8000), setting);
            Case { net, pki, origin, front }
        }

        /// The exit code of curl, and what it printed.
        fn curl(&self, more: &[&str]) -> (Option<i32>, String) {
            let mut curl = self.net.app.bounded("curl");
            curl.args(["-sS", "--http1.1", "--resolve", "shop.test:443:198.18.0.2", "--cacert"]);
            let out = process::output(curl.arg(self.pki.roots()).args(more).arg("https://shop.test/"));
            (out.status.code(), process::text(&out))
        }
    }

    #[test]
    fn a_good_server_hands_on_what_it_decrypts_and_tells_of_its_client() {
        let body = "x".repeat(300_000);
        let tiny = |_: &Pki, setting| Setting { segment: 1, ..setting };
        let updating =
            |_: &Pki, setting| Setting { updates_keys: true, versions: Versions::Only13, ..setting };
        let settings: [fn(&Pki, Setting) -> Setting; 3] = [|_, setting| setting, tiny, updating];
        for setting in settings {
            let case = Case::new(Pki::new(), setting);
            let file = case.pki.write("body", &body);
            let (code, answer) = case.curl(&["--data-binary", &format!("@{}", file.display())]);
            assert!(code == Some(0) && answer == body, "{code:?}: {} bytes", answer.len());
            assert_eq!(case.origin.requests().len(), 1);
            let expected = Handshake {
                server_name: Some("shop.test".to_owned()),
                alpn: None,
                version: "TLSv1_3".to_owned(),
                resumed: false,
                client: None,
            };
            assert_eq!(case.front.handshake(0), Ok(expected));
            assert!(!String::from_utf8_lossy(&case.front.seen()[0].wire.so_far()).contains("HTTP/1.1"));
        }
    }

    #[test]
    fn a_client_without_the_right_certificate_gets_nowhere() {
        for versions in [Versions::Only12, Versions::Only13] {
            let case = Case::new(Pki::new(), |pki, setting| Setting {
                versions,
                alpn: vec!["http/1.1"],
                ..setting.for_clients_of(pki)
            });
            let stranger = Pki::new().issue(&Spec::dns("app.test"));
            let known = case.pki.issue(&Spec::dns("app.test"));
            let (path, other) = (known.certificate.to_str().unwrap(), stranger.certificate.to_str().unwrap());
            let (key, others) = (known.key.to_str().unwrap(), stranger.key.to_str().unwrap());
            for who in [&[][..], &["--cert", other, "--key", others]] {
                let (code, text) = case.curl(who);
                assert!(code != Some(0) && text.contains("alert"), "{code:?}: {text}");
            }
            assert_eq!(case.origin.seen().len(), 0, "it got bytes of a client that is nobody");
            assert_eq!(case.curl(&["--cert", path, "--key", key]).0, Some(0));
            let seen = case.front.handshakes();
            assert_eq!(seen.len(), 1);
            assert_eq!(seen[0].client.as_ref(), Some(&known.chain[0]));
            assert_eq!(seen[0].alpn.as_deref(), Some("http/1.1"));
        }
    }

    #[test]
    fn faults_strike_where_they_are_told_to() {
        let faults = [
            (At::Byte(0), Fault::Stall, "timed out"),
            (At::Byte(0), Fault::Garbage, "wrong version number"),
            (At::Byte(0), Fault::Close, ""),
            (At::Byte(200), Fault::Close, ""),
            (At::Byte(200), Fault::Reset, "reset by peer"),
            (At::Answer(4), Fault::Close, ""),
            (At::Answer(4), Fault::Garbage, "wrong version number"),
            (At::Answer(4), Fault::Reset, "reset by peer"),
        ];
        for (at, fault, words) in faults {
            let case = Case::new(Pki::new(), |_, setting| setting.with_fault(at, fault));
            let time = if fault == Fault::Stall { ["--max-time", "1"] } else { ["--max-time", "50"] };
            let (code, text) = case.curl(&time);
            assert!(code != Some(0) && text.contains(words), "{at:?}, {fault:?}: {code:?}\n{text}");
            assert_eq!(case.origin.seen().len(), usize::from(matches!(at, At::Answer(_))));
        }
        // curl does not tell how a connection ends.
        for (notifies, told) in [(true, false), (false, true)] {
            let case = Case::new(Pki::new(), |_, setting| Setting { notifies, ..setting });
            let line =
                "printf 'GET / HTTP/1.1\\r\\n\\r\\n' | openssl s_client -quiet -connect 198.18.0.2:443 2>&1";
            let text = process::text(&case.net.app.shell(line));
            assert!(text.contains("200 X") && text.contains("unexpected eof") == told, "{text}");
        }
    }

    #[test]
    fn sessions_are_resumed_unless_that_is_off() {
        for (resumes, expected) in [(true, 5), (false, 0)] {
            let case = Case::new(Pki::new(), |_, setting| Setting {
                resumes,
                versions: Versions::Only12,
                ..setting
            });
            case.net.app.succeed("echo Q | openssl s_client -connect 198.18.0.2:443 -reconnect");
            // The client is gone before the server has understood its last word.
            let seen = (0..6).map(|n| case.front.handshake(n).expect("a good handshake"));
            assert_eq!(seen.filter(|handshake| handshake.resumed).count(), expected);
        }
    }
}
