//! One descriptor kept in reserve.
//!
//! When descriptors run out, `accept` fails and the connection stays in the backlog: the app would hang. With the
//! reserve given up for a moment, the connection can be accepted and reset, so that the app learns at once.

use std::fs::File;
use std::io;

/// A descriptor that can be given up for the time of one accept.
#[derive(Debug)]
pub struct Reserve(Option<File>);

impl Reserve {
    /// Takes a descriptor.
    ///
    /// # Errors
    /// What `open` of /dev/null says.
    pub fn take() -> io::Result<Self> {
        Ok(Self(Some(File::open("/dev/null")?)))
    }

    /// Runs `accept_and_reset` with one descriptor free, then takes the reserve back. Whatever `accept_and_reset`
    /// opened it must have closed.
    pub fn lend<T>(&mut self, accept_and_reset: impl FnOnce() -> T) -> T {
        self.0 = None;
        let result = accept_and_reset();
        // Another thread may have been quicker: then the reserve is empty until it is taken back.
        self.take_back();
        result
    }

    /// Takes back a reserve that was lost, if there is a descriptor; whether it is there now. To be called now and then: while
    /// there is none, the next app hangs.
    pub fn take_back(&mut self) -> bool {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn lends_its_descriptor_and_takes_it_back() {
        let mut reserve = Reserve::take().unwrap();
        reserve.lend(|| File::open("/dev/null").unwrap());
        assert!(reserve.0.as_ref().unwrap().as_raw_fd() > 0);
    }

    #[test]
    fn takes_back_what_was_lost() {
        let mut reserve = Reserve(None);
        assert!(reserve.take_back());
        let taken = reserve.0.as_ref().unwrap().as_raw_fd();
        reserve.take_back();
        assert_eq!(reserve.0.as_ref().unwrap().as_raw_fd(), taken);
    }
}
