//! Why a TLS connection could not be made, or broke.

use std::fmt;
use std::io;

/// What went wrong, as a word of a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The peer's certificate is past its notAfter, or one that signed it is.
    Expired,
    /// The peer's certificate is before its notBefore, or one that signed it is.
    NotYetValid,
    /// The peer's certificate is for another name or address.
    WrongName,
    /// The peer's certificate is signed by nobody that is trusted.
    UnknownCa,
    /// The peer's certificate is on a revocation list.
    Revoked,
    /// The peer's certificate has none of the SPIFFE IDs that policy allows.
    WrongIdentity,
    /// None of the peer's keys is pinned.
    WrongPin,
    /// The peer's certificate cannot be used for another reason.
    BadCertificate,
    /// No version of TLS that both sides allow, or no parameters that both have.
    Version,
    /// The peer agreed to no protocol (ALPN) that was asked for.
    NoAlpn,
    /// The peer does not accept our certificate, or that we have none.
    OwnCertificateRefused,
    /// A client has presented no certificate.
    NoCertificate,
    /// The peer ended the connection in the middle of the handshake.
    Closed,
    /// The peer ended the connection without TLS's own end, so that what came may not be all.
    Truncated,
    /// What the peer says is not TLS, or breaks its rules.
    Protocol,
}

impl FailureKind {
    /// What an error of a stream is, if it is one of TLS: also where a library on its way has kept its kind and its words
    /// alone, as h2 does.
    pub fn of(error: &io::Error) -> Option<Self> {
        if let Some(failure) = Failure::of(error) {
            return Some(failure.kind);
        }
        // What the kernel says has no words with it.
        error.get_ref()?;
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Some(Self::Truncated),
            io::ErrorKind::PermissionDenied => Some(Self::OwnCertificateRefused),
            io::ErrorKind::InvalidData => Some(Self::Protocol),
            _ => None,
        }
    }
}

/// A TLS connection that could not be made, or broke. Nothing in it is secret.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// The same for a person, with names and times.
    pub detail: String,
}

impl Failure {
    /// A failure with its words.
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// The failure inside of an error of a stream, if it is one of TLS.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::Closed | FailureKind::Truncated => io::ErrorKind::UnexpectedEof,
            FailureKind::OwnCertificateRefused => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_come_after_the_handshake_is_known_without_its_words() {
        for kind in [FailureKind::Truncated, FailureKind::OwnCertificateRefused, FailureKind::Protocol] {
            let error = io::Error::from(Failure::new(kind, "words"));
            assert_eq!(FailureKind::of(&error), Some(kind));
            assert_eq!(FailureKind::of(&io::Error::new(error.kind(), "words")), Some(kind));
            assert_eq!(FailureKind::of(&error.kind().into()), None, "of the kernel");
        }
        assert_eq!(FailureKind::of(&io::Error::from_raw_os_error(1)), None, "EPERM");
    }
}
