//! What an upstream connection is made to, and with: an endpoint, and TLS where policy says so.
//!
//! The name that a server is asked for, and has to have a certificate for, is the first that there is: that of policy
//! (`tls.server_name`), what the app calls the server (the host of its request), the learnt name, the address. What
//! cannot be a name of a server is refused rather than passed over: the one after it would be another server's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dragoman_config::{Destination, Origination, Verify};
use dragoman_telemetry::{Cause, Handshake, Secured, TlsVersion};
use dragoman_tls::client::{Alpn, ClientConfigs};
use dragoman_tls::session::Session;
use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;

use super::dial::{DialFailed, connect};
use super::pool::{PoolKey, SecureKey};
use super::tls::{handshake, tls_cause};
use crate::leg::Leg;
use crate::shared::Shared;
use crate::stream::Stream;

/// Whom the app asks for.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// Nobody by name: an endpoint is asked for by its address.
    Nobody,
    /// A server by its name.
    Server(ServerName<'static>),
    /// What cannot be a server's name.
    Nonsense(Box<str>),
}

impl Asked {
    /// What the app calls its server, if that matters. `host`: of its request, with or without a port; empty if there is none.
    pub(crate) fn of(destination: &Destination, host: &str, learnt: Option<&str>) -> Self {
        if !matches!(destination.tls, Some(Origination { server_name: None, .. })) {
            return Self::Nobody;
        }
        match (host, learnt) {
            ("", None) => Self::Nobody,
            ("", Some(name)) => Self::server(name),
            (host, _) => Self::server(without_port(host)),
        }
    }

    fn server(name: &str) -> Self {
        let name = name.strip_suffix('.').unwrap_or(name);
        match ServerName::try_from(name) {
            Ok(name) => Self::Server(name.to_owned()),
            Err(_) => Self::Nonsense(name.into()),
        }
    }
}

/// The host of `host`, `host:port` or `[v6]:port`, without brackets.
fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    // An address without brackets has no port.
    let name = if host.parse::<IpAddr>().is_ok() { host } else { name };
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

/// Where a connection leads, and what it is made with.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) key: PoolKey,
    /// With a [`PoolKey::secure`] alone.
    configs: Option<Arc<ClientConfigs>>,
    is_verified: bool,
}

impl Link {
    /// A connection without TLS: there is none in policy, or the app encrypts what it says itself.
    pub(crate) fn plain(destination: &Destination, endpoint: SocketAddr) -> Self {
        let key = PoolKey { endpoint, destination: destination.version(), secure: None };
        Self { key, configs: None, is_verified: false }
    }

    /// A connection as policy says, for whoever asks for `asked` and speaks `alpn`.
    ///
    /// # Errors
    /// There can be none.
    pub(crate) fn new(
        shared: &Shared,
        destination: &Destination,
        endpoint: SocketAddr,
        alpn: Alpn,
        asked: &Asked,
    ) -> Result<Self, DialFailed> {
        let plain = Self::plain(destination, endpoint);
        let Some(tls) = &destination.tls else { return Ok(plain) };
        let Some(configs) = shared.tls.client(destination) else {
            // It is read before a configuration is in force. Without it, nothing goes out.
            let detail = format!("{endpoint}: what `tls` needs was not read");
            return Err(DialFailed { cause: Cause::TlsFailed, detail });
        };
        let name = match (configs.server_name(), asked) {
            (Some(name), _) => name.clone(),
            (None, Asked::Server(name)) => name.clone(),
            (None, Asked::Nobody) => ServerName::from(endpoint.ip()),
            (None, Asked::Nonsense(text)) => {
                let text = text.escape_default();
                let detail =
                    format!("{endpoint}: `{text}` cannot be the name of a server: set `tls.server_name`");
                return Err(DialFailed { cause: Cause::TlsWrongName, detail });
            }
        };
        let secure = SecureKey { name, alpn, generation: configs.generation() };
        Ok(Self {
            key: PoolKey { secure: Some(Arc::new(secure)), ..plain.key },
            configs: Some(configs),
            is_verified: tls.verify != Verify::Nothing,
        })
    }

    /// Another connection like those of `key`; `None` where they are not made any more.
    pub(crate) fn again(shared: &Shared, destination: &Destination, key: &PoolKey) -> Option<Self> {
        let alpn = key.secure.as_ref().map_or(Alpn::None, |secure| secure.alpn);
        let asked = key.secure.as_ref().map_or(Asked::Nobody, |secure| Asked::Server(secure.name.clone()));
        let link = Self::new(shared, destination, key.endpoint, alpn, &asked).ok()?;
        (link.key == *key).then_some(link)
    }

    /// Where it leads.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.key.endpoint
    }

    /// Makes the connection within `limit`, and counts it.
    ///
    /// # Errors
    /// There is none; nothing of the app was sent.
    pub(crate) async fn dial(&self, shared: &Shared, limit: Duration) -> Result<Leg, DialFailed> {
        let start = Instant::now();
        let leg = connect(shared, self.key.destination.index, self.key.endpoint, limit).await?;
        let Some(configs) = &self.configs else { return Ok(leg) };
        // Boxed: it is made where TLS is, and only there is room for it to be taken.
        Box::pin(self.secure(shared, configs, leg, limit.saturating_sub(start.elapsed()))).await
    }

    async fn secure(
        &self,
        shared: &Shared,
        configs: &ClientConfigs,
        leg: Leg,
        limit: Duration,
    ) -> Result<Leg, DialFailed> {
        let start = Instant::now();
        let metrics = shared.telemetry.destination(self.key.destination.index);
        let made = self.agree(configs, leg, limit).await;
        let took = start.elapsed();
        metrics.handshake(made.as_ref().map_or(Handshake::Failed, |(_, handshake)| *handshake), took);
        if made.is_ok() && !self.is_verified {
            metrics.unverified();
        }
        let (mut leg, handshake) = made.map_err(|failed| DialFailed {
            detail: format!("{}: {}", self.key.endpoint, failed.detail),
            ..failed
        })?;
        self.note(&mut leg, handshake, took);
        Ok(leg)
    }

    /// What is told of the connection, for as long as there is one.
    fn note(&self, leg: &mut Leg, handshake: Handshake, took: Duration) {
        let (Some(key), Stream::Tls(tls)) = (&self.key.secure, leg.parts().0) else { return };
        let version = match tls.with_session(Session::version) {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::V1_2,
            _ => TlsVersion::V1_3,
        };
        tls.agreed(Secured { version, handshake, took, server_name: key.name.to_str().into() });
    }

    /// The handshake, and how it went.
    async fn agree(
        &self,
        configs: &ClientConfigs,
        leg: Leg,
        limit: Duration,
    ) -> Result<(Leg, Handshake), DialFailed> {
        let Some(SecureKey { name, alpn, .. }) = self.key.secure.as_deref() else {
            return Ok((leg, Handshake::Full));
        };
        let side = configs.side(*alpn, self.key.endpoint, Instant::now());
        let session = Session::client(side, name.clone())
            .map_err(|failure| DialFailed { cause: tls_cause(failure.kind), detail: failure.detail })?;
        let leg = handshake(leg, session, limit).await?;
        let facts = leg.stream().tls().map(|tls| {
            tls.with_session(|session| (session.is_resumed(), session.alpn().map(<[u8]>::to_vec)))
        });
        let (resumed, agreed) = facts.unwrap_or_default();
        if !alpn.is_met_by(agreed.as_deref()) {
            leg.close();
            let agreed = agreed.map_or("nothing".to_owned(), |name| format!("`{}`", name.escape_ascii()));
            let detail = format!("`h2` was asked for (ALPN), and the server agreed to {agreed}");
            return Err(DialFailed { cause: Cause::TlsNoAlpn, detail });
        }
        Ok((leg, if resumed { Handshake::Resumed } else { Handshake::Full }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_loses_its_port_and_brackets() {
        for (host, name) in [
            ("a.test", "a.test"),
            ("a.test:8080", "a.test"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[fd00::1]:80", "fd00::1"),
            ("[fd00::1]", "fd00::1"),
            ("fd00::1", "fd00::1"),
            ("a.test:http", "a.test:http"),
        ] {
            assert_eq!(without_port(host), name, "{host}");
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_nonsense() {
        for good in ["a.test", "a.test.", "A_b.test", "10.0.0.1", "fd00::1"] {
            assert!(matches!(Asked::server(good), Asked::Server(_)), "{good}");
        }
        for bad in ["a b", "a..test", "a.test:http", "", "-a.test", "ä.test", "1.2.3.4.5"] {
            assert!(matches!(Asked::server(bad), Asked::Nonsense(_)), "{bad}");
        }
    }
}
