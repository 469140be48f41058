//! Reading and writing in ways that the runtime has no words for.

use std::io::{self, IoSlice};

use nix::libc::MSG_MORE;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::sys;

/// Reads what has come on `stream` into the room that `out` has left, whatever the runtime knows of it; 0 means that the
/// other side has ended, or that there is no room. The runtime hears of what comes later all the same.
///
/// # Errors
/// What `recv` says: `WouldBlock` when nothing has come.
pub fn receive(stream: &TcpStream, out: &mut Vec<u8>) -> io::Result<usize> {
    sys::receive(stream, out)
}

/// Writes the last that is to be said on `stream`, whose end must follow at once: both then go out in one segment. Without
/// an end the kernel would keep the bytes back for 200 milliseconds (tcp(7), MSG_MORE).
///
/// # Errors
/// `WouldBlock` when it takes nothing now; else what `sendmsg` says.
pub fn send_last(stream: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    stream.try_io(Interest::WRITABLE, || SockRef::from(stream).send_vectored_with_flags(parts, MSG_MORE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_has_come_is_appended_as_far_as_there_is_room() {
        let (reader, mut writer) = pair().await;
        let mut out = Vec::with_capacity(8);
        assert_eq!(receive(&reader, &mut out).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        out.extend_from_slice(b">>");
        let room = out.capacity() - out.len();
        writer.write_all(&[b'x'; 100]).await.unwrap();
        reader.readable().await.unwrap();
        assert_eq!(receive(&reader, &mut out).unwrap(), room);
        assert!(out.starts_with(b">>x") && out.len() == out.capacity());
        assert_eq!(receive(&reader, &mut out).unwrap(), 0, "no room");
    }

    #[tokio::test]
    async fn what_was_said_last_arrives_with_the_end() {
        let (writer, mut reader) = pair().await;
        writer.writable().await.unwrap();
        let parts = [IoSlice::new(b"good"), IoSlice::new(b"bye")];
        assert_eq!(send_last(&writer, &parts).unwrap(), 7);
        drop(writer);
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"goodbye");
    }
}
