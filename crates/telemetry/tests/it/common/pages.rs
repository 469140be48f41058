//! Pages of the documentation that are made from a table of this crate.

use std::path::Path;

/// Compares `docs/<name>` with what it should be, or renews it where `DRAGOMAN_BLESS` is set.
pub(crate) fn check(name: &str, fresh: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("DRAGOMAN_BLESS").is_some() {
        std::fs::write(&path, fresh).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    let renew =
        format!("docs/{name} is stale: renew it with DRAGOMAN_BLESS=1 cargo test -p dragoman-telemetry");
    assert!(stored == fresh, "{renew}");
}
