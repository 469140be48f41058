use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType, SerialNumber, date_time_ymd,
};

use super::*;

/// In date for all that is issued here.
const NOW: SystemTime = UNIX_EPOCH;

fn now() -> SystemTime {
    // 2026-06-15.
    NOW + Duration::from_secs(1_781_481_600)
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xbc]));
    params.subject_alt_names.push(SanType::URI("spiffe://shop.test/web".try_into().unwrap()));
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 12, 31));
    params
}

/// A certificate of its own key, as PEM.
fn issue(params: &CertificateParams) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn load(certificate: &str, key: &str) -> Result<Identity, String> {
    load_as(certificate, key, Usage::Client, now())
}

fn load_as(certificate: &str, key: &str, usage: Usage, now: SystemTime) -> Result<Identity, String> {
    let folder = Folder::new();
    let (certificate, key) = (folder.write("tls.crt", certificate), folder.write("tls.key", key));
    let files = Files { certificate: &certificate, key: &key };
    Identity::load(files, usage, now)
        .map_err(|error| error.to_string().replace(folder.0.to_str().unwrap(), "DIR"))
}

/// A directory of its own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dragoman-tls-identity-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn openssl(arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_pair_says_who_it_is() {
    let (certificate, key) = issue(&params());
    let identity = load(&certificate, &key).unwrap();
    assert_eq!(identity.serial, "0a:bc");
    assert_eq!(identity.names, ["spiffe://shop.test/web", "shop.test"]);
    assert_eq!(identity.validity.not_after, 1_798_675_200);
    assert_eq!(identity.certified.cert.len(), 1);
}

#[test]
fn every_form_of_key_is_read() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params().self_signed(&key).unwrap().pem();
        load(&certificate, &key.serialize_pem()).unwrap();
    }
    let (certificate, key) = issue(&params());
    let sec1 = openssl(&["ec"], &key);
    assert!(sec1.contains("BEGIN EC PRIVATE KEY"), "that is what is to be tried");
    load(&certificate, &sec1).unwrap();
    // What `openssl ecparam -genkey` writes.
    load(
        &certificate,
        &format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{sec1}"),
    )
    .unwrap();
    // With the certificate in the same file, and words around.
    load(&format!("Subject: shop\n{certificate}"), &format!("{certificate}\n{key}")).unwrap();

    let rsa = openssl(&["genrsa", "2048"], "");
    let pkcs1 = openssl(&["rsa", "-traditional"], &rsa);
    assert!(pkcs1.contains("BEGIN RSA PRIVATE KEY"), "that is what is to be tried");
    let pair = KeyPair::from_pem(&rsa).unwrap();
    let certificate = params().self_signed(&pair).unwrap().pem();
    for key in [&rsa, &pkcs1] {
        load(&certificate, key).unwrap();
    }
}

#[test]
fn what_is_wrong_is_said_with_its_file() {
    let (certificate, key) = issue(&params());
    let (other, other_key) = issue(&params());
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let encrypted = openssl(&["pkcs8", "-topk8", "-passout", "pass:secret"], &key);
    let old = openssl(&["ec", "-aes128", "-passout", "pass:secret"], &key);
    let sealed = "DIR/tls.key: the key in it is encrypted; nobody is there to ask for its password, so decrypt it first";
    let small = openssl(&["genrsa", "1024"], "");
    for (certificate, key, error) in [
        ("", &*key, "DIR/tls.crt: is empty; it must have a certificate in PEM"),
        (&*certificate, "\n", "DIR/tls.key: is empty; it must have a private key in PEM"),
        (&key, &key, "DIR/tls.crt: has no certificate in PEM (-----BEGIN CERTIFICATE-----)"),
        (
            &certificate,
            &certificate,
            "DIR/tls.key: has no private key in PEM (-----BEGIN PRIVATE KEY-----, or that of RSA or EC)",
        ),
        (&half(&certificate), &key, "DIR/tls.crt: is damaged: it ends in the middle"),
        (&certificate, &half(&key), "DIR/tls.key: is damaged: it ends in the middle"),
        (&certificate.replace("MI", "!!"), &key, "DIR/tls.crt: is damaged: a section is not base64"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            &key,
            "DIR/tls.crt: its certificate number 1 is not an X.509 certificate",
        ),
        (&certificate, &format!("{key}{other_key}"), "DIR/tls.key: has 2 private keys; it must have one"),
        (&certificate, &encrypted, sealed),
        (&certificate, &old, sealed),
        (
            &certificate,
            &small,
            "DIR/tls.key: the key in it cannot be used: it must be RSA of 2048 bits or more, ECDSA, or Ed25519",
        ),
        (
            &certificate,
            &other_key,
            "DIR/tls.crt: its first certificate does not belong to the key in DIR/tls.key; each certificate goes with the key that it was issued for",
        ),
        (
            &format!("{other}{certificate}"),
            &key,
            "DIR/tls.crt: the key belongs to its certificate number 2; the own certificate must come first",
        ),
    ] {
        assert_eq!(load(certificate, key).unwrap_err(), error);
    }
}

#[test]
fn times_are_said_with_the_skew() {
    let (certificate, key) = issue(&params());
    let at = |days: u64| UNIX_EPOCH + Duration::from_secs(1_767_225_600 + days * 86_400);
    let early = load_as(&certificate, &key, Usage::Client, UNIX_EPOCH + Duration::from_secs(1_767_225_539));
    assert_eq!(
        early.unwrap_err(),
        "DIR/tls.crt: its first certificate is not yet valid, for another 1m1s (now 2025-12-31T23:58:59Z, \
         notBefore 2026-01-01T00:00:00Z, notAfter 2026-12-31T00:00:00Z)"
    );
    let late = load_as(&certificate, &key, Usage::Client, at(365));
    assert_eq!(
        late.unwrap_err(),
        "DIR/tls.crt: its first certificate expired 1d0h ago (now 2027-01-01T00:00:00Z, \
         notBefore 2026-01-01T00:00:00Z, notAfter 2026-12-31T00:00:00Z)"
    );
    load_as(&certificate, &key, Usage::Client, at(0)).unwrap();
    load_as(&certificate, &key, Usage::Client, at(364)).unwrap();
}

#[test]
fn the_use_is_checked() {
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = params();
        change(&mut params);
        issue(&params)
    };
    let extended =
        |purposes: &[ExtendedKeyUsagePurpose]| with(&|params| params.extended_key_usages = purposes.to_vec());
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    for (purposes, client, server) in [
        (&[] as &[_], true, true),
        (&[ClientAuth], true, false),
        (&[ServerAuth], false, true),
        (&[ClientAuth, ServerAuth], true, true),
        (&[Any], true, true),
    ] {
        let (certificate, key) = extended(purposes);
        for (usage, right) in [(Usage::Client, client), (Usage::Server, server)] {
            let loaded = load_as(&certificate, &key, usage, now());
            assert_eq!(loaded.is_ok(), right, "{purposes:?} {usage:?}: {loaded:?}");
        }
    }
    let (certificate, key) = extended(&[ServerAuth]);
    assert_eq!(
        load(&certificate, &key).unwrap_err(),
        "DIR/tls.crt: its first certificate cannot be presented to a server: its extendedKeyUsage has no clientAuth; \
         have one issued with it"
    );
    let (certificate, key) = with(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(
        load(&certificate, &key).unwrap_err(),
        "DIR/tls.crt: its first certificate is that of a CA, which cannot be presented itself"
    );
    let (certificate, key) = with(&|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    assert_eq!(
        load(&certificate, &key).unwrap_err(),
        "DIR/tls.crt: its first certificate does not allow digitalSignature (keyUsage), which TLS needs"
    );
}

/// Each byte of a key may be wrong: it is an error or works, and nothing of it is ever printed.
#[test]
fn nothing_of_a_key_is_printed() {
    let (certificate, key) = issue(&params());
    let lines: Vec<_> = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let secret: Vec<_> = lines.iter().flat_map(|line| line.as_bytes().windows(6)).collect();
    let tells =
        |text: &str| secret.iter().any(|piece| text.as_bytes().windows(6).any(|window| &window == piece));
    assert!(tells(&key), "that is what is looked for");
    let identity = load(&certificate, &key).unwrap();
    assert!(!tells(&format!("{identity:?} {identity:#?}")));
    for place in (0..key.len()).step_by(3) {
        for byte in [b'!', b'\n', b'-', b'A'] {
            let mut damaged = key.clone().into_bytes();
            damaged[place] = byte;
            let damaged = String::from_utf8(damaged).unwrap();
            if let Err(error) = load(&certificate, &damaged) {
                assert!(!tells(&error), "{place}: {error}");
            }
        }
    }
    for end in (0..key.len() - 1).step_by(3) {
        let cut = load(&certificate, &key[..end]);
        let Err(error) = cut else { continue };
        assert!(!tells(&error), "{end}: {error}");
    }
}
