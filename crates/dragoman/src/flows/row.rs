//! A story in one line.

use dragoman_telemetry::Story;

use crate::plain::{Tone, align, plain, time};

/// The most characters of what the app chose that a line shows.
const WIDE: usize = 60;

const HEADER: [&str; 8] = ["TIME", "WHAT", "DESTINATION", "ENDPOINT", "RESULT", "ATTEMPTS", "TOOK", "ID"];

/// How wide the columns of a line are that others follow, which are not known yet.
const USUAL: [usize; 8] = [12, 44, 12, 21, 20, 8, 11, 16];

/// All of them under each other, with a header; nothing where there are none.
pub(super) fn table(stories: &[&Story], color: bool) -> String {
    if stories.is_empty() {
        return String::new();
    }
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(stories.iter().map(|story| cells(story)));
    let tones = std::iter::once(None).chain(stories.iter().map(|story| Some(tone(story))));
    let lines = align(&rows).into_iter().zip(tones);
    lines
        .map(|(line, tone)| tone.map_or_else(|| line.clone(), |tone| tone.paint(&line, color)) + "\n")
        .collect()
}

/// The names of the columns.
pub(super) fn header() -> String {
    padded(&HEADER.map(str::to_owned))
}

/// One of many that come one after the other.
pub(super) fn line(story: &Story, color: bool) -> String {
    tone(story).paint(&padded(&cells(story)), color)
}

/// How it went.
pub(super) fn tone(story: &Story) -> Tone {
    match () {
        () if !story.cause.is_empty() => Tone::Bad,
        () if story.attempts_made > 1 => Tone::Mended,
        () => Tone::Good,
    }
}

/// What it was: the request, or the flow.
pub(super) fn what(story: &Story) -> String {
    let text = match story.kind.as_str() {
        "exchange" if story.method.is_empty() => "no request".to_owned(),
        "exchange" => {
            let host = if story.host.is_empty() { &story.original_dst } else { &story.host };
            format!("{} {host}{}", story.method, story.path)
        }
        _ => {
            let name = if story.sni.is_empty() { &story.host } else { &story.sni };
            let name = if name.is_empty() { String::new() } else { format!("{name} ") };
            format!("{} flow to {name}{}", story.sniffed.protocol, or_dash(&story.original_dst))
        }
    };
    plain(&text)
}

fn cells(story: &Story) -> [String; 8] {
    let mut what = what(story);
    if what.len() > WIDE {
        what.truncate(WIDE - 3);
        what.push_str("...");
    }
    let status = story.status.map_or_else(String::new, |status| status.to_string());
    let result = match (status.as_str(), story.cause.as_str(), story.grpc_status.as_str()) {
        ("", "", _) => "ok".to_owned(),
        (status, cause, grpc) => [status, grpc, cause]
            .iter()
            .filter(|word| !word.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(" "),
    };
    let endpoint = story.attempts.last().map_or("", |attempt| attempt.endpoint.as_str());
    [
        story.ended.get(11..23).unwrap_or(&story.ended).to_owned(),
        what,
        story.destination.clone(),
        or_dash(endpoint).to_owned(),
        result,
        story.attempts_made.to_string(),
        time(story.duration_us),
        story.id.clone(),
    ]
    .map(|cell| plain(&cell))
}

fn padded(cells: &[String; 8]) -> String {
    let cells = cells.iter().zip(USUAL).map(|(cell, width)| format!("{cell:width$}"));
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Story {
        Story {
            kind: "exchange".into(),
            id: "7c1f0a9be2d45e10".into(),
            ended: "2026-11-21T09:30:00.123Z".into(),
            method: "GET".into(),
            host: "pay.test".into(),
            path: "/\u{1b}[31m".into(),
            destination: "pay".into(),
            status: Some(503),
            cause: "connect_refused".into(),
            attempts_made: 2,
            duration_us: 1234,
            ..Story::default()
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_and_no_byte_of_the_apps_reaches_the_terminal() {
        assert_eq!(
            table(&[&story()], false),
            "TIME          WHAT                     DESTINATION  ENDPOINT  RESULT               ATTEMPTS  TOOK      ID\n\
             09:30:00.123  GET pay.test/\\u{1b}[31m  pay          -         503 connect_refused  2         1.234 ms  7c1f0a9be2d45e10\n"
        );
        assert_eq!(table(&[], true), "");
    }

    #[test]
    fn colour_tells_how_it_went() {
        let mut story = story();
        assert!(line(&story, true).starts_with("\x1b[31m"));
        story.cause.clear();
        assert!(line(&story, true).starts_with("\x1b[33m"));
        story.attempts_made = 1;
        assert!(line(&story, true).starts_with("\x1b[32m"));
        assert!(!line(&story, false).contains('\x1b'));
    }
}
