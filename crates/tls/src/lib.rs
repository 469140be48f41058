//! TLS: sessions without sockets, identities and their rotation, roots, verification.

pub mod failure;
pub mod files;
pub mod identity;
pub mod validity;
pub mod watch;
