//! TLS: sessions without sockets, identities and their rotation, roots, verification.

pub mod certificate;
pub mod client;
pub mod failure;
pub mod roots;
mod tickets;
pub mod verify;

#[cfg(test)]
mod testing;
