//! Certificates for a case: an authority of its own, what it issues, what it revokes. Keys are P-256.
//!
//! ```no_run
//! use dragoman_harness::pki::{Pki, Spec};
//! let pki = Pki::new();
//! let server = pki.issue(&Spec::dns("shop.test"));
//! let client = pki.intermediate().issue(&Spec::uri("spiffe://shop.test/ns/web/sa/web"));
//! let expired = pki.issue(&Spec::dns("shop.test").expired());
//! let configuration = format!("roots = [{:?}]\ncrls = [{:?}]", pki.roots(), pki.crl(&[&client]));
//! ```
//!
//! Files live as long as the [`Pki`] or anything made of it. Keys can be read by root and by the group of the proxy, as in
//! a pod, and by nobody else.

use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::dragoman;
use crate::process;
use crate::scratch::Scratch;

/// A day, the unit of the validities here.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Servers and clients, as workload identities are.
    Both,
    /// Servers alone.
    Server,
    /// Clients alone.
    Client,
}

/// What a certificate should say.
#[derive(Clone, Debug)]
pub struct Spec {
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// URIs, such as SPIFFE IDs.
    pub uris: Vec<String>,
    /// From when it holds; certificates have whole seconds.
    pub not_before: SystemTime,
    /// Until when it holds.
    pub not_after: SystemTime,
    /// What it is for.
    pub usage: Usage,
}

impl Spec {
    /// For nobody, for both usages, from yesterday for thirty days.
    pub fn new() -> Spec {
        let now = SystemTime::now();
        let (dns, ips, uris) = Default::default();
        Spec { dns, ips, uris, not_before: now - DAY, not_after: now + 30 * DAY, usage: Usage::Both }
    }

    /// For a DNS name.
    pub fn dns(name: &str) -> Spec {
        Spec { dns: vec![name.to_owned()], ..Spec::new() }
    }

    /// For an address.
    pub fn ip(address: IpAddr) -> Spec {
        Spec { ips: vec![address], ..Spec::new() }
    }

    /// For a URI, such as a SPIFFE ID.
    pub fn uri(uri: &str) -> Spec {
        Spec { uris: vec![uri.to_owned()], ..Spec::new() }
    }

    /// With one more DNS name.
    #[must_use]
    pub fn and_dns(mut self, name: &str) -> Spec {
        self.dns.push(name.to_owned());
        self
    }

    /// With one more URI.
    #[must_use]
    pub fn and_uri(mut self, uri: &str) -> Spec {
        self.uris.push(uri.to_owned());
        self
    }

    /// Until yesterday.
    #[must_use]
    pub fn expired(self) -> Spec {
        let now = SystemTime::now();
        self.between(now - 31 * DAY, now - DAY)
    }

    /// From tomorrow.
    #[must_use]
    pub fn not_yet_valid(self) -> Spec {
        let now = SystemTime::now();
        self.between(now + DAY, now + 31 * DAY)
    }

    /// From one time to another.
    #[must_use]
    pub fn between(self, not_before: SystemTime, not_after: SystemTime) -> Spec {
        Spec { not_before, not_after, ..self }
    }

    /// For this alone.
    #[must_use]
    pub fn only_for(self, usage: Usage) -> Spec {
        Spec { usage, ..self }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        let text = |text: &String| text.as_str().try_into().expect("a name in ASCII");
        params.subject_alt_names.extend(self.dns.iter().map(|name| SanType::DnsName(text(name))));
        params.subject_alt_names.extend(self.ips.iter().map(|address| SanType::IpAddress(*address)));
        params.subject_alt_names.extend(self.uris.iter().map(|uri| SanType::URI(text(uri))));
        let name = self.dns.iter().chain(&self.uris).next().map_or("leaf", String::as_str);
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (self.not_before.into(), self.not_after.into());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        params.extended_key_usages = match self.usage {
            Usage::Both => vec![server, client],
            Usage::Server => vec![server],
            Usage::Client => vec![client],
        };
        params
    }
}

impl Default for Spec {
    fn default() -> Spec {
        Spec::new()
    }
}

/// An authority.
pub struct Pki {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What a server sends besides its own certificate, nearest first, and the same in PEM: none where this is a root.
    intermediates: Vec<CertificateDer<'static>>,
    intermediates_pem: String,
    roots: PathBuf,
    shelf: Arc<Shelf>,
}

/// Where files and serial numbers are from.
struct Shelf {
    scratch: Scratch,
    count: AtomicU32,
}

impl Shelf {
    fn next(&self) -> u32 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }
}

impl Pki {
    /// A root that nobody else knows.
    #[expect(clippy::new_without_default, reason = "making keys and files is no default")]
    pub fn new() -> Pki {
        let shelf = Arc::new(Shelf { scratch: Scratch::new("pki"), count: AtomicU32::new(1) });
        let issuer = CertifiedIssuer::self_signed(authority(&shelf, &Spec::new()), key()).expect("a root");
        let roots = shelf.scratch.write("ca.pem", issuer.pem());
        Pki { issuer, intermediates: Vec::new(), intermediates_pem: String::new(), roots, shelf }
    }

    /// An authority that this one vouches for. What it issues comes with its own certificate.
    #[must_use]
    pub fn intermediate(&self) -> Pki {
        self.intermediate_of(&Spec::new())
    }

    /// The same, for as long as `spec` says.
    #[must_use]
    pub fn intermediate_of(&self, spec: &Spec) -> Pki {
        let shelf = Arc::clone(&self.shelf);
        let issuer =
            CertifiedIssuer::signed_by(authority(&shelf, spec), key(), &self.issuer).expect("an authority");
        let intermediates_pem = issuer.pem() + &self.intermediates_pem;
        let own = std::iter::once(issuer.der().clone());
        let intermediates = own.chain(self.intermediates.iter().cloned()).collect();
        Pki { issuer, intermediates, intermediates_pem, roots: self.roots.clone(), shelf }
    }

    /// The root's certificate, in PEM.
    pub fn roots(&self) -> &Path {
        &self.roots
    }

    /// This authority's own certificate: the root's, or an intermediate one's.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// A certificate and its new key.
    pub fn issue(&self, spec: &Spec) -> Issued {
        let n = self.shelf.next();
        let serial = 0x1000_0000 + n;
        let key = key();
        let mut params = spec.params();
        params.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()));
        let own = params.signed_by(&key, &self.issuer).expect("what a spec says can be signed");
        let chain: Vec<_> = std::iter::once(own.der().clone()).chain(self.intermediates.clone()).collect();
        let certificate_pem = own.pem() + &self.intermediates_pem;
        let certificate = self.shelf.scratch.write(&format!("{n}.crt"), &certificate_pem);
        let key_file = self.shelf.scratch.path().join(format!("{n}.key"));
        write_key(&key_file, &key.serialize_pem());
        Issued {
            certificate,
            key: key_file,
            certificate_pem,
            key_pem: key.serialize_pem(),
            chain,
            key_der: key.serialize_der(),
            serial: format!("{serial:08X}"),
            not_before: spec.not_before,
            not_after: spec.not_after,
            _shelf: Arc::clone(&self.shelf),
        }
    }

    /// A list of what this authority has revoked, in PEM, which is current until next month.
    pub fn crl(&self, revoked: &[&Issued]) -> PathBuf {
        self.crl_until(revoked, SystemTime::now() + 30 * DAY)
    }

    /// The same, current until then.
    pub fn crl_until(&self, revoked: &[&Issued], next_update: SystemTime) -> PathBuf {
        let n = self.shelf.next();
        let this_update = SystemTime::now() - 40 * DAY;
        let revoked = revoked.iter().map(|issued| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&issued.serial_bytes()),
            revocation_time: this_update.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: this_update.into(),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(u64::from(n)),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list can be signed");
        self.shelf.scratch.write(&format!("{n}.crl"), list.pem().expect("a list has a form in PEM"))
    }

    /// Writes a file of the case's own beside the others.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        self.shelf.scratch.write(name, content)
    }
}

/// A certificate, its chain and its key.
pub struct Issued {
    /// The chain in PEM, its own certificate first, without the root.
    pub certificate: PathBuf,
    /// The key in PEM (PKCS#8).
    pub key: PathBuf,
    /// What [`certificate`](Self::certificate) holds.
    pub certificate_pem: String,
    /// What [`key`](Self::key) holds.
    pub key_pem: String,
    /// The chain, its own certificate first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The serial number in capital hexadecimal digits, as nginx and openssl show it.
    pub serial: String,
    /// From when it holds.
    pub not_before: SystemTime,
    /// Until when it holds.
    pub not_after: SystemTime,
    key_der: Vec<u8>,
    // The files are there as long as this is.
    _shelf: Arc<Shelf>,
}

impl Issued {
    /// The key as rustls takes it.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }

    /// `sha256/` and the hash of its public key in base64, by the recipe that operators use.
    pub fn pin(&self) -> String {
        let line = format!(
            "openssl x509 -in '{}' -noout -pubkey | openssl pkey -pubin -outform DER \
             | openssl dgst -sha256 -binary | openssl base64 -A",
            self.certificate.display()
        );
        format!("sha256/{}", process::succeed(Command::new("sh").args(["-c", &line])))
    }

    /// Writes the pair as `tls.crt` and `tls.key` into a folder, as a Kubernetes secret has them.
    pub fn write_to(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        std::fs::write(folder.join("tls.crt"), &self.certificate_pem).expect("a folder of the case's own");
        write_key(&folder.join("tls.key"), &self.key_pem);
    }

    /// Lines of its key that nobody but the key's owner may ever print.
    pub fn secrets(&self) -> Vec<String> {
        self.key_pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect()
    }

    fn serial_bytes(&self) -> Vec<u8> {
        u32::from_str_radix(&self.serial, 16).expect("its own digits").to_be_bytes().to_vec()
    }
}

/// Writes a key that root and the proxy's group can read.
pub fn write_key(file: &Path, pem: &str) {
    std::fs::write(file, pem).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    chown(file, None, Some(dragoman::ID)).expect("root gives files to groups");
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o640)).expect("a file of the case's own");
}

fn key() -> KeyPair {
    KeyPair::generate().expect("keys can be made")
}

fn authority(shelf: &Shelf, spec: &Spec) -> CertificateParams {
    let mut params = spec.params();
    // No two have the same name: it is by names that a verifier looks for a signer.
    let name = format!("authority {} of {}", shelf.next(), shelf.scratch.path().display());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages.clear();
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What openssl says of a chain, with the root and a list as `verify` takes them.
    fn verify(pki: &Pki, issued: &Issued, more: &[&str]) -> String {
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-x509_strict", "-CAfile"]).arg(pki.roots()).args(more);
        process::text(&process::output(
            openssl.arg("-untrusted").arg(&issued.certificate).arg(&issued.certificate),
        ))
    }

    #[test]
    fn openssl_agrees_with_what_was_issued() {
        let (pki, stranger) = (Pki::new(), Pki::new());
        let middle = pki.intermediate().intermediate();
        let good = middle.issue(&Spec::dns("shop.test").and_uri("spiffe://shop.test/web"));
        assert!(verify(&pki, &good, &["-verify_hostname", "shop.test"]).contains("OK"));
        assert!(verify(&pki, &good, &["-verify_hostname", "other.test"]).contains("hostname mismatch"));
        assert!(verify(&stranger, &good, &[]).contains("unable to get"));
        let address = pki.issue(&Spec::ip([198, 18, 0, 2].into()).only_for(Usage::Server));
        assert!(
            verify(&pki, &address, &["-verify_ip", "198.18.0.2", "-purpose", "sslserver"]).contains("OK")
        );
        assert!(
            verify(&pki, &address, &["-purpose", "sslclient"]).contains("unsuitable certificate purpose")
        );
        assert!(verify(&pki, &pki.issue(&Spec::new().expired()), &[]).contains("certificate has expired"));
        assert!(verify(&pki, &pki.issue(&Spec::new().not_yet_valid()), &[]).contains("not yet valid"));
        let late = pki.intermediate_of(&Spec::new().expired()).issue(&Spec::new());
        assert!(verify(&pki, &late, &[]).contains("certificate has expired"));
    }

    #[test]
    fn openssl_agrees_with_what_was_revoked() {
        let pki = Pki::new();
        let (bad, good) = (pki.issue(&Spec::new()), pki.issue(&Spec::new()));
        let checked = |crl: PathBuf, issued| {
            verify(&pki, issued, &["-crl_check", "-CRLfile", crl.to_str().expect("a path of ours")])
        };
        assert!(checked(pki.crl(&[&bad]), &bad).contains("certificate revoked"));
        assert!(checked(pki.crl(&[&bad]), &good).contains("OK"));
        let old = pki.crl_until(&[], SystemTime::now() - DAY);
        assert!(checked(old, &good).contains("CRL has expired"));
    }

    #[test]
    fn serials_pins_and_files_are_those_of_the_certificate() {
        let pki = Pki::new();
        let (one, other) = (pki.issue(&Spec::dns("a.test")), pki.issue(&Spec::dns("a.test")));
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-serial", "-in"]).arg(&one.certificate);
        assert_eq!(process::succeed(&mut openssl).trim(), format!("serial={}", one.serial));
        assert!(one.pin() == one.pin() && one.pin() != other.pin() && one.serial != other.serial);
        assert_eq!(one.pin().len(), "sha256/".len() + 44, "{}", one.pin());
        let mode = std::fs::metadata(&one.key).expect("it was written").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(one.secrets().len() >= 3, "a key of P-256 has at least three lines");
    }
}
