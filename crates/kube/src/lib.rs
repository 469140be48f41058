//! Puts dragoman into the pods of Kubernetes manifests, and takes it out again.
//!
//! Pure: text in, text out, and below that an object in and a list of [`Edit`]s out, which an admission webhook can send as
//! a patch as well. No file, no cluster, no clock.
//!
//! ```text
//! text ─ yaml: tree with spans ─ workload: where are pods? ─ plan: what is added to each? ─ yaml: the bytes in between
//! ```

mod edit;
mod value;
// What plans the edits comes next.
#[allow(dead_code, unused_imports)]
mod yaml;

pub use edit::{Edit, End, Path, Step};
pub use value::Value;
