//! Pods with dragoman in them, played by podman as a cluster would: manifests as users write them, `dragoman inject`,
//! containers with the users and capabilities that it gives them, and servers beside the pod.

mod retry;
