//! TLS: sessions without sockets, identities and their rotation, roots, verification.

pub mod failure;
pub mod session;
