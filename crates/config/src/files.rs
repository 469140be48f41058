//! The files that a configuration names, and where it does, for whoever tells what is wrong with them.

use std::path::PathBuf;

use crate::{
    Config,
    effective::Effective,
    errors::{Place, Position},
    model::RootSource,
    raw::{Identity, Tls},
    read::Located,
    resolve::implicit,
    value::{
        collection::{List, Switch},
        word::AbsolutePath,
    },
};

/// A file that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub role: FileRole,
    /// Where it is named first: `FILE:LINE:COLUMN`.
    pub place: String,
}

/// What a file of TLS is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRole {
    /// The chain of an identity.
    Certificate,
    /// The key of an identity.
    Key,
    /// Trusted roots.
    Roots,
    /// Revocation lists.
    RevocationLists,
}

/// A path, what it is and where it stands.
type Found = (PathBuf, FileRole, Place);

impl Config {
    /// All files of TLS that this configuration uses, each once.
    pub fn named_files(&self) -> Vec<NamedFile> {
        let root = &self.root;
        let named = root.destination();
        let rest = implicit(root);
        let mut found = Vec::new();
        for entry in named.0.iter().chain([&rest]) {
            let effective = Effective::of(root, entry);
            let tls = effective.table.connection.tls().on().filter(|_| effective.inert("tls").is_none());
            if let Some(tls) = tls {
                origination(&tls, &root.identity(), &mut found);
            }
        }
        if let Switch::On(inbound) = root.inbound() {
            let roots = inbound.roots.as_ref().map(|list| &list.value.0);
            paths(FileRole::Roots, roots, &mut found);
            paths(FileRole::RevocationLists, inbound.crls.as_ref().map(|list| &list.value), &mut found);
            identity(&inbound.identity().unwrap_or(root.identity()), &mut found);
        }
        let mut files: Vec<NamedFile> = Vec::new();
        for (path, role, place) in found {
            if !files.iter().any(|file| (&file.path, file.role) == (&path, role)) {
                let at = Position::of(&self.sources[place.source], place);
                files.push(NamedFile { path, role, place: format!("{}:{}:{}", at.file, at.line, at.column) });
            }
        }
        files
    }
}

fn origination(tls: &Tls, process: &Identity, found: &mut Vec<Found>) {
    if !tls.danger_accept_any_certificate() {
        for item in tls.roots.iter().flat_map(|roots| &roots.value.0.0) {
            if let RootSource::Pem(path) = &item.value.0 {
                found.push((path.clone(), FileRole::Roots, item.place));
            }
        }
        paths(FileRole::RevocationLists, tls.crls.as_ref().map(|list| &list.value), found);
    }
    match tls.identity() {
        None => identity(process, found),
        Some(Switch::Off) => {}
        Some(Switch::On(own)) => identity(&own, found),
    }
}

fn identity(identity: &Identity, found: &mut Vec<Found>) {
    let stated = [(FileRole::Certificate, &identity.certificate), (FileRole::Key, &identity.key)];
    for (role, path) in stated {
        found.extend(path.as_ref().map(|path| one(role, path)));
    }
}

fn paths(role: FileRole, list: Option<&List<AbsolutePath>>, found: &mut Vec<Found>) {
    found.extend(list.into_iter().flat_map(|list| &list.0).map(|path| one(role, path)));
}

fn one(role: FileRole, path: &Located<AbsolutePath>) -> Found {
    (PathBuf::from(&path.value.0), role, path.place)
}
