//! `dragoman run`: a command whose every connection is captured, and nothing else is.
//!
//! Two processes of dragoman's. This one stays where it was started, and is the proxy. The **keeper** ([`keeper`]), its
//! child, makes the namespaces, opens the listeners inside and sends them here, runs the command and waits for it. All
//! are in one process group, as a shell wants it: what the terminal sends reaches the command without us, and neither of
//! us ends before it. Whichever of the three is killed takes the ones below it with it, and with the last process inside
//! the kernel takes the namespaces away: there is nothing to clean up.

pub(crate) mod keeper;

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dragoman_capture::private::Reach;
use dragoman_config::{Config, Level, Log};
use dragoman_net::{Inside, receive_descriptor, send_descriptor};
use dragoman_proxy::{Listeners, Material, Proxy};
use dragoman_telemetry::{AccessLog, Telemetry};
use nix::unistd::{dup2_stdin, dup2_stdout};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::app::{self, StartError, cannot};
use crate::check;
use crate::child::{FAILED, code};
use crate::cli::RunArguments;
use crate::flows;
use crate::logging;
use crate::privilege;
use crate::reload::Files;
use crate::traces;

/// When the command has ended, what it sent last has this long to be passed on.
const FINISH: Duration = Duration::from_secs(2);
/// At the end, what the access log and the queue of spans still hold has this long to be written.
const FLUSH: Duration = Duration::from_secs(2);

/// What is passed on to the command when it comes to this process alone. From a terminal, it comes to all.
const PASSED_ON: [SignalKind; 6] = [
    SignalKind::hangup(),
    SignalKind::interrupt(),
    SignalKind::quit(),
    SignalKind::terminate(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
];

/// What goes between us and the keeper before the command begins.
mod mark {
    pub(super) const STDIN: u8 = b'i';
    pub(super) const CAPTURED: u8 = b'c';
    pub(super) const DNS_UDP: u8 = b'u';
    pub(super) const DNS_TCP: u8 = b't';
    pub(super) const READY: u8 = b'r';
    /// Ours, when all is there that the command needs: it may begin.
    pub(super) const GO: u8 = b'g';
}

/// Runs `dragoman run`.
pub(crate) fn run(arguments: &RunArguments) -> ExitCode {
    let (files, config) = match Files::load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(errors) => return check::refuse(&errors),
    };
    let material = match Material::load(&config) {
        Ok(material) => material,
        Err(lines) => return check::refuse_files(&lines),
    };
    start(arguments, &files, config, material).unwrap_or_else(|StartError(text)| {
        eprintln!("dragoman: {text}");
        ExitCode::from(FAILED)
    })
}

fn start(
    arguments: &RunArguments,
    files: &Files,
    mut config: Config,
    material: Material,
) -> Result<ExitCode, StartError> {
    // The host's rules, if there are any, are not about us.
    config.proxy.mark = None;
    let reaches = Reach::of_host();
    let keeper = Keeper::start(&arguments.command, &reaches)
        .map_err(|error| cannot("start a process for the command (/proc/self/exe)", &error))?;
    // From here on beside the keeper, which has its own work: the command may have more descriptors later than now.
    privilege::raise_descriptor_limit().map_err(|errno| {
        StartError(format!("cannot raise the limit of file descriptors: {}", errno.desc()))
    })?;
    logging::start(&quiet(&config.log));
    files.warn();
    let access = match &config.log.access_file {
        None => AccessLog::off(),
        Some(_) => app::access_log(&config.log, app::open_sink(&config.log)?)
            .map_err(|error| cannot("start the access log", &error))?,
    };
    privilege::drop_root(None, None).map_err(|error| StartError(error.to_string()))?;
    let telemetry = Telemetry::new(config.names().to_vec(), access);
    telemetry.record(config.recorder.memory, app::threads(config.proxy.workers));
    traces::start(&config.trace, None, &telemetry).map_err(|error| cannot("export traces", &error))?;
    let runtime = app::runtime(config.proxy.workers).map_err(|error| cannot("start the runtime", &error))?;
    let own = reaches.iter().map(|reach| reach.source).collect();
    let policy = (Arc::new(config), material);
    let serving = serve(keeper, policy, telemetry.clone(), own, arguments.isolate_loopback);
    let status = runtime.block_on(serving).map_err(|error| cannot("serve the command", &error))?;
    telemetry.cut();
    // What is still open is reset here, and its record finished by that.
    runtime.shutdown_timeout(FLUSH);
    if arguments.explain {
        eprint!("{}", flows::table(&telemetry, logging::color(&io::stderr())));
    }
    if !telemetry.flush(FLUSH) {
        tracing::warn!("the access log could not be written, or traces not exported, to their end");
    }
    Ok(ExitCode::from(code(status)))
}

/// The command's streams are the command's: of the proxy's own, only what is wrong is said there.
fn quiet(log: &Log) -> Log {
    let level = if log.level == Level::Info { Level::Warn } else { log.level };
    Log { level, ..log.clone() }
}

/// Lets go of standard input and output, which are the command's: whoever is at their other end learns when it closes them.
fn let_go_of_streams() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(())
}

/// Serves the command until it has ended, and returns how.
async fn serve(
    mut keeper: Keeper,
    (config, material): (Arc<Config>, Material),
    telemetry: Telemetry,
    own: Vec<IpAddr>,
    isolated: bool,
) -> io::Result<ExitStatus> {
    // Before it is looked at: an end in between is not missed.
    let mut ended = signal(SignalKind::child())?;
    let Some(listeners) = keeper.listeners()? else {
        // It has said why.
        return keeper.process.wait();
    };
    // From here on no signal ends this process before the command.
    let signals = PASSED_ON.map(|kind| signal(kind).map(|came| (kind, came)));
    send_descriptor(&keeper.link, mark::GO, None)?;
    let inside = Arc::new(Inside::new(keeper.link, own, isolated)?);
    for signal in signals {
        let (kind, came) = signal?;
        tokio::spawn(pass_on(kind, came, Arc::clone(&inside)));
    }
    let proxy = Proxy::for_inside(config, telemetry, listeners, material, inside);
    let handle = proxy.handle();
    let mut proxy = tokio::spawn(proxy.run());
    let status = loop {
        if let Some(status) = keeper.process.try_wait()? {
            break status;
        }
        tokio::select! {
            _ = ended.recv() => {}
            stopped = &mut proxy => {
                stopped??;
            }
        }
    };
    handle.finish();
    // Whatever is open then is a connection of a process that outlives the command: it is reset.
    let _ = timeout(FINISH, proxy).await;
    Ok(status)
}

/// Passes a signal on to the command, each time that it comes.
async fn pass_on(kind: SignalKind, mut came: Signal, inside: Arc<Inside>) {
    let number = u8::try_from(kind.as_raw_value()).expect("the number of a signal is below 65");
    while came.recv().await.is_some() {
        inside.signal(number).await;
    }
}

/// The keeper, as its parent has it.
struct Keeper {
    process: Child,
    link: UnixStream,
}

impl Keeper {
    /// Starts it, and gives it our standard input and output: the command's are closed when the command closes them.
    fn start(command: &[impl AsRef<OsStr>], reaches: &[Reach]) -> io::Result<Keeper> {
        dragoman_net::hear_of_children()?;
        let (link, theirs) = UnixStream::pair()?;
        let process = Command::new("/proc/self/exe")
            .arg("keeper")
            .arg(format!("--parent={}", std::process::id()))
            .args(reaches.iter().map(|reach| format!("--reach={reach}")))
            .arg("--")
            .args(command)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        send_descriptor(&link, mark::STDIN, Some(&io::stdin().as_fd().try_clone_to_owned()?))?;
        let_go_of_streams()?;
        Ok(Keeper { process, link })
    }

    /// The listeners that it opens inside; `None` where it has ended instead.
    fn listeners(&self) -> io::Result<Option<Listeners>> {
        let mut listeners = Listeners::default();
        loop {
            let (came, descriptor) = match receive_descriptor(&self.link) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                received => received?,
            };
            match (came, descriptor) {
                (mark::CAPTURED, Some(listener)) => listeners.add_captured(TcpListener::from(listener)),
                (mark::DNS_UDP, Some(socket)) => listeners.add_dns_udp(UdpSocket::from(socket)),
                (mark::DNS_TCP, Some(listener)) => listeners.add_dns_tcp(TcpListener::from(listener)),
                _ => return Ok(Some(listeners)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_news_is_not_said() {
        let mut log = Config::empty().log.clone();
        for (level, expected) in
            [(Level::Info, Level::Warn), (Level::Debug, Level::Debug), (Level::Error, Level::Error)]
        {
            log.level = level;
            assert_eq!(quiet(&log).level, expected);
        }
    }
}
