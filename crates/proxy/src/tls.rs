//! What TLS connections are made with: read from files before it is needed, and held for each destination.
//!
//! The material of a destination is read when its configuration is, and a configuration whose files cannot be used is
//! refused with them. Afterwards the files are followed (`follow`): what is right takes the place of what was there, with a
//! generation of its own, and what is wrong changes nothing. A generation is in the key of each connection that is kept,
//! so that none of an old one is used again.

mod follow;
mod material;
mod origination;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dragoman_config::{Config, Destination, Origination, Version};
use dragoman_telemetry::Telemetry;
use dragoman_tls::client::ClientConfigs;
use dragoman_tls::files::Contents;
use foldhash::fast::RandomState;
use tokio::sync::Notify;

pub(crate) use follow::follow;
use material::Material;

/// The material of all destinations.
pub(crate) struct Store {
    table: ArcSwap<Table>,
    /// There may be files to follow where there were none.
    adopted: Notify,
}

/// That of one configuration.
#[derive(Default)]
struct Table {
    in_force: HashMap<Version, Held, RandomState>,
    /// Of destinations that are gone or have changed, as long as something is under way by them.
    retired: HashMap<Version, Held, RandomState>,
}

#[derive(Clone)]
struct Held {
    material: Arc<Material<Origination>>,
    destination: Weak<Destination>,
}

/// The material of a configuration that is not in force yet, by the names of its destinations.
pub(crate) struct Prepared(HashMap<Arc<str>, Arc<Material<Origination>>, RandomState>);

impl Default for Store {
    /// Without any material.
    fn default() -> Self {
        Self { table: ArcSwap::default(), adopted: Notify::new() }
    }
}

impl Store {
    #[allow(dead_code, reason = "the data path takes it next")]
    /// What connections to a destination are made with from now on; `None` where it has no TLS.
    pub(crate) fn client(&self, destination: &Destination) -> Option<Arc<ClientConfigs>> {
        let (table, version) = (self.table.load(), destination.version());
        let held = table.in_force.get(&version).or_else(|| table.retired.get(&version))?;
        Some(held.material.ready())
    }

    /// Whether connections to a destination are still made with the material of this generation.
    pub(crate) fn is_current(&self, version: Version, generation: u64) -> bool {
        let table = self.table.load();
        table.in_force.get(&version).is_some_and(|held| held.material.ready().generation() == generation)
    }

    /// Reads what `next` needs. Where a destination says of TLS what the one of that name in force says, its material
    /// goes on, however its files are at this moment.
    ///
    /// # Errors
    /// Everything that is wrong with the files, each with its path.
    pub(crate) fn prepare(&self, next: &Config, now: SystemTime) -> Result<Prepared, Vec<String>> {
        let table = self.table.load();
        let before: HashMap<_, _> =
            table.in_force.values().map(|held| (held.material.owner(), &held.material)).collect();
        let terms = || with_tls(next).filter_map(|it| Some((&it.name, it.tls.as_ref()?)));
        let carried = |name: &Arc<str>, terms: &Origination| {
            before.get(&**name).filter(|material| material.terms() == terms).map(|it| Arc::clone(it))
        };
        let new = || terms().filter(|(name, terms)| carried(name, terms).is_none());
        let paths: Vec<&Path> = new().flat_map(|(_, terms)| material::Terms::files(terms)).collect();
        let contents = Contents::read(paths);
        let (mut prepared, mut errors) = (HashMap::default(), Vec::new());
        for (name, terms) in terms() {
            let material = match carried(name, terms) {
                Some(material) => Ok(material),
                None => Material::new(name, terms, &contents, now).map(Arc::new),
            };
            match material {
                Ok(material) => drop(prepared.insert(Arc::clone(name), material)),
                Err(wrong) => errors.extend(wrong),
            }
        }
        // A file that many destinations share is wrong once.
        let mut told = HashSet::new();
        errors.retain(|error: &String| told.insert(error.clone()));
        if errors.is_empty() { Ok(Prepared(prepared)) } else { Err(errors) }
    }

    /// Puts what was prepared for a configuration beside it, which has its versions by now. To be called before anybody
    /// else can see them.
    pub(crate) fn adopt(&self, prepared: &Prepared, next: &Config, telemetry: &Telemetry) {
        let before = self.table.load_full();
        let held = |destination: &Arc<Destination>| {
            let material = Arc::clone(prepared.0.get(&destination.name)?);
            Some((destination.version(), Held { material, destination: Arc::downgrade(destination) }))
        };
        let in_force: HashMap<_, _, _> = with_tls(next).filter_map(held).collect();
        let all = before.in_force.iter().chain(&before.retired);
        let retired = all
            .filter(|(version, held)| !in_force.contains_key(version) && held.destination.strong_count() > 0)
            .map(|(version, held)| (*version, held.clone()))
            .collect::<HashMap<_, _, _>>();
        if in_force.is_empty() && before.in_force.is_empty() && retired.is_empty() {
            return;
        }
        self.table.store(Arc::new(Table { in_force, retired }));
        self.tell(telemetry);
        self.adopted.notify_one();
    }

    /// Whether there is nothing to follow.
    fn is_empty(&self) -> bool {
        self.table.load().in_force.is_empty()
    }

    /// Those in force, in the order of their names.
    fn materials(&self) -> Vec<Arc<Material<Origination>>> {
        let mut materials: Vec<_> =
            self.table.load().in_force.values().map(|held| Arc::clone(&held.material)).collect();
        materials.sort_by(|one, other| one.owner().cmp(other.owner()));
        materials
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let materials = self.materials();
        f.debug_set().entries(materials.iter().map(|material| material.owner())).finish()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One that no other material of this process has.
fn generation() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn with_tls(config: &Config) -> impl Iterator<Item = &Arc<Destination>> {
    config.destinations().iter().filter(|destination| destination.tls.is_some())
}

#[cfg(test)]
mod tests;
