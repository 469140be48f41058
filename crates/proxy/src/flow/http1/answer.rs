//! The answers that dragoman makes itself.

use std::io::Write;
use std::time::Duration;

use dragoman_telemetry::Cause;

/// Appends the answer for `cause` to `out`: its status, the cause by name in `x-dragoman-cause`, and one line for
/// whoever reads the body. `to_head`: the request was a HEAD, so the body is only announced.
pub(super) fn write(
    out: &mut Vec<u8>,
    cause: Cause,
    detail: Option<&str>,
    retry_after: Option<Duration>,
    keep_alive: bool,
    to_head: bool,
) -> u16 {
    let status = cause.status().unwrap_or(502);
    let body = match detail {
        Some(detail) => format!("dragoman: {cause}: {detail}\n"),
        None => format!("dragoman: {cause}\n"),
    };
    let connection = if keep_alive { "" } else { "connection: close\r\n" };
    let retry_after = retry_after.map_or(String::new(), |wait| format!("retry-after: {}\r\n", seconds(wait)));
    let length = body.len();
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\
         x-dragoman-cause: {cause}\r\n{retry_after}{connection}\r\n{}",
        reason(status),
        if to_head { "" } else { &body },
    );
    status
}

/// Whole seconds, rounded up: never before the time.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_cause() {
        let mut out = Vec::new();
        let wait = Some(Duration::from_millis(1200));
        assert_eq!(write(&mut out, Cause::BreakerOpen, Some("10.0.0.1:80"), wait, true, false), 503);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 36\r\n\
             x-dragoman-cause: breaker_open\r\nretry-after: 2\r\n\r\ndragoman: breaker_open: 10.0.0.1:80\n"
        );
    }

    #[test]
    fn has_no_body_for_head() {
        let mut out = Vec::new();
        write(&mut out, Cause::BadRequest, None, None, false, true);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with("connection: close\r\n\r\n") && text.contains("content-length: 22\r\n"),
            "{text}"
        );
    }

    #[test]
    fn every_status_of_a_cause_has_its_reason() {
        for status in Cause::ALL.iter().filter_map(|cause| cause.status()) {
            assert_ne!(reason(status), "Error", "{status}");
        }
    }
}
