//! `dragoman proxy`: from the configuration to the exit code.
//!
//! The order is what matters here. Ports and the access log's file are opened with the rights that the
//! process was started with; then root is given up; only then do threads start and connections get made. A
//! mistake is found before the first connection is taken.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use dragoman_config::{Access, Config, Format, Log};
use dragoman_proxy::{Drained, Handle, Material, Phase, Proxy};
use dragoman_telemetry::{AccessFormat, AccessLog, AccessMode, LogFile, Telemetry};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::admin::Admin;
use crate::cli::ProxyArguments;
use crate::control::{Control, FOLLOWERS, OnTcp};
use crate::logging::LogLevel;
use crate::reload::{Files, Reloader};
use crate::signals::Signals;
use crate::sockets::Sockets;
use crate::takeover::{Giver, Inherited};
use crate::{check, logging, notify, privilege, signals, surface, traces};

/// Runtime threads where the configuration leaves the number open: beside one application, more are rarely
/// used.
const MOST_AUTOMATIC_WORKERS: usize = 4;
/// At the end, what the access log and the queue of spans still hold has this long to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs `dragoman proxy`.
pub(crate) fn run(arguments: &ProxyArguments) -> ExitCode {
    let (files, config) = match Files::load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(errors) => return check::refuse(&errors),
    };
    let material = match Material::load(&config) {
        Ok(material) => material,
        Err(lines) => return check::refuse_files(&lines),
    };
    let log_level = logging::start(&config.log);
    match start(files, config, material, log_level, arguments) {
        Ok(code) => code,
        Err(StartError(text)) => {
            eprintln!("dragoman: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Why the proxy could not start, for a person.
pub(crate) struct StartError(pub(crate) String);

fn start(
    files: Files,
    config: Config,
    material: Material,
    log_level: LogLevel,
    arguments: &ProxyArguments,
) -> Result<ExitCode, StartError> {
    let descriptors = privilege::raise_descriptor_limit().map_err(|errno| {
        StartError(format!("cannot raise the limit of file descriptors: {}", errno.desc()))
    })?;
    let owner = privilege::identity(arguments.user, arguments.group);
    let mut inherited = match &arguments.takeover {
        Some(socket) => Some(Inherited::take(socket, owner.0).map_err(StartError)?),
        None => None,
    };
    let sockets = Sockets::open(&config, inherited.as_mut(), owner)?;
    let sink = open_sink(&config.log)?;
    privilege::drop_root(arguments.user, arguments.group).map_err(|error| StartError(error.to_string()))?;
    check_mark(config.proxy.mark)?;
    say_start(&config, arguments, descriptors);
    files.warn();

    let access = access_log(&config.log, sink).map_err(|error| cannot("start the access log", &error))?;
    let telemetry = Telemetry::new(config.names().to_vec(), access);
    telemetry.record(config.recorder.memory, threads(config.proxy.workers));
    telemetry.reload().in_force(config.generation(), files.fingerprint(), false);
    traces::start(&config.trace, config.proxy.mark, &telemetry)
        .map_err(|error| cannot("export traces", &error))?;
    let runtime = runtime(config.proxy.workers).map_err(|error| cannot("start the runtime", &error))?;
    let start = Start {
        files,
        config: Arc::new(config),
        material,
        telemetry: telemetry.clone(),
        log_level,
        sockets,
        inherited,
    };
    let code = runtime.block_on(serve(start)).map_err(|error| cannot("run the proxy", &error))?;
    // What is still open is dropped here, and its record written by that.
    telemetry.cut();
    runtime.shutdown_timeout(FLUSH_TIMEOUT);
    if !telemetry.flush(FLUSH_TIMEOUT) {
        tracing::warn!("the access log could not be written, or traces not exported, to their end");
    }
    Ok(code)
}

/// All that was made before the runtime.
struct Start {
    files: Files,
    config: Arc<Config>,
    material: Material,
    telemetry: Telemetry,
    log_level: LogLevel,
    sockets: Sockets,
    inherited: Option<Inherited>,
}

/// Runs the proxy until it has drained, or a second signal came.
async fn serve(start: Start) -> io::Result<ExitCode> {
    let Start { files, config, material, telemetry, log_level, sockets, inherited } = start;
    let signals = Signals::new()?;
    signals::on_reopen({
        let telemetry = telemetry.clone();
        move || telemetry.reopen_access_log()
    })?;
    let on_tcp = OnTcp::of(&config.control);
    let proxy = Proxy::new(config, telemetry.clone(), sockets.flows, material);
    let handle = proxy.handle();
    tokio::spawn(Reloader::new(files, handle.clone(), telemetry.clone(), log_level.clone())?.run());
    let admin = Admin { telemetry, proxy: handle.clone() };
    let giver = Arc::new(Giver::new(sockets.copies, handle.clone()));
    let followers = Arc::new(Semaphore::new(FOLLOWERS));
    let control = Control { admin: admin.clone(), log_level, giver, on_tcp, followers };
    let proxy = tokio::spawn(proxy.run());
    surface::serve(&admin, sockets.admin, None, &handle)?;
    surface::serve(&control, sockets.control, sockets.control_socket, &handle)?;
    handle.serving().await;
    if let Some(inherited) = inherited {
        match inherited.ready() {
            Ok(()) => tracing::info!("took over; the process before this one drains"),
            Err(error) => tracing::warn!(%error, "the process that was taken over from is gone already"),
        }
    }
    tracing::info!("ready");
    notify::ready();
    until_end(proxy, &handle, signals).await
}

/// Waits for the end of the proxy, or for a second signal. The first one, as a request on the control surface, makes
/// it drain.
async fn until_end(
    mut proxy: JoinHandle<io::Result<Drained>>,
    handle: &Handle,
    mut signals: Signals,
) -> io::Result<ExitCode> {
    let (mut signalled, mut said) = (false, false);
    loop {
        tokio::select! {
            drained = &mut proxy => {
                say_drained(&drained??);
                return Ok(ExitCode::SUCCESS);
            }
            signal = signals.next() => {
                if signalled {
                    tracing::warn!(%signal, "ending at once, at the second signal");
                    return Ok(signal.exit_code());
                }
                signalled = true;
                tracing::info!(%signal, "told to end");
                handle.drain();
            }
            () = handle.draining(), if !said => {
                said = true;
                say_draining(handle);
            }
        }
    }
}

fn say_draining(handle: &Handle) {
    let deadline = handle.announce_end();
    if handle.phase() == Phase::HandedOver {
        // The service goes on, in another process.
        tracing::info!(
            ?deadline,
            "draining: handed over, flows that are open are served until none is at work"
        );
    } else {
        notify::stopping();
        tracing::info!(?deadline, "draining: flows, old and new, are served until none is at work");
    }
}

fn say_start(config: &Config, arguments: &ProxyArguments, descriptors: u64) {
    let files: Vec<_> = arguments.config.iter().map(|path| path.display().to_string()).collect();
    let files = if files.is_empty() { "none: observing only".into() } else { files.join(", ") };
    let listen = addresses(&config.proxy.listen);
    let admin = addresses(&config.admin.listen);
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, config = files, listen, admin, descriptors, "dragoman starts");
}

fn say_drained(drained: &Drained) {
    match drained.flows_cut {
        0 => tracing::info!("drained"),
        flows => tracing::warn!(flows, "the drain deadline has passed; these flows were reset"),
    }
}

fn addresses(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Asked once root is gone: without its mark, what dragoman dials would be captured and come back to it.
fn check_mark(mark: Option<u32>) -> Result<(), StartError> {
    let Some(mark) = mark else { return Ok(()) };
    dragoman_net::try_mark(mark).map_err(|error| {
        StartError(format!(
            "cannot mark connections ({error}; proxy.mark): that needs CAP_NET_ADMIN, which goes when root is given up; \
             start dragoman as its own user with that capability (AmbientCapabilities= of systemd, or `setpriv \
             --ambient-caps +net_admin --inh-caps +net_admin`), or leave proxy.mark out and tell it by its group"
        ))
    })
}

pub(crate) fn runtime(workers: usize) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads(workers)).enable_all().build()
}

/// How many threads `proxy.workers` means.
pub(crate) fn threads(workers: usize) -> usize {
    let automatic =
        || std::thread::available_parallelism().map_or(1, usize::from).min(MOST_AUTOMATIC_WORKERS);
    if workers == 0 { automatic() } else { workers }
}

pub(crate) fn open_sink(log: &Log) -> Result<LogFile, StartError> {
    let Some(path) = &log.access_file else {
        return LogFile::stdout().map_err(|error| cannot("write the access log to standard output", &error));
    };
    LogFile::open(path.clone()).map_err(|error| {
        StartError(format!("cannot open the access log {} (log.access_file): {error}", path.display()))
    })
}

pub(crate) fn access_log(log: &Log, sink: LogFile) -> io::Result<AccessLog> {
    let format = match log.access_format {
        Format::Text => AccessFormat::Text,
        Format::Json => AccessFormat::Json,
    };
    AccessLog::new(access_mode(log), format, Box::new(sink))
}

/// Which flows and exchanges the access log tells of.
pub(crate) fn access_mode(log: &Log) -> AccessMode {
    match log.access {
        Access::Off => AccessMode::Off,
        Access::Failures => AccessMode::Failures,
        Access::All => AccessMode::All(log.access_sample),
    }
}

pub(crate) fn cannot(what: &str, error: &io::Error) -> StartError {
    StartError(format!("cannot {what}: {error}"))
}
