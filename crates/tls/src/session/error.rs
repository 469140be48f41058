//! What rustls says, in our words.

use rustls::{AlertDescription, CertificateError, Error, OtherError};

use crate::failure::{Failure, FailureKind};

/// The failure that an error of rustls is. `agreed`: both sides had agreed on a version and on parameters by then.
pub(super) fn failure_of(error: &Error, agreed: bool) -> Failure {
    // Our own verifiers say more than rustls has words for.
    if let Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))
    | Error::Other(OtherError(inner)) = error
        && let Some(failure) = inner.downcast_ref::<Failure>()
    {
        return failure.clone();
    }
    let kind = match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => of_alert(*alert, agreed),
        Error::PeerIncompatible(_) => FailureKind::Version,
        Error::NoApplicationProtocol => FailureKind::NoAlpn,
        Error::NoCertificatesPresented => FailureKind::NoCertificate,
        Error::InvalidCertRevocationList(_) => FailureKind::Revoked,
        Error::UnsupportedNameType => FailureKind::WrongName,
        _ => FailureKind::Protocol,
    };
    Failure::new(kind, words(error))
}

fn of_certificate(error: &CertificateError) -> FailureKind {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => FailureKind::Expired,
        E::NotValidYet | E::NotValidYetContext { .. } => FailureKind::NotYetValid,
        E::NotValidForName | E::NotValidForNameContext { .. } => FailureKind::WrongName,
        E::UnknownIssuer => FailureKind::UnknownCa,
        // A list that does not tell is no proof of a certificate that is still good.
        E::Revoked
        | E::UnknownRevocationStatus
        | E::ExpiredRevocationList
        | E::ExpiredRevocationListContext { .. } => FailureKind::Revoked,
        _ => FailureKind::BadCertificate,
    }
}

/// What a peer means that ends the connection by an alert (RFC 8446 §6.2).
fn of_alert(alert: AlertDescription, agreed: bool) -> FailureKind {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired
        | A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::NoCertificate
        | A::UnknownCA
        | A::AccessDenied
        // Of an authority that has the name of the right one and another key, the signature is wrong.
        | A::DecryptError => FailureKind::OwnCertificateRefused,
        // What a server with TLS 1.2 says to a client that has no certificate (RFC 5246 §7.4.6).
        A::HandshakeFailure if agreed => FailureKind::OwnCertificateRefused,
        A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity => FailureKind::Version,
        A::NoApplicationProtocol => FailureKind::NoAlpn,
        A::UnrecognisedName => FailureKind::WrongName,
        A::UserCanceled | A::CloseNotify => FailureKind::Closed,
        _ => FailureKind::Protocol,
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => {
            let name = alert.as_str().map_or_else(|| format!("alert {}", u8::from(*alert)), spaced);
            format!("the peer ended the TLS connection with the alert {name:?}")
        }
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            format!("the peer does not speak TLS, or breaks its rules: {error}")
        }
        _ => error.to_string(),
    }
}

/// The name of an alert as RFC 8446 writes it.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    let mut before_lower = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && before_lower {
            words.push('_');
        }
        before_lower = letter.is_ascii_lowercase();
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use rustls::PeerIncompatible;

    #[test]
    fn each_error_has_its_kind() {
        use AlertDescription as A;
        use CertificateError as C;
        use FailureKind as K;
        let certificate = Error::InvalidCertificate;
        for (error, kind) in [
            (certificate(C::Expired), K::Expired),
            (certificate(C::NotValidYet), K::NotYetValid),
            (certificate(C::NotValidForName), K::WrongName),
            (certificate(C::UnknownIssuer), K::UnknownCa),
            (certificate(C::Revoked), K::Revoked),
            (certificate(C::UnknownRevocationStatus), K::Revoked),
            (certificate(C::ExpiredRevocationList), K::Revoked),
            (certificate(C::BadSignature), K::BadCertificate),
            (certificate(C::InvalidPurpose), K::BadCertificate),
            (Error::NoCertificatesPresented, K::NoCertificate),
            (Error::NoApplicationProtocol, K::NoAlpn),
            (Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13), K::Version),
            (Error::AlertReceived(A::ProtocolVersion), K::Version),
            (Error::AlertReceived(A::HandshakeFailure), K::Version),
            (Error::AlertReceived(A::InsufficientSecurity), K::Version),
            (Error::AlertReceived(A::NoApplicationProtocol), K::NoAlpn),
            (Error::AlertReceived(A::CertificateRequired), K::OwnCertificateRefused),
            (Error::AlertReceived(A::BadCertificate), K::OwnCertificateRefused),
            (Error::AlertReceived(A::UnknownCA), K::OwnCertificateRefused),
            (Error::AlertReceived(A::CertificateExpired), K::OwnCertificateRefused),
            (Error::AlertReceived(A::AccessDenied), K::OwnCertificateRefused),
            (Error::AlertReceived(A::DecryptError), K::OwnCertificateRefused),
            (Error::AlertReceived(A::UnrecognisedName), K::WrongName),
            (Error::AlertReceived(A::InternalError), K::Protocol),
            (Error::DecryptError, K::Protocol),
            (Error::PeerSentOversizedRecord, K::Protocol),
        ] {
            let failure = failure_of(&error, false);
            assert_eq!(failure.kind, kind, "{error:?}");
            assert!(!failure.detail.is_empty());
        }
        let refused = Error::AlertReceived(A::HandshakeFailure);
        assert_eq!(failure_of(&refused, true).kind, K::OwnCertificateRefused);
    }

    #[test]
    fn an_alert_is_named_as_the_standard_names_it() {
        let failure = failure_of(&Error::AlertReceived(AlertDescription::CertificateRequired), true);
        assert_eq!(
            failure.detail,
            "the peer ended the TLS connection with the alert \"certificate_required\""
        );
        let failure = failure_of(&Error::AlertReceived(AlertDescription::UnknownCA), true);
        assert!(failure.detail.ends_with("\"unknown_ca\""), "{}", failure.detail);
    }

    #[test]
    fn what_our_own_verifier_says_is_said() {
        let ours = Failure::new(FailureKind::WrongPin, "none of the keys is pinned");
        let other = OtherError(Arc::new(ours));
        for error in [Error::InvalidCertificate(CertificateError::Other(other.clone())), Error::Other(other)]
        {
            let failure = failure_of(&error, true);
            assert_eq!(
                (failure.kind, &*failure.detail),
                (FailureKind::WrongPin, "none of the keys is pinned")
            );
        }
    }
}
