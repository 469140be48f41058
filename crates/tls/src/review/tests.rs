use std::time::{Duration, UNIX_EPOCH};

use rcgen::date_time_ymd;

use super::*;
use crate::testing::{Authority, leaf};

/// 2026-11-21T12:00:00Z.
const NOW: u64 = 1_795_262_400;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

#[test]
fn a_chain_in_order_and_in_date_is_not_doubted() {
    let root = Authority::new("root");
    let between = root.below("between");
    let own = between.issue(&leaf(&["a.test"])).with(&between).with(&root);
    assert_eq!(chain(&own.chain, now()), Vec::<String>::new());
    assert_eq!(roots(&[root.der()], now()), Vec::<String>::new());
}

#[test]
fn a_chain_with_a_gap_is_doubted() {
    let root = Authority::new("root");
    let between = root.below("between");
    let own = between.issue(&leaf(&["a.test"])).with(&root).with(&between);
    let doubts = chain(&own.chain, now());
    assert_eq!(doubts.len(), 2, "{doubts:?}");
    assert!(
        doubts[0]
            .starts_with("its certificate 1 is signed by `CN=between`, and the one after it is `CN=root`")
    );
}

#[test]
fn what_should_have_been_renewed_is_doubted() {
    let mut params = leaf(&["a.test"]);
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 12, 1));
    let own = Authority::new("root").issue(&params);
    assert_eq!(
        chain(&own.chain, now()),
        ["should have been renewed: it expires in 9d12h (2026-12-01T00:00:00Z)"]
    );
}

#[test]
fn roots_that_are_not_in_date_are_told_with_their_times() {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "old");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2026, 11, 20));
    let old = Authority::of(params);
    let doubts = roots(&[Authority::new("new").der(), old.der()], now());
    assert_eq!(doubts.len(), 1, "{doubts:?}");
    assert!(doubts[0].starts_with("its certificate 2 (`"), "{doubts:?}");
    assert!(doubts[0].contains("expired 1d12h ago (now 2026-11-21T12:00:00Z"), "{doubts:?}");
}

#[test]
fn lists_that_are_not_current_are_told_with_their_times() {
    let root = Authority::new("root");
    let lists = [root.revoke(&[], 2030), root.revoke(&[], 2026)];
    let stale = revocation_lists(&lists, now());
    assert_eq!(stale.len(), 1, "{stale:?}");
    assert!(stale[0].starts_with("its revocation list 2 (of `CN=root`) expired 324d12h ago"), "{stale:?}");
    let before = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert!(revocation_lists(&lists[..1], before)[0].contains("is from the future"), "2024 begins the lists");
}
