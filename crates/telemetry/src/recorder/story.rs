//! A story as it is told: the form of `/flows`, and what `dragoman explain` makes its text of.
//!
//! Words are texts here, so that a program and a proxy of different versions understand each other; what one of them
//! does not know is left out by the other.

use serde::{Deserialize, Serialize};

/// What became of one flow or exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Story {
    /// `flow` or `exchange`.
    pub kind: String,
    /// As in the access log.
    pub id: String,
    /// The flow that carried an exchange.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub flow: String,
    /// When it ended, RFC 3339.
    pub ended: String,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The app's end of the connection.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// Where the app dialled.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub original_dst: String,
    /// What the flow spoke, and how that was found.
    pub sniffed: Sniffed,
    /// The TLS server name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sni: String,
    /// The destination whose policy held.
    pub destination: String,
    /// The generation of the configuration that last changed that destination.
    pub generation: u64,
    /// The route, if one matched.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// The method of an exchange.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Its host; of a flow, the name for which the app got its address from DNS.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its path, without the query.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Its `x-request-id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// The status that the app got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The status of a gRPC call.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub grpc_status: String,
    /// Bytes relayed from the app.
    pub bytes_from_app: u64,
    /// Bytes sent to the app.
    pub bytes_to_app: u64,
    /// Attempts made; more than are told of, where they were very many.
    pub attempts_made: u32,
    /// The attempts.
    pub attempts: Vec<AttemptStory>,
    /// Who ended the connection of a flow, where it ended well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub closed_by: String,
    /// Why it did not end well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// Who did that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// What the system or a parser said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What a flow spoke, and how that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sniffed {
    /// The protocol.
    pub protocol: String,
    /// Whose bytes decided: `app`, `upstream`, or nobody's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// The first of them, escaped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bytes: String,
}

/// One try of an exchange, or to connect a flow. Times are in microseconds since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptStory {
    /// Where it went.
    pub endpoint: String,
    /// When it began.
    pub started_us: u32,
    /// How it came by its connection: `new`, `early`, `pool`, `flow`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub connection: String,
    /// When it was on its connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_us: Option<u32>,
    /// The version of TLS, where dragoman encrypts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tls: String,
    /// How that was agreed when the connection was made: `full`, `resumed`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tls_handshake: String,
    /// How long that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_us: Option<u32>,
    /// Whom the server was asked to be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    /// When the response head was here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u32>,
    /// When it ended; absent where that was the end of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_us: Option<u32>,
    /// What it said about its endpoint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    /// The status that it was answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What the breaker was when it was admitted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub breaker: String,
    /// What the breaker was when it was decided whether to repeat it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub breaker_after: String,
    /// How many retries the budget had left then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_left: Option<u64>,
    /// Why it was repeated: what failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub retried: String,
    /// Why that was safe.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proof: String,
    /// How long was waited before the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_us: Option<u32>,
    /// Why it was not repeated.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub not_retried: String,
}
