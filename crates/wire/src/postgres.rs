//! The first message of a PostgreSQL client: the only one without a type byte.
//!
//! Format and limits: PostgreSQL documentation, "Message Formats"; the server's own limit on the
//! length of a start-up packet.

/// What the first message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup {
    /// More bytes are needed.
    Incomplete,
    /// The client asks whether it may speak TLS.
    SslRequest,
    /// The client asks whether it may speak GSSAPI encryption.
    GssEncRequest,
    /// The client asks to cancel what another session is doing.
    Cancel {
        /// The process id of that session, as its server gave it out.
        pid: u32,
    },
    /// A session begins. Text that is not UTF-8 has its odd bytes replaced.
    Startup {
        /// The role.
        user: Option<String>,
        /// The database; the server takes the role's name where it is absent.
        database: Option<String>,
        /// What the program calls itself.
        application_name: Option<String>,
    },
    /// It cannot become a start-up message; the text says why.
    Malformed(&'static str),
}

/// Length and code, in bytes.
pub(crate) const LENGTH_MIN: u32 = 8;
/// The longest start-up packet that a server takes, in bytes.
pub(crate) const LENGTH_MAX: u32 = 10_000;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENC_REQUEST: u32 = 80_877_104;
/// Length, code, process id and the shortest and the longest cancel key (protocol 3.2 made it variable).
const CANCEL_LENGTH: std::ops::RangeInclusive<u32> = 16..=12 + 256;

/// Reads the first message at the start of `bytes`; what follows it is ignored.
pub fn startup(bytes: &[u8]) -> Startup {
    let Some((length, rest)) = word(bytes) else { return Startup::Incomplete };
    if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
        return Startup::Malformed("a start-up message with an impossible length");
    }
    let Some((code, rest)) = word(rest) else { return Startup::Incomplete };
    match (code, length) {
        (SSL_REQUEST, 8) => Startup::SslRequest,
        (GSS_ENC_REQUEST, 8) => Startup::GssEncRequest,
        (SSL_REQUEST | GSS_ENC_REQUEST, _) => Startup::Malformed("an encryption request with a body"),
        (CANCEL_REQUEST, length) if !CANCEL_LENGTH.contains(&length) => {
            Startup::Malformed("a cancel request with an impossible length")
        }
        (CANCEL_REQUEST, _) => {
            let Some(body) = rest.get(..length as usize - 8) else { return Startup::Incomplete };
            Startup::Cancel { pid: word(body).map_or(0, |(pid, _)| pid) }
        }
        _ if code >> 16 != 3 => Startup::Malformed("a start-up message of a protocol other than 3"),
        _ => rest.get(..length as usize - 8).map_or(Startup::Incomplete, parameters),
    }
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk().map(|(&word, rest)| (u32::from_be_bytes(word), rest))
}

/// Pairs of NUL-terminated strings up to an empty name, which must be the last byte.
fn parameters(body: &[u8]) -> Startup {
    let (mut user, mut database, mut application_name) = (None, None, None);
    let mut rest = body;
    loop {
        match string(&mut rest) {
            None => return Startup::Malformed("start-up parameters without their terminator"),
            Some(b"") if rest.is_empty() => return Startup::Startup { user, database, application_name },
            Some(b"") => return Startup::Malformed("bytes after the terminator of the start-up parameters"),
            Some(name) => {
                let Some(value) = string(&mut rest) else {
                    return Startup::Malformed("a start-up parameter without a value");
                };
                let place = match name {
                    b"user" => &mut user,
                    b"database" => &mut database,
                    b"application_name" => &mut application_name,
                    _ => continue,
                };
                *place = Some(String::from_utf8_lossy(value).into_owned());
            }
        }
    }
}

fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr::memchr(0, rest)?;
    let (string, tail) = rest.split_at(end);
    *rest = &tail[1..];
    Some(string)
}
