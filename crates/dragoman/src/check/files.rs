//! The files of TLS that a configuration names: whether they can be used, and what is doubtful about them.

use std::path::Path;
use std::time::SystemTime;

use dragoman_config::{Config, FileRole, NamedFile};
use dragoman_proxy::Material;
use dragoman_tls::files::Contents;
use dragoman_tls::{review, roots};

/// All errors and all warnings, each with where the file is named.
pub(super) fn look(config: &Config) -> (Vec<String>, Vec<String>) {
    let named = config.named_files();
    let contents = Contents::read(named.iter().map(|file| file.path.as_path()));
    let mut errors = Material::load(config).err().unwrap_or_default();
    // Of an identity the first file that is wrong is told of; what is not there at all is to be told of both.
    for unread in named.iter().filter_map(|file| contents.get(&file.path).err()) {
        if !errors.contains(&unread.to_string()) {
            errors.push(unread.to_string());
        }
    }
    for error in &mut errors {
        // A path may begin like another one.
        let of_it = |file: &&NamedFile| error.starts_with(&format!("{}: ", file.path.display()));
        if let Some(file) = named.iter().find(of_it) {
            *error = with_place(error, file);
        }
    }
    let (mut warnings, now) = (Vec::new(), SystemTime::now());
    for file in &named {
        let (stale, doubts) = review(file.role, &file.path, &contents, now);
        let tell = |what: String| with_place(&format!("{}: {what}", file.path.display()), file);
        errors.extend(stale.into_iter().map(tell));
        warnings.extend(doubts.into_iter().map(tell));
    }
    (errors, warnings)
}

/// Why a file that can be read is of no use, and what is doubtful about it.
fn review(role: FileRole, path: &Path, contents: &Contents, now: SystemTime) -> (Vec<String>, Vec<String>) {
    let Ok(bytes) = contents.get(path) else { return Default::default() };
    let certificates = || roots::certificates_of_pem(bytes).unwrap_or_default();
    match role {
        FileRole::Certificate => (Vec::new(), review::chain(&certificates(), now)),
        FileRole::Roots => (Vec::new(), review::roots(&certificates(), now)),
        FileRole::RevocationLists => {
            let lists = roots::crls_of_pem(bytes).unwrap_or_default();
            (review::revocation_lists(&lists, now), Vec::new())
        }
        FileRole::Key if contents.is_public(path) => {
            let doubt = "every user of the machine may read this key: chmod o-r".to_owned();
            (Vec::new(), vec![doubt])
        }
        FileRole::Key => Default::default(),
    }
}

fn with_place(text: &str, file: &NamedFile) -> String {
    format!("{text}\n --> {}", file.place)
}
