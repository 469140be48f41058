//! `dragoman wait`: start a program once the proxy is ready.
//!
//! An app that starts before the proxy has its connections refused. Not every app tries again, and where containers
//! start together nothing orders them; so the app's command is put behind this one, which becomes it. A job's does not:
//! somebody must tell the proxy when the job is done, or the pod never is.

pub(crate) mod arguments;
mod install;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::ask::Unanswered;
use crate::child;
use crate::control::QUIT;
use crate::drain;
use crate::signals::{Signal, Signals};
use arguments::{Quit, WaitArguments};

/// Between two questions: short beside the start of an app, and nothing beside a core.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The start of an answer that is looked at, in bytes.
const START: u64 = 256;

/// The system refused something, or the proxy was not ready in time.
const FAILURE: u8 = 1;
/// How long a signal that has come already may take to be noticed.
const NOTICED: Duration = Duration::from_millis(1);

/// Runs `dragoman wait`. With a command, and without `--quit`, it only returns when that cannot be run.
pub(crate) fn run(arguments: &WaitArguments) -> ExitCode {
    if let Some(path) = &arguments.install {
        return match install::install(path) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("dragoman: cannot install {}: {error}", path.display());
                ExitCode::FAILURE
            }
        };
    }
    let code = start(arguments);
    match arguments.quit {
        Some(Quit::Always) => tell_proxy(arguments),
        Some(Quit::Success) if code == 0 => tell_proxy(arguments),
        Some(Quit::Success) | None => {}
    }
    ExitCode::from(code)
}

/// Waits, and runs the command if there is one.
fn start(arguments: &WaitArguments) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let waited = runtime.and_then(|runtime| runtime.block_on(wait(arguments)));
    let failed = |error: io::Error| {
        eprintln!("dragoman: cannot wait: {error}");
        FAILURE
    };
    match waited {
        Ok(Waited::ReadyToStay(signals)) => child::stay(&arguments.command, &signals).unwrap_or_else(failed),
        Ok(Waited::Ready) => match arguments.command.split_first() {
            None => 0,
            Some((program, rest)) => child::not_run(program, &Command::new(program).args(rest).exec()),
        },
        Ok(Waited::Told(signal)) => signal.shell_code(),
        Ok(Waited::Late(last)) => {
            let WaitArguments { admin, timeout, .. } = arguments;
            eprintln!("dragoman: not ready after {timeout:?}: http://{admin}/ready {last}");
            FAILURE
        }
        Err(error) => failed(error),
    }
}

/// Tells the proxy that the command is done. Whether it hears changes nothing of how the command ended.
///
/// One that is being started anew has not heard of it, and would keep its pod for ever: it is told when it is there.
#[expect(clippy::disallowed_methods, reason = "this process has nothing else to do")]
fn tell_proxy(arguments: &WaitArguments) {
    let end = Instant::now() + drain::PATIENCE;
    let told = loop {
        match drain::tell(&arguments.control, QUIT) {
            Err(Unanswered::Gone(_)) if Instant::now() < end => thread::sleep(PAUSE),
            told => break told,
        }
    };
    if let Err(error) = told {
        eprintln!("dragoman: cannot tell the proxy that the command is done: {error}");
    }
}

/// How a wait ended.
enum Waited {
    Ready,
    /// The same for a command that this process is to stay with: these signals are its own from here on.
    ReadyToStay(child::Signals),
    /// The last answer before the time was over.
    Late(NotReady),
    /// As the first process of a container, only signals that are caught end it.
    Told(Signal),
}

/// Why the proxy is not ready.
enum NotReady {
    Unreachable(io::Error),
    Says(String),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) if error.kind() == io::ErrorKind::ConnectionRefused => f.write_str(
                "refuses connections: is `dragoman proxy` running, with this as its admin.listen?",
            ),
            Self::Unreachable(error) => write!(f, "cannot be asked: {error}"),
            Self::Says(line) => write!(f, "says {line:?}"),
        }
    }
}

async fn wait(arguments: &WaitArguments) -> io::Result<Waited> {
    let mut signals = Signals::new()?;
    let mut last = NotReady::Unreachable(io::ErrorKind::TimedOut.into());
    let ready = async {
        loop {
            match ask(arguments.admin).await {
                Ok(()) => return,
                Err(why) => last = why,
            }
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        waited = timeout(arguments.timeout, ready) => match waited {
            Ok(()) if arguments.quit.is_none() => Ok(Waited::Ready),
            Ok(()) => {
                let kept = child::Signals::all()?;
                // One may have come before they were kept.
                match timeout(NOTICED, signals.next()).await {
                    Ok(signal) => Ok(Waited::Told(signal)),
                    Err(_) => Ok(Waited::ReadyToStay(kept)),
                }
            }
            Err(_) => Ok(Waited::Late(last)),
        },
        signal = signals.next() => Ok(Waited::Told(signal)),
    }
}

/// Asks once whether it is ready.
async fn ask(admin: SocketAddr) -> Result<(), NotReady> {
    let question = format!("GET /ready HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(question.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(START).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer = timeout(ANSWER, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let answer = answer.map_err(NotReady::Unreachable)?;
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    if line.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(NotReady::Says(line)) }
}
