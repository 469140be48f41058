//! Pairs of connections of which nobody says anything: watched by one small entry for both.
//!
//! A socket that the runtime watches takes 256 bytes of memory, and 384 with what most allocators lose by its alignment; a
//! relay has two of them, and may be silent for days. So a pair that sleeps is taken out of the runtime. All sockets that
//! sleep are in one epoll of their own, and the runtime watches that one.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use nix::poll::PollTimeout;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use slab::Slab;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

use crate::end::reset_on_close;
use crate::sys;

/// How many sockets are heard of at once.
const EVENTS: usize = 64;

/// An empty list that has had room for more is given back to the allocator.
const KEPT_ROOM: usize = 1024;

/// All pairs that sleep, of one process.
#[derive(Debug, Default)]
pub struct Sleepers(OnceLock<Arc<Watch>>);

struct Watch {
    epoll: Epoll,
    sleepers: Mutex<Slab<Sleeper>>,
}

/// Who is to be woken, and whether that was done.
struct Sleeper {
    waker: Waker,
    woken: bool,
}

impl Sleepers {
    /// Lays a pair down, to sleep until there is something to read from either, or one has ended or broken. Where it cannot
    /// be watched, it wakes at once. A pair that is dropped is reset, in its sleep and afterwards, until
    /// [`close_in_order`](crate::close_in_order).
    ///
    /// # Errors
    /// The runtime does not let go of them; then both were reset.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn lay_down(&self, pair: [TcpStream; 2]) -> io::Result<Asleep<'_>> {
        pair.iter().for_each(reset_on_close);
        let [one, other] = pair;
        let sockets = [one.into_std()?, other.into_std()?];
        let watched = self.watch().and_then(|watch| Ok((watch, watch.begin(&sockets)?))).ok();
        Ok(Asleep { watched, sockets: Some(sockets) })
    }

    /// How many pairs sleep now.
    pub fn len(&self) -> usize {
        self.0.get().map_or(0, |watch| watch.sleepers().len())
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens what pairs are watched by, so that it is there when descriptors are short, and they are as many before the
    /// first pair sleeps as afterwards. Where it cannot be opened, the first pair tries again.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn prepare(&self) {
        let _ = self.watch();
    }

    /// Made, and watched by the runtime, when it is first wanted.
    fn watch(&self) -> io::Result<&Watch> {
        if let Some(watch) = self.0.get() {
            return Ok(watch);
        }
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let news = sys::watch_reads(epoll.0.try_clone()?)?;
        Ok(self.0.get_or_init(|| {
            let watch = Arc::new(Watch { epoll, sleepers: Mutex::default() });
            tokio::spawn(listen(Arc::clone(&watch), news));
            watch
        }))
    }
}

/// Wakes the sleepers, until the runtime ends.
async fn listen(watch: Arc<Watch>, news: AsyncFd<OwnedFd>) {
    while let Ok(mut ready) = news.readable().await {
        if !watch.wake_some() {
            ready.clear_ready();
        }
    }
}

impl Watch {
    fn sleepers(&self) -> MutexGuard<'_, Slab<Sleeper>> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, sockets: &[StdStream; 2]) -> io::Result<usize> {
        let key = self.sleepers().insert(Sleeper { waker: Waker::noop().clone(), woken: false });
        // Once: nobody reads before the pair has woken.
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLONESHOT;
        let added =
            sockets.iter().try_for_each(|socket| self.epoll.add(socket, EpollEvent::new(flags, key as u64)));
        if let Err(errno) = added {
            self.end(key, sockets);
            return Err(errno.into());
        }
        Ok(key)
    }

    /// Whether the pair was woken; if not, this is how to wake it.
    fn is_woken(&self, key: usize, waker: &Waker) -> bool {
        let mut sleepers = self.sleepers();
        let sleeper = &mut sleepers[key];
        if !sleeper.woken {
            sleeper.waker.clone_from(waker);
        }
        sleeper.woken
    }

    fn end(&self, key: usize, sockets: &[StdStream; 2]) {
        for socket in sockets {
            // It may never have got so far as to be in there.
            let _ = self.epoll.delete(socket);
        }
        let mut sleepers = self.sleepers();
        sleepers.remove(key);
        if sleepers.is_empty() && sleepers.capacity() > KEPT_ROOM {
            *sleepers = Slab::new();
        }
    }

    /// Wakes those that there is news of. Returns whether there may be more.
    fn wake_some(&self) -> bool {
        let mut events = [EpollEvent::empty(); EVENTS];
        let Ok(count) = self.epoll.wait(&mut events, PollTimeout::ZERO) else { return false };
        let mut wakers = [const { None }; EVENTS];
        {
            let mut sleepers = self.sleepers();
            for (event, waker) in events[..count].iter().zip(&mut wakers) {
                // A pair may have gone since, and its key be another's, which then wakes for nothing and sleeps again.
                if let Some(sleeper) = sleepers.get_mut(event.data() as usize) {
                    sleeper.woken = true;
                    *waker = Some(std::mem::replace(&mut sleeper.waker, Waker::noop().clone()));
                }
            }
        }
        // Not under the lock.
        wakers.into_iter().flatten().for_each(Waker::wake);
        count > 0
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("sleepers", &self.sleepers().len()).finish_non_exhaustive()
    }
}

/// A pair that sleeps. It gives the two connections when it wakes, and fails, with both reset, where the runtime cannot watch
/// them again.
#[derive(Debug)]
#[must_use = "the pair is reset if nobody waits for it"]
pub struct Asleep<'a> {
    watched: Option<(&'a Watch, usize)>,
    /// `None` once awake.
    sockets: Option<[StdStream; 2]>,
}

impl Future for Asleep<'_> {
    type Output = io::Result<[TcpStream; 2]>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some((watch, key)) = self.watched
            && !watch.is_woken(key, context.waker())
        {
            return Poll::Pending;
        }
        self.get_up();
        let [one, other] = self.sockets.take().expect("a future is not polled after its end");
        Poll::Ready(Ok([TcpStream::from_std(one)?, TcpStream::from_std(other)?]))
    }
}

impl Asleep<'_> {
    fn get_up(&mut self) {
        if let (Some((watch, key)), Some(sockets)) = (self.watched.take(), &self.sockets) {
            watch.end(key, sockets);
        }
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.get_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::end::is_reset;
    use crate::testing::pair;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn either_connection_wakes_the_pair_and_its_end_is_orderly_where_that_is_said() {
        let sleepers = Sleepers::default();
        for speaker in 0..2 {
            let (mut ends, mut laid) = (Vec::new(), Vec::new());
            for _ in 0..2 {
                let (end, near) = pair().await;
                ends.push(end);
                laid.push(near);
            }
            let asleep = sleepers.lay_down(laid.try_into().unwrap()).unwrap();
            assert_eq!(sleepers.len(), 1);
            let (woken, ()) = tokio::join!(asleep, async { ends[speaker].write_all(b"x").await.unwrap() });
            let mut woken = woken.unwrap();
            assert!(sleepers.is_empty());
            assert_eq!(woken[speaker].read_u8().await.unwrap(), b'x');
            woken[1 - speaker].write_all(b"y").await.unwrap();
            woken.iter().for_each(crate::close_in_order);
            drop(woken);
            assert_eq!(ends[1 - speaker].read_u8().await.unwrap(), b'y');
            assert_eq!(ends[1 - speaker].read(&mut [0]).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn a_pair_that_nobody_waits_for_is_reset() {
        let sleepers = Sleepers::default();
        let ((mut one_end, one), (mut other_end, other)) = (pair().await, pair().await);
        drop(sleepers.lay_down([one, other]).unwrap());
        assert!(is_reset(&one_end.read_u8().await.unwrap_err()));
        assert!(is_reset(&other_end.read_u8().await.unwrap_err()));
        assert!(sleepers.is_empty());
    }

    #[tokio::test]
    async fn a_pair_that_cannot_be_watched_wakes_at_once() {
        let ((mut end, one), (_other_end, other)) = (pair().await, pair().await);
        let sockets = Some([one.into_std().unwrap(), other.into_std().unwrap()]);
        let [one, _other] = Asleep { watched: None, sockets }.await.unwrap();
        end.write_all(b"x").await.unwrap();
        one.readable().await.unwrap();
    }

    #[tokio::test]
    async fn news_of_one_that_has_gone_harms_no_other() {
        let sleepers = Sleepers::default();
        let ((mut end, one), (_other_end, other)) = (pair().await, pair().await);
        let gone = sleepers.lay_down([one, other]).unwrap();
        end.write_all(b"x").await.unwrap();
        drop(gone);
        let ((mut end, one), (_other_end, other)) = (pair().await, pair().await);
        let asleep = sleepers.lay_down([one, other]).unwrap();
        let (woken, ()) = tokio::join!(asleep, async { end.write_all(b"y").await.unwrap() });
        let [mut one, _other] = woken.unwrap();
        assert_eq!(one.read_u8().await.unwrap(), b'y');
    }
}
