//! The command line, the environment and the file of options as a request.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use dragoman_capture::{
    INBOUND_PORT, Inbound, Options, Own, PortRange, parse_cidr, parse_id as id, parse_ipv6,
    parse_number as number, parse_port as port,
};
use lexopt::Arg;

use crate::settings::{FILE, FILE_BYTES, Kind, Settings, Wrong, option};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Install,
    Remove,
    Verify,
    Print,
}

/// What to do and how. The options make sense together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) options: Options,
    pub(crate) dry_run: bool,
    /// How long `remove` lets redirected flows end.
    pub(crate) drain: Option<Duration>,
    /// Say what `verify` found as JSON.
    pub(crate) json: bool,
    /// Print the rules as text for iptables.
    pub(crate) iptables: bool,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Help,
    Version,
    Run(Box<Request>),
}

/// Reads the arguments (without the program's name) and the variables.
///
/// # Errors
/// The first thing that is wrong, in one line.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Parsed, Wrong> {
    let mut settings = Settings::default();
    let mut command = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|error| Wrong(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Parsed::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Parsed::Version),
            Arg::Long(name) => match option(name) {
                Some((name, kind)) => {
                    let value = value(&mut parser, name, kind)?;
                    settings.flag(name, kind, value)?;
                }
                None => return Err(Wrong(format!("--{name}: no such option; see --help"))),
            },
            Arg::Short(letter) => return Err(Wrong(format!("-{letter}: no such option; see --help"))),
            Arg::Value(word) if command.is_none() => command = Some(read_command(&word)?),
            Arg::Value(word) => {
                return Err(Wrong(format!("{}: only one command is taken; see --help", word.display())));
            }
        }
    }
    settings.environment(variables)?;
    if let Some(path) = settings.one(FILE, |path| Ok(path.to_owned()))? {
        settings.file(&path, &read_file(&path)?)?;
    }
    request(command.unwrap_or(Command::Install), &settings).map(|request| Parsed::Run(Box::new(request)))
}

fn request(command: Command, settings: &Settings) -> Result<Request, Wrong> {
    let belongs = |name: &str, to: &[Command], where_to: &str| match settings.has_flag(name) {
        true if !to.contains(&command) => Err(Wrong(format!("--{name}: goes with {where_to} only"))),
        _ => Ok(()),
    };
    belongs("drain", &[Command::Remove], "remove")?;
    belongs("json", &[Command::Verify], "verify")?;
    belongs("iptables", &[Command::Print], "print")?;
    if settings.has_flag("dry-run") && command == Command::Verify {
        return Err(Wrong("--dry-run: verify changes nothing anyway".to_owned()));
    }
    let options = options(settings)?;
    options.check().map_err(|invalid| settings.invalid(&invalid))?;
    Ok(Request {
        command,
        options,
        dry_run: settings.one("dry-run", switch)?.unwrap_or_default(),
        drain: settings.one("drain", seconds)?,
        json: settings.one("json", switch)?.unwrap_or_default(),
        iptables: settings.one("iptables", switch)?.unwrap_or_default(),
    })
}

fn options(settings: &Settings) -> Result<Options, Wrong> {
    let defaults = Options::default();
    Ok(Options {
        port: settings.one("port", ports)?.unwrap_or(defaults.port),
        own: own(settings)?.unwrap_or(defaults.own),
        exclude_cidr: settings.list("exclude-cidr", parse_cidr)?,
        include_cidr: settings.list("include-cidr", parse_cidr)?,
        exclude_port: settings.list("exclude-port", port)?,
        include_port: settings.list("include-port", port)?,
        exclude_uid: settings.list("exclude-uid", id("a user's number"))?,
        exclude_gid: settings.list("exclude-gid", id("a group's number"))?,
        exclude_interface: settings.list("exclude-interface", |name| Ok(name.to_owned()))?,
        ipv6: settings.one("ipv6", parse_ipv6)?.unwrap_or_default(),
        capture_loopback: settings.one("capture-loopback", switch)?.unwrap_or_default(),
        capture_dns: settings.one("capture-dns", port)?,
        reject_quic: settings.one("reject-quic", switch)?.unwrap_or_default(),
        drop_invalid: settings.one("drop-invalid", switch)?.unwrap_or_default(),
        inbound: inbound(settings)?,
        ..defaults
    })
}

fn inbound(settings: &Settings) -> Result<Option<Inbound>, Wrong> {
    let inbound = Inbound {
        port: settings.one("inbound-port", port)?.unwrap_or(INBOUND_PORT),
        exclude_port: settings.list("exclude-inbound-port", port)?,
        include_port: settings.list("include-inbound-port", port)?,
    };
    let is_on = settings.one("inbound", switch)?.unwrap_or_default();
    let of_inbound = ["inbound-port", "exclude-inbound-port", "include-inbound-port"];
    match of_inbound.into_iter().find(|name| settings.has(name)) {
        Some(name) if !is_on => Err(Wrong(format!("--{name}: goes with --inbound only"))),
        _ => Ok(is_on.then_some(inbound)),
    }
}

fn own(settings: &Settings) -> Result<Option<Own>, Wrong> {
    let group = settings.one("proxy-gid", id("a group's number"))?.map(Own::Group);
    let mark = settings.one("mark", mark)?.map(Own::Mark);
    if group.is_some() && mark.is_some() {
        return Err(Wrong("--mark: takes the place of --proxy-gid; give one of them".to_owned()));
    }
    Ok(group.or(mark))
}

/// Not more than fits: a name such as /dev/zero must not fill the memory.
fn read_file(path: &str) -> Result<String, Wrong> {
    let wrong = |reason: &dyn std::fmt::Display| Wrong(format!("--options {path}: {reason}"));
    let file = File::open(path).map_err(|error| wrong(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(wrong(&"is longer than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| wrong(&"is not UTF-8"))
}

fn value(parser: &mut lexopt::Parser, name: &str, kind: Kind) -> Result<String, Wrong> {
    let value = match kind {
        Kind::Switch => parser.optional_value().unwrap_or_else(|| "true".into()),
        Kind::One | Kind::List => {
            parser.value().map_err(|_| Wrong(format!("--{name}: a value must follow; see --help")))?
        }
    };
    value.into_string().map_err(|value| Wrong(format!("--{name} {}: is not UTF-8", value.display())))
}

fn read_command(word: &OsString) -> Result<Command, Wrong> {
    match word.to_str() {
        Some("install") => Ok(Command::Install),
        Some("remove") => Ok(Command::Remove),
        Some("verify") => Ok(Command::Verify),
        Some("print") => Ok(Command::Print),
        _ => Err(Wrong(format!(
            "{}: no such command; expected install, remove, verify or print",
            word.display()
        ))),
    }
}

/// `15001` or `15001-15004`.
fn ports(text: &str) -> Result<PortRange, String> {
    let ends = text.split_once('-').unwrap_or((text, text));
    let port = |text| number(text).filter(|&port: &u16| port != 0);
    match (port(ends.0), port(ends.1)) {
        (Some(first), Some(last)) => Ok(PortRange { first, last }),
        _ => Err("expected a port from 1 to 65535, or a range such as 15001-15004".to_owned()),
    }
}

/// Decimal, or hexadecimal as `ip rule` and nft write marks.
fn mark(text: &str) -> Result<u32, String> {
    let hexadecimal = |digits: &str| {
        digits
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit())
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten()
    };
    text.strip_prefix("0x")
        .map_or_else(|| number(text), hexadecimal)
        .ok_or_else(|| "expected a mark such as 17 or 0x11".to_owned())
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    number(text)
        .filter(|seconds| (1..=86_400).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "expected seconds, from 1 to 86400".to_owned())
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
