//! Who listens in this network namespace, asked of the kernel by sock_diag(7): it needs no right, and walks the table of
//! listeners alone, where `/proc/net/tcp` walks every connection of the machine.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use nix::sys::stat::fstat;

/// The kernel fills as much as this per answer; a message is 72 bytes and its attributes.
const ANSWER_BYTES: usize = 32 * 1024;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_req_v2`.
const QUESTION: usize = 56;
/// Where `struct inet_diag_msg` has the inode: behind its four bytes, the socket's 48, and four words.
const INODE: usize = HEADER + 4 + 48 + 16;
/// SOCK_DIAG_BY_FAMILY, linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// TCP_LISTEN, as a bit of `idiag_states`.
const LISTENING: u32 = 1 << 10;

/// The inodes of these sockets, by which [`others_listen`] tells them from those of other processes.
///
/// # Errors
/// What `fstat` says.
pub fn inodes<S: AsFd>(sockets: &[S]) -> io::Result<Vec<u32>> {
    // The kernel has an inode number of a socket as 32 bits, in what it answers too.
    sockets.iter().map(|socket| Ok(fstat(socket)?.st_ino as u32)).collect()
}

/// Whether anybody listens on a TCP port of this network namespace, on whatever address, by another socket than `own`.
///
/// # Errors
/// The kernel does not tell: it has no sock_diag, or a filter of system calls forbids it.
pub fn others_listen(own: &[u32]) -> io::Result<bool> {
    Ok(has_other(AddressFamily::Inet, own)? || has_other(AddressFamily::Inet6, own)?)
}

fn has_other(family: AddressFamily, own: &[u32]) -> io::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kernel = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag)?;
    send(kernel.as_raw_fd(), &question(family), MsgFlags::empty())?;
    let mut buffer = vec![0; ANSWER_BYTES];
    loop {
        // The kernel answers within the call: there is nothing to wait for.
        let length = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        match read(&buffer[..length], own)? {
            Answer::HasOther => return Ok(true),
            Answer::End => return Ok(false),
            Answer::More => {}
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`: every listener of a family.
fn question(family: AddressFamily) -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let length = (HEADER + QUESTION) as u32;
    let header =
        [&length.to_ne_bytes()[..], &BY_FAMILY.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    let what = [family as u8, libc::IPPROTO_TCP as u8, 0, 0];
    // Of the socket that is looked for, nothing is said.
    [&header[..], &what, &LISTENING.to_ne_bytes(), &[0; 48]].concat()
}

/// What one answer comes to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    HasOther,
    More,
    End,
}

fn read(mut answer: &[u8], own: &[u32]) -> io::Result<Answer> {
    while let Some((header, _)) = answer.split_first_chunk::<HEADER>() {
        let kind = i32::from(u16::from_ne_bytes([header[4], header[5]]));
        let word = |at| answer.get(at..at + 4).and_then(|word| word.try_into().ok());
        if kind == libc::NLMSG_DONE {
            return Ok(Answer::End);
        }
        if kind == libc::NLMSG_ERROR {
            let errno = word(HEADER).map_or(0, i32::from_ne_bytes).saturating_neg();
            return Err(Errno::from_raw(errno).into());
        }
        let inode = word(INODE).map(u32::from_ne_bytes).ok_or(io::ErrorKind::InvalidData)?;
        if !own.contains(&inode) {
            return Ok(Answer::HasOther);
        }
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        answer = answer.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Answer::More)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use nix::sched::{CloneFlags, unshare};

    /// In a thread with a network namespace of its own, with loopback.
    fn alone(test: impl FnOnce() + Send) {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
                let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
                assert!(up.expect("ip runs").success());
                test();
            });
            inside.join().unwrap();
        });
    }

    #[test]
    fn only_what_others_listen_on_counts_on_either_family() {
        for other in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            alone(move || {
                assert!(!others_listen(&[]).unwrap(), "nobody listens yet");
                let own = ["127.0.0.1:0", "[::1]:0"].map(|at| TcpListener::bind(at).unwrap());
                let inodes = inodes(&own).unwrap();
                let _connection = TcpStream::connect(own[0].local_addr().unwrap()).unwrap();
                assert!(!others_listen(&inodes).unwrap(), "these are our own");
                assert!(others_listen(&inodes[..1]).unwrap() && others_listen(&inodes[1..]).unwrap());
                let another = TcpListener::bind(other).unwrap();
                assert!(others_listen(&inodes).unwrap(), "{other}");
                drop(another);
                // A child that another test has forked has it too, until it is a program of its own.
                let end = Instant::now() + Duration::from_secs(20);
                while others_listen(&inodes).unwrap() {
                    assert!(Instant::now() < end, "{other} is closed");
                    thread::yield_now();
                }
            });
        }
    }

    /// More than one answer of the kernel.
    #[test]
    fn one_among_many_is_found() {
        alone(|| {
            let own: Vec<_> = (0..500).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let inodes = inodes(&own).unwrap();
            assert!(!others_listen(&inodes).unwrap());
            let _other = TcpListener::bind("127.0.0.1:0").unwrap();
            assert!(others_listen(&inodes).unwrap());
        });
    }

    /// A process of another user, of which we may know nothing else.
    #[test]
    fn it_needs_no_right() {
        let test = std::env::current_exe().unwrap();
        let mut nobody = Command::new("setpriv");
        nobody.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ]);
        let path = std::env::temp_dir().join(format!("dragoman-net-{}", std::process::id()));
        // By another process: a child that another test forks meanwhile would have the copy open for writing, and it could not be run.
        assert!(Command::new("cp").arg(&test).arg(&path).status().unwrap().success());
        let (listener, name) = (TcpListener::bind("127.0.0.1:0").unwrap(), "listening::tests::as_anybody");
        nobody.arg(&path).args(["--exact", name, "--nocapture"]).env("DRAGOMAN_NET_AS_ANYBODY", "1");
        let output = nobody.stdin(Stdio::null()).output().unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(output.status.success(), "{output:?}");
        drop(listener);
    }

    #[test]
    fn as_anybody() {
        if std::env::var_os("DRAGOMAN_NET_AS_ANYBODY").is_some() {
            assert!(others_listen(&[]).unwrap());
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let header = |length: u32, kind: i32| {
            [&length.to_ne_bytes()[..], &(kind as u16).to_ne_bytes(), &[0; 10]].concat()
        };
        let refused = [header(20, libc::NLMSG_ERROR), (-libc::EPERM).to_ne_bytes().to_vec()].concat();
        assert_eq!(read(&refused, &[]).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(read(&header(16, BY_FAMILY.into()), &[]).is_err(), "a listener without an inode");
        assert_eq!(read(&header(16, libc::NLMSG_DONE), &[]).unwrap(), Answer::End);
        assert_eq!(read(&[], &[]).unwrap(), Answer::More);
        let own = [&header(0, BY_FAMILY.into())[..], &[0; 72]].concat();
        assert!(read(&own, &[0]).is_err(), "a length of nothing has an end");
    }
}
