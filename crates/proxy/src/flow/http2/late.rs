//! The time that an app may take for a field section (`proxy.request_head_timeout`). The library waits for the rest of a
//! frame, and for the CONTINUATION after one, for as long as nobody closes the connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// What a client says first (RFC 9113 §3.4), before any frame, in bytes.
const PREFACE: usize = 24;
/// The head of a frame (§4.1), in bytes.
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Watches what an app's connection reads.
#[derive(Debug)]
pub(super) struct Late {
    limit: Duration,
    sections: Sections,
    /// Set while a section is open.
    expiry: Option<Pin<Box<Sleep>>>,
}

impl Late {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, sections: Sections { left: PREFACE, ..Sections::default() }, expiry: None }
    }

    /// Takes what was read.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if self.sections.take(bytes) {
            self.expiry = None;
        }
        if self.sections.is_open() && self.expiry.is_none() {
            self.expiry = Some(Box::pin(sleep(self.limit)));
        }
    }

    /// The error that ends the connection, once a section has been open for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.expiry {
            Some(expiry) => expiry.as_mut().poll(cx).map(|()| io::Error::other("in a field section")),
            None => Poll::Pending,
        }
    }
}

/// Whether an error of the library is that of [`Late::poll`]: those of the kernel are of no such kind.
pub(crate) fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other
}

/// Where the frames begin, and whether a field section is under way. What is wrong with them the library says.
#[derive(Debug, Default)]
struct Sections {
    /// Bytes of the payload that are still to come.
    left: usize,
    head: [u8; HEAD],
    /// How much there is of `head`.
    have: usize,
    section: Section,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Section {
    #[default]
    None,
    Open,
    /// It ends with this frame.
    Ending,
}

impl Sections {
    /// Whether a section has begun and not ended. Part of a frame's head may be that of one.
    fn is_open(&self) -> bool {
        self.have > 0 || self.section != Section::None
    }

    /// Whether nothing was open at some point of these bytes.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut closed = !self.is_open();
        loop {
            let skipped = self.left.min(bytes.len());
            (self.left, bytes) = (self.left - skipped, &bytes[skipped..]);
            if self.left == 0 && self.section == Section::Ending {
                self.section = Section::None;
            }
            closed |= !self.is_open();
            if bytes.is_empty() {
                return closed;
            }
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            (self.have, bytes) = (self.have + taken, &bytes[taken..]);
            if self.have == HEAD {
                self.begin();
            }
        }
    }

    /// Begins the frame whose head is there.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.have = 0;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.section = if flags & END_HEADERS != 0 { Section::Ending } else { Section::Open };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::timeout;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// DATA, a section in two frames, an empty one, and DATA; where sections begin and end, by bytes.
    fn script() -> (Vec<u8>, [(usize, usize); 2]) {
        let parts = [
            vec![b'P'; PREFACE],
            frame(0, 0, b"data"),
            frame(HEADERS, 0, b"half"),
            frame(CONTINUATION, END_HEADERS, b"full"),
            frame(0, 0, b""),
            frame(HEADERS, END_HEADERS, b""),
            frame(0, 0, b"data"),
        ];
        let at: Vec<usize> = (0..=parts.len()).map(|n| parts[..n].iter().map(Vec::len).sum()).collect();
        (parts.concat(), [(at[2], at[4]), (at[5], at[6])])
    }

    #[test]
    fn sections_are_open_from_their_first_byte_to_their_last_however_they_are_split() {
        let (bytes, open) = script();
        for cut in 0..=bytes.len() {
            let mut sections = Sections { left: PREFACE, ..Sections::default() };
            sections.take(&bytes[..cut]);
            let within = open.iter().any(|(from, to)| *from < cut && cut < *to);
            let in_a_head = sections.have > 0;
            assert_eq!(sections.section != Section::None || in_a_head, within || in_a_head, "at {cut}");
            sections.take(&bytes[cut..]);
            assert!(!sections.is_open(), "cut at {cut}");
        }
    }

    #[test]
    fn an_end_among_the_bytes_is_noticed() {
        let (bytes, [(from, to), _]) = script();
        let mut sections = Sections { left: PREFACE, ..Sections::default() };
        sections.take(&bytes[..=from]);
        assert!(!sections.take(&bytes[from + 1..to - 1]), "one section");
        assert!(sections.take(&bytes[to - 1..to + 9]), "it ended");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_that_of_one_section() {
        const LIMIT: Duration = Duration::from_secs(3);
        let section = frame(HEADERS, END_HEADERS, b"fields");
        let mut late = Late::new(LIMIT);
        let strikes =
            async |late: &mut Late, within| timeout(within, poll_fn(|cx| late.poll(cx))).await.is_ok();
        late.take(&[b'P'; PREFACE]);
        assert!(!strikes(&mut late, 10 * LIMIT).await, "an idle connection may wait");
        for _ in 0..5 {
            late.take(&section[..1]);
            assert!(!strikes(&mut late, LIMIT * 2 / 3).await);
            late.take(&section[1..]);
        }
        late.take(&section[..10]);
        assert!(!strikes(&mut late, LIMIT * 2 / 3).await);
        late.take(&section[10..11]);
        assert!(strikes(&mut late, LIMIT * 2 / 3).await, "bytes alone do not prolong it");
    }
}
