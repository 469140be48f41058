//! What is presented to a peer that asks who we are: a certificate chain and its key, from two files of PEM.
//!
//! All that can be found wrong without a peer is found when the files are read, so that nobody meets it first in a
//! handshake: the two belong together, the certificate is in date and made for this use.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::Zeroize;

use crate::files::{Contents, FileError};
use crate::validity::Validity;

/// Where an identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files<'a> {
    /// The chain, the own certificate first.
    pub certificate: &'a Path,
    /// The private key.
    pub key: &'a Path,
}

/// What a certificate is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Presented to a server.
    Client,
    /// Presented to clients.
    Server,
}

/// A certificate chain and its key, which belong together.
pub struct Identity {
    /// Both, as a handshake takes them.
    pub certified: Arc<CertifiedKey>,
    /// That of the own certificate.
    pub validity: Validity,
    /// The serial number of the own certificate, as pairs of hexadecimal digits with colons.
    pub serial: String,
    /// Its names: URIs first, then DNS names.
    pub names: Vec<String>,
}

impl Identity {
    /// Reads and checks an identity.
    ///
    /// # Errors
    /// See [`from_contents`](Self::from_contents).
    pub fn load(files: Files<'_>, usage: Usage, now: SystemTime) -> Result<Self, FileError> {
        let contents = Contents::read([files.certificate, files.key]);
        Self::from_contents(files, &contents, usage, now)
    }

    /// The identity that these files made up when they were read.
    ///
    /// # Errors
    /// The first thing that is wrong, with the file that it is wrong in: it cannot be read; it has no certificate, no key,
    /// several keys, or an encrypted one; the two do not belong together; the certificate is not in date at `now`, or
    /// not made for this use.
    pub fn from_contents(
        files: Files<'_>,
        contents: &Contents,
        usage: Usage,
        now: SystemTime,
    ) -> Result<Self, FileError> {
        let refuse = |reason: String| FileError::new(files.certificate, reason);
        let chain = certificates(files.certificate, contents.get(files.certificate)?)?;
        let key = private_key(files.key, contents.get(files.key)?)?;
        let place = own_place(&chain, &*key).map_err(refuse)?;
        match place {
            Some(0) => {}
            Some(place) => return Err(refuse(out_of_order(place))),
            None => {
                let key = files.key.display();
                return Err(refuse(format!(
                    "its first certificate does not belong to the key in {key}; each certificate goes with the key that it was issued for"
                )));
            }
        }
        let own = parse(&chain[0]).map_err(|reason| refuse(format!("its first certificate {reason}")))?;
        let validity = Validity::of(&own);
        validity.check(now).map_err(|failure| refuse(format!("its first certificate {}", failure.detail)))?;
        check_usage(&own, usage).map_err(refuse)?;
        let (serial, names) = (own.raw_serial_as_string(), names(&own));
        Ok(Self { certified: Arc::new(CertifiedKey::new(chain, key)), validity, serial, names })
    }
}

/// Without the key, and without the certificates that nobody could read so.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("serial", &self.serial)
            .field("names", &self.names)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// All certificates in a file of PEM, of which there must be one at least.
///
/// # Errors
/// It has none, or is damaged.
pub fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let refuse = |reason: &str| FileError::new(path, reason);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(refuse("is empty; it must have a certificate in PEM"));
    }
    let certificates = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refuse(&format!("is damaged: {}", why(&error))))?;
    if certificates.is_empty() {
        return Err(refuse("has no certificate in PEM (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(certificates)
}

fn private_key(path: &Path, bytes: &[u8]) -> Result<Arc<dyn SigningKey>, FileError> {
    let refuse = |reason: &str| FileError::new(path, reason);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(refuse("is empty; it must have a private key in PEM"));
    }
    if is_encrypted(bytes) {
        return Err(refuse(
            "the key in it is encrypted; nobody is there to ask for its password, so decrypt it first",
        ));
    }
    let mut keys = Vec::new();
    let mut broken = None;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        match section {
            Ok((kind, der)) => keys.extend(PrivateKeyDer::from_pem(kind, der)),
            Err(error) => broken = Some(why(&error)),
        }
    }
    let loaded = match (broken, keys.as_slice()) {
        (Some(why), _) => Err(refuse(&format!("is damaged: {why}"))),
        (None, []) => {
            Err(refuse("has no private key in PEM (-----BEGIN PRIVATE KEY-----, or that of RSA or EC)"))
        }
        (None, [key]) => any_supported_type(key).map_err(|_| {
            refuse("the key in it cannot be used: it must be RSA of 2048 bits or more, ECDSA, or Ed25519")
        }),
        (None, keys) => Err(refuse(&format!("has {} private keys; it must have one", keys.len()))),
    };
    keys.iter_mut().for_each(Zeroize::zeroize);
    loaded
}

/// PKCS#8's own way, and the older one of OpenSSL.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// Why PEM cannot be read, without a letter of it.
fn why(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it ends in the middle",
        pem::Error::IllegalSectionStart { .. } => "a line that begins a section is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it is not PEM",
    }
}

/// Which certificate of the chain the key belongs to. A key whose public half is not known is taken to be right.
fn own_place(chain: &[CertificateDer<'_>], key: &dyn SigningKey) -> Result<Option<usize>, String> {
    let Some(public) = key.public_key() else { return Ok(Some(0)) };
    for (place, certificate) in chain.iter().enumerate() {
        let parsed =
            parse(certificate).map_err(|reason| format!("its certificate number {} {reason}", place + 1))?;
        if parsed.tbs_certificate.subject_pki.raw == public.as_ref() {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn out_of_order(place: usize) -> String {
    format!("the key belongs to its certificate number {}; the own certificate must come first", place + 1)
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("has more in it than a certificate".into()),
        Err(_) => Err("is not an X.509 certificate".into()),
    }
}

/// What a peer checks too, and then says less about.
fn check_usage(own: &X509Certificate<'_>, usage: Usage) -> Result<(), String> {
    if own.is_ca() {
        return Err("its first certificate is that of a CA, which cannot be presented itself".into());
    }
    if let Ok(Some(key)) = own.key_usage()
        && !key.value.digital_signature()
    {
        return Err(
            "its first certificate does not allow digitalSignature (keyUsage), which TLS needs".into()
        );
    }
    let Ok(Some(extended)) = own.extended_key_usage() else { return Ok(()) };
    let (allowed, name, whom) = match usage {
        Usage::Client => (extended.value.client_auth, "clientAuth", "to a server"),
        Usage::Server => (extended.value.server_auth, "serverAuth", "to clients"),
    };
    if allowed || extended.value.any {
        return Ok(());
    }
    Err(format!(
        "its first certificate cannot be presented {whom}: its extendedKeyUsage has no {name}; have one issued with it"
    ))
}

fn names(own: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternative)) = own.subject_alternative_name() else { return Vec::new() };
    let names = &alternative.value.general_names;
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    let hosts = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some((*host).to_owned()),
        _ => None,
    });
    uris.chain(hosts).collect()
}

#[cfg(test)]
mod tests;
