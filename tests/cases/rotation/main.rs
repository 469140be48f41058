//! Certificates, roots and revocation lists that change while the proxy runs. Who a client is, is asked of the server.

mod bad;
mod load;

use std::fs;
use std::path::{Path, PathBuf};

use dragoman_harness::dragoman::{init, proxy};
use dragoman_harness::net::server;
use dragoman_harness::pki::{Issued, Pki, Spec};
use dragoman_harness::scratch::Scratch;
use dragoman_harness::servers::{self, Server};
use dragoman_harness::volume::{Volume, replace};
use dragoman_harness::{Dragoman, Net, Peer, process, wait};

/// A server that wants certificates, and what is needed to be its client.
struct Shop {
    net: Net,
    pki: Pki,
    scratch: Scratch,
    _nginx: Server,
}

impl Shop {
    /// nginx on port 443, which says whose certificate it has seen, and whether it was a session from before.
    fn new() -> Shop {
        let (net, pki) = (Net::new(), Pki::new());
        let own = pki.issue(&Spec::dns("shop.test").and_dns("own.test"));
        let (certificate, key, roots) = (own.certificate.display(), own.key.display(), pki.roots().display());
        let nginx = servers::nginx(
            &net.servers,
            &format!(
                "listen 443 ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
                 ssl_client_certificate {roots}; ssl_verify_client on; keepalive_timeout 1h; keepalive_requests 100000;
                 location / {{ return 200 '$ssl_client_serial $ssl_session_reused'; }}"
            ),
        );
        Shop { net, pki, scratch: Scratch::new("rotation"), _nginx: nginx }
    }

    /// A certificate for a client.
    fn client(&self) -> Issued {
        self.pki.issue(&Spec::uri("spiffe://shop.test/ns/web/sa/web"))
    }

    /// A place for a file of this name, which the proxy reads.
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A policy with an identity in this folder: `shop.test` has a pool, `own.test` has none.
    fn policy(&self, folder: &Path, more: &str) -> String {
        let (folder, roots) = (folder.display(), self.pki.roots().display());
        format!(
            "[identity]\ncertificate = '{folder}/tls.crt'\nkey = '{folder}/tls.key'\n\
             [destination.shop]\nhosts = ['shop.test']\npool = {{}}\n\
             tls = {{ port = 443, roots = ['{roots}'] {more} }}\n\
             [destination.own]\nhosts = ['own.test']\ntls = {{ port = 443, roots = ['{roots}'] }}\n"
        )
    }

    fn connect(&self) -> Peer {
        self.net.app.connect(server(80))
    }

    /// What the server says to a flow of its own: the serial number that it saw, and whether the session is resumed.
    fn ask(&self, host: &str) -> (String, bool) {
        ask(&mut self.connect(), host)
    }
}

/// The same on a flow that is open.
fn ask(peer: &mut Peer, host: &str) -> (String, bool) {
    let answer = peer.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
    assert_eq!(answer.status(), 200, "{}{}", answer.head, answer.text());
    let text = answer.text();
    let (serial, reused) = text.split_once(' ').expect("two words");
    (serial.to_owned(), reused == "r")
}

/// How often changed files have been taken, and refused, by any destination.
fn reloads(dragoman: &Dragoman) -> (u64, u64) {
    let metrics = dragoman.metrics();
    let count = |result| metrics.sum("dragoman_tls_reloads_total", &[("result", result)]);
    (count("applied"), count("refused"))
}

/// Waits until both destinations have taken what is new, for the n-th time.
fn taken(dragoman: &Dragoman, n: u64) {
    wait::until("the new identity is in force", wait::SOON, || reloads(dragoman).0 == 2 * n);
}

#[test]
fn t1_a_swap_of_a_mounted_secret_is_the_identity_of_the_next_connection() {
    let shop = Shop::new();
    let (first, second) = (shop.client(), shop.client());
    let volume = Volume::new(shop.path("secret"));
    volume.put(&first);
    let dragoman = Dragoman::start(&shop.net, &shop.policy(volume.path(), ""));
    let mut open = shop.connect();
    assert_eq!(ask(&mut open, "shop.test").0, first.serial);
    assert_eq!(shop.ask("own.test").0, first.serial);
    assert_eq!(
        shop.ask("own.test"),
        (first.serial.clone(), true),
        "sessions are resumed, as long as it is the same"
    );

    volume.put(&second);
    taken(&dragoman, 1);
    // The pool has a connection by the old one, and there are sessions by the old one: neither is used.
    assert_eq!(ask(&mut open, "shop.test"), (second.serial.clone(), false), "on a flow that is open");
    assert_eq!(shop.ask("own.test"), (second.serial.clone(), false));
    assert_eq!(shop.ask("own.test"), (second.serial.clone(), true));
    let metrics = dragoman.metrics_where("the pool has closed the old one", |metrics| {
        metrics.sum("dragoman_upstream_idle_closed_total", &[("destination", "shop")]) == 1
    });
    let expiry = second.not_after.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for destination in ["shop", "own"] {
        let labels = [("destination", destination)];
        assert_eq!(metrics.sum("dragoman_tls_certificate_expiry_seconds", &labels), expiry);
    }
    wait::until("it is told", wait::SOON, || dragoman.log().contains("changed TLS files are in force"));
    let log = dragoman.log();
    assert_eq!(log.matches("changed TLS files are in force").count(), 1, "in one line for both: {log}");
    let line = log.lines().find(|line| line.contains("changed TLS files")).unwrap();
    assert!(line.contains("own, shop") && line.contains("spiffe://shop.test/ns/web/sa/web"), "{line}");
    for secret in first.secrets().iter().chain(&second.secrets()) {
        assert!(!log.contains(secret) && !dragoman.admin("/metrics").unwrap().text().contains(secret));
    }
}

#[test]
fn t1_roots_and_revocation_lists_change_too() {
    let shop = Shop::new();
    let identity = shop.client();
    identity.write_to(&shop.path("identity"));
    let (roots, list) = (shop.path("roots.pem"), shop.path("list.pem"));
    let (stranger, nobody) = (Pki::new(), shop.pki.crl(&[]));
    replace(&roots, fs::read(shop.pki.roots()).unwrap());
    replace(&list, fs::read(nobody).unwrap());
    let (folder, roots_path, list_path) = (shop.path("identity"), roots.display(), list.display());
    let folder = folder.display();
    let dragoman = Dragoman::start(
        &shop.net,
        &format!(
            "[identity]\ncertificate = '{folder}/tls.crt'\nkey = '{folder}/tls.key'\n\
             [destination.shop]\nhosts = ['shop.test']\n\
             tls = {{ port = 443, roots = ['{roots_path}'], crls = ['{list_path}'] }}\n"
        ),
    );
    let refused = || {
        let answer = shop.connect().exchange("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").unwrap();
        (answer.status(), answer.header("x-dragoman-cause").map(str::to_owned))
    };
    assert_eq!(shop.ask("shop.test").0, identity.serial);
    replace(&roots, fs::read(stranger.roots()).unwrap());
    wait::until("the new roots are in force", wait::SOON, || reloads(&dragoman).0 == 1);
    let (status, cause) = refused();
    assert!((500..600).contains(&status) && cause.as_deref() == Some("tls_unknown_ca"), "{status} {cause:?}");
    // Both, in a bundle, as whoever changes an authority does it.
    let both = [fs::read(stranger.roots()).unwrap(), fs::read(shop.pki.roots()).unwrap()].concat();
    replace(&roots, both);
    wait::until("both roots are in force", wait::SOON, || reloads(&dragoman).0 == 2);
    assert_eq!(shop.ask("shop.test"), (identity.serial.clone(), false), "no session of the time before");
    replace(&list, b"hello");
    wait::until("the list is refused", wait::SOON, || reloads(&dragoman).1 == 1);
    assert_eq!(shop.ask("shop.test").0, identity.serial);
    wait::until("it is told", wait::SOON, || dragoman.log().contains(&format!("{list_path}: ")));
}

/// As `update-ca-certificates` changes them: a new file in place of the one before.
#[test]
fn t1_the_roots_of_the_machine_change_too() {
    let shop = Shop::new();
    let identity = shop.client();
    identity.write_to(&shop.path("identity"));
    let (bundle, stranger) = (shop.path("ca-certificates.crt"), Pki::new());
    let (ours, others) = (fs::read(shop.pki.roots()).unwrap(), fs::read(stranger.roots()).unwrap());
    replace(&bundle, &others);
    let folder = shop.path("identity");
    let configuration = format!(
        "[identity]\ncertificate = '{0}/tls.crt'\nkey = '{0}/tls.key'\n[destination.shop]\nhosts = ['shop.test']\n\
         tls = {{ port = 443, roots = ['system'], server_name = 'shop.test' }}\n",
        folder.display()
    );
    let dragoman = Dragoman::start_by(&shop.net, &configuration, |net, path| {
        let mut proxy = proxy(net, path);
        proxy.env("SSL_CERT_FILE", &bundle).env_remove("SSL_CERT_DIR");
        proxy
    });
    process::succeed(&mut init(&shop.net, &["install"]));
    let cause = || {
        let answer = shop.connect().exchange("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").unwrap();
        answer.header("x-dragoman-cause").map(str::to_owned)
    };
    assert_eq!(cause().as_deref(), Some("tls_unknown_ca"));
    replace(&bundle, [&*others, &ours].concat());
    wait::until("one more authority is trusted", wait::SOON, || reloads(&dragoman).0 == 1);
    assert_eq!(shop.ask("shop.test"), (identity.serial.clone(), false));
    replace(&bundle, "");
    wait::until("nobody at all is refused", wait::SOON, || reloads(&dragoman) == (1, 1));
    assert_eq!(shop.ask("shop.test").0, identity.serial);
    wait::until("it is told", wait::SOON, || {
        dragoman.log().contains("this machine has no trusted certificates")
    });
    replace(&bundle, &others);
    wait::until("one less is trusted", wait::SOON, || reloads(&dragoman).0 == 2);
    assert_eq!(cause().as_deref(), Some("tls_unknown_ca"));
}
