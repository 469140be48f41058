//! What gRPC says beside its messages: how a call ended, how long it may take, when to come again.
//!
//! A gRPC call is an HTTP/2 POST whose answer is 200 however it ended; what counts stands in the fields
//! `grpc-status`, `grpc-timeout` and `grpc-retry-pushback-ms`. Sources: "gRPC over HTTP2" and "Status codes
//! and their use in gRPC" of the gRPC documentation, and gRFC A6 "Client Retries" for the pushback.

use std::fmt;
use std::time::Duration;

/// Declares [`GrpcStatus`] from the one table of numbers and words.
macro_rules! grpc_statuses {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $word:literal;)+) => {
        /// How a gRPC call ended: the closed list of codes, with their numbers on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum GrpcStatus { $($(#[$doc])* $variant = $number,)+ }

        impl GrpcStatus {
            /// All of them, in the order of their numbers, which start at 0 and have no gap.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it in configuration, log and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

grpc_statuses! {
    /// The call did what it should.
    Ok = 0, "ok";
    /// Whoever made the call gave it up.
    Cancelled = 1, "cancelled";
    /// An error that the server could not name, or a code that is not on this list.
    Unknown = 2, "unknown";
    /// The request is wrong whatever the state of the server.
    InvalidArgument = 3, "invalid_argument";
    /// The time for the call ran out.
    DeadlineExceeded = 4, "deadline_exceeded";
    /// What was asked for does not exist.
    NotFound = 5, "not_found";
    /// What should be made exists.
    AlreadyExists = 6, "already_exists";
    /// The caller is known and may not do this.
    PermissionDenied = 7, "permission_denied";
    /// A quota or some other resource is used up.
    ResourceExhausted = 8, "resource_exhausted";
    /// The server is not in the state that the call needs.
    FailedPrecondition = 9, "failed_precondition";
    /// The call lost a race with another one.
    Aborted = 10, "aborted";
    /// The request goes past the end of something.
    OutOfRange = 11, "out_of_range";
    /// The server has no such method.
    Unimplemented = 12, "unimplemented";
    /// Something that always holds did not.
    Internal = 13, "internal";
    /// The server cannot take the call at present.
    Unavailable = 14, "unavailable";
    /// Data is lost for good.
    DataLoss = 15, "data_loss";
    /// The caller is not known.
    Unauthenticated = 16, "unauthenticated";
}

impl GrpcStatus {
    /// The status with this number, if it is on the list.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The status in a `grpc-status` field. What is not on the list is [`Unknown`](Self::Unknown), which is
    /// what every gRPC library makes of it.
    pub fn parse(value: &str) -> Self {
        parse_digits(value)
            .and_then(|number| Self::from_number(number.try_into().ok()?))
            .unwrap_or(Self::Unknown)
    }
}

/// A set of [`GrpcStatus`]es, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct GrpcStatusSet(u32);

impl GrpcStatusSet {
    /// The set of nothing.
    pub const EMPTY: Self = Self(0);

    /// The set of these.
    pub const fn of(statuses: &[GrpcStatus]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < statuses.len() {
            bits |= 1 << statuses[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    /// Whether `status` is one of them.
    pub const fn contains(self, status: GrpcStatus) -> bool {
        self.0 >> status as u8 & 1 == 1
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of them, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = GrpcStatus> {
        GrpcStatus::ALL.iter().copied().filter(move |status| self.contains(*status))
    }
}

impl FromIterator<GrpcStatus> for GrpcStatusSet {
    fn from_iter<I: IntoIterator<Item = GrpcStatus>>(statuses: I) -> Self {
        Self(statuses.into_iter().fold(0, |bits, status| bits | 1 << status as u8))
    }
}

impl fmt::Debug for GrpcStatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What a server asks of whoever would try again: the field `grpc-retry-pushback-ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Come again after exactly this time.
    Wait(Duration),
    /// Do not come again.
    Stop,
}

/// Reads a `grpc-retry-pushback-ms` field: milliseconds in a signed integer of 32 bits. A negative one, and
/// whatever is none, means [`Pushback::Stop`], as gRFC A6 has it.
pub fn parse_pushback(value: &str) -> Pushback {
    match parse_digits(value).filter(|millis| i32::try_from(*millis).is_ok()) {
        Some(millis) => Pushback::Wait(Duration::from_millis(millis)),
        None => Pushback::Stop,
    }
}

/// The units of `grpc-timeout` in nanoseconds, the finest first.
const TIMEOUT_UNITS: [(char, u128); 6] = [
    ('n', 1),
    ('u', 1_000),
    ('m', 1_000_000),
    ('S', 1_000_000_000),
    ('M', 60_000_000_000),
    ('H', 3_600_000_000_000),
];
/// A `grpc-timeout` has at most this many digits.
const TIMEOUT_DIGITS: usize = 8;
const MAX_TIMEOUT: u128 = 99_999_999;

/// Reads a `grpc-timeout` field: one to eight digits and a unit. `None` if it is none.
pub fn parse_grpc_timeout(value: &str) -> Option<Duration> {
    let unit = value.chars().next_back()?;
    let (_, nanos) = TIMEOUT_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let digits = &value[..value.len() - unit.len_utf8()];
    let number = parse_digits(digits).filter(|_| digits.len() <= TIMEOUT_DIGITS)?;
    let total = u128::from(number) * nanos;
    Some(Duration::new((total / 1_000_000_000) as u64, (total % 1_000_000_000) as u32))
}

/// Writes a `grpc-timeout` field in the finest unit that eight digits can hold. It is never longer than
/// `left`, and shorter by less than one part in a hundred thousand; beyond 99999999 hours, it is that.
pub fn format_grpc_timeout(left: Duration) -> String {
    let left = left.as_nanos();
    let fitting = TIMEOUT_UNITS.into_iter().map(|(unit, nanos)| (left / nanos, unit));
    let (number, unit) =
        fitting.into_iter().find(|(number, _)| *number <= MAX_TIMEOUT).unwrap_or((MAX_TIMEOUT, 'H'));
    format!("{number}{unit}")
}

/// A number of decimal digits alone: no sign, no space.
fn parse_digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_words_are_those_of_the_protocol() {
        let expected = "ok cancelled unknown invalid_argument deadline_exceeded not_found already_exists \
             permission_denied resource_exhausted failed_precondition aborted out_of_range unimplemented \
             internal unavailable data_loss unauthenticated";
        for (number, word) in (0..).zip(expected.split(' ')) {
            let status = GrpcStatus::from_number(number).unwrap();
            assert_eq!((status as u32, status.as_str()), (number, word));
            assert_eq!(GrpcStatus::parse(&number.to_string()), status);
        }
        assert_eq!(GrpcStatus::ALL.len(), 17);
        assert_eq!([17, 255, u32::MAX].map(GrpcStatus::from_number), [None; 3]);
    }

    #[test]
    fn a_status_that_is_none_is_unknown() {
        for value in ["", "17", "-1", "+0", " 0", "0 ", "0x0", "OK", "0,0", "99999999999999999999", "٠"] {
            assert_eq!(GrpcStatus::parse(value), GrpcStatus::Unknown, "{value:?}");
        }
        assert_eq!(GrpcStatus::parse("014"), GrpcStatus::Unavailable);
    }

    #[test]
    fn a_pushback_that_is_no_time_means_stop() {
        for (value, millis) in [
            ("0", Some(0)),
            ("1500", Some(1500)),
            ("2147483647", Some(2_147_483_647)),
            ("2147483648", None),
            ("99999999999999999999", None),
            ("-1", None),
            ("-0", None),
            ("+5", None),
            ("", None),
            ("5ms", None),
            ("1.5", None),
            (" 5", None),
            ("5,5", None),
        ] {
            let want = millis.map_or(Pushback::Stop, |millis| Pushback::Wait(Duration::from_millis(millis)));
            assert_eq!(parse_pushback(value), want, "{value:?}");
        }
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (value, nanos) in [
            ("1n", Some(1)),
            ("1u", Some(1_000)),
            ("20m", Some(20_000_000)),
            ("3S", Some(3_000_000_000)),
            ("1M", Some(60_000_000_000)),
            ("1H", Some(3_600_000_000_000)),
            ("0S", Some(0)),
            ("00000001S", Some(1_000_000_000)),
            ("99999999H", Some(359_999_996_400_000_000_000)),
            ("100000000n", None),
            ("000000001n", None),
            ("999999999999999999999n", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("1h", None),
            ("-1S", None),
            ("+1S", None),
            ("1 S", None),
            ("1.5S", None),
            ("1Sé", None),
            ("é", None),
        ] {
            assert_eq!(parse_grpc_timeout(value).map(|it| it.as_nanos()), nanos, "{value:?}");
        }
    }

    #[test]
    fn a_timeout_is_written_in_the_finest_unit_that_holds_it() {
        for (nanos, value) in [
            (0, "0n"),
            (99_999_999, "99999999n"),
            (100_000_000, "100000u"),
            (100_000_999, "100000u"),
            (99_999_999_999, "99999999u"),
            (100_000_000_000, "100000m"),
            (100_000_000_000_000, "100000S"),
            (3_600_000_000_000_000_000, "60000000M"),
        ] {
            assert_eq!(format_grpc_timeout(Duration::from_nanos(nanos)), value);
        }
        assert_eq!(format_grpc_timeout(Duration::from_secs(360_000_000_000)), "99999999H");
        assert_eq!(format_grpc_timeout(Duration::MAX), "99999999H");
    }

    proptest! {
        #[test]
        fn a_timeout_never_grows_and_hardly_shrinks(nanos: u64, shift in 0u32..64) {
            let left = Duration::from_nanos(nanos >> shift);
            let written = format_grpc_timeout(left);
            let read = parse_grpc_timeout(&written).unwrap();
            prop_assert!(read <= left, "{left:?} became {written}");
            prop_assert!(left - read <= left / 100_000, "{left:?} became {written}");
            prop_assert_eq!(parse_grpc_timeout(&format_grpc_timeout(read)), Some(read), "{} passed on", written);
        }

        #[test]
        fn no_text_panics(value in ".{0,12}", digits in "[0-9]{0,12}[HMSmun]") {
            let _ = (GrpcStatus::parse(&value), parse_pushback(&value), parse_grpc_timeout(&value));
            prop_assert_eq!(parse_grpc_timeout(&digits).is_some(), (2..=9).contains(&digits.len()));
        }

        #[test]
        fn a_set_agrees_with_a_tree_of_numbers(numbers in prop::collection::vec(0u32..17, 0..20)) {
            let statuses: Vec<_> = numbers.iter().filter_map(|number| GrpcStatus::from_number(*number)).collect();
            let set: GrpcStatusSet = statuses.iter().copied().collect();
            let tree: BTreeSet<u32> = numbers.into_iter().collect();
            prop_assert_eq!(set, GrpcStatusSet::of(&statuses));
            prop_assert_eq!(set.is_empty(), tree.is_empty());
            prop_assert_eq!(set.iter().map(|status| status as u32).collect::<Vec<_>>(), tree.into_iter().collect::<Vec<_>>());
        }
    }
}
