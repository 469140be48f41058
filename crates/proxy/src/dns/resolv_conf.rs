//! Which resolvers to ask: resolv.conf(5), as the C library reads it.
//!
//! `search` and `ndots` are the app's own business: it has applied them before it asks.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dragoman_wire::dns::PORT;

/// More are not asked by the C library either.
const RESOLVERS_MAX: usize = 3;
const TIMEOUT_MAX: u64 = 30;
const ATTEMPTS_MAX: u32 = 5;
/// More is no resolv.conf.
const FILE_MAX: u64 = 64 * 1024;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// In the order in which they are to be asked; never empty.
    pub(super) resolvers: Vec<SocketAddr>,
    /// How long a query may take. The app's own resolver waits for as long.
    pub(super) timeout: Duration,
    /// How many times each resolver is asked, at least once.
    pub(super) attempts: u32,
    /// Each query begins with another resolver.
    pub(super) rotate: bool,
}

impl Default for ResolvConf {
    /// What an empty file means.
    fn default() -> Self {
        let resolvers = vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)];
        Self { resolvers, timeout: Duration::from_secs(5), attempts: 2, rotate: false }
    }
}

impl ResolvConf {
    /// Reads the text of a file. A line that means nothing is skipped, as the C library does. `interface` gives the number
    /// of a network interface.
    pub(super) fn parse(text: &str, interface: &dyn Fn(&str) -> Option<u32>) -> Self {
        let mut conf = Self { resolvers: Vec::new(), ..Self::default() };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if conf.resolvers.len() < RESOLVERS_MAX => {
                    conf.resolvers.extend(words.next().and_then(|word| resolver(word, interface)));
                }
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        if conf.resolvers.is_empty() {
            conf.resolvers = Self::default().resolvers;
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        match (name, value.parse::<u64>()) {
            ("timeout", Ok(seconds)) => self.timeout = Duration::from_secs(seconds.clamp(1, TIMEOUT_MAX)),
            ("attempts", Ok(times)) => {
                self.attempts = u32::try_from(times).unwrap_or(u32::MAX).clamp(1, ATTEMPTS_MAX);
            }
            ("rotate", _) => self.rotate = true,
            _ => {}
        }
    }
}

/// An address; of IPv6, with the interface that a link-local one needs. BSD's form with a port is taken too.
fn resolver(word: &str, interface: &dyn Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    if let Some((ip, scope)) = word.split_once('%') {
        let scope = scope.parse().ok().or_else(|| interface(scope))?;
        return Some(SocketAddrV6::new(ip.parse().ok()?, PORT, 0, scope).into());
    }
    if let Ok(ip) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    let (ip, port) = word.strip_prefix('[')?.split_once("]:")?;
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok().filter(|port| *port > 0)?))
}

/// The file, and what it said when it was last read.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    text: Option<String>,
    pub(super) conf: ResolvConf,
}

impl Watched {
    pub(super) fn new(path: &Path) -> Self {
        let mut watched = Self { path: path.to_owned(), text: None, conf: ResolvConf::default() };
        watched.look();
        watched
    }

    /// Reads the file anew. One that is not there is as an empty one; one that cannot be read changes nothing. Returns
    /// whether it has changed.
    pub(super) fn look(&mut self) -> bool {
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot read which resolvers to ask");
                return false;
            }
        };
        if self.text.as_deref() == Some(&text) {
            return false;
        }
        self.conf = ResolvConf::parse(&text, &interface);
        self.text = Some(text);
        true
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number of an interface of this network namespace.
fn interface(name: &str) -> Option<u32> {
    let is_name = !name.contains('/') && !name.starts_with('.');
    let file = is_name.then(|| Path::new("/sys/class/net").join(name).join("ifindex"))?;
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text, &|name| (name == "eth0").then_some(7))
    }

    fn resolvers(text: &str) -> Vec<String> {
        parse(text).resolvers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_file_means_the_resolver_of_this_machine() {
        assert_eq!(parse(""), ResolvConf::default());
        assert_eq!(resolvers("# nothing\nsearch a.test\nnameserver\nnameserver x\n"), ["127.0.0.1:53"]);
    }

    #[test]
    fn resolvers_are_taken_in_their_order_three_at_most() {
        let text = "domain a\n nameserver 10.0.0.1 # first\nnameserver\t::1\r\n;nameserver 9.9.9.9\n#nameserver 9.9.9.9\n\
                    nameserver 10.0.0.3\nnameserver 10.0.0.4\n";
        assert_eq!(resolvers(text), ["10.0.0.1:53", "[::1]:53", "10.0.0.3:53"]);
    }

    #[test]
    fn link_local_addresses_have_an_interface_by_name_or_number() {
        assert_eq!(
            resolvers("nameserver fe80::1%eth0\nnameserver fe80::2%3"),
            ["[fe80::1%7]:53", "[fe80::2%3]:53"]
        );
        assert_eq!(resolvers("nameserver fe80::1%nosuch\nnameserver 10.0.0.1"), ["10.0.0.1:53"]);
    }

    #[test]
    fn a_port_may_be_given_as_on_bsd() {
        assert_eq!(
            resolvers("nameserver [127.0.0.1]:5353\nnameserver [::1]:1"),
            ["127.0.0.1:5353", "[::1]:1"]
        );
        assert_eq!(resolvers("nameserver [127.0.0.1]:0\nnameserver 127.0.0.1:53"), ["127.0.0.1:53"]);
    }

    #[test]
    fn options_are_kept_within_what_the_c_library_allows() {
        let conf = parse("options timeout:2 attempts:4 rotate edns0 ndots:5 trust-ad");
        assert_eq!((conf.timeout.as_secs(), conf.attempts, conf.rotate), (2, 4, true));
        let conf = parse("options timeout:99999999999\noptions attempts:0");
        assert_eq!((conf.timeout.as_secs(), conf.attempts, conf.rotate), (30, 1, false));
        let conf = parse("options timeout:x timeout: timeout attempts:-1");
        assert_eq!(conf, ResolvConf::default());
    }

    #[test]
    fn a_file_is_read_again_when_its_text_has_changed() {
        let folder = std::env::temp_dir().join(format!("dragoman-resolv-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("resolv.conf");
        let mut watched = Watched::new(&path);
        assert_eq!(watched.conf, ResolvConf::default(), "there is none");
        fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        assert!(watched.look());
        assert_eq!(watched.conf.resolvers, ["10.0.0.1:53".parse().unwrap()]);
        assert!(!watched.look());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(!watched.look(), "what cannot be read changes nothing");
        fs::remove_dir_all(&folder).unwrap();
        assert!(watched.look());
        assert_eq!(watched.conf, ResolvConf::default());
    }

    #[test]
    fn the_loopback_interface_has_a_number() {
        assert!(interface("lo").is_some());
        assert_eq!((interface("no-such"), interface("../lo"), interface("..")), (None, None, None));
    }
}
