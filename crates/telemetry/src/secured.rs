//! What is told of TLS on an upstream connection.

use std::time::Duration;

use crate::access::Field;
use crate::access::line::Line;
use crate::labels::{Handshake, TlsVersion};

/// TLS as it was agreed with a server. Made once for each connection, and shared by all that it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// The version that was agreed.
    pub version: TlsVersion,
    /// Whether a session was resumed.
    pub handshake: Handshake,
    /// How long the handshake took: the last part of the time to connect.
    pub took: Duration,
    /// Whom the server was asked to be, a name or an address; printable.
    pub server_name: Box<str>,
}

impl Secured {
    pub(crate) fn write(&self, line: &mut Line) {
        line.plain(Field::Tls, self.version);
        line.plain(Field::TlsHandshake, self.handshake);
        line.text(Field::ServerName, &self.server_name);
    }
}
