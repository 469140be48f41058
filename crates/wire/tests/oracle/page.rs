//! The table as a page, `docs/parser-differences.md`.

use std::path::Path;

use crate::table::{DIFFERENCES, Difference, Refusal};

const INTRODUCTION: &str = "\
# Parser differences

<!-- Made from crates/wire/tests/oracle/table.rs. Renew with: DRAGOMAN_BLESS=1 cargo test -p dragoman-wire --test oracle -->

Two programs that read the same bytes differently are a request smuggling hole, and a proxy is one of two. So
the HTTP/1 of dragoman is compared with that of hyper: the test `oracle` has both read the same connections,
generated ones with and without damage and all seeds of the fuzzer, as requests and as responses to GET, HEAD
and CONNECT. For each they must find the same messages: method, authority, path and query (a fragment is ignored by
both), or the status; each field; each byte of the body; where it ends; and what follows.

Where one refuses and the other does not, the test wants a reason that is in these tables, and each row is shown by
its example (`{a*65}` stands for 65 times that letter). That both accept and see different messages is what no row
can explain: it has not been found, and fails the test.
";

const STRICTER: &str = "
## dragoman refuses, hyper does not

A request is answered with 400 (431 where a head is too large), a response with 502, and nothing of it is forwarded.
In a body the connections are closed instead, since the head has been forwarded.

| dragoman says | An example | Why |
|---|---|---|
";

const LAXER: &str = "
## hyper refuses, dragoman does not

None of these is about framing: the messages before and after are the same.

| hyper says | An example | Why |
|---|---|---|
";

#[test]
fn the_page_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/parser-differences.md");
    if std::env::var_os("DRAGOMAN_BLESS").is_some() {
        std::fs::write(&path, page()).expect("docs can be written");
    }
    let renew = "docs/parser-differences.md is stale: renew it with \
        DRAGOMAN_BLESS=1 cargo test -p dragoman-wire --test oracle";
    assert!(std::fs::read_to_string(&path).is_ok_and(|found| found == page()), "{renew}");
}

fn page() -> String {
    let (stricter, laxer): (Vec<_>, Vec<_>) =
        DIFFERENCES.iter().partition(|row| matches!(row.refusal, Refusal::Dragoman(_)));
    [INTRODUCTION, STRICTER, &rows(&stricter), LAXER, &rows(&laxer)].concat()
}

fn rows(differences: &[&Difference]) -> String {
    let row = |row: &&Difference| {
        let (Refusal::Dragoman(words) | Refusal::Hyper(words)) = row.refusal;
        let example = row.example.escape_debug();
        format!("| {words} | `{example}` | {} |\n", row.why)
    };
    differences.iter().map(row).collect()
}
