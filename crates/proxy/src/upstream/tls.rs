//! TLS on a connection that was just made.

use std::time::Duration;

use dragoman_telemetry::Cause;
use dragoman_tls::failure::{Failure, FailureKind};
use dragoman_tls::session::Session;
use tokio::time::timeout;

use super::dial::DialFailed;
use crate::leg::Leg;
use crate::stream::{Stream, TlsStream};

/// What is read of a server that goes on after a handshake has failed, in bytes.
const LINGER: usize = 64 * 1024;

/// Agrees on TLS with the server that `leg` leads to, as `session` does. What was read of it already is the first of it.
///
/// # Errors
/// Why there is no connection; nothing of the app was sent.
pub(crate) async fn handshake(leg: Leg, session: Session, limit: Duration) -> Result<Leg, DialFailed> {
    handshake_as(leg, session, limit).await.map_err(|failure| match failure {
        HandshakeFailed::Late => {
            let detail = format!("the TLS handshake was not done within {limit:?}");
            DialFailed { cause: Cause::TlsTimeout, detail }
        }
        HandshakeFailed::Tls(failure) => {
            DialFailed { cause: tls_cause(failure.kind), detail: failure.detail }
        }
    })
}

/// Why a handshake with either side has failed.
#[derive(Debug)]
pub(crate) enum HandshakeFailed {
    /// It was not done in time.
    Late,
    Tls(Failure),
}

/// Agrees on TLS with whoever is at the other end of `leg`, as `session` does. What was read of it already is the first of it.
///
/// # Errors
/// Why there is no connection. The other side was told, and the connection has ended.
pub(crate) async fn handshake_as(
    leg: Leg,
    session: Session,
    limit: Duration,
) -> Result<Leg, HandshakeFailed> {
    let closed = || HandshakeFailed::Tls(Failure::new(FailureKind::Closed, "the connection is over"));
    let (stream, held) = leg.into_parts().ok_or_else(closed)?;
    let tcp = match stream {
        Stream::Plain(tcp) => tcp,
        Stream::Tls(_) => {
            let failure = Failure::new(FailureKind::Protocol, "TLS within TLS");
            return Err(HandshakeFailed::Tls(failure));
        }
    };
    let tls = Box::new(TlsStream::new(tcp, session));
    let made = timeout(limit, tls.handshake(held.bytes())).await;
    let leg = Leg::new(Stream::Tls(tls));
    match made {
        Ok(Ok(())) => Ok(leg),
        Err(_) => Err(HandshakeFailed::Late),
        Ok(Err(error)) => {
            let failure = match Failure::of(&error) {
                Some(failure) => failure.clone(),
                None => Failure::new(FailureKind::Closed, format!("in the TLS handshake: {error}")),
            };
            // With bytes of it unread, a close would be a reset, and why would never be heard.
            tokio::spawn(leg.close_lingering(LINGER));
            Err(HandshakeFailed::Tls(failure))
        }
    }
}

/// The cause that a failure towards a server is.
pub(crate) fn tls_cause(kind: FailureKind) -> Cause {
    match kind {
        FailureKind::Expired => Cause::TlsExpired,
        FailureKind::NotYetValid => Cause::TlsNotYetValid,
        FailureKind::WrongName => Cause::TlsWrongName,
        FailureKind::UnknownCa => Cause::TlsUnknownCa,
        FailureKind::Revoked => Cause::TlsRevoked,
        FailureKind::WrongIdentity => Cause::TlsWrongIdentity,
        FailureKind::WrongPin => Cause::TlsWrongPin,
        FailureKind::BadCertificate | FailureKind::NoCertificate => Cause::TlsBadCertificate,
        FailureKind::Version => Cause::TlsVersion,
        FailureKind::NoAlpn => Cause::TlsNoAlpn,
        FailureKind::OwnCertificateRefused => Cause::TlsClientRefused,
        FailureKind::Closed => Cause::TlsClosed,
        FailureKind::Truncated => Cause::TlsTruncated,
        FailureKind::Protocol => Cause::TlsFailed,
    }
}
