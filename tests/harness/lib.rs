//! What a case needs to show dragoman at work on a real kernel: two network namespaces, the two real
//! binaries, real servers, and scripted peers that keep every byte.
//!
//! A case asserts on what the *server* saw (peer, bytes, headers), since the proxy's own log would
//! repeat the proxy's own mistake. Log and metrics are then compared with the server's record.
//!
//! Everything needs root: namespaces cannot be had without. A case that lacks it fails and says so.

pub mod binaries;
pub mod dragoman;
pub mod faulty;
pub mod http2;
pub mod link;
pub mod load;
pub mod metrics;
pub mod net;
pub mod origin;
pub mod peer;
pub mod pki;
pub mod pods;
pub mod process;
pub mod programs;
pub mod scratch;
pub mod servers;
pub mod tls;
pub mod volume;
pub mod wait;

pub use dragoman::Dragoman;
pub use link::{Link, Weather};
pub use net::{Namespace, Net};
pub use origin::Origin;
pub use peer::{Message, Peer};
