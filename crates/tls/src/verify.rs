//! Whether a peer is who policy says.
//!
//! The chain is built and checked by webpki: signatures, times, what a certificate may be used for, name constraints,
//! revocation. What is ours is which names count, SPIFFE IDs and pins, and the words for what is wrong.
//!
//! A refusal travels through rustls as a [`Failure`] inside of `CertificateError::Other`: rustls has no words for some of
//! them, and for the others fewer.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use dragoman_policy::SpiffePattern;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, TrustAnchor, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder, VerifiedPath,
};

use crate::certificate::{names, subject, validity};
use crate::failure::{Failure, FailureKind};
use crate::validity::{span, utc};

/// What a server must show, as [`server_verifier`] wants it.
#[derive(Clone, Debug)]
pub enum Verify {
    /// A certificate for the name that was asked for.
    Name,
    /// A certificate whose one URI is a SPIFFE ID that one of these allows.
    Spiffe(Vec<SpiffePattern>),
    /// Nothing at all.
    Nothing,
}

/// How a chain of certificates is checked, be it a server's or a client's.
#[derive(Debug)]
pub struct Chain {
    roots: Arc<RootCertStore>,
    crls: Vec<CertRevocationList<'static>>,
    pins: Vec<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Chain {
    /// A check against these roots. Where there are revocation lists, each certificate of a chain must be told of by a list
    /// that is in date.
    ///
    /// # Errors
    /// A list cannot be used.
    pub fn new(
        roots: Arc<RootCertStore>,
        crls: &[CertificateRevocationListDer<'_>],
        provider: &CryptoProvider,
    ) -> Result<Self, String> {
        let crls = crls.iter().map(|list| OwnedCertRevocationList::from_der(list).map(Into::into));
        let crls = crls.collect::<Result<_, _>>();
        Ok(Self {
            roots,
            crls: crls.map_err(|error| format!("a revocation list cannot be used: {error}"))?,
            pins: Vec::new(),
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// The same where one of the keys of the chain, that of the root included, must have one of these SHA-256 sums of its
    /// SubjectPublicKeyInfo; none is any.
    #[must_use]
    pub fn with_pins(self, pins: Vec<[u8; 32]>) -> Self {
        Self { pins, ..self }
    }

    /// Checks all but names.
    ///
    /// # Errors
    /// What is wrong with the chain.
    pub fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), Failure> {
        let told = |error| failure(&error, end_entity, intermediates);
        let certificate = EndEntityCert::try_from(end_entity).map_err(told)?;
        let crls: Vec<_> = self.crls.iter().collect();
        // By default, all of the chain is checked, and a certificate of which no list tells is refused.
        let revocation = RevocationOptionsBuilder::new(&crls)
            .ok()
            .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
        let lacks_pin = Cell::new(false);
        let has_pin = |path: &VerifiedPath<'_>| {
            let found = self.pins.is_empty() || self.has_pin(path);
            lacks_pin.set(!found);
            // Another path may have it.
            if found { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
        };
        let verified = certificate.verify_for_usage(
            self.algorithms.all,
            &self.roots.roots,
            intermediates,
            now,
            usage,
            revocation,
            Some(&has_pin),
        );
        match verified {
            Ok(_) => Ok(()),
            Err(_) if lacks_pin.get() => Err(Failure::new(
                FailureKind::WrongPin,
                format!("the chain of {} is trusted, but none of its keys is pinned", subject(end_entity)),
            )),
            Err(error) => Err(told(error)),
        }
    }

    fn has_pin(&self, path: &VerifiedPath<'_>) -> bool {
        let sent = std::iter::once(path.end_entity().subject_public_key_info())
            .chain(path.intermediate_certificates().map(webpki::Cert::subject_public_key_info));
        let is_pinned = |key: &[u8]| self.pins.iter().any(|pin| digest(&SHA256, key).as_ref() == pin);
        sent.into_iter().any(|key| is_pinned(&key)) || is_pinned(&public_key(path.anchor()))
    }
}

/// The SubjectPublicKeyInfo of a root, which webpki keeps without its head.
fn public_key(anchor: &TrustAnchor<'_>) -> Vec<u8> {
    let content = anchor.subject_public_key_info.as_ref();
    // A SEQUENCE (X.690, 8.1.3): its length is one byte up to 127; beyond that, the count of bytes of the length comes first.
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut der = vec![0x30];
    if content.len() > 127 {
        der.push(0x80 | length.len() as u8);
    }
    der.extend_from_slice(length);
    der.extend_from_slice(content);
    der
}

/// Checks that the certificate's one URI is a SPIFFE ID that one of the patterns allows.
///
/// # Errors
/// It has another, more than one, or none.
pub fn verify_spiffe(certificate: &CertificateDer<'_>, allowed: &[SpiffePattern]) -> Result<(), Failure> {
    let parsed = EndEntityCert::try_from(certificate).map_err(|error| failure(&error, certificate, &[]))?;
    let mut ids = parsed.valid_uri_names();
    if let (Some(id), None) = (ids.next(), ids.next())
        && allowed.iter().any(|pattern| pattern.matches(id))
    {
        return Ok(());
    }
    let wanted: Vec<_> = allowed.iter().map(|pattern| format!("`{pattern}`")).collect();
    Err(Failure::new(
        FailureKind::WrongIdentity,
        format!(
            "the certificate is for {}, and has to have {} as its only URI",
            names(certificate),
            wanted.join(" or ")
        ),
    ))
}

/// The verifier of a destination's servers.
pub(crate) fn server_verifier(chain: Chain, verify: Verify) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Server { chain, verify })
}

#[derive(Debug)]
struct Server {
    chain: Chain,
    verify: Verify,
}

impl Server {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Failure> {
        if let Verify::Nothing = self.verify {
            return Ok(());
        }
        self.chain.verify(end_entity, intermediates, KeyUsage::server_auth(), now)?;
        match &self.verify {
            Verify::Spiffe(allowed) => verify_spiffe(end_entity, allowed),
            _ => verify_name(end_entity, name),
        }
    }
}

fn verify_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Failure> {
    let told = |error| failure(&error, certificate, &[]);
    match EndEntityCert::try_from(certificate).map_err(told)?.verify_is_valid_for_subject_name(name) {
        Ok(()) => Ok(()),
        Err(webpki::Error::CertNotValidForName(_)) => Err(Failure::new(
            FailureKind::WrongName,
            format!("asked for `{}`, and the certificate is for {}", name.to_str(), names(certificate)),
        )),
        Err(error) => Err(told(error)),
    }
}

impl ServerCertVerifier for Server {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verify(end_entity, intermediates, name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(failure) => Err(in_words_of_rustls(failure)),
        }
    }

    // That the server has the key of its certificate is checked even where nothing is asked of the certificate.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.chain.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.chain.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.algorithms.supported_schemes()
    }
}

/// The failure as an error that a verifier may return.
pub fn in_words_of_rustls(failure: Failure) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(failure))))
}

/// What webpki says, with what a person needs to know.
fn failure(
    error: &webpki::Error,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Failure {
    use webpki::Error as E;
    let chain = || std::iter::once(end_entity).chain(intermediates).map(AsRef::as_ref);
    let whose = subject(end_entity);
    let (kind, detail) = match error {
        E::CertExpired { time, .. } => (FailureKind::Expired, out_of_date(chain(), *time)),
        E::CertNotValidYet { time, .. } => (FailureKind::NotYetValid, out_of_date(chain(), *time)),
        E::UnknownIssuer => {
            (FailureKind::UnknownCa, format!("{whose} is signed by nobody that is trusted (`roots`)"))
        }
        E::InvalidSignatureForPublicKey => (
            FailureKind::UnknownCa,
            format!(
                "{whose} is not signed with the key of its issuer that is trusted (`roots`): another has the same name"
            ),
        ),
        E::CertRevoked => (FailureKind::Revoked, format!("{whose}, or one that signed it, is revoked")),
        E::UnknownRevocationStatus => {
            (FailureKind::Revoked, format!("no revocation list tells of {whose}, or of one that signed it"))
        }
        E::CrlExpired { time, next_update } => {
            let (now, end) = (time.as_secs(), next_update.as_secs());
            let late = span(now.saturating_sub(end));
            let (now, end) = (utc(now), utc(end));
            let what = format!("a revocation list expired {late} ago (now {now}, nextUpdate {end})");
            (FailureKind::Revoked, format!("{what}, so nobody knows whether {whose} is revoked"))
        }
        E::IssuerNotCrlSigner
        | E::InvalidCrlSignatureForPublicKey
        | E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => (
            FailureKind::Revoked,
            format!("the revocation list that tells of {whose} is not rightly signed: {error}"),
        ),
        E::CaUsedAsEndEntity => (
            FailureKind::BadCertificate,
            format!("{whose} is a CA's own certificate (CA:TRUE), and not one for a server or client"),
        ),
        E::RequiredEkuNotFoundContext(_) => {
            (FailureKind::BadCertificate, format!("{whose} is not for this use (extendedKeyUsage): {error}"))
        }
        _ => (FailureKind::BadCertificate, format!("{whose} cannot be used: {error}")),
    };
    Failure::new(kind, detail)
}

/// Which certificate of the chain is out of date, with all times.
fn out_of_date<'a>(chain: impl Iterator<Item = &'a [u8]>, now: UnixTime) -> String {
    let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
    let mut late = chain.filter_map(|der| Some((der, validity(der)?.check(now).err()?)));
    match late.next() {
        Some((der, failure)) => format!("{} {failure}", subject(der)),
        None => "a certificate of the chain is out of date".to_owned(),
    }
}

#[cfg(test)]
mod tests;
