//! What is made of a set of files, and made again when they have changed.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dragoman_tls::files::Contents;
use dragoman_tls::identity::Identity;
use dragoman_tls::validity::Validity;
use dragoman_tls::watch::{Age, Look, Watch};

/// What policy says of one purpose: which files there are, and what is made of them.
pub(super) trait Terms: Clone + Send + Sync {
    /// What connections are made with.
    type Ready: Send + Sync;

    /// All files, in an order that does not change.
    fn files(&self) -> Vec<&Path>;

    /// Makes it.
    ///
    /// # Errors
    /// Everything that is wrong, each with its file.
    fn make(&self, contents: &Contents, now: SystemTime) -> Result<Made<Self::Ready>, Vec<String>>;
}

/// What was made, and who it says that we are.
pub(super) struct Made<R> {
    pub(super) ready: R,
    pub(super) presented: Option<Presented>,
}

/// An identity, as far as anybody is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Presented {
    pub(super) serial: String,
    pub(super) names: Vec<String>,
    pub(super) validity: Validity,
    /// The file of its key, where every user of the machine may read it.
    pub(super) public_key: Option<Arc<Path>>,
}

impl Presented {
    pub(super) fn new(identity: &Identity, key: &Path, contents: &Contents) -> Self {
        Self {
            serial: identity.serial.clone(),
            names: identity.names.clone(),
            validity: identity.validity,
            public_key: contents.is_public(key).then(|| key.into()),
        }
    }
}

/// What connections of one destination are made with, now and as its files change.
pub(super) struct Material<T: Terms> {
    owner: Arc<str>,
    terms: T,
    ready: ArcSwap<T::Ready>,
    state: Mutex<State>,
}

struct State {
    watch: Watch,
    presented: Option<Presented>,
    /// The age of what is presented that was told last.
    told: Age,
    told_of_public_key: bool,
}

/// What should be put right before it does harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Every user of the machine may read this key.
    PublicKey(Arc<Path>),
    /// This should have been renewed by now.
    Due(Presented),
    /// This has expired.
    Expired(Presented),
}

/// What a look at the files has led to, for those who follow them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// They have changed this moment.
    Changing,
    /// What they say is in force, and this is presented now.
    Applied(Option<Presented>),
    /// They cannot be used, each reason in a line.
    Refused(Vec<String>),
    /// They say again what is in force.
    Back,
}

/// A material as those see it who follow its files.
pub(super) trait Follow: Send + Sync {
    /// The name of the destination.
    fn owner(&self) -> &str;

    /// All files, in an order that does not change.
    fn files(&self) -> Vec<&Path>;

    /// Looks at what the files say now, and takes it if it is new and right.
    fn look(&self, contents: &Contents, now: SystemTime) -> Option<Event>;

    /// Who we say that we are.
    fn presented(&self) -> Option<Presented>;

    /// Whether the files say what cannot be used.
    fn is_refused(&self) -> bool;

    /// What should be put right and has not been told of yet.
    fn notices(&self, now: SystemTime) -> Vec<Notice>;
}

impl<T: Terms> Material<T> {
    /// That of a destination of this name.
    ///
    /// # Errors
    /// Everything that is wrong with its files.
    pub(super) fn new(
        owner: &Arc<str>,
        terms: &T,
        contents: &Contents,
        now: SystemTime,
    ) -> Result<Self, Vec<String>> {
        let made = terms.make(contents, now)?;
        let watch = Watch::new(contents.digest(terms.files()));
        Ok(Self {
            owner: Arc::clone(owner),
            terms: terms.clone(),
            ready: ArcSwap::from_pointee(made.ready),
            state: Mutex::new(State {
                watch,
                presented: made.presented,
                told: Age::Young,
                told_of_public_key: false,
            }),
        })
    }

    pub(super) fn terms(&self) -> &T {
        &self.terms
    }

    /// What connections are made with from now on.
    pub(super) fn ready(&self) -> Arc<T::Ready> {
        self.ready.load_full()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Terms> Follow for Material<T> {
    fn owner(&self) -> &str {
        &self.owner
    }

    fn files(&self) -> Vec<&Path> {
        self.terms.files()
    }

    fn look(&self, contents: &Contents, now: SystemTime) -> Option<Event> {
        let mut state = self.state();
        match state.watch.look(contents.digest(self.terms.files())) {
            Look::Same => None,
            Look::Back => Some(Event::Back),
            Look::Again => Some(Event::Changing),
            Look::Try => match self.terms.make(contents, now) {
                Ok(made) => {
                    state.watch.accepted();
                    (state.presented, state.told) = (made.presented.clone(), Age::Young);
                    self.ready.store(Arc::new(made.ready));
                    Some(Event::Applied(made.presented))
                }
                Err(wrong) => state.watch.refused().then_some(Event::Refused(wrong)),
            },
        }
    }

    fn presented(&self) -> Option<Presented> {
        self.state().presented.clone()
    }

    fn is_refused(&self) -> bool {
        self.state().watch.is_refused()
    }

    fn notices(&self, now: SystemTime) -> Vec<Notice> {
        let mut state = self.state();
        let Some(presented) = state.presented.clone() else { return Vec::new() };
        let (age, mut notices) = (Age::at(presented.validity, now), Vec::new());
        if let Some(key) = presented.public_key.clone()
            && !std::mem::replace(&mut state.told_of_public_key, true)
        {
            notices.push(Notice::PublicKey(key));
        }
        if age > std::mem::replace(&mut state.told, age) {
            notices.push(if age == Age::Due { Notice::Due(presented) } else { Notice::Expired(presented) });
        }
        notices
    }
}
