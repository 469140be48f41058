//! The answers that dragoman makes itself, in HTTP/2 and for gRPC.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use dragoman_telemetry::Cause;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

const CAUSE: HeaderName = HeaderName::from_static("x-dragoman-cause");

/// The answer for `cause`: its head and its body.
pub(super) fn plain(
    cause: Cause,
    detail: Option<&str>,
    retry_after: Option<Duration>,
) -> (Response<()>, Bytes) {
    let body = match detail {
        Some(detail) => format!("dragoman: {cause}: {detail}\n"),
        None => format!("dragoman: {cause}\n"),
    };
    let status = cause.status().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = Response::new(());
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CAUSE, HeaderValue::from_static(cause.as_str()));
    if let Some(wait) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
    }
    (response, Bytes::from(body))
}

/// The same to a gRPC client: a trailers-only answer (gRPC over HTTP/2, "Responses").
pub(super) fn grpc(cause: Cause, detail: Option<&str>) -> Response<()> {
    let mut response = Response::new(());
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code(cause)));
    let message = match detail {
        Some(detail) => percent_encoded(&format!("dragoman: {cause}: {detail}")),
        None => format!("dragoman: {cause}"),
    };
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert("grpc-message", message);
    }
    headers.insert(CAUSE, HeaderValue::from_static(cause.as_str()));
    response
}

/// The gRPC code of an answer of our own: 4 DEADLINE_EXCEEDED, 7 PERMISSION_DENIED, 13 INTERNAL, 14 UNAVAILABLE.
pub(super) fn code(cause: Cause) -> u16 {
    match cause.status() {
        Some(408 | 504) => 4,
        Some(403) => 7,
        Some(400 | 431) => 13,
        _ => 14,
    }
}

/// `grpc-message` allows printable ASCII but the percent sign.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_cause_in_both_forms() {
        let (head, body) = plain(Cause::BreakerOpen, Some("10.0.0.1:80"), Some(Duration::from_millis(1200)));
        assert_eq!(head.status(), 503);
        assert_eq!(head.headers()["x-dragoman-cause"], "breaker_open");
        assert_eq!(head.headers()["retry-after"], "2");
        assert_eq!(body, "dragoman: breaker_open: 10.0.0.1:80\n");
        let head = grpc(Cause::Timeout, Some("after 50 % of ü"));
        assert_eq!((head.status().as_u16(), &head.headers()["grpc-status"]), (200, &HeaderValue::from(4)));
        assert_eq!(head.headers()["grpc-message"], "dragoman: timeout: after 50 %25 of %C3%BC");
    }
}
