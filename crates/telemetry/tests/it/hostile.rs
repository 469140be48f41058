//! Whatever the application or a server says, a line stays one line, and secrets stay out of it.

use crate::common::{lines, telemetry};
use dragoman_telemetry::{AccessFormat, AccessMode, Cause, ExchangeRecord};

/// Texts that try to end a line, a string, a key, or to reach the terminal.
const HOSTILE: &[&str] = &[
    "\"",
    "\\",
    "\\\"",
    "\",\"cause\":\"forged",
    "a\nts=forged kind=flow",
    "\r\n\r\n",
    "\0",
    "\x1b[2J\x1b]0;owned\x07",
    "\x7f\u{80}\u{9b}31m",
    "\u{2028}\u{2029}\u{202e}gpj.exe\u{2066}\u{feff}",
    "}{",
    "a=b c=\"d",
    "\u{10ffff}\u{1f600}é",
    " ",
];

#[test]
fn a_hostile_value_cannot_leave_its_place() {
    for format in [AccessFormat::Json, AccessFormat::Text] {
        for hostile in HOSTILE {
            let (telemetry, sink) = telemetry(AccessMode::All(1.0), format);
            let mut flow = telemetry.flow("10.0.0.7:1".parse().unwrap());
            flow.sni = Some((*hostile).into());
            flow.fail(Cause::ConnectFailed, (*hostile).to_owned());
            let mut exchange = ExchangeRecord::new(&telemetry);
            exchange.begin(flow.facts(), hostile, format!("/{hostile}").as_bytes(), hostile);
            exchange.request_id.push_str(hostile);
            exchange.route = Some((*hostile).into());
            exchange.fail(Cause::BadResponse, (*hostile).to_owned());
            exchange.finish();
            drop(flow);

            assert!(telemetry.flush(crate::common::PATIENCE));
            let text = sink.text();
            assert_eq!(text.lines().count(), 2, "{text:?}");
            let bad = |c: char| (c.is_control() && c != '\n') || ('\u{2028}'..='\u{202e}').contains(&c);
            assert!(!text.contains(bad), "{text:?}");
            if format == AccessFormat::Json {
                let lines = lines(&telemetry, &sink);
                assert_eq!(lines[0]["detail"], *hostile);
                assert_eq!(lines[0]["route"], *hostile);
                assert_eq!(lines[0]["cause"], "bad_response");
                assert_eq!(lines[1]["cause"], "connect_failed");
            } else {
                assert_eq!(text.matches(" cause=").count(), 2, "{text}");
                assert!(text.lines().all(|line| line.starts_with("ts=2")), "{text}");
            }
        }
    }
}

#[test]
fn text_of_any_length_gives_a_line_of_bounded_length() {
    let (telemetry, sink) = telemetry(AccessMode::All(1.0), AccessFormat::Json);
    let long = "\u{1}é".repeat(100_000);
    let mut flow = telemetry.flow("10.0.0.7:1".parse().unwrap());
    flow.sni = Some(long.clone().into());
    flow.fail(Cause::ConnectFailed, long.clone());
    let mut exchange = ExchangeRecord::new(&telemetry);
    exchange.begin(flow.facts(), &long, long.as_bytes(), &long);
    exchange.request_id.push_str(&long);
    exchange.finish();
    drop(flow);
    let lines = lines(&telemetry, &sink);
    assert!(lines[0]["path"].ends_with("..."));
    for line in sink.text().lines() {
        assert!(line.len() < 8192, "{} bytes", line.len());
    }
}

#[test]
fn secrets_in_a_target_or_host_are_not_logged() {
    let (telemetry, sink) = telemetry(AccessMode::All(1.0), AccessFormat::Json);
    let flow = telemetry.flow("10.0.0.7:1".parse().unwrap());
    let mut exchange = ExchangeRecord::new(&telemetry);
    let cases: &[(&[u8], &str, &str)] = &[
        (b"/a?token=SECRET", "h", "/a"),
        (b"/a#SECRET", "h", "/a"),
        (b"http://u:SECRET@h/p/q?SECRET", "h", "/p/q"),
        (b"http://u:SECRET@h", "h", "/"),
        (b"http://u:SECRET@h?SECRET", "h", "/"),
        (b"u:SECRET@h:443", "u:SECRET@h", "h:443"),
        (b"*", "h", "*"),
        (b"", "", ""),
        (b"/\xff\x00\\ \"", "h", "/\\xff\\x00\\x5c \""),
    ];
    for (target, host, _) in cases {
        exchange.begin(flow.facts(), "GET", target, host);
        exchange.finish();
    }
    let lines = lines(&telemetry, &sink);
    for (line, (_, _, path)) in lines.iter().zip(cases) {
        assert_eq!(line.get("path").map_or("", String::as_str), *path);
    }
    assert!(!sink.text().contains("SECRET"));
}

#[test]
fn the_lines_are_json_for_another_reader_too() {
    let (telemetry, sink) = telemetry(AccessMode::All(1.0), AccessFormat::Json);
    for hostile in HOSTILE {
        let mut flow = telemetry.flow("[fd00::7%3]:1".parse().unwrap());
        flow.fail(Cause::ConnectFailed, (*hostile).to_owned());
    }
    assert!(telemetry.flush(crate::common::PATIENCE));
    let path = std::env::temp_dir().join(format!("dragoman-telemetry-{}.jsonl", std::process::id()));
    std::fs::write(&path, sink.text()).unwrap();
    let program = "import json,sys\nfor l in open(sys.argv[1], newline='\\n'): print(json.loads(l)['detail'].encode().hex())";
    let output = std::process::Command::new("python3").args(["-c", program]).arg(&path).output();
    std::fs::remove_file(&path).unwrap();
    let output = output.expect("python3 runs (it is needed to build and test dragoman)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected: Vec<_> = HOSTILE.iter().map(|text| hex(text)).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), expected);
}
