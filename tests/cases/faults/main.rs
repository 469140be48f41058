//! What the network, the servers, the machine and other people's programs do to an app behind dragoman: each fault
//! with each protocol, and the table of docs/faults.md, which is kept equal to what these cases see.
//!
//! No fault makes an app wait beyond its deadline, none leaves anything behind, and its cause has one name.

mod case;
mod echo;
mod ends;
mod machine;
mod network;
mod page;
mod protocol;
mod slow;
mod weather;

/// The order of the page.
const FAULTS: &[&str] = &[
    "server killed before its answer",
    "server killed in the head",
    "server killed in the body",
    "server killed in the trailer",
    "server resets before its answer",
    "server resets in the head",
    "server resets in the body",
    "server resets in the trailer",
    "server with TLS killed before its answer",
    "server with TLS killed in the body",
    "server with TLS resets in the body",
    "server with TLS ends that in the body",
    "server stopped before its answer",
    "server stopped in the head",
    "server stopped in the body",
    "server stopped in the trailer",
    "server does not accept",
    "app resets in the body",
    "server's backlog is full",
    "nobody listens",
    "host unreachable",
    "SYN dropped",
    "packets dropped before the answer",
    "packets dropped in the body",
    "link down before the connection",
    "link down in the body, then up",
    "connection tracking flushed in the body",
    "DNS away",
    "30 % of the packets lost",
    "30 % of the packets swapped",
    "30 % of the packets doubled",
    "100 ms of delay each way",
    "100 kB a second",
    "server sends its head byte by byte",
    "server sends its body byte by byte",
    "app sends its head byte by byte",
    "app sends its preface byte by byte",
    "app sends a field section without end",
    "app's first message has no end",
    "app sends its body byte by byte",
    "app falls silent in its body",
    "app never opens its window",
    "app does not read",
    "no descriptor left to connect",
    "no descriptor left to accept",
    "no local port left",
    "disk of the access log full",
    "wall clock jumps ten years ahead",
    "wall clock jumps ten years back",
    "memory limit of 64 MiB, and 20 readers that stall",
    "dragoman killed in the body",
];

#[test]
fn the_page_has_each_fault() {
    page::is_whole();
}
