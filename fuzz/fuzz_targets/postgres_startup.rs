//! A PostgreSQL start-up message is judged once, when its last byte is there, and by its own bytes alone.
#![no_main]

use dragoman_fuzz::final_answer;
use dragoman_wire::{Startup, startup};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let decided = final_answer(bytes, |bytes| match startup(bytes) {
        Startup::Incomplete => None,
        decided => Some(decided),
    });
    let Some(length) = bytes.first_chunk().map(|&word| u32::from_be_bytes(word) as usize) else { return };
    match decided {
        None | Some(Startup::Malformed(_)) => {}
        Some(accepted) => {
            assert_eq!(startup(&bytes[..length]), accepted, "by its own bytes");
            assert_eq!(startup(&bytes[..length - 1]), Startup::Incomplete, "one byte short");
        }
    }
});
