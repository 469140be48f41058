//! The process's own log, on stderr. What happens to flows is in the access log, not here.

use std::io::{IsTerminal, stderr};

use dragoman_config::{Format, Level, Log};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// How much is written, which can be changed while the process runs.
#[derive(Clone, Debug)]
pub(crate) struct LogLevel(reload::Handle<LevelFilter, Registry>);

impl LogLevel {
    /// The word for it.
    pub(crate) fn get(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Changes it to the level of this word.
    ///
    /// # Errors
    /// The words that there are.
    pub(crate) fn set(&self, word: &str) -> Result<(), String> {
        let level = LEVELS.iter().find(|level| level.to_string() == word).ok_or_else(|| {
            let words: Vec<_> = LEVELS.iter().map(ToString::to_string).collect();
            format!("say one of {}", words.join(", "))
        })?;
        self.0.reload(*level).map_err(|error| error.to_string())
    }

    /// Changes it to what the configuration says now.
    pub(crate) fn follow(&self, level: Level) {
        // It fails when the log is gone, and then there is nothing to change.
        let _ = self.0.reload(filter(level));
    }
}

/// Starts the log. Call it once.
pub(crate) fn start(log: &Log) -> LogLevel {
    let (level, handle) = reload::Layer::new(filter(log.level));
    let lines = fmt::layer().with_writer(stderr).with_ansi(color(&stderr())).with_target(false);
    let registry = tracing_subscriber::registry().with(level);
    match log.format {
        Format::Text => registry.with(lines).init(),
        Format::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
    LogLevel(handle)
}

/// Whether to colour what goes to this stream: on a terminal, unless NO_COLOR is set (no-color.org).
pub(crate) fn color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

const LEVELS: [LevelFilter; 5] =
    [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE];

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}
