//! One query over TCP: for answers that are too long for a datagram. Each has a connection of its own to the resolver, so
//! that none waits for another's.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dragoman_wire::dns::{Answer, Query, set_id};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::ask::{Failures, Reply, is_failure};
use super::{COMEBACKS_MAX, Forwarder};

impl Forwarder {
    pub(super) async fn ask_by_tcp(&self, query: &Query, message: &[u8]) -> Reply {
        let plan = self.resolvers.plan(Instant::now());
        let deadline = Instant::now() + plan.timeout;
        let mut failures = Failures::default();
        for (place, &resolver) in plan.order.iter().enumerate() {
            if place > 0 {
                self.shared.telemetry.dns().retried();
            }
            let left = (plan.order.len() - place) as u32;
            let limit = deadline.saturating_duration_since(Instant::now()) / left;
            let began = Instant::now();
            let asked = timeout(limit, self.ask_until_it_arrives(resolver, query, message, limit));
            match asked.await.unwrap_or_else(|_| Err(no_answer(limit))) {
                Ok(None) => return Reply::Loop,
                Ok(Some((bytes, answer))) if is_failure(answer.rcode) => {
                    failures.refuse(resolver, bytes, answer);
                }
                Ok(Some((bytes, answer))) => {
                    self.resolvers.was_heard(resolver, Instant::now());
                    return Reply::Answer(bytes, answer);
                }
                Err(error) => {
                    self.resolvers.was_silent(resolver, began, Instant::now());
                    failures.note(resolver, &error);
                }
            }
        }
        failures.into_reply()
    }

    /// `None` where it comes back to ourselves each time.
    async fn ask_until_it_arrives(
        &self,
        resolver: SocketAddr,
        query: &Query,
        message: &[u8],
        limit: Duration,
    ) -> io::Result<Option<(Vec<u8>, Answer)>> {
        for _ in 0..=COMEBACKS_MAX {
            let answer = self.ask_one(resolver, query, message, limit).await?;
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Ok(None)
    }

    /// `None` where it comes back to ourselves.
    async fn ask_one(
        &self,
        resolver: SocketAddr,
        query: &Query,
        message: &[u8],
        limit: Duration,
    ) -> io::Result<Option<(Vec<u8>, Answer)>> {
        let dialled = dragoman_net::dial(resolver, self.shared.mark(), limit).await;
        let mut stream = dialled.map_err(|error| io::Error::other(error.to_string()))?;
        let id = self.ids.next();
        let own = self.note_own(stream.local_addr()?.port(), id);
        let mut message = message.to_vec();
        set_id(&mut message, id);
        write(&mut stream, &message).await?;
        loop {
            let bytes = read(&mut stream).await?;
            match query.answer(id, &bytes) {
                Some(answer) if is_failure(answer.rcode) && own.came_back() => return Ok(None),
                Some(answer) => return Ok(Some((bytes, answer))),
                None => self.shared.telemetry.dns().stray(),
            }
        }
    }
}

fn no_answer(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer over TCP within {limit:.1?}"))
}

/// Sends a message with its length (RFC 1035 §4.2.2), in one piece.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes()[..], message].concat()).await
}

async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = vec![0; from.read_u16().await?.into()];
    from.read_exact(&mut message).await?;
    Ok(message)
}
