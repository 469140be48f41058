//! Names, and how they are compressed.

use std::fmt;

/// The most bytes of a name on the wire, its final zero included (RFC 1035 §2.3.4).
const NAME_MAX: usize = 255;
/// The most pointers in one name. Each must point further back than the one before it, which ends every loop; this keeps a
/// message from making each of its names walk all of it.
const POINTERS_MAX: usize = 64;

const KIND_OF_LABEL: u8 = 0b1100_0000;
const POINTER: u8 = 0b1100_0000;

/// A name, without regard to case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// Labels as on the wire, in lower case and without compression, without the final zero.
    labels: Box<[u8]>,
}

impl Name {
    /// Reads the name at `start`, and where what follows it begins. Pointers are followed if they may be: what a query asks
    /// stands first, where there is nothing to point to.
    pub(super) fn read(message: &[u8], start: usize, pointers: Pointers) -> Option<(Name, usize)> {
        let mut labels = Vec::with_capacity(32);
        let (mut at, mut end, mut jumps, mut limit) = (start, None, 0, start);
        loop {
            let length = *message.get(at)?;
            match length & KIND_OF_LABEL {
                0 if length == 0 => {
                    let name = Name { labels: labels.into() };
                    return Some((name, end.unwrap_or(at + 1)));
                }
                0 => {
                    let label = message.get(at..=at + usize::from(length))?;
                    if labels.len() + label.len() >= NAME_MAX {
                        return None;
                    }
                    // A length is below the letters.
                    labels.extend(label.iter().map(u8::to_ascii_lowercase));
                    at += label.len();
                }
                POINTER if pointers == Pointers::Followed => {
                    let to = usize::from(length & !KIND_OF_LABEL) << 8 | usize::from(*message.get(at + 1)?);
                    jumps += 1;
                    if to >= limit || jumps > POINTERS_MAX {
                        return None;
                    }
                    end.get_or_insert(at + 2);
                    (at, limit) = (to, to);
                }
                _ => return None,
            }
        }
    }

    /// Whether it has no label.
    pub fn is_root(&self) -> bool {
        self.labels.is_empty()
    }

    /// As text without a final dot, if it is one that a host may have: letters, digits, `-` and `_`.
    pub fn host(&self) -> Option<String> {
        let mut text = String::with_capacity(self.labels.len());
        for label in self.labels() {
            if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)) {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().copied().map(char::from));
        }
        (!text.is_empty()).then_some(text)
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.labels;
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            let (label, after) = after.split_at(usize::from(length));
            rest = after;
            Some(label)
        })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in self.labels() {
            write!(f, "{}.", label.escape_ascii())?;
        }
        Ok(())
    }
}

/// Whether a name may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pointers {
    Followed,
    Refused,
}
