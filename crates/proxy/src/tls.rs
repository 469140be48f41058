//! What TLS connections are made with: read from files before it is needed, and held for each destination.
//!
//! The material of a destination is read when its configuration is, and a configuration whose files cannot be used is
//! refused with them. Afterwards the files are followed (`follow`): what is right takes the place of what was there, with a
//! generation of its own, and what is wrong changes nothing. A generation is in the key of each connection that is kept,
//! so that none of an old one is used again.

mod follow;
mod inbound;
mod material;
mod origination;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dragoman_config::{Config, Destination, Inbound, Origination, Version};
use dragoman_telemetry::Telemetry;
use dragoman_tls::client::ClientConfigs;
use dragoman_tls::files::Contents;
use dragoman_tls::server::ServerMaterial;
use foldhash::fast::RandomState;
use tokio::sync::Notify;

pub(crate) use follow::{follow, look_now};
use material::{Follow, Material, Terms};

/// What inbound is called where destinations are.
const INBOUND: &str = "inbound";

/// The material of all destinations, and of inbound.
pub(crate) struct Store {
    table: ArcSwap<Table>,
    /// There may be files to follow where there were none.
    adopted: Notify,
    /// Held from when the files are read until what they say is told.
    looking: Mutex<()>,
}

/// That of one configuration.
#[derive(Default)]
struct Table {
    in_force: HashMap<Version, Held, RandomState>,
    /// Of destinations that are gone or have changed, as long as something is under way by them.
    retired: HashMap<Version, Held, RandomState>,
    /// Of the connections that come to the app.
    inbound: Option<Arc<Material<Inbound>>>,
    /// Whether the process has begun: inbound is there from its start or never.
    started: bool,
}

#[derive(Clone)]
struct Held {
    material: Arc<Material<Origination>>,
    destination: Weak<Destination>,
}

/// The material of a configuration that is not in force yet.
pub(crate) struct Prepared {
    /// By the names of destinations.
    by_name: HashMap<Arc<str>, Arc<Material<Origination>>, RandomState>,
    inbound: Option<Arc<Material<Inbound>>>,
}

impl Default for Store {
    /// Without any material.
    fn default() -> Self {
        Self { table: ArcSwap::default(), adopted: Notify::new(), looking: Mutex::default() }
    }
}

impl Store {
    /// What connections to a destination are made with from now on; `None` where it has no TLS.
    pub(crate) fn client(&self, destination: &Destination) -> Option<Arc<ClientConfigs>> {
        let (table, version) = (self.table.load(), destination.version());
        let held = table.in_force.get(&version).or_else(|| table.retired.get(&version))?;
        Some(held.material.ready())
    }

    /// What connections that come to the app are made with from now on; `None` where they are not taken.
    pub(crate) fn inbound(&self) -> Option<Arc<ServerMaterial>> {
        self.table.load().inbound.as_ref().map(|material| material.ready())
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
        // A reload leaves it as it is: docs/configuration.md.
        let inbound = next.inbound.as_ref().filter(|_| !table.started);
        let paths =
            new().flat_map(|(_, terms)| terms.files()).chain(inbound.into_iter().flat_map(Terms::files));
        let contents = Contents::read(paths);
        let (mut by_name, mut errors) = (HashMap::default(), Vec::new());
        for (name, terms) in terms() {
            let material = match carried(name, terms) {
                Some(material) => Ok(material),
                None => Material::new(name, terms, &contents, now).map(Arc::new),
            };
            match material {
                Ok(material) => drop(by_name.insert(Arc::clone(name), material)),
                Err(wrong) => errors.extend(wrong),
            }
        }
        let inbound = match inbound.map(|terms| Material::new(&INBOUND.into(), terms, &contents, now)) {
            None => table.inbound.clone(),
            Some(Ok(material)) => Some(Arc::new(material)),
            Some(Err(wrong)) => {
                errors.extend(wrong);
                None
            }
        };
        // A file that many destinations share is wrong once.
        let mut told = HashSet::new();
        errors.retain(|error: &String| told.insert(error.clone()));
        if errors.is_empty() { Ok(Prepared { by_name, inbound }) } else { Err(errors) }
    }

    /// Puts what was prepared for a configuration beside it, which has its versions by now. To be called before anybody
    /// else can see them.
    pub(crate) fn adopt(&self, prepared: &Prepared, next: &Config, telemetry: &Telemetry) {
        let before = self.table.load_full();
        let held = |destination: &Arc<Destination>| {
            let material = Arc::clone(prepared.by_name.get(&destination.name)?);
            Some((destination.version(), Held { material, destination: Arc::downgrade(destination) }))
        };
        let in_force: HashMap<_, _, _> = with_tls(next).filter_map(held).collect();
        let all = before.in_force.iter().chain(&before.retired);
        let retired = all
            .filter(|(version, held)| !in_force.contains_key(version) && held.destination.strong_count() > 0)
            .map(|(version, held)| (*version, held.clone()))
            .collect::<HashMap<_, _, _>>();
        let inbound = prepared.inbound.clone();
        self.table.store(Arc::new(Table { in_force, retired, inbound, started: true }));
        if !self.is_empty() || !before.in_force.is_empty() {
            self.tell(telemetry);
            self.adopted.notify_one();
        }
    }

    /// Whether there is nothing to follow.
    fn is_empty(&self) -> bool {
        self.materials().is_empty()
    }

    /// Those in force, in the order of their names.
    fn materials(&self) -> Vec<Arc<dyn Follow>> {
        let table = self.table.load();
        let inbound = table.inbound.iter().map(|material| Arc::clone(material) as Arc<dyn Follow>);
        let clients = table.in_force.values().map(|held| Arc::clone(&held.material) as Arc<dyn Follow>);
        let mut materials: Vec<_> = inbound.chain(clients).collect();
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
        f.debug_set().entries(self.by_name.keys()).finish()
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
