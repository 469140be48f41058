//! The operator's day of scripts/day: start, a wrong configuration, an outage with its alert, an upgrade, the end.

use std::path::Path;
use std::process::Command;

use dragoman_harness::{binaries, process};

#[test]
fn a_day_in_the_life_of_an_operator_goes_as_it_should() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/day");
    let mut command = Command::new(script);
    let program = binaries::dragoman();
    command.env(binaries::FOLDER, program.parent().expect("a program is in a folder"));
    println!("{}", process::succeed(&mut command));
}
