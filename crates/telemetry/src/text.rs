//! Text that the application chose, made fit for a log: short, printable, without secrets.

use std::fmt::Write;

/// The most bytes of one value that a log line shows.
const SHOWN_BYTES: usize = 256;

/// Replaces what is in `out`; keeps its storage.
pub(crate) fn set(out: &mut String, bytes: &[u8]) {
    out.clear();
    push_printable(out, bytes);
}

/// The bytes as text: printable ASCII as it is, anything else and the backslash as `\xNN`, and `...` where it
/// was cut.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut out = String::new();
    push_printable(&mut out, bytes);
    out
}

fn push_printable(out: &mut String, bytes: &[u8]) {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    // Every exchange comes through here, and nearly all are plain: those are copied whole.
    let plain = shown.iter().position(|&byte| !is_plain(byte)).unwrap_or(shown.len());
    out.push_str(std::str::from_utf8(&shown[..plain]).expect("plain bytes are ASCII"));
    for &byte in &shown[plain..] {
        match byte {
            byte if is_plain(byte) => out.push(char::from(byte)),
            _ => write!(out, "\\x{byte:02x}").expect("writing to a String cannot fail"),
        }
    }
    if bytes.len() > SHOWN_BYTES {
        out.push_str("...");
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'\\'
}

/// Text that may be long, cut at a character; for the words of the system and of our own errors.
pub(crate) fn shortened(text: &str) -> &str {
    let end = (0..=SHOWN_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or_default()]
}

/// The path of a request target (RFC 9112 section 3.2), without scheme, authority, query and fragment: of
/// these the authority may hold a password and the query a token.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    let target = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    if target.starts_with(b"/") || target == b"*" {
        return target;
    }
    match target.windows(3).position(|three| three == b"://") {
        Some(scheme) => {
            let rest = &target[scheme + 3..];
            rest.iter().position(|&byte| byte == b'/').map_or(b"/", |slash| &rest[slash..])
        }
        None => without_userinfo(target),
    }
}

/// An authority without what stands before its last `@`.
pub(crate) fn without_userinfo(authority: &[u8]) -> &[u8] {
    authority.rsplit(|&byte| byte == b'@').next().unwrap_or_default()
}
