//! The content of an HTTP/1 message, taken out of its framing as it comes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dragoman_wire::http1::{Body, BodyReader, Part};
use http::HeaderMap;

use super::Broke;
use super::head::parse_trailers;
use crate::buffer::Buffer;
use crate::leg::Leg;

/// A message body on a connection that is written to at the same time.
#[derive(Debug)]
pub(crate) struct Http1Read {
    leg: Arc<Leg>,
    /// What was read and is not decoded: at the end, what follows the message.
    buf: Buffer,
    reader: BodyReader,
    /// The lines of the trailer section.
    trailers: Vec<u8>,
    /// The connection ends with the message.
    last: bool,
}

impl Http1Read {
    /// A body that begins in `buf`.
    pub(crate) fn new(leg: Arc<Leg>, buf: Buffer, body: Body) -> Self {
        Self { leg, buf, reader: BodyReader::new(body), trailers: Vec::new(), last: false }
    }

    /// The same, of the last message on its connection.
    pub(super) fn last(self) -> Self {
        Self { last: true, ..self }
    }

    /// What follows the message, if that is known and the connection can carry another one.
    pub(crate) fn into_rest(self) -> Option<Buffer> {
        (self.reader.is_done() && !self.last).then_some(self.buf)
    }

    pub(super) async fn data(&mut self) -> Option<Result<Bytes, Broke>> {
        loop {
            match self.decode() {
                Ok(data) if !data.is_empty() => return Some(Ok(data)),
                Ok(_) if self.reader.is_done() => return None,
                Ok(_) => {}
                Err(broke) => return Some(Err(broke)),
            }
            match self.buf.fill_shared(self.leg.stream()).await {
                Ok(1..) => {}
                Ok(0) if self.reader.may_end_at_close() => {
                    (self.reader, self.last) = (BodyReader::Done, true);
                }
                Ok(0) => return Some(Err(Broke::closed("closed in the body"))),
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    pub(super) fn trailers(&mut self) -> Result<Option<HeaderMap>, Broke> {
        let lines = std::mem::take(&mut self.trailers);
        if lines.is_empty() { Ok(None) } else { parse_trailers(&lines).map(Some) }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.reader.is_done() && self.trailers.is_empty()
    }

    /// Throws away what has come. Whether it is all of the content.
    pub(super) fn discard(&mut self) -> bool {
        self.decode().is_ok() && self.reader.is_done()
    }

    /// What the bytes at hand hold.
    fn decode(&mut self) -> Result<Bytes, Broke> {
        let mut data = BytesMut::new();
        let count = self
            .reader
            .decode(self.buf.bytes(), |part| match part {
                Part::Data(bytes) => data.extend_from_slice(bytes),
                Part::Trailer(bytes) => self.trailers.extend_from_slice(bytes),
            })
            .map_err(|bad| Broke::malformed(bad.0))?;
        self.buf.consume(count);
        Ok(data.freeze())
    }
}
