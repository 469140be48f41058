//! A certificate in words, for whoever has to find out what is wrong with it.

use std::fmt::Write;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::validity::Validity;

/// The most names of a certificate that are told.
const NAMES: usize = 8;

/// From when until when the certificate holds; `None` where that cannot be read.
pub fn validity(der: &[u8]) -> Option<Validity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(Validity::of(&certificate))
}

/// The names that the certificate is for, in the words of its maker, as far as there is room: each in quotes, and with
/// nothing in it that would change a terminal or a log.
pub fn names(der: &[u8]) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return "no names".to_owned() };
    let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return "no names".to_owned() };
    let names: Vec<_> = alternative.value.general_names.iter().filter_map(word).collect();
    let mut text = names.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMES {
        let _ = write!(text, " and {} more", names.len() - NAMES);
    }
    if text.is_empty() { "no names".to_owned() } else { text }
}

fn word(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some(quoted(name)),
        GeneralName::IPAddress(bytes) => {
            Some(match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(v4), _) => std::net::Ipv4Addr::from(v4).to_string(),
                (_, Ok(v6)) => std::net::Ipv6Addr::from(v6).to_string(),
                _ => return None,
            })
        }
        _ => None,
    }
}

/// What the certificate calls its owner.
pub fn subject(der: &[u8]) -> String {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => quoted(&certificate.subject().to_string()),
        Err(_) => "a certificate that cannot be read".to_owned(),
    }
}

/// What a stranger wrote, made harmless and short.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(128).collect();
    format!("`{}`", short.escape_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_and_harmless() {
        let mut params =
            rcgen::CertificateParams::new(vec!["a.test".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(rcgen::SanType::URI("spiffe://shop.test/\u{1b}[31m".try_into().unwrap()));
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(names(certificate.der()), "`a.test`, 10.0.0.1, `spiffe://shop.test/\\u{1b}[31m`");
        assert!(
            validity(certificate.der()).unwrap().not_before < validity(certificate.der()).unwrap().not_after
        );
        assert_eq!(names(b"nonsense"), "no names");
        assert!(validity(b"nonsense").is_none());
    }

    #[test]
    fn many_names_are_cut() {
        let many: Vec<_> = (0..20).map(|n| format!("n{n}.test")).collect();
        let params = rcgen::CertificateParams::new(many).unwrap();
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert!(names(certificate.der()).ends_with("`n7.test` and 12 more"));
    }
}
