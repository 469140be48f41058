//! Records of different lengths in a fixed number of bytes, the oldest overwritten first.
//!
//! Positions are counted in bytes since the beginning and never wrap, so that a reader can come back later and learn
//! whether what follows the last record that it saw is still there.

/// Bytes that each record takes beside its own: its length.
const FRAME: usize = 2;

/// A bounded queue of records.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: Box<[u8]>,
    /// Where the next record goes, in `bytes`.
    end: usize,
    /// Bytes ever written.
    written: u64,
    /// Bytes that are in use.
    used: usize,
    /// Records ever written.
    count: u64,
    /// Records that are here.
    held: u64,
}

/// Where a reader is: behind the last record that it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    byte: u64,
    count: u64,
}

impl Position {
    /// Whether all records before `other` were seen.
    pub(super) fn is_behind(self, other: Position) -> bool {
        self.byte >= other.byte
    }
}

/// What a reader gets in one go.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// Whole records, each behind its length.
    pub(super) bytes: Vec<u8>,
    /// Records that were overwritten before they were read.
    pub(super) lost: u64,
}

impl Ring {
    /// Room for so many bytes, lengths included. The memory is the system's until it is used.
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes].into_boxed_slice(), end: 0, written: 0, used: 0, count: 0, held: 0 }
    }

    /// Adds a record. What must go for it is given to `evicted`; one that has no room at all goes there itself.
    pub(super) fn push(&mut self, record: &[u8], mut evicted: impl FnMut(&Self, usize)) -> bool {
        let needed = FRAME + record.len();
        let Ok(length) = u16::try_from(record.len()) else { return false };
        if needed > self.bytes.len() {
            return false;
        }
        while self.bytes.len() - self.used < needed {
            let oldest = self.length_at(self.oldest());
            evicted(self, oldest);
            self.used -= FRAME + oldest;
            self.held -= 1;
        }
        self.write(&length.to_le_bytes());
        self.write(record);
        self.used += needed;
        self.written += needed as u64;
        self.count += 1;
        self.held += 1;
        true
    }

    /// The first byte of the oldest record.
    pub(super) fn first_byte(&self) -> u8 {
        self.bytes[self.wrapped(self.oldest() + FRAME)]
    }

    /// The oldest record, which has so many bytes.
    pub(super) fn copy_oldest(&self, length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length);
        self.copy(self.wrapped(self.oldest() + FRAME), length, &mut out);
        out
    }

    /// The records behind `from`, or as many of them as fit into `most` bytes, and at least one. Moves `from` behind them.
    pub(super) fn read(&self, from: &mut Position, most: usize) -> Piece {
        let mut piece = Piece::default();
        let first = Position { byte: self.written - self.used as u64, count: self.count - self.held };
        if from.byte < first.byte {
            piece.lost = first.count - from.count;
            *from = first;
        }
        let left = usize::try_from(self.written - from.byte).unwrap_or(usize::MAX);
        let start = self.wrapped(self.end + self.bytes.len() - left);
        let (mut length, mut records) = (0, 0);
        while length < left {
            let next = FRAME + self.length_at(self.wrapped(start + length));
            if records > 0 && length + next > most {
                break;
            }
            length += next;
            records += 1;
        }
        self.copy(start, length, &mut piece.bytes);
        *from = Position { byte: from.byte + length as u64, count: from.count + records };
        piece
    }

    /// Behind the newest record.
    pub(super) fn newest(&self) -> Position {
        Position { byte: self.written, count: self.count }
    }

    /// Records that are here, and the bytes that they take.
    pub(super) fn held(&self) -> (u64, usize) {
        (self.held, self.used)
    }

    /// Records that were ever added.
    pub(super) fn ever(&self) -> u64 {
        self.count
    }

    fn oldest(&self) -> usize {
        self.wrapped(self.end + self.bytes.len() - self.used)
    }

    fn length_at(&self, at: usize) -> usize {
        usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[self.wrapped(at + 1)]]))
    }

    /// `at` is less than twice the length.
    fn wrapped(&self, at: usize) -> usize {
        if at >= self.bytes.len() { at - self.bytes.len() } else { at }
    }

    fn write(&mut self, record: &[u8]) {
        let (now, later) = record.split_at(record.len().min(self.bytes.len() - self.end));
        self.bytes[self.end..self.end + now.len()].copy_from_slice(now);
        self.bytes[..later.len()].copy_from_slice(later);
        self.end = self.wrapped(self.end + record.len());
    }

    fn copy(&self, start: usize, length: usize, out: &mut Vec<u8>) {
        let now = length.min(self.bytes.len() - start);
        out.extend_from_slice(&self.bytes[start..start + now]);
        out.extend_from_slice(&self.bytes[..length - now]);
    }
}

impl Piece {
    /// The records one by one.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<FRAME>()?;
            let (record, behind) = behind.split_at_checked(u16::from_le_bytes(*length).into())?;
            rest = behind;
            Some(record)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Beside a model that is a plain list: never more than its bytes, always the newest, and a reader gets every
        /// record or is told how many it lost.
        #[test]
        fn holds_the_newest_within_its_bytes(
            size in 8_usize..400,
            steps in prop::collection::vec((0_usize..60, any::<bool>(), 1_usize..200), 1..200),
        ) {
            let mut ring = Ring::new(size);
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            let (mut reader, mut seen, mut told) = (Position::default(), 0_u64, 0_u64);
            let mut pushed = 0_u64;
            for (number, (length, reads, most)) in steps.into_iter().enumerate() {
                let record = vec![number as u8; length];
                let fits = length + FRAME <= size;
                let mut evicted = Vec::new();
                let took = ring.push(&record, |ring, length| evicted.push(ring.copy_oldest(length)));
                prop_assert_eq!(took, fits);
                if fits {
                    pushed += 1;
                    model.push_back(record);
                }
                for gone in evicted {
                    prop_assert_eq!(model.pop_front(), Some(gone));
                }
                let (held, used) = ring.held();
                prop_assert!(used <= size);
                prop_assert_eq!(used, model.iter().map(|it| it.len() + FRAME).sum::<usize>());
                prop_assert_eq!(held, model.len() as u64);
                let all = ring.read(&mut Position::default(), usize::MAX);
                let here: Vec<_> = all.records().map(<[u8]>::to_vec).collect();
                prop_assert_eq!(here, Vec::from(model.clone()));
                if reads {
                    let piece = ring.read(&mut reader, most);
                    seen += piece.records().count() as u64;
                    told += piece.lost;
                }
            }
            while reader != ring.newest() {
                let piece = ring.read(&mut reader, 1);
                seen += piece.records().count() as u64;
                told += piece.lost;
            }
            prop_assert_eq!(seen + told, pushed);
        }
    }

    #[test]
    fn what_is_larger_than_the_ring_takes_nobodys_place() {
        let mut ring = Ring::new(16);
        assert!(ring.push(b"kept", |_, _| panic!("nothing must go")));
        assert!(!ring.push(&[0; 15], |_, _| panic!("nothing must go")));
        assert!(!ring.push(&[0; 70_000], |_, _| panic!("nothing must go")));
        assert_eq!(ring.held(), (1, 6));
    }
}
