//! Puts dragoman into the pods of Kubernetes manifests, and takes it out again.
//!
//! Pure: text in, text out, and below that an object in and a list of [`Edit`]s out, which an admission webhook can send as
//! a patch as well. No file, no cluster, no clock.
//!
//! ```text
//! text ─ yaml: tree with spans ─ workload: where are pods? ─ plan: what is added to each? ─ yaml: the bytes in between
//! ```

mod annotations;
mod containers;
mod edit;
mod inject;
mod look;
mod options;
mod plan;
mod quantity;
mod refusal;
mod refuse;
mod settings;
mod value;
mod warn;
mod workload;
mod yaml;

pub use edit::{Edit, End, Path, Step};
pub use inject::{Original, Outcome, Report, inject, uninject};
pub use options::{Invalid, Limit, Options, Resources};
pub use plan::{Done, Plan, plan};
pub use refusal::Refusal;
pub use settings::{PREFIX, SETTINGS, Said, Setting};
pub use value::Value;
pub use workload::Pod;
pub use yaml::Part;
