//! Addresses by what they mean: a bare `SocketAddr` never crosses a module, so that two of them cannot be swapped.

use std::fmt;
use std::net::SocketAddr;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub SocketAddr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

address!(
    /// Where the app dialled, before the redirect.
    OrigDst
);
address!(
    /// Where a captured connection comes from: the app's own end.
    Peer
);
