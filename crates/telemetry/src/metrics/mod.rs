//! The metrics: what is counted, where the numbers are, and the page that shows them.
//!
//! An event is counted where it happens, in an atomic that its record or its destination holds: no name is looked up
//! and no lock is shared on the way of a success. The page is written from those numbers when somebody asks for it.
//! Why this is not a crate from elsewhere: docs/adr/0014-metrics.md.

mod catalogue;
mod cells;
mod destination;
mod dns;
mod endpoints;
mod histogram;
mod material;
mod page;
mod process;
mod reload;
mod state;

pub use catalogue::{Kind, Metric};
pub use destination::{DestinationMetrics, Held};
pub use dns::DnsMetrics;
pub use endpoints::ENDPOINTS;
pub use histogram::BUCKETS;
pub use material::MaterialMetrics;
pub(crate) use page::Page;
pub use process::ProcessMetrics;
pub use reload::ReloadMetrics;
pub use state::{DestinationState, EndpointState};
