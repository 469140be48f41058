//! The material of TLS towards a destination.

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use dragoman_config::{Origination, RootSource, TlsVersion, Verify as Stated};
use dragoman_tls::client::{ClientConfigs, ClientMaterial, Verify};
use dragoman_tls::files::{Contents, FileError};
use dragoman_tls::identity::{Files, Identity, Usage};
use dragoman_tls::roots::{Roots, crls_of_pem, system_bundle};
use rustls::pki_types::{CertificateRevocationListDer, ServerName};

use super::generation;
use super::material::{Made, Presented, Terms};

impl Terms for Origination {
    type Ready = ClientConfigs;

    fn files(&self) -> Vec<&Path> {
        let crls = self.crls.iter().map(AsRef::as_ref);
        let identity = self.identity.iter().flat_map(|files| [files.certificate.as_path(), &files.key]);
        bundles(&self.roots).chain(crls).chain(identity).collect()
    }

    fn make(&self, contents: &Contents, now: SystemTime) -> Result<Made<ClientConfigs>, Vec<String>> {
        let mut errors = Vec::new();
        let roots = roots(&self.roots, contents, &mut errors);
        let crls = crls(self.crls.iter().map(AsRef::as_ref), contents, &mut errors);
        let identity = self.identity.as_ref().and_then(|files| {
            let files = Files { certificate: &files.certificate, key: &files.key };
            let identity = Identity::from_contents(files, contents, Usage::Client, now);
            identity.map_err(|error| errors.push(error.to_string())).ok()
        });
        let server_name = self.server_name.as_deref().and_then(|name| {
            let parsed = ServerName::try_from(name.to_owned());
            parsed.map_err(|_| errors.push(format!("`{name}` is no name of a server"))).ok()
        });
        if !errors.is_empty() {
            return Err(errors);
        }
        let key = self.identity.as_ref().map(|files| files.key.as_path());
        let presented = identity.as_ref().zip(key).map(|(it, key)| Presented::new(it, key, contents));
        let material = ClientMaterial {
            roots,
            crls,
            verify: match &self.verify {
                Stated::Name => Verify::Name,
                Stated::Spiffe(patterns) => Verify::Spiffe(patterns.clone()),
                Stated::Nothing => Verify::Nothing,
            },
            pins: self.pins.clone(),
            tls13_only: self.min_version == TlsVersion::V1_3,
            post_quantum: self.post_quantum,
            server_name,
            identity: identity.map(|identity| Arc::clone(&identity.certified)),
            generation: generation(),
        };
        let ready = ClientConfigs::new(material, Instant::now()).map_err(|error| vec![error])?;
        Ok(Made { ready, presented })
    }
}

/// The files among these, and the one that says whether the machine's own are others now.
pub(super) fn bundles(sources: &[RootSource]) -> impl Iterator<Item = &Path> {
    sources.iter().filter_map(|source| match source {
        RootSource::Pem(path) => Some(path.as_path()),
        RootSource::System => system_bundle(),
        RootSource::Webpki => None,
    })
}

/// All that these name; what is wrong with them goes to `errors`. The machine's own are read here: they are hundreds of files,
/// of which one is looked at.
pub(super) fn roots(sources: &[RootSource], contents: &Contents, errors: &mut Vec<String>) -> Roots {
    let mut roots = Roots::default();
    for source in sources {
        let added = match source {
            RootSource::Webpki => {
                roots.add_webpki();
                Ok(())
            }
            RootSource::System => roots.add_system(),
            RootSource::Pem(path) => read(path, contents, |pem| roots.add_pem(pem).map(drop)),
        };
        errors.extend(added.err());
    }
    roots
}

/// All revocation lists in these files; what is wrong with them goes to `errors`.
pub(super) fn crls<'a>(
    paths: impl Iterator<Item = &'a Path>,
    contents: &Contents,
    errors: &mut Vec<String>,
) -> Vec<CertificateRevocationListDer<'static>> {
    let mut lists = Vec::new();
    for path in paths {
        let added = read(path, contents, |pem| {
            lists.extend(crls_of_pem(pem)?);
            Ok(())
        });
        errors.extend(added.err());
    }
    lists
}

fn read(
    path: &Path,
    contents: &Contents,
    parse: impl FnOnce(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let pem = contents.get(path).map_err(|error| error.to_string())?;
    parse(pem).map_err(|reason| FileError::new(path, reason).to_string())
}
