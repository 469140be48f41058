//! The three ways between a client and a server that a case of fidelity compares.

use crate::dragoman::Dragoman;
use crate::net::Net;

/// How a client reaches its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Without dragoman: shows that the case itself is right.
    Direct,
    /// Captured with an empty configuration: bytes pass as they are.
    Observed,
    /// Captured with [`POLICY`]: the proxy takes part in HTTP/2.
    Governed,
}

/// A policy that leaves fidelity to the proxy and adds one header.
pub const POLICY: &str = "[defaults]\nretry = { base = '1ms' }\npool = {}\nrequest_id = true\n";

/// Runs a case in each way, and then looks whether the proxy saw HTTP/2 and let go of every flow.
pub fn each_way(net: &Net, case: impl Fn(Way)) {
    for way in [Way::Direct, Way::Observed, Way::Governed] {
        eprintln!("-- {way:?}");
        let configuration = match way {
            Way::Direct => {
                case(way);
                continue;
            }
            Way::Observed => "",
            Way::Governed => POLICY,
        };
        let dragoman = Dragoman::start(net, configuration);
        let told = LogOnPanic(&dragoman);
        case(way);
        let metrics = dragoman.settle();
        let flows = metrics.sum("dragoman_flows_total", &[]);
        let http2 = metrics.sum("dragoman_flows_total", &[("protocol", "http2")]);
        assert!(
            http2 > 0 && http2 == flows,
            "{http2} of {flows} flows are HTTP/2: {:#?}",
            dragoman.records()
        );
        drop(told);
    }
}

/// Shows the proxy's own log and records where a case fails.
struct LogOnPanic<'d>(&'d Dragoman<'d>);

impl Drop for LogOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.log());
            self.0.records().iter().for_each(|record| eprintln!("{record}"));
        }
    }
}
