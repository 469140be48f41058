//! The character classes of HTTP (RFC 9110 §5.6), shared by the sniffer and the HTTP/1 readers.

/// `tchar`: what a method or a field name is made of.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut i = 0;
        while i < 256 {
            table[i] = (i as u8).is_ascii_alphanumeric();
            i += 1;
        }
        let mark = b"!#$%&'*+-.^_`|~";
        i = 0;
        while i < mark.len() {
            table[mark[i] as usize] = true;
            i += 1;
        }
        table
    };
    TABLE[usize::from(byte)]
}

/// A byte that may stand in a field value: visible ASCII, space, tab, obs-text (0x80 and above).
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// OWS: optional white space around a field value and between the items of a list.
pub(crate) fn is_ows(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `bytes` without the white space at both ends.
pub(crate) fn trim_ows(bytes: &[u8]) -> &[u8] {
    let Some(first) = bytes.iter().position(|&b| !is_ows(b)) else { return &[] };
    let last = bytes.iter().rposition(|&b| !is_ows(b)).unwrap_or(first);
    &bytes[first..=last]
}
