//! `dragoman wait`: start a program once the proxy is ready.
//!
//! An app that starts before the proxy has its connections refused. Not every app tries again, and where containers
//! start together nothing orders them; so the app's command is put behind this one, which becomes it.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::cli::WaitArguments;
use crate::signals::{Signal, Signals};

/// Between two questions: short beside the start of an app, and nothing beside a core.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The start of an answer that is looked at, in bytes.
const START: u64 = 256;

/// Exit codes of shells for a program that was found and cannot be run, and for one that is not there.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Runs `dragoman wait`. With a command it only returns when that cannot be run.
pub(crate) fn run(arguments: &WaitArguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let waited = runtime.and_then(|runtime| runtime.block_on(wait(arguments)));
    match waited {
        Ok(Waited::Ready) => match arguments.command.split_first() {
            None => ExitCode::SUCCESS,
            Some((program, rest)) => not_run(program, &Command::new(program).args(rest).exec()),
        },
        Ok(Waited::Told(signal)) => signal.shell_code(),
        Ok(Waited::Late(last)) => {
            let WaitArguments { admin, timeout, .. } = arguments;
            eprintln!("dragoman: not ready after {timeout:?}: http://{admin}/ready {last}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("dragoman: cannot wait: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says that a command cannot be run, by the exit code too.
pub(crate) fn not_run(program: &OsStr, error: &io::Error) -> ExitCode {
    eprintln!("dragoman: cannot run {}: {error}", program.display());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN })
}

/// How a wait ended.
enum Waited {
    Ready,
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
            Ok(()) => Ok(Waited::Ready),
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
