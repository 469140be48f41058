//! A record between the two forms: from what a flow or exchange knows to bytes, and from bytes to a [`Story`].

use std::net::SocketAddr;
use std::time::Duration;

use super::encode::{Decoder, Encoder};
use super::steps::Steps;
use super::story::{AttemptStory, Sniffed, Story};
use super::{FirstBytes, Speaker};
use crate::cause::{Cause, Who};
use crate::labels::{BreakerState, Handshake, Outcome, Protocol, TlsVersion, Way};
use crate::text;

/// In the first byte of a record: it did not end well.
pub(super) const FAILURE: u8 = 1;
const EXCHANGE: u8 = 2;

/// Bytes of a record that are always there, in the order of [`Facts::encode`].
const FIXED: usize = 80;

/// What a record is made of, lent by a flow or an exchange that ends.
pub(crate) struct Facts<'a> {
    pub(crate) id: u64,
    /// The flow of an exchange.
    pub(crate) flow: Option<u64>,
    /// Since the recorder's start.
    pub(crate) ended: Duration,
    pub(crate) took: Duration,
    pub(crate) protocol: Protocol,
    pub(crate) first: FirstBytes,
    pub(crate) bytes_from_app: u64,
    pub(crate) bytes_to_app: u64,
    pub(crate) destination: usize,
    pub(crate) generation: u32,
    pub(crate) status: Option<u16>,
    pub(crate) cause: Option<Cause>,
    pub(crate) closed_by: Option<Who>,
    pub(crate) attempts: u32,
    pub(crate) peer: SocketAddr,
    pub(crate) original_dst: Option<SocketAddr>,
    /// Where the last attempt went.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) steps: &'a Steps,
    /// Printable already: method, host, path, route.
    pub(crate) texts: [&'a str; 4],
    /// As the app sent it.
    pub(crate) request_id: &'a str,
    /// As the app sent it.
    pub(crate) sni: &'a str,
    pub(crate) grpc_status: &'a str,
    pub(crate) detail: &'a str,
}

impl Facts<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let failure = if self.cause.is_some() { FAILURE } else { 0 };
        let mut fixed = [0; FIXED];
        fixed[0] = failure | if self.flow.is_some() { EXCHANGE } else { 0 };
        fixed[1] = self.protocol as u8;
        fixed[2] = self.first.tag >> 5;
        fixed[3] = self.first.tag & 31;
        fixed[4..20].copy_from_slice(&self.first.bytes);
        fixed[20..28].copy_from_slice(&self.id.to_le_bytes());
        fixed[28..36].copy_from_slice(&self.flow.unwrap_or_default().to_le_bytes());
        fixed[36..44].copy_from_slice(&micros(self.ended).to_le_bytes());
        fixed[44..52].copy_from_slice(&micros(self.took).to_le_bytes());
        fixed[52..60].copy_from_slice(&self.bytes_from_app.to_le_bytes());
        fixed[60..68].copy_from_slice(&self.bytes_to_app.to_le_bytes());
        fixed[68..72].copy_from_slice(&(self.destination as u32).to_le_bytes());
        fixed[72..76].copy_from_slice(&self.generation.to_le_bytes());
        fixed[76..78].copy_from_slice(&self.status.unwrap_or_default().to_le_bytes());
        fixed[78] = self.cause.map_or(0, |cause| cause as u8 + 1);
        fixed[79] = self.closed_by.map_or(0, |who| who as u8 + 1);
        let mut out = Encoder(out);
        out.bytes(&fixed);
        out.bytes(&self.attempts.to_le_bytes());
        out.address(Some(self.peer));
        out.address(self.original_dst);
        for text in self.texts {
            out.text(text);
        }
        // What the app chose is made printable here, and mostly it is not there.
        for text in [self.request_id, self.sni] {
            if text.is_empty() { out.byte(0) } else { out.text(&text::printable(text.as_bytes())) }
        }
        out.text(self.grpc_status);
        out.text(self.detail);
        self.steps.encode(self.endpoint, &mut out);
    }
}

/// A record that was read, before its times and names are known.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) id: u64,
    pub(super) is_exchange: bool,
    /// Since the recorder's start, in microseconds.
    pub(super) ended_us: u64,
    /// Index of the destination.
    pub(super) destination: usize,
    pub(super) story: Story,
}

/// Reads one record.
pub(super) fn decode(bytes: &[u8]) -> Option<Decoded> {
    let mut bytes = Decoder(bytes);
    let [flags, protocol, by, length] = bytes.array()?;
    let first: [u8; 16] = bytes.array()?;
    let (id, flow, ended_us, duration_us) = (bytes.u64()?, bytes.u64()?, bytes.u64()?, bytes.u64()?);
    let (bytes_from_app, bytes_to_app) = (bytes.u64()?, bytes.u64()?);
    let (destination, generation, status) = (bytes.u32()?, bytes.u32()?, bytes.u16()?);
    let [cause, closed_by] = bytes.array()?;
    let cause = from_byte(Cause::ALL, cause);
    let is_exchange = flags & EXCHANGE != 0;
    let address = |address: Option<SocketAddr>| address.map_or_else(String::new, |it| it.to_string());
    let mut story = Story {
        kind: if is_exchange { "exchange" } else { "flow" }.into(),
        id: format!("{id:016x}"),
        flow: if is_exchange { format!("{flow:016x}") } else { String::new() },
        duration_us,
        sniffed: sniffed(protocol, by, first.get(..length.into())?),
        generation: generation.into(),
        status: (status > 0).then_some(status),
        bytes_from_app,
        bytes_to_app,
        cause: word(cause.map(Cause::as_str)),
        who: word(cause.map(|cause| cause.who().as_str())),
        closed_by: word(from_byte(Who::ALL, closed_by).map(Who::as_str)),
        attempts_made: bytes.u32()?,
        ..Story::default()
    };
    story.peer = address(bytes.address()?);
    story.original_dst = address(bytes.address()?);
    for text in [&mut story.method, &mut story.host, &mut story.path, &mut story.route] {
        *text = bytes.text()?;
    }
    for text in [&mut story.request_id, &mut story.sni, &mut story.grpc_status, &mut story.detail] {
        *text = bytes.text()?;
    }
    for _ in 0..bytes.byte()? {
        let endpoint = address(bytes.address()?);
        story.attempts.push(AttemptStory { endpoint, ..attempt(&mut bytes)? });
    }
    let destination = usize::try_from(destination).ok()?;
    Some(Decoded { id, is_exchange, ended_us, destination, story })
}

fn attempt(bytes: &mut Decoder<'_>) -> Option<AttemptStory> {
    let (started_us, connected, first_byte, ended) = (bytes.u32()?, bytes.u32()?, bytes.u32()?, bytes.u32()?);
    let (wait, left, status) = (bytes.u32()?, bytes.u64()?, bytes.u16()?);
    let [way, outcome, cause, after] = bytes.array()?;
    let breaker = |state| word(from_byte(BreakerState::ALL, state).map(BreakerState::as_str));
    let (was_retried, is_secured) = (after & 16 != 0, after & 32 != 0);
    let mut story = AttemptStory::default();
    if is_secured {
        let [version, handshake] = bytes.array()?;
        story.tls = word(from_byte(TlsVersion::ALL, version).map(TlsVersion::as_str));
        story.tls_handshake = word(from_byte(Handshake::ALL, handshake).map(Handshake::as_str));
        story.tls_us = bytes.u32();
        story.server_name = bytes.text()?;
    }
    let reason = bytes.text()?;
    let (retried, proof, not_retried) = match was_retried {
        true => (reason, bytes.text()?, String::new()),
        false => (String::new(), String::new(), reason),
    };
    Some(AttemptStory {
        endpoint: String::new(),
        started_us,
        connection: word(from_byte(Way::ALL, way & 15).map(Way::as_str)),
        connected_us: connected.checked_sub(1),
        first_byte_us: first_byte.checked_sub(1),
        ended_us: ended.checked_sub(1),
        outcome: word(from_byte(Outcome::ALL, outcome).map(Outcome::as_str)),
        status: (status > 0).then_some(status),
        cause: word(from_byte(Cause::ALL, cause).map(Cause::as_str)),
        breaker: breaker(way >> 4),
        breaker_after: breaker(after & 15),
        budget_left: left.checked_sub(1),
        retried,
        proof,
        wait_us: was_retried.then_some(wait),
        not_retried,
        ..story
    })
}

fn sniffed(protocol: u8, by: u8, bytes: &[u8]) -> Sniffed {
    let protocol = Protocol::ALL.get(usize::from(protocol)).map(|protocol| protocol.as_str());
    let by = Speaker::ALL.get(usize::from(by)).filter(|by| **by != Speaker::Nobody);
    Sniffed {
        protocol: word(protocol),
        by: word(by.map(|by| by.as_str())),
        bytes: bytes.escape_ascii().to_string(),
    }
}

/// The value whose place in its set, counted from 1, this is.
fn from_byte<T: Copy>(all: &[T], byte: u8) -> Option<T> {
    all.get(usize::from(byte.checked_sub(1)?)).copied()
}

fn word(word: Option<&'static str>) -> String {
    word.unwrap_or_default().to_owned()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
