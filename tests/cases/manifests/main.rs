//! Kubernetes manifests, those of `deploy/kubernetes` and those that `dragoman inject` makes: by the schemas of Kubernetes,
//! by its own types, and by what kubelet refuses although every schema allows it.

mod bytes;
mod deploy;
mod injected;
mod kubelet;
mod oracles;
mod page;
mod played;
mod programs;
// One reading of the standards for what the crate makes and for what the program does.
#[path = "../../../crates/kube/tests/common/standards.rs"]
mod standards;
