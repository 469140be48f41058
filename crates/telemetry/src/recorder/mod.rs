//! The flight recorder: the stories of the latest flows and exchanges, in a fixed number of bytes.
//!
//! Each is written once, when its record is finished, as some two hundred bytes at the end of a ring; the oldest are
//! overwritten. What ended badly and is overwritten goes to a second ring, so that an hour of good exchanges does not
//! push out the one failure that somebody asks about.
//!
//! Threads have rings of their own ([`SHARDS`]): no worker waits for another one. A reader copies a piece of a ring at a time
//! under its lock, and makes sense of it later. Whoever follows what happens reads the rings again and again, from where
//! it was: so a slow reader costs nobody anything, and can be told what it has missed.

mod encode;
mod record;
mod ring;
mod steps;
mod story;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

pub(crate) use record::Facts;
pub use steps::Note;
pub(crate) use steps::{Step, Steps};
pub use story::{AttemptStory, Sniffed, Story};

use crate::Telemetry;
use crate::access::line::Timestamp;
use crate::labels::labels;
use record::{Decoded, FAILURE};
use ring::{Piece, Position, Ring};

/// The most rings; threads beyond them share.
const SHARDS: usize = 16;
/// A ring with less room than this, in bytes, holds too little: then there are fewer of them.
const LEAST: usize = 64 * 1024;
/// The part of the memory, one in so many, that is for failures which others have pushed out.
const FAILURES: usize = 4;
/// The most bytes that are copied while a worker may have to wait.
const PIECE: usize = 32 * 1024;

labels! {
    /// Whose bytes told what a flow speaks.
    Speaker {
        /// Nobody's: policy said it, or all were silent.
        Nobody = "nobody",
        /// The application's.
        App = "app",
        /// The server's.
        Upstream = "upstream",
    }
}

/// The first bytes of a flow, as few as tell what it speaks and as hide what may be secret.
#[derive(Clone, Copy, Debug)]
pub struct FirstBytes {
    /// Who in the upper three bits, how many in the others: each flow that waits holds this.
    tag: u8,
    bytes: [u8; 16],
}

impl FirstBytes {
    /// Nobody said anything.
    pub const NONE: FirstBytes = FirstBytes { tag: 0, bytes: [0; 16] };

    /// The first of these. An app that begins with text may go on with a password or a token: of that only the first
    /// word is kept, unless it is `known` to be what every app says.
    pub fn new(by: Speaker, bytes: &[u8], known: bool) -> FirstBytes {
        let shown = &bytes[..bytes.len().min(16)];
        let is_text = shown.first().is_some_and(u8::is_ascii_graphic);
        let word = shown.iter().position(|byte| !byte.is_ascii_graphic()).map_or(shown.len(), |end| end + 1);
        let shown = if by == Speaker::App && is_text && !known { &shown[..word] } else { shown };
        let mut first = FirstBytes { tag: (by as u8) << 5 | shown.len() as u8, bytes: [0; 16] };
        first.bytes[..shown.len()].copy_from_slice(shown);
        first
    }
}

/// The recorder of a process.
#[derive(Debug)]
pub(crate) struct Recorder {
    shards: Vec<Mutex<Shard>>,
    memory: usize,
    started: Instant,
}

#[derive(Debug)]
struct Shard {
    all: Ring,
    /// Failures that are no longer in `all`.
    failures: Ring,
    /// Where a record is put together.
    draft: Vec<u8>,
}

/// Where a follower is.
#[derive(Clone, Debug)]
pub struct Follower(Vec<Position>);

/// What a recorder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Its bound, in bytes.
    pub memory: usize,
    /// What its stories take, in bytes.
    pub used: usize,
    /// How many there are.
    pub stories: u64,
    /// How many there have been, those that had to go included.
    pub ever: u64,
}

impl Recorder {
    /// A recorder whose stories take so many bytes at most, which is not zero, from so many threads.
    pub(crate) fn new(memory: usize, threads: usize) -> Recorder {
        let shards = (memory / LEAST).min(threads).clamp(1, SHARDS);
        let (each, failures) = (memory / shards, memory / shards / FAILURES);
        let shard = |_| {
            let (all, failures) = (Ring::new(each - failures), Ring::new(failures));
            Mutex::new(Shard { all, failures, draft: Vec::new() })
        };
        Recorder { shards: (0..shards).map(shard).collect(), memory, started: Instant::now() }
    }

    /// Adds a story. Costs one lock, that of this thread's rings.
    pub(crate) fn push(&self, facts: &Facts<'_>) {
        let shard = &mut *lock(&self.shards[this_thread() % self.shards.len()]);
        let Shard { all, failures, draft } = shard;
        draft.clear();
        facts.encode(draft);
        all.push(draft, |all, length| {
            if all.first_byte() & FAILURE != 0 {
                failures.push(&all.copy_oldest(length), |_, _| {});
            }
        });
    }

    /// How long the recorder has run.
    pub(crate) fn at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.started)
    }

    fn held(&self) -> Recorded {
        let mut held = Recorded { memory: self.memory, ..Recorded::default() };
        for shard in &self.shards {
            let shard = lock(shard);
            held.ever += shard.all.ever();
            for (stories, used) in [shard.all.held(), shard.failures.held()] {
                held.stories += stories;
                held.used += used;
            }
        }
        held
    }

    /// All stories, in the order in which they ended.
    fn all(&self) -> Vec<Decoded> {
        let mut found = Vec::new();
        let mut known = HashSet::new();
        // What goes from one ring to the other meanwhile is seen twice rather than not at all.
        for ring in [(|shard| &shard.all) as fn(&Shard) -> &Ring, |shard| &shard.failures] {
            for shard in &self.shards {
                let mut position = Position::default();
                let end = ring(&lock(shard)).newest();
                while !position.is_behind(end) {
                    let piece = ring(&lock(shard)).read(&mut position, PIECE);
                    found.extend(decode(&piece).filter(|it| known.insert((it.is_exchange, it.id))));
                }
            }
        }
        found.sort_by_key(|decoded| decoded.ended_us);
        found
    }

    fn follow(&self) -> Follower {
        Follower(self.shards.iter().map(|shard| lock(shard).all.newest()).collect())
    }

    /// What has ended since, or as much of it as comes in one piece, and how many stories were overwritten unread.
    fn next(&self, follower: &mut Follower) -> (Vec<Decoded>, u64) {
        let (mut found, mut lost) = (Vec::new(), 0);
        for (shard, position) in self.shards.iter().zip(&mut follower.0) {
            let piece = lock(shard).all.read(position, PIECE);
            lost += piece.lost;
            found.extend(decode(&piece));
        }
        found.sort_by_key(|decoded| decoded.ended_us);
        (found, lost)
    }

    fn tell(&self, decoded: Decoded, telemetry: &Telemetry) -> Story {
        let Decoded { ended_us, destination, mut story, .. } = decoded;
        let ago = self.started.elapsed().saturating_sub(Duration::from_micros(ended_us));
        story.ended = Timestamp(SystemTime::now() - ago).to_string();
        story.destination = telemetry.destination(destination).name().to_owned();
        story
    }
}

/// The recorder, for whoever asks.
impl Telemetry {
    /// From now on the stories of flows and exchanges are kept, in so many bytes at most; 0 is none. `threads` is how many
    /// have some to tell. The first call holds.
    pub fn record(&self, memory: usize, threads: usize) {
        if memory > 0 {
            // A second one ends as it is dropped here.
            let _ = self.0.recorder.set(Recorder::new(memory, threads));
        }
    }

    /// What the recorder holds; `None` where it is off.
    pub fn recorded(&self) -> Option<Recorded> {
        self.recorder().map(Recorder::held)
    }

    /// All stories, the oldest first.
    pub fn stories(&self) -> Vec<Story> {
        self.recorder().map_or_else(Vec::new, |recorder| {
            recorder.all().into_iter().map(|decoded| recorder.tell(decoded, self)).collect()
        })
    }

    /// Begins to follow what ends from now on.
    pub fn follow(&self) -> Option<Follower> {
        self.recorder().map(Recorder::follow)
    }

    /// What has ended since the last call, or a part of it, and how many stories are gone unread.
    pub fn followed(&self, follower: &mut Follower) -> (Vec<Story>, u64) {
        let Some(recorder) = self.recorder() else { return (Vec::new(), 0) };
        let (found, lost) = recorder.next(follower);
        (found.into_iter().map(|decoded| recorder.tell(decoded, self)).collect(), lost)
    }

    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.0.recorder.get()
    }
}

fn decode(piece: &Piece) -> impl Iterator<Item = Decoded> {
    piece.records().filter_map(record::decode)
}

/// A number of this thread's own, as small as can be.
fn this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// A panic in one flow ends one flow: what it held a lock on stays in use.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
