//! Unix sockets: one to listen on that its owner and root alone may use, and descriptors sent over a connection
//! (unix(7), SCM_RIGHTS).

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::sys;

/// Connections that may wait: operators come one at a time.
const BACKLOG: i32 = 16;

/// A non-blocking listener on `path`, with mode 0600. What a process that is gone has left there is replaced.
///
/// # Errors
/// `AddrInUse` where somebody listens there or the path is no socket; else what the system says.
pub fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The file that `bind` makes gets the mode of the socket. To change it by its name would be to follow a link that
    // somebody has put in its place.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether nobody listens at the socket that stands there.
fn is_left_over(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        && fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_symlink())
}

/// Sends one byte and, with it, a copy of a descriptor.
///
/// # Errors
/// What `sendmsg` says; `WouldBlock` on a socket that does not block.
pub fn send_descriptor(to: &impl AsRawFd, mark: u8, descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let raw: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(&[mark])], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives what [`send_descriptor`] sent. The descriptor is closed on exec.
///
/// # Errors
/// `UnexpectedEof` at the end of the connection; else what `recvmsg` says.
pub fn receive_descriptor(from: &impl AsRawFd) -> io::Result<(u8, Option<OwnedFd>)> {
    match sys::receive_descriptors(from)? {
        (Some(mark), mut descriptors) => Ok((mark, descriptors.pop())),
        (None, _) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("dragoman-net-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    #[test]
    fn a_socket_is_for_its_owner_and_replaces_what_was_left_over() {
        let path = scratch("owner");
        let first = listen_unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listen_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        listen_unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_or_a_link_is_not_replaced() {
        let (path, link) = (scratch("file"), scratch("link"));
        fs::write(&path, "mine").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for path in [&path, &link] {
            assert_eq!(listen_unix(path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::remove_file(&link).unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_listener_passes_and_keeps_its_backlog() {
        let (here, there) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        send_descriptor(&here, b'a', Some(&listener.into())).unwrap();
        send_descriptor(&here, b'b', None).unwrap();
        drop(here);
        let (mark, descriptor) = receive_descriptor(&there).unwrap();
        let passed = TcpListener::from(descriptor.unwrap());
        assert_eq!((mark, passed.local_addr().unwrap()), (b'a', address));
        passed.accept().unwrap();
        assert!(matches!(receive_descriptor(&there), Ok((b'b', None))));
        assert_eq!(receive_descriptor(&there).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
