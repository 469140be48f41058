//! What a certificate is for.

use std::fmt;
use std::net::IpAddr;

use dragoman_policy::SpiffePattern;
use rcgen::SanType;
use rustls::pki_types::DnsName;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// The names in a certificate, each valid by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// In lower case; the first label may be `*`.
    pub(crate) dns: Vec<String>,
    /// At most one: a certificate with two URIs is no SVID (X509-SVID standard, section 2).
    pub(crate) spiffe: Option<String>,
    pub(crate) ips: Vec<IpAddr>,
}

impl Names {
    /// Those of a certificate that was issued here.
    ///
    /// # Errors
    /// It has names that this could not have issued, or none.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Result<Names, String> {
        let mut names = Names::default();
        let found = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        for name in found.iter().flat_map(|found| &found.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.dns.push(dns(name)?),
                GeneralName::URI(id) if names.spiffe.is_none() => names.spiffe = Some(spiffe(id)?),
                GeneralName::IPAddress(bytes) => names.ips.push(address(bytes)?),
                other => return Err(format!("it has a name that `dragoman ca` does not issue: {other}")),
            }
        }
        if names == Names::default() { Err("it has no names".into()) } else { Ok(names) }
    }

    pub(crate) fn sans(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let dns = self.dns.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
        let spiffe = self.spiffe.iter().map(|id| Ok(SanType::URI(id.as_str().try_into()?)));
        dns.chain(spiffe).chain(self.ips.iter().map(|ip| Ok(SanType::IpAddress(*ip)))).collect()
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ips = self.ips.iter().map(IpAddr::to_string);
        let all: Vec<_> = self.dns.iter().chain(&self.spiffe).cloned().chain(ips).collect();
        f.write_str(&all.join(", "))
    }
}

/// Reads a DNS name, or one whose first label is `*`.
///
/// # Errors
/// It is neither.
pub(crate) fn dns(text: &str) -> Result<String, String> {
    domain(text.strip_prefix("*.").unwrap_or(text))?;
    Ok(text.to_ascii_lowercase())
}

/// Reads a DNS name.
///
/// # Errors
/// It is none.
pub(crate) fn domain(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Err("this is an address: give it as `--ip`".into());
    }
    if text.ends_with('.') {
        return Err("leave the final dot out: names in certificates have none".into());
    }
    DnsName::try_from(text)
        .map_err(|_| "not a DNS name (labels of ASCII letters, digits, `-` and `_`; `xn--` for others)")?;
    Ok(text.to_ascii_lowercase())
}

/// Reads a SPIFFE ID.
///
/// # Errors
/// It is none.
pub(crate) fn spiffe(text: &str) -> Result<String, String> {
    SpiffePattern::parse(text).map_err(|error| error.to_string())?;
    if text.ends_with('*') {
        return Err("an identity has one ID; `*` is for those who verify it".into());
    }
    Ok(text.to_owned())
}

fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let any = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    any.map_err(|_| "it has an IP address of an impossible length".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_before_they_are_signed() {
        assert_eq!(dns("*.Pay_1.Test").as_deref(), Ok("*.pay_1.test"));
        assert_eq!(dns("localhost").as_deref(), Ok("localhost"));
        for wrong in
            ["", "*", "*.", "a.*.b", "a b", "a\0b", "a.", ".a", "a..b", "10.0.0.1", "::1", "b\u{fc}.de"]
        {
            assert!(dns(wrong).is_err(), "{wrong:?}");
        }
        assert!(domain("*.a.test").is_err());
        assert!(spiffe("spiffe://shop.test/ns/pay").is_ok());
        for wrong in ["", "shop.test/ns", "spiffe://shop.test/*", "spiffe://shop.test/ns//pay"] {
            assert!(spiffe(wrong).is_err(), "{wrong:?}");
        }
    }
}
