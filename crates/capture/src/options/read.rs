//! Values of options as people write them, for whoever takes them: the command line, a file, annotations of a pod.

use std::str::FromStr;

use super::Ipv6;

/// Reads a port.
///
/// # Errors
/// What was expected.
pub fn parse_port(text: &str) -> Result<u16, String> {
    parse_number(text).filter(|&port| port != 0).ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}

/// Reads the number of what `what` says, such as "a user's number".
///
/// # Errors
/// What was expected.
pub fn parse_id(what: &'static str) -> impl Fn(&str) -> Result<u32, String> {
    move |text| parse_number(text).ok_or_else(|| format!("expected {what}, not a name"))
}

/// Reads whether IPv6 is captured.
///
/// # Errors
/// What was expected.
pub fn parse_ipv6(text: &str) -> Result<Ipv6, String> {
    match text {
        "auto" => Ok(Ipv6::Auto),
        "on" => Ok(Ipv6::On),
        "off" => Ok(Ipv6::Off),
        _ => Err("expected auto, on or off".to_owned()),
    }
}

/// Digits only: `+80` is more likely a slip than a port.
pub fn parse_number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
