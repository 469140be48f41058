//! HTTP/2: a client and a server cannot tell that dragoman is between them, hostile ones of either do no
//! harm, and policy holds for each stream.
//!
//! What is about fidelity is run three times: direct, which shows that the case itself is right; captured
//! with an empty configuration, where bytes pass as they are; and captured with a policy, where the proxy is
//! the server of one HTTP/2 connection and the client of another.

mod abuse;
mod abuse_by_servers;
mod ends;
mod messages;
mod policy;
mod programs;
mod windows;

use dragoman_harness::Dragoman;

/// How much memory the proxy has now (`VmRSS`).
fn resident_bytes(dragoman: &Dragoman) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says VmRSS");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of kB") * 1024
}
