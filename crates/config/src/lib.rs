//! The configuration: TOML in, a model that cannot be invalid out.
//!
//! [`Sources`] are the texts of the files. Two stages follow, so that what comes after them can trust what it is
//! given. `raw` mirrors the file: each key is
//! declared once, with its type, default and meaning, and everything that is unknown, mistyped or out of
//! range is refused there. `resolve` fills in what is inherited and refuses contradictions. Neither stops
//! at the first mistake: [`Errors`] holds them all, each with its place in the file and what to write.
//!
//! An empty file is valid and changes nothing. The keys are listed in `docs/configuration.md`, which is
//! [`reference()`]; which destination and which route wins is told there and in the modules `select` and
//! `route`.

mod adopt;
mod effective;
mod environment;
mod errors;
mod explain;
mod model;
mod print;
mod raw;
mod read;
mod reference;
mod resolve;
mod route;
mod schema;
mod select;
mod sources;
mod suggest;
mod syntax;
mod table;
mod value;

use std::{net::SocketAddr, sync::Arc, time::Duration};

pub use errors::{Errors, Position, Problem};
pub use explain::{Explanation, Known, Passed};
pub use model::{
    Access, Admin, BreakerPolicy, ByAddress, Control, ControlSocket, Destination, Dns, Format, HeaderRules,
    IdentityFiles, Inbound, InboundPort, Level, Listener, Log, Name, Origination, PeerPattern, Policy,
    PoolParams, Propagation, Protocol, Proxy, Recorder, Request, ResponseRules, RootSource, Route,
    TlsVersion, Trace, TraceEndpoint, UpstreamProtocol, Verify, Version,
};
pub use print::Secrets;
pub use reference::reference;
pub use schema::schema;
pub use sources::Sources;

use adopt::Lineage;
use errors::Source;
use raw::Root;
use read::Reader;
use select::Index;
use table::Table;

/// A duration as it is written in the file: "500ms", "30s", "1m30s".
pub fn duration(text: &str) -> Option<Duration> {
    value::quantity::parse_time(text).ok().map(Duration::from_millis)
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener of captured connections, and the limits of the process.
    pub proxy: Proxy,
    /// The read-only surface for probes and scrapes.
    pub admin: Admin,
    /// The surface that shows and changes things.
    pub control: Control,
    /// DNS.
    pub dns: Dns,
    /// The plain ports that lead to destinations.
    pub listeners: Vec<Listener>,
    /// The log of the process, and the access log.
    pub log: Log,
    /// What traces are begun as, and where spans are sent.
    pub trace: Trace,
    /// The flight recorder.
    pub recorder: Recorder,
    /// TLS of the connections that come to the app; `None` is that these are not looked at.
    pub inbound: Option<Inbound>,
    index: Index,
    lineage: Lineage,
    root: Root,
    sources: Vec<Source>,
}

impl Config {
    /// The configuration of no file or an empty one, which changes nothing.
    pub fn empty() -> Self {
        Self::resolve(&Sources::default(), &|_| None)
            .expect("the defaults contradict nothing, as a test shows")
    }

    /// Makes one configuration of these files: a key of a later one overrides that of an earlier one, tables are
    /// merged key by key, and a list is one value. `env` gives the value of an environment variable, such as
    /// those of the reference page; they come last.
    ///
    /// # Errors
    /// Every mistake in all of them at once. Contradictions are looked for only in what is TOML.
    pub fn resolve(sources: &Sources, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Errors> {
        let mut reader = Reader::default();
        let mut root = Root::default();
        let mut is_toml = true;
        for (index, file) in sources.files().iter().enumerate() {
            let mut parsed = syntax::parse(index, &file.text, &mut reader);
            parsed.root.inherit_keys(&root);
            root = parsed.root;
            is_toml &= parsed.is_toml;
        }
        let mut sources = sources.files().to_vec();
        environment::apply(&mut root, env, &mut sources, &mut reader);
        if !is_toml {
            return Err(Errors::new(sources, reader.problems));
        }
        let resolved = resolve::resolve(&root, &mut reader.problems);
        if !reader.problems.is_empty() {
            return Err(Errors::new(sources, reader.problems));
        }
        let resolve::Resolved { proxy, admin, control, dns, listeners, log, trace, recorder, inbound, index } =
            resolved;
        let lineage = Lineage::first(index.destinations());
        Ok(Self {
            proxy,
            admin,
            control,
            dns,
            listeners,
            log,
            trace,
            recorder,
            inbound,
            index,
            lineage,
            root,
            sources,
        })
    }

    /// Resolves one file with this name and text; see [`resolve`](Self::resolve).
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn parse(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Errors> {
        Self::resolve(&Sources::from_iter([(name, text)]), env)
    }

    /// Every destination. The first is the one that matches whatever no other does: the user's own without match
    /// keys, or the implicit "default". The others follow by name.
    pub fn destinations(&self) -> &[Arc<Destination>] {
        self.index.destinations()
    }

    /// The destination of connections that come to the app; `None` where `[inbound]` is off.
    pub fn inbound_destination(&self) -> Option<&Arc<Destination>> {
        let last = self.destinations().last()?;
        (self.inbound.is_some() && last.name.as_ref() == "inbound").then_some(last)
    }

    /// The destination that the plain port at `address` leads to; `None` if there is none, or no longer.
    pub fn at_listener(&self, address: SocketAddr) -> Option<&Arc<Destination>> {
        self.index.at_listener(address)
    }

    /// What is known of a flow to `dst` before it gives a name. `learnt` is the name for which the app got that address from
    /// DNS; it is matched by `hosts`.
    pub fn by_address(&self, dst: SocketAddr, learnt: Option<&str>) -> ByAddress {
        self.index.by_address(dst, learnt)
    }

    /// The destination of a flow to `dst` which gave that name. Quick enough for every exchange.
    pub fn lookup(&self, dst: SocketAddr, name: Name<'_>) -> &Arc<Destination> {
        self.index.lookup(dst, name)
    }

    /// The effective configuration as TOML: every key with its value and, as a comment, where it came from:
    /// `FILE:LINE`, an environment variable, or "default".
    pub fn print(&self, secrets: Secrets) -> String {
        print::print(&self.root, &self.sources, secrets)
    }
}
