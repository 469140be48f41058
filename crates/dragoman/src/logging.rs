//! The process's own log, on stderr. What happens to flows is in the access log, not here.

use std::io::{IsTerminal, stderr};

use dragoman_config::{Format, Level, Log};
use tracing::level_filters::LevelFilter;

/// Starts the log. Call it once.
pub(crate) fn start(log: &Log) {
    let builder = tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_ansi(color(&stderr()))
        .with_target(false)
        .with_max_level(filter(log.level));
    match log.format {
        Format::Text => builder.init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
}

/// Whether to colour what goes to this stream: on a terminal, unless NO_COLOR is set (no-color.org).
pub(crate) fn color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}
