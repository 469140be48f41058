//! How outbound TCP, and inbound where that is asked for, gets to dragoman: which connections are captured, the NAT rules that do it, and the proof
//! that they work.
//!
//! What to capture is decided by pure code: [`Options`] become a [`Plan`], a list of rules that prints itself in
//! words or as nft text and is tested as a value. Only [`install()`], [`remove`] and [`verify()`] touch the kernel.
//!
//! ```text
//! Options ─ check ─┬─ Plan ─┬─ Display      (words)
//! Ipv6State ───────┘        ├─ to_nft       (text for `nft -f`)
//!                           ├─ to_iptables  (text for `iptables-restore`)
//!                           └─ install      (one nf_tables transaction over netlink, or else iptables)
//! ```
//!
//! Four properties hold everywhere:
//! * dragoman is recognised by the **group** that created the socket (or by a mark), never by its user: an app that
//!   happens to share the proxy's uid is still captured, and an app that shares the gid is not, so the gid must be
//!   the proxy's alone.
//! * IPv4 and IPv6 go in together or not at all. Over netlink that is one transaction: a process that is killed at
//!   any point leaves either the rules of before or the new ones.
//! * Only the first packet of a new connection is redirected; sessions from before the rules stay as they were.
//! * Capture fails closed: a first packet that should have been redirected and was not is refused.

mod error;
mod flows;
mod install;
mod iptables;
mod ipv6;
mod netlink;
mod nft;
mod options;
mod plan;
pub mod private;
pub mod probe;
mod verify;
mod words;

pub use error::{Attempt, Error, Part};
pub use flows::Flows;
pub use install::{Installed, Removed, Way, install, install_anew, plan, remove};
pub use iptables::Backend;
pub use ipv6::Ipv6State;
pub use netlink::Family;
pub use options::{
    ADMIN_PORT, INBOUND_PORT, Inbound, Invalid, Ipv6, Options, Own, PROXY_GID, PortRange, READINESS_PORT,
    REDIRECT_PORT, parse_cidr, parse_id, parse_ipv6, parse_number, parse_port,
};
pub use plan::{Action, Chain, ChainKind, IpVersion, Match, Nets, Plan, Rule, Transport};
pub use verify::{Outcome, Report, verify};

/// The name of the nf_tables table that holds every rule of dragoman; nothing else is ever changed there.
pub const TABLE: &str = "dragoman";
