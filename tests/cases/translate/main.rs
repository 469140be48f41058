//! An app of one version of HTTP and an endpoint of another, where policy names the endpoint's: neither can tell but by
//! what the other version has no words for.

mod ends_to_http1;
mod hostile_to_http1;
mod hostile_to_http2;
mod to_http1;
mod to_http2;

/// Endpoints that speak HTTP/2 alone, whatever the app speaks.
const TO_HTTP2: &str = "[defaults]\nupstream_protocol = 'http2'\nretry = { base = '1ms' }\npool = {}\n";

/// Endpoints that speak HTTP/1 alone.
const TO_HTTP1: &str = "[defaults]\nupstream_protocol = 'http1'\nretry = { base = '1ms' }\npool = {}\n";
