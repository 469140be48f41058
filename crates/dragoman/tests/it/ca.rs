//! `dragoman ca`: what it writes, as OpenSSL, nginx and curl see it, and what it refuses to do.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::running::{DRAGOMAN, Folder, PATIENCE, Running, command, own_address, text};

/// A folder with an authority in it.
struct Authority {
    folder: Folder,
}

impl Authority {
    fn new(more: &[&str]) -> Authority {
        let authority = Authority { folder: Folder::new() };
        let out = authority.ca("init", more);
        assert!(out.status.success(), "{}", text(&out.stderr));
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    fn arguments(&self, verb: &str, more: &[&str]) -> Command {
        let mut command = command(Path::new(DRAGOMAN));
        command.args(["ca", verb, "--ca", "authority"]).args(more).current_dir(&self.folder.0);
        command
    }

    fn ca(&self, verb: &str, more: &[&str]) -> Output {
        self.arguments(verb, more).output().unwrap()
    }

    /// What it says when it succeeds.
    #[track_caller]
    fn succeed(&self, verb: &str, more: &[&str]) -> String {
        let out = self.ca(verb, more);
        assert!(out.status.success() && out.stderr.is_empty(), "{}", text(&out.stderr));
        text(&out.stdout)
    }

    /// What it says when it refuses.
    #[track_caller]
    fn refuse(&self, verb: &str, more: &[&str]) -> String {
        let out = self.ca(verb, more);
        assert_eq!((out.status.code(), text(&out.stdout)), (Some(1), String::new()), "{}", text(&out.stderr));
        text(&out.stderr)
    }

    fn openssl(&self, arguments: &str) -> (bool, String) {
        let out = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.folder.0)
            .output()
            .expect("openssl is there: run scripts/setup");
        (out.status.success(), text(&out.stdout) + &text(&out.stderr))
    }

    /// The certificate and the key, which are of each other.
    #[track_caller]
    fn pair(&self, name: &str) -> [String; 2] {
        let (_, certified) = self.openssl(&format!("x509 -in {name}/tls.crt -noout -pubkey"));
        let (_, own) = self.openssl(&format!("pkey -in {name}/tls.key -pubout"));
        assert_eq!(certified, own);
        ["tls.crt", "tls.key"].map(|file| fs::read_to_string(self.path(name).join(file)).unwrap())
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_issued_is_what_openssl_wants() {
    let ca = Authority::new(&[]);
    let said = ca.succeed(
        "issue",
        &[
            "--dns",
            "Pay.test",
            "--dns",
            "*.pay.test",
            "--spiffe",
            "spiffe://shop.test/pay",
            "--ip",
            "::1",
            "--out",
            "pay",
        ],
    );
    assert!(said.contains("pay.test, *.pay.test, spiffe://shop.test/pay, ::1"), "{said}");
    let (_, shown) = ca.openssl("x509 -in pay/tls.crt -noout -text");
    for needle in [
        "Issuer: O = NOT FOR PRODUCTION, CN = dragoman development CA ",
        "NIST CURVE: P-256",
        "DNS:pay.test, DNS:*.pay.test, URI:spiffe://shop.test/pay, IP Address:0:0:0:0:0:0:0:1",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
    ] {
        assert!(shown.contains(needle), "no {needle:?} in\n{shown}");
    }
    let (_, shown) = ca.openssl("x509 -in pay/ca.crt -noout -text");
    for needle in ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign"] {
        assert!(shown.contains(needle), "no {needle:?} in\n{shown}");
    }
    for purpose in ["sslserver -verify_hostname a.pay.test", "sslclient", "sslserver -verify_ip ::1"] {
        let (ok, said) =
            ca.openssl(&format!("verify -x509_strict -CAfile pay/ca.crt -purpose {purpose} pay/tls.crt"));
        assert!(ok, "{purpose}: {said}");
    }
    let wrong = ca.openssl("verify -CAfile pay/ca.crt -verify_hostname other.test pay/tls.crt");
    assert!(!wrong.0, "{}", wrong.1);
    // A day, begun a little earlier; and the serial number of no other.
    for (seconds, ends) in [(86_000, true), (86_500, false)] {
        assert_eq!(
            ca.openssl(&format!("x509 -in pay/tls.crt -noout -checkend {seconds}")).0,
            ends,
            "{seconds}"
        );
    }
    let serial = || ca.openssl("x509 -in pay/tls.crt -noout -serial").1;
    let first = serial();
    ca.succeed("renew", &["pay"]);
    assert_ne!(serial(), first);
    // At most 20 bytes (RFC 5280 §4.1.2.2), of which openssl leaves out those that are zero in front.
    let digits = first.trim().len() - "serial=".len();
    assert!((32..=40).contains(&digits), "{first}");
}

#[test]
fn keys_are_their_owners_alone_and_nothing_is_left_beside_them() {
    let ca = Authority::new(&[]);
    ca.succeed("issue", &["--dns", "a.test", "--out", "deep/er"]);
    for (path, expected) in [
        ("authority", 0o700),
        ("authority/ca.key", 0o600),
        ("authority/ca.crt", 0o644),
        ("deep", 0o700),
        ("deep/er/tls.key", 0o600),
        ("deep/er/tls.crt", 0o644),
        ("deep/er/ca.crt", 0o644),
    ] {
        assert_eq!(mode(&ca.path(path)), expected, "{path}");
    }
    // What a run that was killed has left is no obstacle, and does not stay.
    fs::write(ca.path("deep/er/.tls.key.new"), "half").unwrap();
    fs::set_permissions(ca.path("deep/er/.tls.key.new"), Permissions::from_mode(0o666)).unwrap();
    ca.succeed("renew", &["deep/er"]);
    assert_eq!(mode(&ca.path("deep/er/tls.key")), 0o600);
    let mut left: Vec<_> =
        fs::read_dir(ca.path("deep/er")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["ca.crt", "tls.crt", "tls.key"]);
}

/// The proxy reads as a user of its own what root has issued and renews.
#[test]
fn what_root_writes_belongs_to_the_owner_of_the_directory() {
    let ca = Authority::new(&[]);
    fs::create_dir(ca.path("own")).unwrap();
    chown(ca.path("own"), Some(1337), Some(1338)).expect("run as root");
    ca.succeed("issue", &["--dns", "a.test", "--out", "own"]);
    ca.succeed("renew", &["own"]);
    for file in ["tls.key", "tls.crt", "ca.crt"] {
        let metadata = ca.path("own").join(file).metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1337, 1338), "{file}");
    }
    // A link that this user puts in the way leads root nowhere.
    let outside = ca.path("outside");
    fs::write(&outside, "untouched").unwrap();
    for name in ["tls.key", ".tls.key.new", "tls.crt", ".tls.crt.new"] {
        let _ = fs::remove_file(ca.path("own").join(name));
        std::os::unix::fs::symlink(&outside, ca.path("own").join(name)).unwrap();
    }
    ca.succeed("issue", &["--dns", "a.test", "--out", "own", "--force"]);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
    ca.pair("own");
}

#[test]
fn nothing_is_overwritten_unasked() {
    let ca = Authority::new(&[]);
    let key = fs::read(ca.path("authority/ca.key")).unwrap();
    let said = ca.refuse("init", &[]);
    assert!(said.contains("authority/ca.crt: is there already") && said.contains("`--force`"), "{said}");
    ca.succeed("issue", &["--dns", "a.test", "--out", "a"]);
    let before = ca.pair("a");
    let said = ca.refuse("issue", &["--dns", "b.test", "--out", "a"]);
    assert!(said.contains("a/tls.crt: is there already"), "{said}");
    let said = ca.refuse("issue", &["--dns", "b.test", "--out", "authority", "--force"]);
    assert!(said.contains("is an authority's own directory"), "{said}");
    assert_eq!(ca.pair("a"), before);
    // A link to nowhere is there too.
    fs::create_dir(ca.path("b")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", ca.path("b/tls.key")).unwrap();
    ca.refuse("issue", &["--dns", "b.test", "--out", "b"]);
    assert_eq!(fs::read(ca.path("authority/ca.key")).unwrap(), key);
    ca.succeed("issue", &["--dns", "b.test", "--out", "a", "--force"]);
    assert_ne!(ca.pair("a"), before);
    ca.succeed("init", &["--force"]);
    assert_ne!(fs::read(ca.path("authority/ca.key")).unwrap(), key);
    // Those of the authority that was there are nobody's now.
    let said = ca.refuse("renew", &["a"]);
    assert!(said.contains("a/tls.crt: was not issued by dragoman development CA"), "{said}");
}

#[test]
fn what_cannot_be_read_or_signed_is_said_with_its_file() {
    let ca = Authority::new(&["--permit", "shop.test"]);
    let issue = |more: &[&str]| ca.refuse("issue", &[more, &["--out", "a"]].concat());
    for (name, why) in [("other.test", "cannot sign other.test"), ("ashop.test", "cannot sign ashop.test")] {
        let said = issue(&["--dns", name]);
        assert!(
            said.contains("authority/ca.crt: was made for shop.test alone") && said.contains(why),
            "{said}"
        );
    }
    assert!(issue(&["--ip", "8.8.8.8"]).contains("8.8.8.8, which is not private"));
    ca.succeed("issue", &["--dns", "a.shop.test", "--dns", "shop.test", "--ip", "10.0.0.1", "--out", "a"]);
    let (ok, said) =
        ca.openssl("verify -x509_strict -CAfile a/ca.crt -verify_hostname a.shop.test a/tls.crt");
    assert!(ok, "{said}");

    // Another's certificate, none, and none that can be read.
    let foreign = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout b/tls.key -out b/tls.crt";
    fs::create_dir(ca.path("b")).unwrap();
    assert!(ca.openssl(foreign).0);
    let before = ca.pair("b");
    assert!(ca.refuse("renew", &["b"]).contains("b/tls.crt: was not issued by dragoman development CA"));
    assert_eq!(ca.pair("b"), before);
    assert!(ca.refuse("renew", &["nowhere"]).contains("nowhere/tls.crt: cannot be read: No such file"));
    fs::write(ca.path("b/tls.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    assert!(ca.refuse("renew", &["b"]).contains("b/tls.crt: has no certificate in PEM"));
    // One that cannot be renewed does not keep the others from it.
    let before = ca.pair("a");
    assert_eq!(ca.ca("renew", &["b", "a"]).status.code(), Some(1));
    assert_ne!(ca.pair("a"), before);

    // The authority's key must be the authority's.
    fs::copy(ca.path("a/tls.key"), ca.path("authority/ca.key")).unwrap();
    let said = issue(&["--dns", "a.shop.test"]);
    assert!(said.contains("authority/ca.key: is not the key of authority/ca.crt"), "{said}");
    fs::write(ca.path("authority/ca.key"), "secret words").unwrap();
    let said = issue(&["--dns", "a.shop.test"]);
    assert!(said.contains("authority/ca.key: is no private key") && !said.contains("secret"), "{said}");
    fs::copy(ca.path("a/tls.crt"), ca.path("authority/ca.crt")).unwrap();
    fs::copy(ca.path("a/tls.key"), ca.path("authority/ca.key")).unwrap();
    assert!(issue(&["--dns", "a.shop.test"]).contains("is not the certificate of an authority"));
    let out = ca.ca("issue", &["--out", "c"]);
    assert_eq!(out.status.code(), Some(2), "an identity of nobody: {}", text(&out.stderr));
    for wrong in [&["--dns", "a b"], &["--spiffe", "spiffe://a/*"], &["--ip", "a"], &["--life", "0s"]] {
        let out = ca.ca("issue", &[wrong, &["--dns", "a", "--out", "c"][..]].concat());
        assert_eq!(out.status.code(), Some(2), "{wrong:?}");
    }
    assert!(!ca.path("c").exists());
}

#[test]
fn an_identity_does_not_outlive_its_authority() {
    let ca = Authority::new(&["--life", "1h"]);
    let said = ca.succeed("issue", &["--dns", "a.test", "--out", "a"]);
    assert!(said.contains("Shorter than asked for: it ends with the authority."), "{said}");
    let end = |file: &str| ca.openssl(&format!("x509 -in {file} -noout -enddate"));
    assert_eq!(end("a/tls.crt"), end("authority/ca.crt"));
    let faked = Command::new("faketime")
        .args(["-f", "+2h", DRAGOMAN, "ca", "issue", "--ca", "authority", "--dns", "b", "--out", "b"])
        .current_dir(&ca.folder.0)
        .output()
        .expect("faketime is there: run scripts/setup");
    let said = text(&faked.stderr);
    assert!(said.contains("authority/ca.crt: expired at ") && said.contains("init --force"), "{said}");
    assert_eq!(faked.status.code(), Some(1));
}

#[test]
fn watch_renews_what_is_due_and_heals_what_was_interrupted() {
    let ca = Authority::new(&[]);
    ca.succeed(
        "issue",
        &["--spiffe", "spiffe://shop.test/web", "--dns", "web.test", "--life", "3s", "--out", "web"],
    );
    ca.succeed("issue", &["--dns", "long.test", "--out", "long"]);
    ca.succeed("issue", &["--dns", "torn.test", "--out", "torn"]);
    let before = ["web", "long"].map(|name| ca.pair(name));
    fs::copy(ca.path("long/tls.key"), ca.path("torn/tls.key")).unwrap();
    let mut watch = Running::spawn(&mut ca.arguments("watch", &["web", "torn", "long"]));
    watch.wait_for("watching long: long.test, valid until ");
    watch.wait_for("renewed web: web.test, spiffe://shop.test/web, valid until ");
    watch.wait_for("renewed web: ");
    watch.signal("TERM");
    let (code, said) = watch.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("renewed torn: torn.test"), "{said}");
    assert!(!said.contains("renewed long") && said.contains("SIGTERM, no longer renewing"), "{said}");
    let after = ["web", "long", "torn"].map(|name| ca.pair(name));
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1], before[1]);
    let (ok, said) =
        ca.openssl("verify -x509_strict -no_check_time -CAfile web/ca.crt -purpose sslclient web/tls.crt");
    assert!(ok, "{said}");
}

#[test]
fn watch_says_what_fails_and_goes_on() {
    let ca = Authority::new(&[]);
    let out = ca.ca("watch", &["nowhere"]);
    assert_eq!(out.status.code(), Some(1), "what is wrong from the start ends it: {}", text(&out.stderr));
    ca.succeed("issue", &["--dns", "a.test", "--life", "1s", "--out", "a"]);
    let mut watch = Running::spawn(&mut ca.arguments("watch", &["a"]));
    watch.wait_for("renewed a: ");
    fs::rename(ca.path("authority"), ca.path("gone")).unwrap();
    watch.wait_for(
        "authority: there is no authority; `dragoman ca init` makes one, `--ca` names another; trying again",
    );
    fs::rename(ca.path("gone"), ca.path("authority")).unwrap();
    watch.wait_for("renewed a: ");
    watch.signal("INT");
    assert_eq!(watch.end().0, 0);
}

/// nginx, which asks for a client certificate, and curl, which has one: each with an identity of this authority.
#[test]
fn nginx_and_curl_know_each_other_by_it() {
    let ca = Authority::new(&[]);
    let address = own_address().to_string();
    let folder = ca.folder.0.display().to_string();
    ca.succeed("issue", &["--dns", "web.test", "--ip", &address, "--out", "server"]);
    ca.succeed("issue", &["--spiffe", "spiffe://shop.test/curl", "--dns", "curl.test", "--out", "client"]);
    let configuration = format!(
        "daemon off; user root; worker_processes 1; error_log stderr warn; pid {folder}/pid; events {{}}
http {{ access_log off; client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
 uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
 server {{ listen {address}:8443 ssl; ssl_certificate {folder}/server/tls.crt; ssl_certificate_key {folder}/server/tls.key;
  ssl_client_certificate {folder}/server/ca.crt; ssl_verify_client on;
  location / {{ return 200 \"$ssl_client_verify $ssl_client_s_dn\\n\"; }} }} }}"
    );
    fs::write(ca.path("nginx.conf"), configuration).unwrap();
    let mut nginx = Command::new("nginx");
    nginx.arg("-p").arg(&ca.folder.0).arg("-c").arg(ca.path("nginx.conf")).stdin(Stdio::null());
    let nginx = Running::spawn(&mut nginx);
    let curl = |more: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "--cacert", "client/ca.crt"]).args(more.split(' '));
        let out = curl.current_dir(&ca.folder.0).output().unwrap();
        (out.status.code(), text(&out.stdout) + &text(&out.stderr))
    };
    let with = "--cert client/tls.crt --key client/tls.key";
    let url = format!("https://{address}:8443/");
    let end = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect((address.as_str(), 8443)).is_err() {
        assert!(Instant::now() < end, "nginx does not listen");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let welcome = "SUCCESS CN=curl.test,O=dragoman ca: not for production\n";
    assert_eq!(curl(&format!("{with} {url}")), (Some(0), welcome.into()));
    let named = format!("--connect-to web.test:443:{address}:8443 https://web.test/");
    assert_eq!(curl(&format!("{with} {named}")), (Some(0), welcome.into()));
    assert!(curl(&named).1.contains("400 No required SSL certificate was sent"));
    // 60: the certificate of the server is for another name.
    let other = format!("{with} --connect-to other.test:443:{address}:8443 https://other.test/");
    assert_eq!(curl(&other).0, Some(60));
    nginx.signal("TERM");
    nginx.end();
}
