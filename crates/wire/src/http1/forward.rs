//! Forwarding a head as it came, but for the fields that policy replaces.

use super::fields::{Field, Known};
use super::head::Head;
use super::request::RequestHead;
use super::response::ResponseHead;

impl RequestHead {
    /// Appends the request line and the field lines that `drop` does not name to `out`. The empty line
    /// that ends the head is left to the caller, who may add fields before it.
    ///
    /// A length that is stated more than once is written once, as RFC 9110 §8.6 asks.
    pub fn copy_without(&self, out: &mut Vec<u8>, bytes: &[u8], drop: impl Fn(&Field) -> bool) {
        copy_without(&self.head, out, bytes, drop);
    }
}

impl ResponseHead {
    /// Appends the status line and the field lines that `drop` does not name to `out`, like
    /// [`RequestHead::copy_without`].
    pub fn copy_without(&self, out: &mut Vec<u8>, bytes: &[u8], drop: impl Fn(&Field) -> bool) {
        copy_without(&self.head, out, bytes, drop);
    }
}

/// Lines that follow each other go in one copy.
fn copy_without(head: &Head, out: &mut Vec<u8>, bytes: &[u8], drop: impl Fn(&Field) -> bool) {
    let mut run = head.start_line.range();
    let mut length_written = false;
    for field in &head.fields {
        let line = field.line.range();
        let replaced = head.framing.length_repeated && field.known == Known::ContentLength;
        if !replaced && !drop(field) {
            run.end = line.end;
            continue;
        }
        out.extend_from_slice(bytes.get(run).unwrap_or_default());
        run = line.end..line.end;
        if replaced && !length_written && !drop(field) {
            length_written = true;
            write_length(out, head.framing.length.unwrap_or_default());
        }
    }
    out.extend_from_slice(bytes.get(run).unwrap_or_default());
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
}
