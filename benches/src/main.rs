//! Does the work of one case so many times, under a counter of instructions: `scripts/instructions` runs it.
//!
//!     dragoman-benches            the names of all cases, one on a line
//!     dragoman-benches CASE N     the work of the case, N times

use std::process::ExitCode;

use dragoman_benches::CASES;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, rounds] = arguments.as_slice() else {
        CASES.iter().for_each(|case| println!("{}", case.name));
        return ExitCode::SUCCESS;
    };
    let case = CASES.iter().find(|case| case.name == name);
    let (Some(case), Ok(rounds)) = (case, rounds.parse::<u32>()) else {
        eprintln!("dragoman-benches: no case {name}, or {rounds} is not a number");
        return ExitCode::FAILURE;
    };
    let mut round = (case.prepare)();
    (0..rounds).for_each(|_| round());
    ExitCode::SUCCESS
}
