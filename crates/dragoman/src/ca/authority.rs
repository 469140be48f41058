//! The authority: its key, its certificate, and what it signs.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;

use super::CaError;
use super::folder::{Content, Folder, Readers};
use super::names::Names;

/// The files of an authority.
const CERTIFICATE: &str = "ca.crt";
pub(crate) const KEY: &str = "ca.key";

/// How much earlier than now a certificate begins, for those whose clock is slow.
pub(crate) const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// An authority that can sign.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(crate) pem: String,
    pub(crate) name: String,
    /// By which certificates name it.
    key_id: Vec<u8>,
    path: PathBuf,
    pub(crate) not_after: SystemTime,
    /// Domains; empty is all.
    permitted: Vec<String>,
}

/// What was signed.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) not_after: SystemTime,
}

impl Authority {
    /// Makes one in a directory.
    pub(crate) fn create(
        directory: &Path,
        permit: &[String],
        life: Duration,
        force: bool,
        now: SystemTime,
    ) -> Result<Authority, CaError> {
        let folder = Folder::make(directory)?;
        if let Some(path) = folder.existing(&[CERTIFICATE, KEY]).filter(|_| !force) {
            let why = "is there already, and what it signed would be trusted no more; `--force` replaces it";
            return Err(CaError::new(&path, why));
        }
        let failed =
            |error: rcgen::Error| CaError::new(directory, format!("no authority can be made: {error}"));
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = own_parameters(&key, permit, life, now).self_signed(&key).map_err(failed)?;
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        folder.put(&[
            Content { name: KEY, readers: Readers::Owner, bytes: key.as_bytes() },
            Content { name: CERTIFICATE, readers: Readers::All, bytes: certificate.as_bytes() },
        ])?;
        Authority::load(directory)
    }

    /// Reads one.
    pub(crate) fn load(directory: &Path) -> Result<Authority, CaError> {
        let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        if !certificate.exists() && !key.exists() {
            let why = "there is no authority; `dragoman ca init` makes one, `--ca` names another";
            return Err(CaError::new(directory, why));
        }
        let pem = read(&certificate)?;
        let pair = KeyPair::from_pem(&read(&key)?)
            .map_err(|error| CaError::new(&key, format!("is no private key: {error}")))?;
        let whole = first_certificate(&certificate, &pem)?;
        let parsed = parse(&certificate, &whole)?;
        if !parsed.is_ca() {
            return Err(CaError::new(&certificate, "is not the certificate of an authority"));
        }
        if parsed.public_key().raw != pair.subject_public_key_info() {
            return Err(CaError::new(&key, format!("is not the key of {}", certificate.display())));
        }
        let unusable = |why: String| CaError::new(&certificate, why);
        let key_id = key_ids(&parsed).own.ok_or_else(|| unusable("has no key identifier".into()))?;
        let (name, permitted) = (common_name(&parsed), permitted(&parsed));
        let (_, not_after) = validity(&parsed);
        let issuer = Issuer::from_ca_cert_der(&whole.contents.as_slice().into(), pair)
            .map_err(|error| unusable(format!("cannot sign: {error}")))?;
        Ok(Authority { issuer, pem, name, key_id, path: certificate, not_after, permitted })
    }

    /// Whether it has signed this certificate. Only mistakes are to be found here, so that nobody's names are taken over
    /// from another authority; the signature is for those who trust the certificate.
    pub(crate) fn has_signed(&self, certificate: &X509Certificate<'_>) -> bool {
        key_ids(certificate).issuer.as_ref() == Some(&self.key_id)
    }

    /// Signs a new key for these names. It ends with the authority, if that is earlier.
    pub(crate) fn issue(&self, names: &Names, life: Duration, now: SystemTime) -> Result<Issued, CaError> {
        self.check(names, now)?;
        let failed = |error: rcgen::Error| CaError::new(&self.path, format!("cannot sign {names}: {error}"));
        let not_after = (now + life).min(self.not_after);
        let mut parameters = CertificateParams::default();
        parameters.not_before = (now - BACKDATED).into();
        parameters.not_after = not_after.into();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "dragoman ca: not for production");
        // Servers that know clients by one word take it from here; it has no room for more (X.520, ub-common-name).
        if let Some(first) = names.dns.first().filter(|name| name.len() <= 64) {
            parameters.distinguished_name.push(DnType::CommonName, first.as_str());
        }
        parameters.subject_alt_names = names.sans().map_err(failed)?;
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // The serial number is rcgen's: 159 bits of a hash of the key, which is new and random each time.
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem(), not_after })
    }

    fn check(&self, names: &Names, now: SystemTime) -> Result<(), CaError> {
        if now + Duration::from_secs(1) > self.not_after {
            let why = format!(
                "expired at {}; `dragoman ca init --force` makes another",
                super::utc(self.not_after)
            );
            return Err(CaError::new(&self.path, why));
        }
        let below = |name: &str, domain: &String| {
            name == domain || name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
        };
        let foreign = |name: &&String| {
            let name = name.strip_prefix("*.").unwrap_or(name);
            !self.permitted.iter().any(|domain| below(name, domain))
        };
        let refused = match () {
            () if self.permitted.is_empty() => None,
            () => names.dns.iter().find(foreign).cloned().or_else(|| {
                names.ips.iter().find(|ip| !is_private(**ip)).map(|ip| format!("{ip}, which is not private"))
            }),
        };
        match refused {
            None => Ok(()),
            Some(name) => {
                let permitted = self.permitted.join(", ");
                Err(CaError::new(
                    &self.path,
                    format!("was made for {permitted} alone, and cannot sign {name}"),
                ))
            }
        }
    }
}

/// The parameters of an authority's own certificate.
fn own_parameters(key: &KeyPair, permit: &[String], life: Duration, now: SystemTime) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.not_before = (now - BACKDATED).into();
    parameters.not_after = (now + life).into();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "NOT FOR PRODUCTION");
    // Two authorities with one name would be taken for each other.
    let number: String =
        parameters.key_identifier(key)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    parameters.distinguished_name.push(DnType::CommonName, format!("dragoman development CA {number}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if !permit.is_empty() {
        let domains = permit.iter().cloned().map(GeneralSubtree::DnsName);
        let addresses = PRIVATE.iter().map(|(network, prefix)| {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*network, *prefix))
        });
        parameters.name_constraints = Some(NameConstraints {
            permitted_subtrees: domains.chain(addresses).collect(),
            excluded_subtrees: Vec::new(),
        });
    }
    parameters
}

/// Networks that are nobody's in particular (RFC 1918, RFC 4193), and loopback.
const PRIVATE: [(IpAddr, u8); 6] = [
    (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(std::net::Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
];

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback(),
    }
}

/// The domains that a certificate is constrained to.
fn permitted(certificate: &X509Certificate<'_>) -> Vec<String> {
    let constraints = certificate.name_constraints().ok().flatten();
    let subtrees = constraints.and_then(|found| found.value.permitted_subtrees.as_ref());
    let domain = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    subtrees.into_iter().flatten().filter_map(|subtree| domain(&subtree.base)).collect()
}

struct KeyIds {
    own: Option<Vec<u8>>,
    issuer: Option<Vec<u8>>,
}

fn key_ids(certificate: &X509Certificate<'_>) -> KeyIds {
    let mut ids = KeyIds { own: None, issuer: None };
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => ids.own = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                ids.issuer = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    ids
}

fn common_name(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.unwrap_or("an authority without a name").to_owned()
}

/// From when until when.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let validity = certificate.validity();
    (validity.not_before.to_datetime().into(), validity.not_after.to_datetime().into())
}

/// Reads a file of text.
pub(crate) fn read(path: &Path) -> Result<String, CaError> {
    fs::read_to_string(path).map_err(|error| CaError::system(path, "cannot be read", &error))
}

/// The first certificate of a file, which was read before.
pub(crate) fn first_certificate(path: &Path, text: &str) -> Result<Pem, CaError> {
    let first = Pem::iter_from_buffer(text.as_bytes()).next();
    let found = first.and_then(Result::ok).filter(|pem| pem.label == "CERTIFICATE");
    found.ok_or_else(|| CaError::new(path, "has no certificate in PEM (`-----BEGIN CERTIFICATE-----`)"))
}

/// Takes a certificate apart.
pub(crate) fn parse<'a>(path: &Path, pem: &'a Pem) -> Result<X509Certificate<'a>, CaError> {
    pem.parse_x509().map_err(|error| CaError::new(path, format!("is no certificate: {error}")))
}
