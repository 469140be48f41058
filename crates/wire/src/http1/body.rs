//! How many of these bytes belong to the body?
//!
//! Bodies are forwarded as they come, chunk sizes, extensions and trailers included, so the reader only
//! counts. It is as strict about chunks (RFC 9112 §7.1) as the head reader is about heads, and for the
//! same reason. Data is skipped over, whatever its size; only the lines around it are read byte by byte.

use super::fields::Known;
use super::framing::{Body, LENGTH_MAX};
use crate::syntax::{is_token_byte, is_value_byte};
use std::fmt;

/// Finds the end of one body. Give it every byte in order, in pieces of any size.
#[derive(Clone, Copy, Debug)]
pub enum BodyReader {
    /// There is no body, or its end has been seen.
    Done,
    /// So many bytes are still to come, at least one.
    Length(u64),
    /// In the midst of chunks.
    Chunked(Chunked),
    /// Everything belongs to the body.
    UntilClose,
}

/// What a body's framing holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Content.
    Data(&'a [u8]),
    /// Bytes of the trailer section's lines, with their CRLF: field lines that were checked as they came.
    Trailer(&'a [u8]),
}

/// The body broke the rules of chunked coding; the text names what was found. The connection is of no
/// use any more: nobody knows where the message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBody(pub &'static str);

impl fmt::Display for BadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadBody {}

impl BodyReader {
    /// A reader at the start of such a body.
    pub fn new(body: Body) -> Self {
        match body {
            Body::None | Body::Length(0) => BodyReader::Done,
            Body::Length(length) => BodyReader::Length(length),
            Body::Chunked => BodyReader::Chunked(Chunked::new()),
            Body::UntilClose => BodyReader::UntilClose,
        }
    }

    /// How many of `bytes`, from the first, belong to this body: fewer than all only if it ends there.
    ///
    /// # Errors
    /// None of `bytes` should be forwarded then, and the reader not be used again.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, BadBody> {
        self.decode(bytes, |_| {})
    }

    /// The same, and gives what the framing holds to `take`, in order: for a reader that must put it into another one.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn decode(&mut self, bytes: &[u8], mut take: impl FnMut(Part<'_>)) -> Result<usize, BadBody> {
        let (taken, done) = match self {
            BodyReader::Done => (0, true),
            BodyReader::Chunked(chunked) => (chunked.decode(bytes, &mut take)?, chunked.state == State::Done),
            BodyReader::UntilClose => (bytes.len(), false),
            BodyReader::Length(left) => (skip(left, bytes.len()), *left == 0),
        };
        if !matches!(self, BodyReader::Chunked(_)) && taken > 0 {
            take(Part::Data(&bytes[..taken]));
        }
        if done {
            *self = BodyReader::Done;
        }
        Ok(taken)
    }

    /// Whether the end has been seen: what follows is another message.
    pub fn is_done(&self) -> bool {
        matches!(self, BodyReader::Done)
    }

    /// Whether the connection may end here without cutting the message off.
    pub fn may_end_at_close(&self) -> bool {
        matches!(self, BodyReader::Done | BodyReader::UntilClose)
    }
}

/// The most hexadecimal digits of a chunk size, with the zeros before it.
const SIZE_DIGITS_MAX: u32 = 16;
/// The longest chunk-size line, in bytes: extensions are of no use to anybody, but may be there.
const SIZE_LINE_MAX: u32 = 4 * 1024;
/// The most bytes of trailer fields.
const TRAILERS_MAX: u32 = 8 * 1024;
/// The most trailer fields.
const TRAILER_FIELDS_MAX: u8 = 64;
/// The length of the longest name that is looked for in trailers, in bytes.
const NAME_MAX: usize = "transfer-encoding".len();

/// The place within a chunked body.
#[derive(Clone, Copy, Debug)]
pub struct Chunked {
    state: State,
    /// The size of the chunk while its line is read, then the bytes of data still to come.
    left: u64,
    /// Bytes of the chunk-size line, or of the trailers, so far.
    line: u32,
    trailers: u8,
    /// The beginning of the trailer name, and the length of all of it.
    name: [u8; NAME_MAX],
    name_length: u16,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A digit of the size, or what ends it.
    Size,
    /// After white space that follows the size.
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer line, or the CR of the last line.
    Trailer,
    Name,
    Value,
    ValueLf,
    LastLf,
    Done,
}

impl State {
    fn is_of_trailers(self) -> bool {
        matches!(self, State::Trailer | State::Name | State::Value | State::ValueLf)
    }
}

impl Chunked {
    fn new() -> Self {
        Self { state: State::Size, left: 0, line: 0, trailers: 0, name: [0; NAME_MAX], name_length: 0 }
    }

    fn decode(&mut self, bytes: &[u8], take: &mut impl FnMut(Part<'_>)) -> Result<usize, BadBody> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let end = at + skip(&mut self.left, bytes.len() - at);
                take(Part::Data(&bytes[at..end]));
                at = end;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
            } else {
                let before = self.state;
                self.state = self.step(bytes[at]).map_err(BadBody)?;
                if before.is_of_trailers() && self.state != State::LastLf {
                    take(Part::Trailer(&bytes[at..=at]));
                }
                at += 1;
            }
        }
        Ok(at)
    }

    /// The state after `byte`: a table of RFC 9112 §7.1.
    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        match (self.state, byte) {
            (State::Size, b'\r') if self.line > 0 => Ok(State::SizeLf),
            (State::Size, b';') if self.line > 0 => self.extend(State::Extension),
            // Some old servers pad their sizes, and whoever takes that reads the same number. In front of the digits one reader
            // skips it and another sees no digits, which is 0 to some; between them it could be two numbers.
            (State::Size, b' ' | b'\t') if self.line > 0 => self.extend(State::SizeSpace),
            (State::SizeSpace, b' ' | b'\t') => self.extend(State::SizeSpace),
            (State::SizeSpace, b';') => self.extend(State::Extension),
            (State::SizeSpace, b'\r') => Ok(State::SizeLf),
            (State::SizeSpace, _) => Err("white space within a chunk size"),
            (State::Size, _) => self.digit(byte),
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, _) if is_value_byte(byte) => self.extend(State::Extension),
            (State::Extension, _) => Err("a control byte in a chunk extension"),
            (State::SizeLf, b'\n') => {
                self.line = 0;
                Ok(if self.left == 0 { State::Trailer } else { State::Data })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::DataCr | State::DataLf, _) => Err("a chunk that is longer than its size"),
            (State::Trailer, b'\r') => Ok(State::LastLf),
            (State::Trailer, _) => self.begin_trailer(byte),
            (State::Name, b':') => self.end_name(),
            (State::Name, _) => self.extend_name(byte),
            (State::Value, b'\r') => Ok(State::ValueLf),
            (State::Value, _) if is_value_byte(byte) => self.extend_trailers(State::Value),
            (State::Value, _) => Err("a control byte in a trailer value"),
            (State::ValueLf, b'\n') => Ok(State::Trailer),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::SizeLf | State::ValueLf | State::LastLf, _) => Err("a bare CR in a chunked body"),
            // Data is skipped by `advance`, and nothing is read once done.
            (state @ (State::Data | State::Done), _) => Ok(state),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, &'static str> {
        let digit = char::from(byte).to_digit(16).ok_or("a chunk size that is not hexadecimal")?;
        if self.line == SIZE_DIGITS_MAX {
            return Err("a chunk size of more than 16 digits");
        }
        self.line += 1;
        self.left = self.left << 4 | u64::from(digit);
        if self.left > LENGTH_MAX { Err("a chunk size beyond 63 bits") } else { Ok(State::Size) }
    }

    fn extend(&mut self, state: State) -> Result<State, &'static str> {
        self.line += 1;
        if self.line > SIZE_LINE_MAX { Err("a chunk extension of more than 4 KiB") } else { Ok(state) }
    }

    fn begin_trailer(&mut self, byte: u8) -> Result<State, &'static str> {
        if self.trailers == TRAILER_FIELDS_MAX {
            return Err("more than 64 trailer fields");
        }
        self.trailers += 1;
        self.name_length = 0;
        self.extend_name(byte)
    }

    fn extend_name(&mut self, byte: u8) -> Result<State, &'static str> {
        if !is_token_byte(byte) {
            return Err("a trailer name that is not a token");
        }
        if let Some(place) = self.name.get_mut(usize::from(self.name_length)) {
            *place = byte;
        }
        self.name_length += 1;
        self.extend_trailers(State::Name)
    }

    /// RFC 9110 §6.5.1: a reader that merges trailers into the head must not learn another framing.
    fn end_name(&mut self) -> Result<State, &'static str> {
        let name = self.name.get(..usize::from(self.name_length)).unwrap_or_default();
        match Known::of(name) {
            Known::ContentLength | Known::TransferEncoding | Known::Host => {
                Err("a trailer that would change the framing or the host")
            }
            _ => self.extend_trailers(State::Value),
        }
    }

    fn extend_trailers(&mut self, state: State) -> Result<State, &'static str> {
        self.line += 1;
        if self.line > TRAILERS_MAX { Err("more than 8 KiB of trailers") } else { Ok(state) }
    }
}

/// Takes up to `available` from `left`.
fn skip(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).map_or(available, |left| left.min(available));
    *left -= taken as u64;
    taken
}
