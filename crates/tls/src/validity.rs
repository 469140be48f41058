//! From when until when a certificate holds, and words for one that does not.
//!
//! "Expired" alone does not say whose clock is wrong. So each message has the time that it is here, both ends of the
//! validity, and how far off the nearer one is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;

use crate::failure::{Failure, FailureKind};

/// From when until when a certificate holds, both included, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its notBefore.
    pub not_before: u64,
    /// Its notAfter.
    pub not_after: u64,
}

impl Validity {
    /// That of a certificate. What is before 1970 counts as 1970.
    pub fn of(certificate: &X509Certificate<'_>) -> Self {
        let seconds = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let validity = certificate.validity();
        Self { not_before: seconds(validity.not_before), not_after: seconds(validity.not_after) }
    }

    /// # Errors
    /// [`FailureKind::NotYetValid`] or [`FailureKind::Expired`] at `now`, with all times.
    pub fn check(self, now: SystemTime) -> Result<(), Failure> {
        let Self { not_before, not_after } = self;
        let now = seconds(now);
        let (kind, skew) = if now < not_before {
            let wait = span(not_before - now);
            (FailureKind::NotYetValid, format!("is not yet valid, for another {wait}"))
        } else if now > not_after {
            (FailureKind::Expired, format!("expired {} ago", span(now - not_after)))
        } else {
            return Ok(());
        };
        let (not_before, not_after, now) = (utc(not_before), utc(not_after), utc(now));
        Err(Failure::new(kind, format!("{skew} (now {now}, notBefore {not_before}, notAfter {not_after})")))
    }

    /// When a third of the life is left: the time by which something should have taken its place.
    pub fn renewal(self) -> u64 {
        self.not_after - self.not_after.saturating_sub(self.not_before) / 3
    }
}

/// Seconds since 1970; 0 for what is before.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Seconds since 1970 as RFC 3339, UTC.
pub fn utc(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    let Some(time) = time.map(|time| time.to_datetime()) else {
        return "after the year 9999".into();
    };
    let (date, (hour, minute, second)) = (time.date(), time.to_hms());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A number of seconds in its two largest units.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALIDITY: Validity = Validity { not_before: 1_000_000_000, not_after: 1_000_090_000 };

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn both_ends_are_valid() {
        for now in [1_000_000_000, 1_000_045_000, 1_000_090_000] {
            assert!(VALIDITY.check(at(now)).is_ok(), "{now}");
        }
    }

    #[test]
    fn t2_a_certificate_from_the_future_tells_all_times() {
        let failure = VALIDITY.check(at(999_999_939)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotYetValid);
        assert_eq!(
            failure.detail,
            "is not yet valid, for another 1m1s (now 2001-09-09T01:45:39Z, notBefore 2001-09-09T01:46:40Z, \
             notAfter 2001-09-10T02:46:40Z)"
        );
    }

    #[test]
    fn an_expired_certificate_tells_all_times() {
        let failure = VALIDITY.check(at(1_000_090_001)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Expired);
        assert_eq!(
            failure.detail,
            "expired 1s ago (now 2001-09-10T02:46:41Z, notBefore 2001-09-09T01:46:40Z, notAfter 2001-09-10T02:46:40Z)"
        );
    }

    #[test]
    fn renewal_is_due_when_a_third_is_left() {
        assert_eq!(VALIDITY.renewal(), 1_000_060_000);
        let backwards = Validity { not_before: 10, not_after: 5 };
        assert_eq!(backwards.renewal(), 5);
    }

    #[test]
    fn spans_have_two_units() {
        let spans =
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h0m"), (90_061, "1d1h"), (864_000, "10d0h")];
        for (seconds, text) in spans {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn times_beyond_what_can_be_written_are_said_to_be_so() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(253_402_300_799), "9999-12-31T23:59:59Z");
        assert_eq!(utc(u64::MAX), "after the year 9999");
    }
}
