//! Whether the app is still there, as far as that can be seen: somebody else listens in this network namespace.
//!
//! Where SIGTERM comes to the app and to the proxy at the same time, an app that is quiet may be about to finish what it
//! was asked for. Most apps that are asked for something listen, and close their listeners as they go.

use std::io;

/// Looks for listeners other than our own.
#[derive(Debug)]
pub(crate) struct AppWatch {
    own: Vec<u32>,
    is_blind: bool,
}

impl AppWatch {
    /// The sockets with these inodes are our own.
    pub(crate) fn new(own: Vec<u32>) -> Self {
        Self { own, is_blind: false }
    }

    /// Whether somebody else listens. Where the kernel does not tell, somebody may.
    pub(crate) fn sees_listener(&mut self) -> bool {
        self.judge(dragoman_net::others_listen)
    }

    fn judge(&mut self, ask: impl FnOnce(&[u32]) -> io::Result<bool>) -> bool {
        if self.is_blind {
            return true;
        }
        ask(&self.own).unwrap_or_else(|error| {
            self.is_blind = true;
            tracing::warn!(
                %error,
                "cannot see who listens here (sock_diag, proxy.drain_while_listening): the drain goes on to its deadline"
            );
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_can_be_seen_somebody_may_listen_and_it_is_asked_once() {
        let mut watch = AppWatch::new(vec![7]);
        assert!(!watch.judge(|own| Ok(own != [7])));
        assert!(watch.judge(|_| Ok(true)));
        assert!(watch.judge(|_| Err(io::ErrorKind::PermissionDenied.into())));
        assert!(watch.judge(|_| unreachable!("it was refused")));
    }
}
