//! Retry-After is seconds or a moment: a moment does not move when the clock does.
#![no_main]

use std::time::Duration;

use dragoman_policy::parse_retry_after;
use libfuzzer_sys::fuzz_target;

/// 1994, 2026, and the ends.
const NOWS: [u64; 5] = [0, 784_111_777, 1_792_000_000, u64::MAX - 1, u64::MAX];

fuzz_target!(|value: &str| {
    let trimmed = value.trim_matches([' ', '\t']);
    for now in NOWS {
        let wait = parse_retry_after(value, now);
        assert_eq!(parse_retry_after(trimmed, now), wait, "white space around it");
        let Some(wait) = wait else { continue };
        if trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
            assert_eq!(wait, Duration::from_secs(trimmed.parse().unwrap_or(u64::MAX)));
        } else if !trimmed.contains('-') {
            // Dates with a year of two digits have dashes, and mean another century one day.
            let later = parse_retry_after(value, now.saturating_add(60));
            assert_eq!(later, Some(wait.saturating_sub(Duration::from_secs(60))));
        }
    }
});
