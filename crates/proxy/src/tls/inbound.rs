//! The material of TLS of the connections that come to the app.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use dragoman_config::{Inbound, TlsVersion};
use dragoman_tls::files::Contents;
use dragoman_tls::identity::{Files, Identity, Usage};
use dragoman_tls::server::{Server, ServerMaterial};

use super::material::{Made, Presented, Terms};
use super::origination::{bundles, crls, roots};

impl Terms for Inbound {
    type Ready = ServerMaterial;

    fn files(&self) -> Vec<&Path> {
        let crls = self.crls.iter().map(AsRef::as_ref);
        let identity = [self.identity.certificate.as_path(), &self.identity.key];
        bundles(&self.roots).chain(crls).chain(identity).collect()
    }

    fn make(&self, contents: &Contents, now: SystemTime) -> Result<Made<ServerMaterial>, Vec<String>> {
        let mut errors = Vec::new();
        let roots = roots(&self.roots, contents, &mut errors);
        let crls = crls(self.crls.iter().map(AsRef::as_ref), contents, &mut errors);
        let files = Files { certificate: &self.identity.certificate, key: &self.identity.key };
        let identity = Identity::from_contents(files, contents, Usage::Server, now);
        let identity = identity.map_err(|error| errors.push(error.to_string())).ok();
        let Some(identity) = identity.filter(|_| errors.is_empty()) else { return Err(errors) };
        let presented = Some(Presented::new(&identity, files.key, contents));
        let ready = ServerMaterial {
            identity: Arc::clone(&identity.certified),
            name: identity.names.iter().find(|name| name.contains("://")).cloned(),
            roots,
            crls,
            tls13_only: self.min_version == TlsVersion::V1_3,
        };
        // Whatever the rules about clients are: what it says of the rest would be found when the first one comes.
        Server::new(&ready, Vec::new()).map_err(|error| vec![error])?;
        Ok(Made { ready, presented })
    }
}
