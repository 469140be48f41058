//! Bytes from one socket to another without a copy through this process: splice(2).
//!
//! The kernel moves pages from the receive queue into a pipe and from there into the send queue. EAGAIN says too little
//! to be of use: it may mean an empty socket or a full pipe, and a pipe is full when its slots are taken, be it by
//! single bytes. So a pipe is only filled when it is empty; then EAGAIN means the socket.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::{pipe2, read};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The bytes that a pipe should hold. Where the kernel's limit for unprivileged users forbids it (pipe(7),
/// pipe-user-pages-soft), it holds what it holds.
const CAPACITY: usize = 256 * 1024;

/// The most empty pipes that are kept: making one costs two system calls, and two more to close it.
const SPARE: usize = 32;

/// Taken once for a burst of bytes, not for each of its pieces.
static PIPES: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

/// A pipe, and how many bytes stand in it.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty pipe: a spare one, or a new one.
    ///
    /// # Errors
    /// No descriptor is left (EMFILE, ENFILE).
    pub fn take() -> io::Result<Self> {
        if let Some(spare) = spare().pop() {
            return Ok(spare);
        }
        let (read, write) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        // Without it there is less room, and that is all.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(CAPACITY as i32));
        Ok(Self { read, write, held: 0 })
    }

    /// Gives the pipe back for the next one who needs it. One that is not empty is closed, and what it holds is lost.
    pub fn give_back(self) {
        let mut spare = spare();
        if self.held == 0 && spare.len() < SPARE {
            spare.push(self);
        }
    }

    /// Closes the spare ones. To be called now and then, so that descriptors are not held for floods of the past.
    pub fn close_spare() {
        let closed = std::mem::take(&mut *spare());
        // Not under the lock.
        drop(closed);
    }

    /// Whether everything that was filled in was drained.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what has come on `from` into the pipe, which is empty; 0 means that the sender has ended.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has come; what `splice` says otherwise, a reset of the connection included.
    pub fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        debug_assert!(self.is_empty(), "EAGAIN would not tell an empty socket from a full pipe");
        let moved = from
            .try_io(Interest::READABLE, || moved(splice(from, None, &self.write, None, CAPACITY, flags())))?;
        self.held = moved;
        Ok(moved)
    }

    /// Moves what the pipe holds on to `to`, as much as it takes now.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing; what `splice` says otherwise.
    pub fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let moved =
            to.try_io(Interest::WRITABLE, || moved(splice(&self.read, None, to, None, self.held, flags())))?;
        self.held -= moved;
        Ok(moved)
    }

    /// Appends all that the pipe holds to `to`: bytes that have come, and can no longer go on by the kernel.
    ///
    /// # Errors
    /// What `read` says, which is nothing for bytes that a pipe holds.
    pub fn empty_into(&mut self, to: &mut Vec<u8>) -> io::Result<()> {
        while self.held > 0 {
            let start = to.len();
            to.resize(start + self.held, 0);
            let count = read(&self.read, &mut to[start..]).inspect_err(|_| to.truncate(start))?;
            to.truncate(start + count);
            self.held -= count;
        }
        Ok(())
    }
}

fn spare() -> MutexGuard<'static, Vec<Pipe>> {
    PIPES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

fn moved(result: nix::Result<usize>) -> io::Result<usize> {
    result.map_err(|errno| match errno {
        Errno::EAGAIN => io::ErrorKind::WouldBlock.into(),
        errno => errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Sends single bytes and large writes through `pipe`, to a receiver that takes them as they come.
    async fn assert_all_arrives(mut pipe: Pipe) {
        let ((mut sender, from), (to, mut receiver)) = (pair().await, pair().await);
        sender.set_nodelay(true).unwrap();
        let sent: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
        let (singles, rest) = sent.split_at(1000);
        let (singles, rest) = (singles.to_vec(), rest.to_vec());
        let write = tokio::spawn(async move {
            for byte in singles {
                sender.write_all(&[byte]).await.unwrap();
            }
            sender.write_all(&rest).await.unwrap();
        });
        let read = tokio::spawn(async move {
            let mut got = Vec::new();
            receiver.read_to_end(&mut got).await.unwrap();
            got
        });
        loop {
            from.readable().await.unwrap();
            match pipe.fill(&from) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                filled => assert!(filled.unwrap() > 0),
            }
            while !pipe.is_empty() {
                to.writable().await.unwrap();
                match pipe.drain(&to) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    drained => assert!(drained.unwrap() > 0),
                }
            }
        }
        drop(to);
        write.await.unwrap();
        assert!(read.await.unwrap() == sent);
    }

    #[tokio::test]
    async fn single_bytes_and_large_writes_arrive_in_order() {
        assert_all_arrives(Pipe::take().unwrap()).await;
    }

    /// As the kernel makes them for unprivileged users who have many: one page, which a single byte fills.
    #[tokio::test]
    async fn a_pipe_with_room_for_one_piece_moves_as_much() {
        let (read, write) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        assert_eq!(fcntl(&write, FcntlArg::F_SETPIPE_SZ(1)).unwrap(), 4096);
        assert_all_arrives(Pipe { read, write, held: 0 }).await;
    }

    #[tokio::test]
    async fn what_a_pipe_holds_can_be_taken_out() {
        let (mut sender, from) = pair().await;
        sender.write_all(b"held").await.unwrap();
        from.readable().await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(pipe.fill(&from).unwrap(), 4);
        let mut bytes = b"be".to_vec();
        pipe.empty_into(&mut bytes).unwrap();
        assert_eq!(bytes, b"beheld");
        assert!(pipe.is_empty());
    }

    #[tokio::test]
    async fn what_another_flow_left_in_a_pipe_goes_with_it() {
        let (mut sender, from) = pair().await;
        sender.write_all(b"x").await.unwrap();
        from.readable().await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(pipe.fill(&from).unwrap(), 1);
        pipe.give_back();
        for _ in 0..=SPARE {
            assert!(Pipe::take().unwrap().is_empty());
        }
    }
}
