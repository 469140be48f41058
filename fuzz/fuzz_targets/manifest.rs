//! A manifest is refused, or injected so that every byte comes back; and to inject twice is to inject once.
#![no_main]

use dragoman_kube::{Options, Refusal, inject, uninject};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let text_before = match uninject(text) {
        Ok(original) => original.text,
        Err(refusals) => return told(text, &refusals),
    };
    for native_sidecar in [true, false] {
        let options = Options { native_sidecar, ..Options::default() };
        match inject(text, &options) {
            Ok(outcome) => {
                let original = uninject(&outcome.text).expect("it was made here");
                assert_eq!((original.text, original.lost), (text_before.clone(), vec![]));
                assert_eq!(inject(&outcome.text, &options).expect("it was made here").text, outcome.text);
            }
            Err(refusals) => told(text, &refusals),
        }
    }
});

/// Each in one line, with its place.
fn told(text: &str, refusals: &[Refusal]) {
    let lines = text.split(['\n', '\r']).count() + 1;
    assert!(!refusals.is_empty());
    for refusal in refusals {
        assert!(refusal.line.is_some_and(|line| (1..=lines).contains(&line)), "{refusal:?}");
        assert!(!refusal.reason.is_empty() && !refusal.to_string().contains(['\n', '\r']), "{refusal:?}");
    }
}
