//! How outbound TCP gets to dragoman: which connections are captured, the NAT rules that do it, and the proof
//! that they work.
//!
//! What to capture is decided by pure code: [`Options`] become a [`Plan`], a list of rules that prints itself in
//! words or as nft text and is tested as a value. Only [`install()`], [`remove`] and [`verify()`] touch the kernel.
//!
//! ```text
//! Options ─ check ─┬─ Plan ─┬─ Display   (words)
//! Ipv6State ─ family ┘      ├─ to_nft    (text for `nft -f`)
//!                           └─ install   (one nf_tables transaction over netlink)
//! ```
//!
//! Three properties hold everywhere:
//! * dragoman is recognised by the **group** that created the socket, never by its user: an app that happens to
//!   share the proxy's uid is still captured, and an app that shares the gid is not, so the gid must be the
//!   proxy's alone.
//! * IPv4 and IPv6 go in together, in one transaction, or not at all. A process that is killed at any point
//!   leaves either the rules of before or the new ones.
//! * Only the first packet of a new connection is redirected; sessions from before the rules stay as they were.

mod error;
mod flows;
mod install;
mod ipv6;
mod netlink;
mod nft;
mod options;
mod plan;
pub mod probe;
mod verify;
mod words;

pub use error::{Error, Part};
pub use flows::Flows;
pub use install::{Removed, install, plan, remove};
pub use ipv6::Ipv6State;
pub use options::{ADMIN_PORT, Invalid, Ipv6, Options, PROXY_GID, READINESS_PORT, REDIRECT_PORT, parse_cidr};
pub use plan::{Action, Family, Match, Nets, Plan, Rule};
pub use verify::{Outcome, Report, verify};

/// The name of the table that holds every rule of dragoman; nothing else is ever changed.
pub const TABLE: &str = "dragoman";
/// The only chain of [`TABLE`].
pub const CHAIN: &str = "output";
