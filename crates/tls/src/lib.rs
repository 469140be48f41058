//! TLS: sessions without sockets, identities and their rotation, roots, verification.

pub mod certificate;
pub mod client;
pub mod failure;
pub mod files;
pub mod identity;
pub mod peer;
pub mod roots;
pub mod server;
pub mod session;
mod tickets;
pub mod validity;
pub mod verify;
pub mod watch;

#[cfg(test)]
mod testing;
