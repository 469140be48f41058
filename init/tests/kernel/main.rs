//! dragoman-init on a real kernel: each test makes its own pair of network namespaces, runs the binary in the one
//! where apps live, and asks the kernel (or whoever took a connection) what came of it.
//!
//! All of it needs root, and fails without.

mod capture;
mod cli;
mod fallback;
mod inbound;
mod install;
mod ipv6;
mod redirects;
mod refusals;
mod rig;
mod sessions;
mod verify;
