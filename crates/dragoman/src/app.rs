//! `dragoman proxy`: from the configuration to the exit code.
//!
//! The order is what matters here. Ports and the access log's file are opened with the rights that the
//! process was started with; then root is given up; only then do threads start and connections get made. A
//! mistake is found before the first connection is taken.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use dragoman_config::{Access, Config, Format, Log};
use dragoman_proxy::{BindError, Drained, Listeners, Proxy};
use dragoman_telemetry::{AccessFormat, AccessLog, AccessMode, Telemetry};
use nix::errno::Errno;
use tokio::runtime::Runtime;

use crate::admin::{self, Admin, Phase};
use crate::cli::ProxyArguments;
use crate::signals::Signals;
use crate::{check, logging, privilege};

/// Runtime threads where the configuration leaves the number open: beside one application, more are rarely
/// used.
const MOST_AUTOMATIC_WORKERS: usize = 4;
/// At the end, what the access log still holds has this long to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs `dragoman proxy`.
pub(crate) fn run(arguments: &ProxyArguments) -> ExitCode {
    let config = match load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(errors) => return check::refuse(&errors),
    };
    logging::start(&config.log);
    match start(config, arguments) {
        Ok(code) => code,
        Err(StartError(text)) => {
            eprintln!("dragoman: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Why the proxy could not start, for a person.
struct StartError(String);

fn load(file: Option<&Path>) -> Result<Config, dragoman_config::Errors> {
    match file {
        Some(file) => Config::load(file, &check::environment),
        None => Config::parse("", "", &check::environment),
    }
}

fn start(config: Config, arguments: &ProxyArguments) -> Result<ExitCode, StartError> {
    let descriptors = privilege::raise_descriptor_limit().map_err(|errno| {
        StartError(format!("cannot raise the limit of file descriptors: {}", errno.desc()))
    })?;
    let listeners = listen(&config.proxy.listen)?;
    let admin = admin::bind(&config.admin.listen)
        .map_err(|(address, error)| StartError(cannot_listen(address, &error, "admin.listen")))?;
    let sink = open_sink(&config.log)?;
    privilege::drop_root(arguments.user, arguments.group).map_err(|error| StartError(error.to_string()))?;
    say_start(&config, arguments, descriptors);

    let access = access_log(&config.log, sink).map_err(|error| cannot("start the access log", &error))?;
    let names = config.destinations().iter().map(|destination| destination.name.clone()).collect();
    let telemetry = Telemetry::new(names, access);
    let runtime = runtime(config.proxy.workers).map_err(|error| cannot("start the runtime", &error))?;
    let code = runtime
        .block_on(serve(Arc::new(config), telemetry.clone(), listeners, admin))
        .map_err(|error| cannot("run the proxy", &error))?;
    // What is still open is dropped here, and its record written by that.
    telemetry.cut();
    runtime.shutdown_timeout(FLUSH_TIMEOUT);
    if !telemetry.flush(FLUSH_TIMEOUT) {
        tracing::warn!("the access log could not be written to its end");
    }
    Ok(code)
}

/// Runs the proxy until it has drained, or a second signal came.
async fn serve(
    config: Arc<Config>,
    telemetry: Telemetry,
    listeners: Listeners,
    admin: Vec<TcpListener>,
) -> io::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let phase = Phase::starting();
    Admin { telemetry: telemetry.clone(), phase: phase.clone() }.serve(admin)?;
    let drain = config.proxy.drain;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let proxy = Proxy::new(config, telemetry).run(listeners, async move {
        let _ = stopped.await;
    });
    let mut proxy = tokio::spawn(proxy);
    phase.set_ready();
    tracing::info!("ready");

    let signal = tokio::select! {
        signal = signals.next() => signal,
        // It ends by itself only when it fails, and then there is nothing left to serve.
        ended = &mut proxy => {
            ended??;
            return Err(io::Error::other("it stopped by itself"));
        }
    };
    phase.set_draining();
    tracing::info!(%signal, deadline = ?drain, "draining: no new connections, those that are open may finish");
    let _ = stop.send(());
    tokio::select! {
        drained = &mut proxy => say_drained(&drained??),
        signal = signals.next() => {
            tracing::warn!(%signal, "ending at once, at the second signal");
            return Ok(signal.exit_code());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say_start(config: &Config, arguments: &ProxyArguments, descriptors: u64) {
    let file = arguments
        .config
        .as_ref()
        .map_or_else(|| "none: observing only".into(), |file| file.display().to_string());
    let listen = addresses(&config.proxy.listen);
    let admin = addresses(&config.admin.listen);
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, config = file, listen, admin, descriptors, "dragoman starts");
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

/// Listens where the configuration says. Its default has ::1, which a machine without IPv6 does not have:
/// nothing can be captured there either.
fn listen(addresses: &[SocketAddr]) -> Result<Listeners, StartError> {
    let refused = |error: BindError| StartError(cannot_listen(error.address, &error.source, "proxy.port"));
    match Listeners::bind(addresses) {
        Err(error) if addresses.len() > 1 && lacks_ipv6(&error) => {
            tracing::warn!("no IPv6 here ({}): listening on IPv4 alone", error.source);
            let rest: Vec<_> =
                addresses.iter().copied().filter(|&address| address != error.address).collect();
            Listeners::bind(&rest).map_err(refused)
        }
        result => result.map_err(refused),
    }
}

fn lacks_ipv6(error: &BindError) -> bool {
    error.address.ip() == Ipv6Addr::LOCALHOST
        && matches!(
            error.source.raw_os_error().map(Errno::from_raw),
            Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT)
        )
}

fn runtime(workers: usize) -> io::Result<Runtime> {
    let automatic =
        || std::thread::available_parallelism().map_or(1, usize::from).min(MOST_AUTOMATIC_WORKERS);
    let workers = if workers == 0 { automatic() } else { workers };
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

fn open_sink(log: &Log) -> Result<Box<dyn Write + Send>, StartError> {
    let Some(path) = &log.access_file else { return Ok(Box::new(io::stdout())) };
    match OpenOptions::new().append(true).create(true).open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(StartError(format!(
            "cannot open the access log {} (log.access_file): {error}",
            path.display()
        ))),
    }
}

fn access_log(log: &Log, sink: Box<dyn Write + Send>) -> io::Result<AccessLog> {
    let mode = match log.access {
        Access::Off => AccessMode::Off,
        Access::Failures => AccessMode::Failures,
        Access::All => AccessMode::All,
    };
    let format = match log.access_format {
        Format::Text => AccessFormat::Text,
        Format::Json => AccessFormat::Json,
    };
    AccessLog::new(mode, format, sink)
}

fn cannot(what: &str, error: &io::Error) -> StartError {
    StartError(format!("cannot {what}: {error}"))
}

/// What went wrong, where, and what to do.
fn cannot_listen(address: SocketAddr, error: &io::Error, key: &str) -> String {
    let port = address.port();
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "the port is taken (by another dragoman? `ss -ltnp sport = :{port}` says by whom); free it or change {key}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "not allowed ({error}); ports below 1024 need root or CAP_NET_BIND_SERVICE, or change {key}"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have the address ({error}); change {key}")
        }
        _ => format!("{error}; see {key}"),
    };
    format!("cannot listen on {address}: {advice}")
}
