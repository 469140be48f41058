//! Where things are in a text: white space and comments are stepped over, lines are begun and ended.

/// Whether a line ends here.
fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// The first byte from `at` on that is neither white space, nor of a comment, nor one of `also`.
pub(super) fn skip(text: &str, mut at: usize, also: &[u8]) -> usize {
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        if byte == b'#' {
            at += bytes[at..].iter().take_while(|byte| !is_break(**byte)).count();
        } else if is_break(byte) || byte == b' ' || byte == b'\t' || also.contains(&byte) {
            at += 1;
        } else if text[at..].starts_with('\u{feff}') {
            at += '\u{feff}'.len_utf8();
        } else {
            break;
        }
    }
    at
}

/// Where the line that `at` is in begins.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    let before = text.as_bytes()[..at].iter().rposition(|byte| is_break(*byte));
    let start = before.map_or(0, |before| before + 1);
    if start == 0 && text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { start }
}

/// Whether `at` is behind a line break.
fn begins_line(text: &str, at: usize) -> bool {
    at > 0 && is_break(text.as_bytes()[at - 1])
}

/// Where the line after that of `end`, the end of a node, begins; the end of the text where there is none. A node that ends
/// behind a line break (a block scalar) has no more of the next line.
pub(super) fn line_after(text: &str, end: usize) -> usize {
    if begins_line(text, end) { end } else { next_line(text, end) }
}

fn next_line(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let end = at + bytes[at..].iter().take_while(|byte| !is_break(**byte)).count();
    match &bytes[end..] {
        [b'\r', b'\n', ..] => end + 2,
        [_, ..] => end + 1,
        [] => end,
    }
}

/// Where each line begins; behind a line break at the end there is one more.
pub(super) fn line_starts(text: &str) -> impl Iterator<Item = usize> + '_ {
    let next = |at: &usize| Some(next_line(text, *at)).filter(|next| next > at && begins_line(text, *next));
    std::iter::successors(Some(0), next)
}

/// From the beginning of a line on, the comments that stand in `column` or to its right, up to the first other line: they
/// speak of what is before them.
pub(super) fn after_comments(text: &str, mut line: usize, column: usize) -> usize {
    while let Some(indent) = comment_column(text, line)
        && indent >= column
    {
        line = next_line(text, line);
    }
    line
}

fn comment_column(text: &str, line: usize) -> Option<usize> {
    let indent = indent(text, line).len();
    (text.as_bytes().get(line + indent) == Some(&b'#')).then_some(indent)
}

/// The white space from `line` on.
pub(super) fn indent(text: &str, line: usize) -> &str {
    let rest = &text[line..];
    &rest[..rest.len() - rest.trim_start_matches([' ', '\t']).len()]
}

/// The white space before `at`, where there is nothing else before it on its line. Takes no longer where a line is long.
pub(super) fn margin(text: &str, at: usize) -> Option<&str> {
    let bytes = text.as_bytes();
    let white = bytes[..at].iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let start = at - white;
    let begins = start == 0 || is_break(bytes[start - 1]) || &text[..start] == "\u{feff}";
    begins.then(|| &text[start..at])
}

/// How the lines of the text end: as its first one does.
pub(super) fn newline(text: &str) -> &'static str {
    match text.find(['\n', '\r']) {
        Some(at) if text[at..].starts_with("\r\n") => "\r\n",
        Some(at) if text[at..].starts_with('\r') => "\r",
        _ => "\n",
    }
}

/// Whether the last line lacks its line break.
pub(super) fn ends_open(text: &str) -> bool {
    !text.is_empty() && !begins_line(text, text.len())
}

/// How many bytes the line break before `at` has.
pub(super) fn break_before(text: &str, at: usize) -> usize {
    match &text.as_bytes()[..at] {
        [.., b'\r', b'\n'] => 2,
        [.., b'\r' | b'\n'] => 1,
        _ => 0,
    }
}

/// Bytes that take the place of others.
#[derive(Clone, Debug)]
pub(super) struct Splice {
    /// Where.
    pub(super) at: usize,
    /// How many of the old ones go.
    pub(super) old: usize,
    /// What comes.
    pub(super) new: String,
}

/// The text with the splices, which are in order and do not overlap.
pub(super) fn spliced(text: &str, splices: &[Splice]) -> String {
    let mut out =
        String::with_capacity(text.len() + splices.iter().map(|splice| splice.new.len()).sum::<usize>());
    let mut done = 0;
    for splice in splices {
        out.push_str(&text[done..splice.at]);
        out.push_str(&splice.new);
        done = splice.at + splice.old;
    }
    out.push_str(&text[done..]);
    out
}
