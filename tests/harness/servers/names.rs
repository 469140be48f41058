//! dnsmasq.

use super::Server;
use crate::net::Namespace;
use crate::scratch::Scratch;

/// dnsmasq on port 53 of S's first address of each family, which knows what these lines of its configuration say of the
/// zone `test`, and notes each query in its log.
pub fn dnsmasq(namespace: &Namespace, lines: &str) -> Server {
    const PORT: u16 = 53;
    let scratch = Scratch::new("dnsmasq");
    let configuration = format!(
        "port={PORT}\nlisten-address=198.18.0.2,fd98::2\nbind-interfaces\nno-resolv\nno-hosts\nlocal=/test/\nuser=root\n\
         pid-file=\ncache-size=0\nlocal-ttl=60\nedns-packet-max=8192\ndns-forward-max=2000\nlog-queries\n\
         log-facility=-\n{lines}\n"
    );
    let mut command = namespace.command("dnsmasq");
    let file = scratch.write("dnsmasq.conf", configuration);
    command.arg("--keep-in-foreground").arg(format!("--conf-file={}", file.display()));
    Server::start(namespace, "dnsmasq", &mut command, PORT, scratch)
}
