//! The thread that sends spans.
//!
//! A thread and not a task: what a receiver makes it wait for (a name to be looked up, a connection, an answer)
//! it waits for beside the workers of the data path, and it is still there when those are gone, to send what
//! the last flows left. Its connections have the process's own group, so capture leaves them alone.
//!
//! Which answers are worth another try, and that `Retry-After` is honoured: OTLP specification, section
//! "OTLP/HTTP Response". While one batch is tried again, others wait, and past the bound of the queue are dropped.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::post::{Answer, Client};
use super::queue::{Queue, Spans};
use super::span::{request, resource};
use crate::labels::DropReason;

/// The wait after the first failure; it doubles with each further one, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// No try begins later than this after the first one.
const LAST_TRY: Duration = Duration::from_secs(60);

/// Where spans are sent, and what is said about who sends them.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Where to post, as `/v1/traces`.
    pub path: String,
    /// Headers to send, beside those of OTLP.
    pub headers: Vec<(String, String)>,
    /// The attribute `service.name`.
    pub service_name: String,
    /// The mark (`SO_MARK`) of the connection, which takes CAP_NET_ADMIN: by it capture tells it from an app's.
    pub mark: Option<u32>,
}

pub(super) fn start(queue: Arc<Queue>, receiver: Receiver) -> io::Result<()> {
    let about = resource(|attributes| {
        attributes.text("service.name", &receiver.service_name);
        // Inside a pod it is the pod's name.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        attributes.text("host.name", host.trim_end());
        attributes.count("process.pid", std::process::id().into());
    });
    let client = Client::new(receiver)?;
    std::thread::Builder::new().name("trace-export".into()).spawn(move || export(&queue, client, &about))?;
    Ok(())
}

/// Sends batches until the queue is closed and empty.
fn export(queue: &Queue, mut client: Client, about: &[u8]) {
    let mut failing = false;
    while let Some(batch) = queue.next_batch() {
        match deliver(queue, &mut client, about, &batch) {
            Ok(rejected) => {
                if std::mem::take(&mut failing) {
                    tracing::info!(receiver = client.receiver(), "spans are exported again");
                }
                queue.settle(rejected, DropReason::Rejected);
            }
            Err((reason, error)) => {
                if !std::mem::replace(&mut failing, true) {
                    let receiver = client.receiver();
                    tracing::warn!(receiver, error, "cannot export spans; they are dropped and counted");
                }
                queue.settle(batch.count, reason);
            }
        }
    }
}

/// Sends one batch, if need be more than once. Returns how many of its spans were rejected.
fn deliver(
    queue: &Queue,
    client: &mut Client,
    about: &[u8],
    batch: &Spans,
) -> Result<u64, (DropReason, String)> {
    let body = request(about, &batch.bytes).into();
    let end = Instant::now() + LAST_TRY;
    let mut back_off = FIRST_WAIT;
    loop {
        let (error, asked) = match client.post(&body) {
            Ok(Answer { status: 200..=299, rejected, message, .. }) => {
                if rejected > 0 || !message.is_empty() {
                    tracing::debug!(rejected, message, "what the receiver said about spans");
                }
                return Ok(rejected);
            }
            Ok(Answer { status: status @ (429 | 502..=504), retry_after, .. }) => {
                (format!("status {status}"), retry_after)
            }
            Ok(Answer { status, .. }) => return Err((DropReason::Rejected, format!("status {status}"))),
            Err(error) => (error, None),
        };
        let wait = asked.unwrap_or_else(|| jittered(back_off));
        back_off = LONGEST_WAIT.min(back_off * 2);
        // The receiver may ask for more than an `Instant` can hold.
        if wait > end.saturating_duration_since(Instant::now()) || !queue.back_off(wait) {
            return Err((DropReason::Unavailable, error));
        }
    }
}

/// Between half of it and all of it, so that a fleet does not come back at the same moment.
fn jittered(wait: Duration) -> Duration {
    let share = RandomState::new().hash_one("jitter") as u32;
    wait / 2 + wait.mul_f64(f64::from(share) / f64::from(u32::MAX) / 2.0)
}
