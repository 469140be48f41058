//! A manifest is refused, or injected so that every byte comes back; and to inject twice is to inject once.
#![no_main]

use dragoman_kube::{Options, inject, uninject};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let original = match uninject(text) {
        Ok(original) => original,
        Err(refusals) => return assert!(refusals.iter().all(|refusal| !refusal.reason.is_empty())),
    };
    for native_sidecar in [true, false] {
        let options = Options { native_sidecar, ..Options::default() };
        match inject(text, &options) {
            Ok(outcome) => {
                assert_eq!(uninject(&outcome.text).expect("it was made here"), original);
                assert_eq!(inject(&outcome.text, &options).expect("it was made here").text, outcome.text);
            }
            Err(refusals) => {
                assert!(!refusals.is_empty() && refusals.iter().all(|refusal| !refusal.reason.is_empty()));
            }
        }
    }
});
