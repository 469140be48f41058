//! The question by which `dragoman-init verify` proves that capture works, and the proxy's answer.
//!
//! The check dials an address that is nobody's (TEST-NET-1 of RFC 5737, the documentation prefix of RFC 3849). Were
//! the connection not captured, it could not come to anything; captured, it reaches the proxy with that address as
//! its original destination. The proxy asks [`is_probe`] of each flow's original destination, and for a probe lets
//! [`answer`] speak in place of an upstream.
//!
//! The addresses are not the first ones of their networks, which people use as black holes in tests of their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::options::Options;

/// The IPv4 address that the check dials.
pub const IPV4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 151);
/// The IPv6 address that the check dials.
pub const IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x151);
/// The port that the check dials unless the rules leave it alone: no service has it.
pub const PORT: u16 = 15151;
/// No request is longer; reading more than this is a mistake.
pub const REQUEST_MAX_BYTES: usize = 128;

const REQUEST: &str = "DRAGOMAN VERIFY ";
const ANSWER: &str = "dragoman";

/// Whether a flow with this original destination is a check. The port does not count: the check dials one that the
/// rules capture.
pub fn is_probe(original_dst: SocketAddr) -> bool {
    original_dst.ip() == IPV4 || original_dst.ip() == IPV6
}

/// The proxy's answer to a check: `DRAGOMAN VERIFY token\n` is answered by `dragoman token destination\n`.
///
/// `None` if `request` is not a whole, well-formed line; a caller may read more and ask again until
/// [`REQUEST_MAX_BYTES`].
pub fn answer(request: &[u8], original_dst: SocketAddr) -> Option<Vec<u8>> {
    let line = std::str::from_utf8(request).ok()?.strip_suffix('\n')?;
    let token = line.strip_prefix(REQUEST)?;
    let well_formed = !token.is_empty()
        && request.len() <= REQUEST_MAX_BYTES
        && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    well_formed.then(|| expected(token, original_dst).into_bytes())
}

/// The line that the check sends.
pub(crate) fn request(token: &str) -> String {
    format!("{REQUEST}{token}\n")
}

/// The line that proves the capture.
pub(crate) fn expected(token: &str, original_dst: SocketAddr) -> String {
    format!("{ANSWER} {token} {original_dst}\n")
}

/// The addresses to dial, over IPv4 and IPv6, with a port that the options capture.
///
/// # Errors
/// The option that leaves the probe alone, so that nothing can be proved; for each IP version.
pub(crate) fn targets(options: &Options) -> [Result<SocketAddr, String>; 2] {
    let port = options.include_port.first().copied().unwrap_or_else(|| {
        (PORT..=u16::MAX).find(|port| !options.exclude_port.contains(port)).unwrap_or(PORT)
    });
    [IpAddr::V4(IPV4), IpAddr::V6(IPV6)].map(|address| {
        if let Some(net) = options.exclude_cidr.iter().find(|net| net.contains(&address)) {
            return Err(format!("--exclude-cidr {net} leaves {address} alone, which the check dials"));
        }
        let included = &options.include_cidr;
        if !included.is_empty() && !included.iter().any(|net| net.contains(&address)) {
            return Err(format!(
                "--include-cidr leaves {address} alone, which the check dials; include it to verify"
            ));
        }
        Ok(SocketAddr::new(address, port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination() -> SocketAddr {
        SocketAddr::new(IPV4.into(), 443)
    }

    #[test]
    fn a_probe_is_told_by_its_address_on_any_port() {
        assert!(is_probe(destination()));
        assert!(is_probe(SocketAddr::new(IPV6.into(), 1)));
        assert!(!is_probe("192.0.2.1:15151".parse().unwrap()));
        assert!(!is_probe("[2001:db8::1]:15151".parse().unwrap()));
    }

    #[test]
    fn c9_the_answer_repeats_the_token_and_the_destination() {
        assert_eq!(
            answer(b"DRAGOMAN VERIFY 0aF9\n", destination()).unwrap(),
            b"dragoman 0aF9 192.0.2.151:443\n"
        );
        let v6 = SocketAddr::new(IPV6.into(), 15151);
        assert_eq!(answer(request("ab").as_bytes(), v6).unwrap(), b"dragoman ab [2001:db8::151]:15151\n");
    }

    #[test]
    fn c9_nothing_else_is_answered() {
        let long = format!("DRAGOMAN VERIFY {}\n", "a".repeat(REQUEST_MAX_BYTES));
        for wrong in [
            "",
            "\n",
            "DRAGOMAN VERIFY \n",
            "DRAGOMAN VERIFY ab",
            "DRAGOMAN VERIFY ab\r\n",
            "DRAGOMAN VERIFY ab\n\n",
            "DRAGOMAN VERIFY ab\nab\n",
            "DRAGOMAN VERIFY a b\n",
            "dragoman verify ab\n",
            "GET / HTTP/1.1\r\n\r\n",
            long.as_str(),
        ] {
            assert_eq!(answer(wrong.as_bytes(), destination()), None, "{wrong:?}");
        }
        assert_eq!(answer(b"DRAGOMAN VERIFY \xff\n", destination()), None);
    }

    #[test]
    fn the_check_dials_a_port_that_is_captured() {
        let port = |options: &Options| targets(options).map(|target| target.unwrap().port());
        assert_eq!(port(&Options::default()), [PORT, PORT]);
        let excluded = Options { exclude_port: vec![PORT, PORT + 1], ..Options::default() };
        assert_eq!(port(&excluded), [PORT + 2, PORT + 2]);
        let included = Options { include_port: vec![443, 80], ..Options::default() };
        assert_eq!(port(&included), [443, 443]);
    }

    #[test]
    fn the_check_says_which_option_leaves_it_blind() {
        let exclude = Options { exclude_cidr: vec!["192.0.2.0/24".parse().unwrap()], ..Options::default() };
        let [v4, v6] = targets(&exclude);
        assert_eq!(
            v4.unwrap_err(),
            "--exclude-cidr 192.0.2.0/24 leaves 192.0.2.151 alone, which the check dials"
        );
        assert!(v6.is_ok());
        let include = Options { include_cidr: vec!["10.0.0.0/8".parse().unwrap()], ..Options::default() };
        assert!(targets(&include).iter().all(Result::is_err));
    }
}
