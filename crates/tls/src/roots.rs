//! Who may sign, and what they have revoked. Content comes in; who reads the files says which file is at fault.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::OwnedCertRevocationList;

/// The certificates that are trusted to sign.
#[derive(Clone, Debug)]
pub struct Roots {
    store: RootCertStore,
}

impl Default for Roots {
    /// Nobody.
    fn default() -> Self {
        Self { store: RootCertStore::empty() }
    }
}

impl Roots {
    /// Adds Mozilla's, as they were when this was built.
    pub fn add_webpki(&mut self) {
        self.store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }

    /// Adds the machine's, from where its distribution has them or `SSL_CERT_FILE` and `SSL_CERT_DIR` say. What of them
    /// cannot be used is left out.
    ///
    /// # Errors
    /// There are none.
    pub fn add_system(&mut self) -> Result<(), String> {
        let found = rustls_native_certs::load_native_certs();
        match self.store.add_parsable_certificates(found.certs) {
            (0, _) => {
                let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
                Err(format!(
                    "this machine has no trusted certificates{why}: install ca-certificates, or set SSL_CERT_FILE"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Adds the certificates of a PEM bundle, and says how many. Whoever names a bundle means all of it: one that cannot be
    /// used is an error.
    ///
    /// # Errors
    /// It is no PEM, has no certificate, or has one that cannot be used.
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<usize, String> {
        let certificates = certificates_of_pem(pem)?;
        for (index, certificate) in certificates.iter().enumerate() {
            self.store
                .add(certificate.clone())
                .map_err(|error| format!("certificate {} of it cannot be used: {error}", index + 1))?;
        }
        Ok(certificates.len())
    }

    /// All of them.
    pub fn store(&self) -> Arc<RootCertStore> {
        Arc::new(self.store.clone())
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }
}

/// The file that the machine's are in, whose change tells that [`Roots::add_system`] would find others. `None` where they are in
/// directories alone, or nowhere.
pub fn system_bundle() -> Option<&'static Path> {
    // Where there is none there may be one later.
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let find = || match (set("SSL_CERT_FILE"), set("SSL_CERT_DIR")) {
        (Some(file), _) => Some(file.into()),
        (None, Some(_)) => None,
        (None, None) => openssl_probe::probe().cert_file,
    };
    match FOUND.get() {
        Some(found) => Some(found),
        None => find().map(|found| &**FOUND.get_or_init(|| found)),
    }
}

/// The certificates of a PEM file, of which there is at least one.
///
/// # Errors
/// It is no PEM, or has no certificate.
pub fn certificates_of_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| format!("it is no PEM: {error}"))?;
    match found.is_empty() {
        true => Err("it has no certificate (`-----BEGIN CERTIFICATE-----`)".to_owned()),
        false => Ok(found),
    }
}

/// The revocation lists of a PEM file, of which there is at least one; each can be used.
///
/// # Errors
/// It is no PEM, has no list, or has one that cannot be used.
pub fn crls_of_pem(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let found = CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| format!("it is no PEM: {error}"))?;
    if found.is_empty() {
        return Err("it has no revocation list (`-----BEGIN X509 CRL-----`)".to_owned());
    }
    for (index, list) in found.iter().enumerate() {
        OwnedCertRevocationList::from_der(list)
            .map_err(|error| format!("revocation list {} of it cannot be used: {error}", index + 1))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    #[test]
    fn a_bundle_has_all_of_its_certificates() {
        let (one, other) = (Authority::new("one"), Authority::new("other"));
        let mut roots = Roots::default();
        let bundle = format!("# ours\n{}\n{}", one.pem(), other.pem());
        assert_eq!(roots.add_pem(bundle.as_bytes()), Ok(2));
        assert_eq!(roots.store().len(), 2);
    }

    #[test]
    fn what_cannot_be_used_is_an_error() {
        let mut roots = Roots::default();
        for (text, words) in [
            ("", "it has no certificate"),
            ("hello", "it has no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "it is no PEM"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "certificate 1 of it cannot be used",
            ),
        ] {
            let error = roots.add_pem(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(words), "{text:?}: {error}");
        }
        assert!(crls_of_pem(b"").unwrap_err().starts_with("it has no revocation list"));
        let list = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
        assert!(
            crls_of_pem(list.as_bytes()).unwrap_err().starts_with("revocation list 1 of it cannot be used")
        );
    }

    #[test]
    fn mozillas_are_many() {
        let mut roots = Roots::default();
        assert!(roots.is_empty());
        roots.add_webpki();
        assert!(roots.store().len() > 50);
    }
}
