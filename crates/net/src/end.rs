//! How connections end, and how to end one as its other side ended.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::sys;

/// How often the send queue is looked at while a reset waits for it. There is no event for "all acknowledged".
const DELIVERY_POLL: Duration = Duration::from_millis(2);

/// Whether `error` is the other side's reset.
pub fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Whether the kernel gave the connection up: keep-alive or TCP_USER_TIMEOUT, or a host that went away.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
    )
}

/// Makes the coming close a reset (SO_LINGER 0). What is not yet acknowledged is thrown away with it.
pub fn reset_on_close(stream: &TcpStream) {
    // A socket that is already gone needs no reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Waits until the other side has acknowledged all that was written to it, or until `limit` has passed. The coming close is a
/// reset, whenever that is.
pub async fn reset_after_delivery(stream: &TcpStream, limit: Duration) {
    // First, so that a flow that is ended in the midst of this wait ends by a reset too.
    reset_on_close(stream);
    let _ = timeout(limit, delivered(stream)).await;
}

/// Returns when the other side has acknowledged all that was written to it, or the connection is gone.
pub async fn delivered(stream: &TcpStream) {
    while undelivered_bytes(stream) > 0 {
        sleep(DELIVERY_POLL).await;
    }
}

/// Bytes that were written and that the other side may still acknowledge: none once the connection is gone.
pub fn undelivered_bytes(stream: &TcpStream) -> usize {
    // After a reset the kernel keeps the count of what was never acknowledged.
    if stream.peer_addr().is_err() {
        return 0;
    }
    sys::unacknowledged_bytes(stream).unwrap_or(0)
}

/// Whether an idle connection is still usable: open, and with nothing to read. Asked of the kernel, not of the
/// runtime's readiness, which may lag behind.
pub fn is_still_open(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    // The socket is non-blocking: a live, quiet connection says WouldBlock, everything else is an end or a surprise.
    matches!(SockRef::from(stream).peek(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Whether an idle connection is still usable, as far as the runtime has heard: the kernel is asked only where something
/// has come on it since it was last read. An end in the last moments goes unnoticed, until the runtime next looks for
/// events; it costs no system call, so it is for requests that may be sent again if the connection turns out to be closed.
pub fn seems_open(stream: &TcpStream) -> bool {
    let asked = stream.try_io(Interest::READABLE, || match is_still_open(stream) {
        // It was a false alarm, and is forgotten.
        true => Err(io::ErrorKind::WouldBlock.into()),
        false => Ok(()),
    });
    asked.is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_reset_comes_after_the_bytes() {
        let (mut reader, mut writer) = pair().await;
        let sent = vec![7; 200_000];
        let read = tokio::spawn(async move {
            let mut got = Vec::new();
            let end = reader.read_to_end(&mut got).await;
            (got.len(), end)
        });
        writer.write_all(&sent).await.unwrap();
        reset_after_delivery(&writer, Duration::from_secs(5)).await;
        drop(writer);
        let (got, end) = read.await.unwrap();
        assert_eq!(got, sent.len());
        assert!(is_reset(&end.unwrap_err()));
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_reset_all_the_same() {
        let (reader, mut writer) = pair().await;
        while tokio::time::timeout(Duration::from_millis(50), writer.write_all(&[0; 65536])).await.is_ok() {}
        reset_after_delivery(&writer, Duration::from_millis(20)).await;
        drop(writer);
        reader.ready(tokio::io::Interest::ERROR).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_is_not_waited_for() {
        let (mut writer, reader) = pair().await;
        writer.write_all(&[0; 65536]).await.unwrap();
        reset_on_close(&reader);
        drop(reader);
        writer.ready(tokio::io::Interest::ERROR).await.unwrap();
        assert_eq!(undelivered_bytes(&writer), 0);
        reset_after_delivery(&writer, Duration::from_secs(3600)).await;
    }

    #[tokio::test]
    async fn an_idle_connection_is_open_until_the_other_side_acts() {
        let (client, mut server) = pair().await;
        assert!(is_still_open(&client));
        server.write_all(b"x").await.unwrap();
        client.readable().await.unwrap();
        assert!(!is_still_open(&client), "unread bytes");
        let (client, server) = pair().await;
        drop(server);
        client.readable().await.unwrap();
        assert!(!is_still_open(&client), "closed");
    }

    #[tokio::test]
    async fn what_seems_open_is_open_once_the_runtime_has_heard() {
        let (mut client, mut server) = pair().await;
        assert!(seems_open(&client), "quiet");
        server.write_all(b"x").await.unwrap();
        client.readable().await.unwrap();
        assert!(!seems_open(&client), "unread bytes");
        // A read that leaves room in its buffer has taken all there was.
        assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 1);
        assert!(seems_open(&client) && is_still_open(&client), "read to the end");
        drop(server);
        client.readable().await.unwrap();
        assert!(!seems_open(&client), "closed");
        let (client, server) = pair().await;
        reset_on_close(&server);
        drop(server);
        client.ready(Interest::ERROR).await.unwrap();
        assert!(!seems_open(&client), "reset");
    }

    #[tokio::test]
    async fn a_false_alarm_is_forgotten() {
        let (client, mut server) = pair().await;
        server.write_all(b"x").await.unwrap();
        client.readable().await.unwrap();
        // As somebody else would, whom the runtime knows nothing of.
        assert_eq!(SockRef::from(&client).recv(&mut [std::mem::MaybeUninit::uninit()]).unwrap(), 1);
        assert!(seems_open(&client));
        let heard = client.try_io(Interest::READABLE, || Ok(()));
        assert!(heard.is_err(), "it is asked of the kernel again");
    }
}
