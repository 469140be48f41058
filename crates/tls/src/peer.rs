//! Who a client is, by the certificate that it has proved to hold.

use std::fmt::{self, Write};

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::failure::{Failure, FailureKind};

/// The most DNS names of a client that an app is told.
const NAMES: usize = 16;

/// A client with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// SHA-256 of the certificate, in hexadecimal.
    hash: String,
    uri: Option<String>,
    dns: Vec<String>,
}

impl Peer {
    /// Reads it from a certificate.
    ///
    /// # Errors
    /// The certificate cannot be read, has several URIs, of which nobody could say which one it is, or a name that is no
    /// plain text.
    pub fn of(certificate: &[u8]) -> Result<Self, Failure> {
        let refused =
            |why: &str| Failure::new(FailureKind::BadCertificate, format!("the client's certificate {why}"));
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| refused("cannot be read"))?;
        let names =
            parsed.subject_alternative_name().map_err(|_| refused("has names that cannot be read"))?;
        let (mut uri, mut dns) = (None, Vec::new());
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(_) | GeneralName::DNSName(_) if !is_plain(name) => {
                    return Err(refused("has a name that is no plain text"));
                }
                GeneralName::URI(_) if uri.is_some() => return Err(refused("has more than one URI")),
                GeneralName::URI(text) => uri = Some((*text).to_owned()),
                GeneralName::DNSName(text) => dns.push((*text).to_owned()),
                _ => {}
            }
        }
        let hash = digest(&SHA256, certificate);
        let hash = hash.as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Ok(Self { hash, uri, dns })
    }

    /// Its only URI, which may be a SPIFFE ID.
    pub fn uri(&self) -> Option<&str> {
        self.uri.as_deref()
    }

    /// Its DNS names.
    pub fn dns(&self) -> impl Iterator<Item = &str> {
        self.dns.iter().map(String::as_str)
    }

    /// One element of `x-forwarded-client-cert`, in the form that Envoy documents: `By` is our own URI, if we have one.
    pub fn forwarded(&self, by: Option<&str>) -> String {
        let mut element = String::new();
        let mut pair = |key: &str, value: &str| {
            let separator = if element.is_empty() { "" } else { ";" };
            let _ = match value.contains([',', ';', '=', '"', '\\']) {
                true => {
                    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                    write!(element, "{separator}{key}=\"{value}\"")
                }
                false => write!(element, "{separator}{key}={value}"),
            };
        };
        by.into_iter().for_each(|by| pair("By", by));
        pair("Hash", &self.hash);
        self.uri().into_iter().for_each(|uri| pair("URI", uri));
        self.dns().take(NAMES).for_each(|name| pair("DNS", name));
        element
    }
}

/// What is in a header, a log or a list of names is of one line, and has no spaces in it.
fn is_plain(name: &GeneralName<'_>) -> bool {
    match name {
        GeneralName::URI(text) | GeneralName::DNSName(text) => {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
        }
        _ => true,
    }
}

impl fmt::Display for Peer {
    /// By its URI, else its DNS names, else the sum of its certificate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.uri, self.dns.as_slice()) {
            (Some(uri), _) => f.write_str(uri),
            (None, []) => write!(f, "sha256:{}", self.hash),
            (None, [first]) => f.write_str(first),
            (None, [first, rest @ ..]) => write!(f, "{first} (and {} more names)", rest.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Authority, leaf};

    fn peer(sans: &[&str]) -> Result<Peer, Failure> {
        Peer::of(&Authority::new("ca").issue(&leaf(sans)).chain[0])
    }

    #[test]
    fn a_client_is_its_uri_and_its_names() {
        let one = peer(&["spiffe://shop.test/web", "a.test", "b.test", "10.0.0.1"]).unwrap();
        assert_eq!(
            (one.uri(), one.dns().collect::<Vec<_>>()),
            (Some("spiffe://shop.test/web"), vec!["a.test", "b.test"])
        );
        assert_eq!(one.to_string(), "spiffe://shop.test/web");
        assert_eq!(
            one.forwarded(Some("spiffe://shop.test/pay")),
            format!(
                "By=spiffe://shop.test/pay;Hash={};URI=spiffe://shop.test/web;DNS=a.test;DNS=b.test",
                one.hash
            )
        );
        assert_eq!(one.hash.len(), 64);
        assert_eq!(peer(&["a.test"]).unwrap().to_string(), "a.test");
        assert_eq!(peer(&["a.test", "b.test", "c.test"]).unwrap().to_string(), "a.test (and 2 more names)");
        let nameless = peer(&[]).unwrap();
        assert_eq!(nameless.to_string(), format!("sha256:{}", nameless.hash));
        assert_eq!(nameless.forwarded(None), format!("Hash={}", nameless.hash));
    }

    #[test]
    fn what_would_be_read_as_another_element_is_quoted() {
        let tricky = peer(&["https://a.test/x;By=me,Hash=0\"\\"]).unwrap();
        assert_eq!(
            tricky.forwarded(None),
            format!("Hash={};URI=\"https://a.test/x;By=me,Hash=0\\\"\\\\\"", tricky.hash)
        );
    }

    #[test]
    fn what_nobody_could_tell_apart_is_refused() {
        for (sans, why) in [
            (&["spiffe://shop.test/a", "spiffe://shop.test/b"][..], "more than one URI"),
            (&["https://a.test/\r\nx-role: admin"], "no plain text"),
            (&["https://a.test/ x"], "no plain text"),
        ] {
            let refused = peer(sans).unwrap_err();
            assert!(refused.detail.contains(why), "{}", refused.detail);
            assert_eq!(refused.kind, FailureKind::BadCertificate);
        }
        assert!(Peer::of(b"nonsense").is_err());
    }
}
