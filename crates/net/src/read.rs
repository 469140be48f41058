//! Reading without the runtime.

use std::io;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;
    use tokio::io::AsyncWriteExt;

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
}
