//! What would let names be resolved without a packet is hidden inside: the sockets of nscd and of systemd-resolved.
//! glibc then asks the servers of `/etc/resolv.conf`, and that is captured.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Failed, Reach};

/// nscd's socket, by both names of the folder, and those that nss-resolve speaks to.
const SOCKETS: [&str; 4] = [
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
];
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// A folder that every machine has, under which a file is made for a moment; nobody else sees it.
const SCRATCH: &str = "/tmp";

/// Hides them, in the mount namespace of this process, which must be its own. A list of servers of which none can be
/// asked from inside is replaced by one that is captured.
///
/// # Errors
/// What the kernel refuses.
pub fn hide_resolvers(reaches: &[Reach]) -> Result<(), Failed> {
    // What root mounts here must not reach the host; what the host mounts later should be seen here.
    const NOWHERE: Option<&str> = None;
    mount(NOWHERE, "/", NOWHERE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOWHERE)
        .map_err(|errno| Failed::new("keep mounts to the command's namespace", errno))?;
    for socket in SOCKETS.into_iter().filter(|socket| Path::new(socket).exists()) {
        cover("/dev/null", socket)?;
    }
    let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let with_ipv6 = reaches.iter().any(|reach| reach.source.is_ipv6());
    replaced(&text, with_ipv6).map_or(Ok(()), |text| replace(&text))
}

fn cover(with: &str, path: &str) -> Result<(), Failed> {
    match mount(Some(with), path, None::<&str>, MsFlags::MS_BIND, None::<&str>) {
        // It is gone meanwhile, or out of this user's reach, and so of the command's.
        Err(Errno::ENOENT | Errno::EACCES) => Ok(()),
        mounted => mounted.map_err(|errno| Failed::new("hide other ways to resolve names", errno)),
    }
}

fn replace(text: &str) -> Result<(), Failed> {
    let failed = |errno: Errno| Failed::new("give the command an /etc/resolv.conf", errno);
    mount(Some("tmpfs"), SCRATCH, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755")).map_err(failed)?;
    let file = format!("{SCRATCH}/resolv.conf");
    fs::write(&file, text).map_err(|error| Failed::new("give the command an /etc/resolv.conf", error))?;
    cover(&file, RESOLV_CONF)?;
    // The file lives on where it is mounted.
    umount2(SCRATCH, MntFlags::MNT_DETACH).map_err(failed)
}

/// What stands in place of this `resolv.conf`, if none of its servers can be asked from inside: one with a zone
/// belongs to a link that is not there, and IPv6 may not be there at all.
fn replaced(text: &str, with_ipv6: bool) -> Option<String> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().unwrap_or_default().to_owned())
    };
    let reached = |server: String| match server.parse() {
        Ok(IpAddr::V4(_)) => true,
        Ok(IpAddr::V6(address)) => with_ipv6 || address.is_loopback(),
        Err(_) => false,
    };
    let mut servers = text.lines().filter_map(server).peekable();
    // Without any, glibc asks 127.0.0.1.
    servers.peek()?;
    if servers.any(reached) {
        return None;
    }
    let rest = text.lines().filter(|line| server(line).is_none());
    Some(rest.chain(["nameserver 127.0.0.1"]).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_can_be_asked_stay() {
        for text in [
            "",
            "search example.com\n",
            "nameserver 127.0.0.53\noptions edns0\n",
            "nameserver fe80::1%eth0\nnameserver 192.0.2.1\n",
            "nameserver ::1\n",
        ] {
            assert_eq!(replaced(text, false), None, "{text:?}");
        }
        assert_eq!(replaced("nameserver fd98::2\n", true), None);
    }

    #[test]
    fn servers_that_cannot_are_replaced_and_the_rest_stays() {
        let text = "# here\nnameserver fe80::1%eth0\nsearch example.com\nnameserver fd98::2\n";
        let expected = "# here\nsearch example.com\nnameserver 127.0.0.1\n";
        assert_eq!(replaced(text, false).as_deref(), Some(expected));
        let zone = "nameserver fe80::1%eth0\n";
        assert_eq!(replaced(zone, true).as_deref(), Some("nameserver 127.0.0.1\n"));
    }
}
