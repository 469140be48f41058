//! One direction of the opaque relay.

use std::future::{Future, poll_fn};
use std::io;

use dragoman_net::Pipe;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::silence::Listener;
use crate::buffer::Buffer;
use crate::stream::{ReadHalf, WriteHalf};

/// What comes in one go and is worth a pipe, in bytes.
const FLOOD: usize = 32 * 1024;

/// Why a direction cannot go on.
#[derive(Debug)]
pub(super) enum Stopped {
    Read(io::Error),
    Write(io::Error),
}

/// Writes what waits, then reads, until the sender ends; then passes that end on. Bytes are copied, which is quickest for the
/// little that most flows say at a time; a flood goes by the kernel alone. Dropped while `listener` hears nothing it loses
/// nothing; dropped at another moment, what it has read and not written on stands in `buf`.
#[expect(clippy::manual_async_fn, reason = "as for the relay")]
pub(super) fn pump<'a>(
    mut from: ReadHalf<'a>,
    buf: &'a mut Buffer,
    mut to: WriteHalf<'a>,
    moved: &'a mut u64,
    listener: &'a Listener,
) -> impl Future<Output = Result<ReadHalf<'a>, Stopped>> + use<'a> {
    async move {
        let mut flood = false;
        loop {
            while !buf.is_empty() {
                let count = to.write(buf.bytes()).await.map_err(Stopped::Write)?;
                buf.consume(count);
                *moved += count as u64;
            }
            // Boxed, as most flows have none.
            if flood
                && let (Some(from), Some(to)) = (from.plain(), to.plain())
                && let Burst::Ended = Box::pin(bursts(from, buf, to, moved, listener)).await?
            {
                break;
            }
            listener.waits();
            if buf.fill(&mut from).await.map_err(Stopped::Read)? == 0 {
                break;
            }
            listener.hears();
            flood = buf.is_flooded();
        }
        listener.ended();
        // The receiver may have ended the connection altogether: then there is nobody left to tell.
        let _ = to.shutdown().await;
        Ok(from)
    }
}

/// What came at once.
enum Burst {
    Flood,
    Trickle,
    /// The last of it: the sender has ended.
    Ended,
}

/// Moves bytes by the kernel for as long as they come in floods. Never ends with [`Burst::Flood`].
async fn bursts(
    from: &TcpStream,
    buf: &mut Buffer,
    to: &TcpStream,
    moved: &mut u64,
    listener: &Listener,
) -> Result<Burst, Stopped> {
    loop {
        listener.waits();
        poll_fn(|context| from.poll_read_ready(context)).await.map_err(Stopped::Read)?;
        listener.hears();
        match burst(from, buf, to, moved).await? {
            Burst::Flood => {}
            last => return Ok(last),
        }
    }
}

/// A pipe that a burst goes through. What it holds when the burst is cut short goes into the buffer, to be the first of what
/// is still delivered.
struct Held<'a> {
    /// `None` once it is dropped.
    pipe: Option<Pipe>,
    buf: &'a mut Buffer,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // An error cannot be told here; then bytes are lost, of a flow that is about to be reset.
            self.buf.append(|bytes| drop(pipe.empty_into(bytes)));
            pipe.give_back();
        }
    }
}

/// Moves all that has come by the kernel. A pipe is held only for as long as that takes; where there is none, bytes are
/// copied.
async fn burst(
    from: &TcpStream,
    buf: &mut Buffer,
    to: &TcpStream,
    moved: &mut u64,
) -> Result<Burst, Stopped> {
    let Ok(pipe) = Pipe::take() else { return Ok(Burst::Trickle) };
    let mut held = Held { pipe: Some(pipe), buf };
    let Some(pipe) = &mut held.pipe else { return Ok(Burst::Trickle) };
    let mut came = 0;
    loop {
        match pipe.fill(from) {
            Ok(0) => return Ok(Burst::Ended),
            Ok(count) => came += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(if came >= FLOOD { Burst::Flood } else { Burst::Trickle });
            }
            Err(error) => return Err(Stopped::Read(error)),
        }
        while !pipe.is_empty() {
            // This is also where other flows get their turn.
            poll_fn(|context| to.poll_write_ready(context)).await.map_err(Stopped::Write)?;
            match pipe.drain(to) {
                Ok(count) => *moved += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Stopped::Write(error)),
            }
        }
    }
}
