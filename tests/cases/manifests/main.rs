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
