//! The files of TLS, looked at every second for as long as the proxy runs.
//!
//! They are compared by content, as those of the configuration are and for the same reasons (`dragoman`'s `reload`). What is
//! said of a change is said once for all destinations that it concerns: an identity that `[identity]` gives to fifty of them
//! changes in one line.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use dragoman_telemetry::{MaterialReload, Telemetry};
use dragoman_tls::files::Contents;
use dragoman_tls::validity::utc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Store;
use super::material::{Event, Notice, Presented};
use crate::shared::Shared;

/// How often the files are read.
const POLL: Duration = Duration::from_secs(1);
/// For how long they must stay the same before they are used.
const REST: Duration = Duration::from_millis(250);

/// What a look at all files has led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Some have changed this moment.
    pub(super) changing: bool,
    /// Some are in force that were not.
    pub(super) applied: bool,
}

/// Follows the files for as long as it is asked to.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut wait = POLL;
    loop {
        if shared.tls.is_empty() {
            shared.tls.adopted.notified().await;
            continue;
        }
        sleep(wait).await;
        let shared = Arc::clone(&shared);
        // A disk or a network file system may take its time.
        let looked = spawn_blocking(move || look(&shared)).await.unwrap_or_default();
        wait = if looked.changing { REST } else { POLL };
    }
}

/// Looks at the files at once. Whoever asks for it says that they are complete: what is new need not come to rest.
pub(crate) fn look_now(shared: &Shared) {
    if look(shared).changing {
        look(shared);
    }
}

fn look(shared: &Shared) -> Looked {
    let looked = shared.tls.look(&shared.telemetry, SystemTime::now());
    if looked.applied {
        shared.forget_retired();
    }
    looked
}

impl Store {
    /// Looks at all files of the destinations in force, takes what is new and right, and tells of it.
    pub(super) fn look(&self, telemetry: &Telemetry, now: SystemTime) -> Looked {
        let _one_at_a_time = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let materials = self.materials();
        let contents = Contents::read(materials.iter().flat_map(|material| material.files()));
        let (mut events, mut notices, mut looked) = (Grouped::new(), Grouped::new(), Looked::default());
        for material in &materials {
            let Some(event) = material.look(&contents, now) else { continue };
            looked.changing |= event == Event::Changing;
            looked.applied |= matches!(event, Event::Applied(_));
            events.add(event, material.owner());
        }
        for material in &materials {
            material.notices(now).into_iter().for_each(|notice| notices.add(notice, material.owner()));
        }
        // Whoever reads the log may look at the metrics next, and whoever sees a count at what it is about.
        self.tell(telemetry);
        for (event, owners) in &events.0 {
            count(telemetry, event, owners.len());
        }
        events.0.iter().for_each(|(event, owners)| event.log(&owners.join(", ")));
        notices.0.iter().for_each(|(notice, owners)| notice.log(&owners.join(", ")));
        looked
    }

    /// Shows how the files are.
    pub(super) fn tell(&self, telemetry: &Telemetry) {
        let materials = self.materials();
        let refused = materials.iter().filter(|material| material.is_refused()).count();
        let expiries = materials.iter().filter_map(|material| {
            let presented = material.presented()?;
            Some((material.owner().into(), presented.validity.not_after))
        });
        telemetry.material().state(refused, expiries.collect());
    }
}

/// What happened, each with the destinations that it happened to.
struct Grouped<T>(Vec<(T, Vec<String>)>);

impl<T: PartialEq> Grouped<T> {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, what: T, owner: &str) {
        match self.0.iter_mut().find(|(other, _)| *other == what) {
            Some((_, owners)) => owners.push(owner.to_owned()),
            None => self.0.push((what, vec![owner.to_owned()])),
        }
    }
}

fn count(telemetry: &Telemetry, event: &Event, times: usize) {
    let result = match event {
        Event::Applied(_) => MaterialReload::Applied,
        Event::Refused(_) => MaterialReload::Refused,
        Event::Changing | Event::Back => return,
    };
    for _ in 0..times {
        telemetry.material().reloaded(result);
    }
}

impl Event {
    fn log(&self, destinations: &str) {
        match self {
            Self::Changing => {}
            Self::Applied(Some(Presented { serial, names, validity, .. })) => tracing::info!(
                destinations,
                serial,
                names = names.join(", "),
                not_after = utc(validity.not_after),
                "changed TLS files are in force"
            ),
            Self::Applied(None) => tracing::info!(destinations, "changed TLS files are in force"),
            Self::Refused(lines) => {
                tracing::error!(
                    destinations,
                    "changed TLS files cannot be used: the last good ones stay in force"
                );
                lines.iter().for_each(|line| tracing::error!("{line}"));
            }
            Self::Back => {
                tracing::info!(destinations, "the TLS files are again those in force");
            }
        }
    }
}

impl Notice {
    fn log(&self, destinations: &str) {
        match self {
            Self::PublicKey(path) => {
                tracing::warn!(
                    "every user of this machine can read the key {}: chmod o-r it",
                    path.display()
                );
            }
            Self::Due(presented) => tracing::warn!(
                destinations,
                serial = presented.serial,
                not_after = utc(presented.validity.not_after),
                "less than a third of the certificate's life is left, and it has not been renewed"
            ),
            Self::Expired(presented) => tracing::warn!(
                destinations,
                serial = presented.serial,
                not_after = utc(presented.validity.not_after),
                "the certificate has expired; it is still presented, since there is no other"
            ),
        }
    }
}
