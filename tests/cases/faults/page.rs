//! The table of docs/faults.md: each case compares its rows with those of the page, and renews them where
//! `DRAGOMAN_BLESS` is set.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::FAULTS;
use crate::protocol::Protocol;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/faults.md");

/// The line below which the rows are.
const RULER: &str = "|---|---|---|---|---|\n";

/// What one fault does to one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) protocol: Protocol,
    /// What the app sees.
    pub(crate) sight: String,
    /// The cause; `-` where all went well.
    pub(crate) cause: String,
    /// When it knows.
    pub(crate) known: String,
}

/// One case at a time reads the page and writes it.
static PAGE_IN_USE: Mutex<()> = Mutex::new(());

/// Compares what a fault did with what the page says.
pub(crate) fn check(fault: &str, rows: &[Row]) {
    assert!(FAULTS.contains(&fault), "add {fault:?} to FAULTS, which has the order of the page");
    let line = |row: &Row| {
        let Row { protocol, sight, cause, known } = row;
        format!("| {fault} | {} | {sight} | {} | {known} |\n", protocol.name(), code(cause))
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    let _one = PAGE_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let (text, table) = read();
    let there: Vec<&String> = table.iter().filter(|line| fault_of(line) == fault).collect();
    if there.iter().copied().eq(&lines) {
        return;
    }
    assert!(
        std::env::var_os("DRAGOMAN_BLESS").is_some(),
        "docs/faults.md says\n{}and this run\n{}; `DRAGOMAN_BLESS=1 make faults` renews the page",
        there.iter().map(|line| line.as_str()).collect::<String>(),
        lines.concat()
    );
    let mut renewed: Vec<String> = table.into_iter().filter(|line| fault_of(line) != fault).collect();
    renewed.extend(lines);
    // A stable sort: the rows of a fault keep their order.
    renewed.sort_by_key(|line| FAULTS.iter().position(|known| *known == fault_of(line)));
    fs::write(PAGE, text + &renewed.concat()).unwrap_or_else(|e| panic!("{PAGE}: {e}"));
}

/// Prints how long the app was in the dark, for whoever looks at this run: no two runs have the same times.
pub(crate) fn print_time(fault: &str, protocol: Protocol, took: Duration) {
    println!("{:>8} ms  {fault}, {}", took.as_millis(), protocol.name());
}

/// Every row of the page is of a fault that there is, and every fault has its rows.
pub(crate) fn is_whole() {
    if std::env::var_os("DRAGOMAN_BLESS").is_some() {
        // The other cases of this run are still at it.
        return;
    }
    let _one = PAGE_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, table) = read();
    let mut faults: Vec<&str> = table.iter().map(|line| fault_of(line)).collect();
    faults.dedup();
    assert_eq!(faults, FAULTS, "`DRAGOMAN_BLESS=1 make faults` renews docs/faults.md");
}

/// The page up to its table, and the lines of that.
fn read() -> (String, Vec<String>) {
    let page = fs::read_to_string(PAGE).unwrap_or_else(|e| panic!("{PAGE}: {e}"));
    let (text, table) = page.split_once(RULER).expect("the page has a table");
    (format!("{text}{RULER}"), table.split_inclusive('\n').map(str::to_owned).collect())
}

fn fault_of(line: &str) -> &str {
    line.split(" | ").next().unwrap_or_default().trim_start_matches("| ")
}

fn code(cause: &str) -> String {
    if cause == "-" { cause.to_owned() } else { format!("`{cause}`") }
}
