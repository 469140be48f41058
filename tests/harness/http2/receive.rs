//! How [`Wire`] understands what arrives.

use std::io::{self, ErrorKind};

use super::frame::{Frame, flag, kind, setting};
use super::wire::{Event, Wire};

impl Wire {
    /// Waits for the next event on the wire.
    pub(super) fn read(&mut self) -> io::Result<Event> {
        loop {
            let (length, mut frame) = match self.headed.take() {
                Some(headed) => headed,
                None => Frame::read_head(self.peer.read_exact(9)?[..].try_into().expect("nine bytes")),
            };
            match self.peer.read_exact(length) {
                Ok(payload) => frame.payload = payload,
                Err(e) => {
                    self.headed = Some((length, frame));
                    return Err(e);
                }
            }
            if let Some(event) = self.understand(frame)? {
                return Ok(event);
            }
        }
    }

    /// What a frame says; `None` for a field section that goes on in the next frame.
    fn understand(&mut self, frame: Frame) -> io::Result<Option<Event>> {
        let broken = || io::Error::new(ErrorKind::InvalidData, format!("a broken frame: {frame:?}"));
        let stream = frame.stream;
        let word = |at: usize| {
            let bytes = frame.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_be_bytes).ok_or_else(broken)
        };
        let eight = || frame.payload[..].try_into().map_err(|_| broken());
        Ok(Some(match frame.kind {
            kind::HEADERS | kind::CONTINUATION => {
                if frame.kind == kind::HEADERS {
                    self.block.clear();
                    self.ends_stream = frame.has(flag::END_STREAM);
                }
                self.block.extend_from_slice(unpadded(&frame).ok_or_else(broken)?);
                if !frame.has(flag::END_HEADERS) {
                    return Ok(None);
                }
                let fields = self.decoder.decode(&self.block).ok_or_else(broken)?;
                Event::Fields { stream, fields, end: self.ends_stream }
            }
            kind::DATA => {
                let bytes = unpadded(&frame).ok_or_else(broken)?.to_vec();
                let end = frame.has(flag::END_STREAM);
                if self.credits && !frame.payload.is_empty() {
                    self.credit(stream, frame.payload.len(), end)?;
                }
                Event::Data { stream, bytes, end }
            }
            kind::RST_STREAM => Event::Reset { stream, code: word(0)? },
            kind::GOAWAY => Event::GoAway { last: word(0)? & 0x7fff_ffff, code: word(4)? },
            kind::WINDOW_UPDATE => {
                let increment = word(0)? & 0x7fff_ffff;
                match stream {
                    0 => self.connection_window += i64::from(increment),
                    _ => *self.stream_window(stream) += i64::from(increment),
                }
                Event::Window { stream, increment }
            }
            kind::SETTINGS if frame.has(flag::ACK) => Event::SettingsAck,
            kind::SETTINGS => self.take_settings(&frame)?,
            kind::PING if frame.has(flag::ACK) => Event::Pong(eight()?),
            kind::PING => {
                if self.acknowledges {
                    self.answer(&Frame { flags: flag::ACK, ..frame.clone() }.bytes())?;
                }
                Event::Ping(eight()?)
            }
            _ => Event::Other(frame),
        }))
    }

    fn take_settings(&mut self, frame: &Frame) -> io::Result<Event> {
        let pair = |bytes: &[u8]| {
            let id = u16::from_be_bytes([bytes[0], bytes[1]]);
            (id, u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
        };
        let settings: Vec<_> = frame.payload.chunks_exact(6).map(pair).collect();
        for (id, value) in &settings {
            if *id == setting::INITIAL_WINDOW_SIZE {
                let change = i64::from(*value) - self.initial_window;
                self.initial_window += change;
                self.stream_windows.values_mut().for_each(|window| *window += change);
            }
        }
        if self.acknowledges {
            self.answer(&Frame::new(kind::SETTINGS, flag::ACK, 0, []).bytes())?;
        }
        Ok(Event::Settings(settings))
    }

    fn credit(&mut self, stream: u32, length: usize, ended: bool) -> io::Result<()> {
        let increment = u32::try_from(length).expect("a payload is below 16 MiB");
        let mut updates = Frame::window(0, increment).bytes();
        if !ended {
            updates.extend(Frame::window(stream, increment).bytes());
        }
        self.answer(&updates)
    }

    /// Sends what the other side is owed. It may have closed already; what it sent is still to be read.
    fn answer(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.raw(bytes) {
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
            result => result,
        }
    }
}

/// The payload without padding and priority.
fn unpadded(frame: &Frame) -> Option<&[u8]> {
    let mut payload = &frame.payload[..];
    if frame.kind != kind::CONTINUATION && frame.has(flag::PADDED) {
        let (padding, rest) = payload.split_first()?;
        payload = &rest[..rest.len().checked_sub(usize::from(*padding))?];
    }
    if frame.kind == kind::HEADERS && frame.has(flag::PRIORITY) {
        payload = payload.get(5..)?;
    }
    Some(payload)
}
