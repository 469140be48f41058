//! Reload: what the configuration files say is put in force while flows are open.
//!
//! The files are read every two seconds and compared by content. inotify would be quicker and less sure: a ConfigMap
//! changes by the swap of a symbolic link two levels up, a bind mount hides the directory that changed, and network
//! file systems tell nothing. SIGHUP is for whoever does not want to wait.
//!
//! A file that is being written may be valid half way, and empty it changes nothing: every deny rule would be gone for
//! a moment. So what the clock finds is applied when it has not changed for a quarter of a second. Who sends SIGHUP says
//! that the files are complete.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dragoman_config::{Config, Errors, Level, Log, Sources};
use dragoman_proxy::Handle;
use dragoman_telemetry::{Reload, Telemetry};
use nix::unistd::Uid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::app::access_mode;
use crate::check::environment;
use crate::logging::LogLevel;

/// How often the files are read.
const POLL: Duration = Duration::from_secs(2);
/// For how long they must stay the same before they are applied unasked.
const REST: Duration = Duration::from_millis(250);
/// The most mistakes of one refusal that are logged; `dragoman check` tells them all.
const LOGGED: usize = 20;

/// The configuration files of the process, as they were when they were last put in force.
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    in_force: Sources,
}

impl Files {
    /// Reads these files and directories for the first time.
    ///
    /// # Errors
    /// Every mistake in them.
    pub(crate) fn load(paths: &[PathBuf]) -> Result<(Files, Config), Errors> {
        let in_force = Sources::read(paths)?;
        let config = Config::resolve(&in_force, &environment)?;
        Ok((Files { paths: paths.to_vec(), in_force }, config))
    }

    /// A hash of what they say.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.in_force.fingerprint()
    }

    /// Warns of what may not be as it was meant, and of files that root could read and this process no longer can.
    pub(crate) fn warn(&self) {
        self.in_force.warnings().iter().for_each(|line| tracing::warn!("{line}"));
        if let Err(errors) = Sources::read(&self.paths) {
            let uid = Uid::effective();
            tracing::warn!(
                "as uid {uid} the configuration cannot be read again: changes to it will be refused"
            );
            errors.lines().for_each(|line| tracing::warn!("{line}"));
        }
    }
}

/// Keeps a running proxy by its configuration files.
pub(crate) struct Reloader {
    paths: Vec<PathBuf>,
    in_force: Sources,
    /// What was read last, be it in force or refused.
    last: Reading,
    handle: Handle,
    telemetry: Telemetry,
    log_level: LogLevel,
    /// What the configuration in force says of it. Somebody may have changed it meanwhile by the control surface: that
    /// holds until the files say something else than before.
    stated_level: Level,
    hangup: Signal,
}

/// What the files say, or why they could not be read.
type Reading = Result<Sources, Vec<String>>;

/// What came of it.
enum Outcome {
    Applied(Arc<Config>),
    Unchanged,
    /// Each mistake in a line.
    Refused(Vec<String>),
}

impl Reloader {
    /// Begins to catch SIGHUP. Needs a runtime.
    ///
    /// # Errors
    /// When the system refuses the handler.
    pub(crate) fn new(
        files: Files,
        handle: Handle,
        telemetry: Telemetry,
        log_level: LogLevel,
    ) -> io::Result<Reloader> {
        let Files { paths, in_force } = files;
        let last = Ok(in_force.clone());
        let stated_level = handle.policy().log.level;
        let hangup = signal(SignalKind::hangup())?;
        Ok(Reloader { paths, in_force, last, handle, telemetry, log_level, stated_level, hangup })
    }

    /// Reloads for as long as the process lives.
    pub(crate) async fn run(mut self) {
        let mut poll = interval_at(Instant::now() + POLL, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let reading = tokio::select! {
                _ = self.hangup.recv() => {
                    self.look_at_files().await;
                    self.read().await
                }
                _ = poll.tick(), if !self.paths.is_empty() => match self.news().await {
                    Some(reading) => reading,
                    None => continue,
                },
            };
            let outcome = self.follow(&reading).await;
            self.tell(&outcome);
            self.last = reading;
        }
    }

    /// Those that the configuration names.
    async fn look_at_files(&self) {
        let handle = self.handle.clone();
        // A panic in there is on standard error, and the clock looks again.
        let _ = spawn_blocking(move || handle.look_at_files()).await;
    }

    async fn read(&self) -> Reading {
        let paths = self.paths.clone();
        let read = move || Sources::read(&paths).map_err(|errors| errors.lines().collect());
        spawn_blocking(read).await.unwrap_or_else(|error| Err(vec![defect(&error)]))
    }

    /// What the files say, where that is new and has come to rest.
    async fn news(&self) -> Option<Reading> {
        let reading = self.read().await;
        if reading == self.last {
            return None;
        }
        sleep(REST).await;
        (self.read().await == reading).then_some(reading)
    }

    /// Puts in force what was read, if that is possible.
    async fn follow(&mut self, reading: &Reading) -> Outcome {
        let sources = match reading {
            Ok(sources) if *sources == self.in_force => return Outcome::Unchanged,
            Ok(sources) => sources.clone(),
            Err(lines) => return Outcome::Refused(lines.clone()),
        };
        let missing = sources.missing_since(&self.in_force);
        if !missing.is_empty() {
            return Outcome::Refused(missing);
        }
        let handle = self.handle.clone();
        let apply = move || match Config::resolve(&sources, &environment) {
            Ok(config) => Ok((handle.apply(config)?, sources)),
            Err(errors) => Err(errors.lines().collect::<Vec<_>>()),
        };
        match spawn_blocking(apply).await.unwrap_or_else(|error| Err(vec![defect(&error)])) {
            Ok((config, sources)) => {
                self.in_force = sources;
                self.follow_log(&config.log);
                Outcome::Applied(config)
            }
            Err(lines) => Outcome::Refused(lines),
        }
    }

    /// The parts of `[log]` that may change while the process runs.
    fn follow_log(&mut self, log: &Log) {
        self.telemetry.set_access_mode(access_mode(log));
        if self.stated_level != log.level {
            self.stated_level = log.level;
            self.log_level.follow(log.level);
        }
    }

    /// Metrics first: whoever reads the log may look at them next.
    fn tell(&self, outcome: &Outcome) {
        let metrics = self.telemetry.reload();
        match outcome {
            Outcome::Unchanged => {
                metrics.reloaded(Reload::Unchanged);
                tracing::info!("the configuration is the one in force");
            }
            Outcome::Refused(lines) => {
                metrics.reloaded(Reload::Refused);
                log_refusal(lines);
            }
            Outcome::Applied(config) => {
                let (generation, waits) = (config.generation(), config.waits_for_restart());
                metrics.in_force(generation, self.in_force.fingerprint(), !waits.is_empty());
                metrics.reloaded(Reload::Applied);
                let files = self.in_force.names().collect::<Vec<_>>().join(", ");
                tracing::info!(generation, files, "configuration applied");
                self.in_force.warnings().iter().for_each(|line| tracing::warn!("{line}"));
                if !waits.is_empty() {
                    let keys = waits.join(", ");
                    tracing::warn!(keys, "the change of these keys takes effect at the next start");
                }
            }
        }
    }
}

fn log_refusal(lines: &[String]) {
    tracing::error!(
        mistakes = lines.len(),
        "the configuration was refused: the last good one stays in force"
    );
    lines.iter().take(LOGGED).for_each(|line| tracing::error!("{line}"));
    if lines.len() > LOGGED {
        tracing::error!("and {} more: `dragoman check` tells them all", lines.len() - LOGGED);
    }
}

fn defect(error: &JoinError) -> String {
    format!("a defect in dragoman kept the configuration from being read, please report it: {error}")
}
