//! Changes to a file that change nothing: spaces, comments, quotes, the order of keys and of tables. TOML says that
//! they mean nothing, so whoever tidies a file up must not change what the proxy does.

mod common;

use common::meaning;
use proptest::{prelude::*, sample::Index};

/// Files with one key or header on each line, and nothing that goes over several.
const FILES: [&str; 3] = [
    include_str!("everything.toml"),
    include_str!("../../../deploy/policies/normal.toml"),
    include_str!("../../../deploy/policies/example.toml"),
];

/// One way to tidy up.
#[derive(Clone, Debug)]
enum Tidy {
    Indent(Index, &'static str),
    Trail(Index, &'static str),
    Insert(Index, &'static str),
    SpaceAssignment(Index, &'static str),
    QuoteKey(Index, char),
    LiteralStrings(Index),
    Hexadecimal(Index),
    SwapKeys(Index, Index),
    SwapTables(Index, Index),
    WindowsLines,
    NoFinalLineBreak,
}

fn tidy() -> impl Strategy<Value = Tidy> {
    let at = any::<Index>;
    let space = || prop::sample::select(vec!["", " ", "\t", " \t  "]);
    let comment = || prop::sample::select(vec!["# [proxy]", " # port = 1", "\t#\"", "#é = '''"]);
    prop_oneof![
        (at(), space()).prop_map(|(at, space)| Tidy::Indent(at, space)),
        (at(), prop_oneof![space(), comment()]).prop_map(|(at, text)| Tidy::Trail(at, text)),
        (at(), prop_oneof![space(), comment()]).prop_map(|(at, text)| Tidy::Insert(at, text)),
        (at(), prop::sample::select(vec!["=", " =", "= ", "\t=  \t"]))
            .prop_map(|(at, sign)| Tidy::SpaceAssignment(at, sign)),
        (at(), prop::sample::select(vec!['"', '\''])).prop_map(|(at, quote)| Tidy::QuoteKey(at, quote)),
        at().prop_map(Tidy::LiteralStrings),
        at().prop_map(Tidy::Hexadecimal),
        (at(), at()).prop_map(|(one, other)| Tidy::SwapKeys(one, other)),
        (at(), at()).prop_map(|(one, other)| Tidy::SwapTables(one, other)),
        Just(Tidy::WindowsLines),
        Just(Tidy::NoFinalLineBreak),
    ]
}

/// A table: its header, which the first one lacks, and the lines below it.
type Block = Vec<String>;

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = vec![Block::new()];
    for line in text.lines() {
        if line.starts_with('[') {
            blocks.push(Block::new());
        }
        blocks.last_mut().expect("the first one").push(line.to_owned());
    }
    blocks
}

impl Tidy {
    fn apply(&self, blocks: &mut [Block]) {
        match self {
            Self::SwapTables(one, other) => {
                // What stands before the first header would fall to another table.
                let tables = &mut blocks[1..];
                let count = tables.len();
                tables.swap(one.index(count), other.index(count));
            }
            Self::SwapKeys(one, other) => {
                let block = &mut blocks[one.index(blocks.len())];
                let first = usize::from(block.first().is_some_and(|line| line.starts_with('[')));
                let count = block.len() - first;
                if count > 0 {
                    block.swap(first + one.index(count), first + other.index(count));
                }
            }
            Self::Insert(at, text) => blocks[at.index(blocks.len())].push((*text).to_owned()),
            Self::Indent(at, space) => {
                // A header is found by its bracket, so it stays where it is.
                let line = line(blocks, at);
                if !line.starts_with('[') {
                    line.insert_str(0, space);
                }
            }
            Self::Trail(at, text) => line(blocks, at).push_str(text),
            Self::SpaceAssignment(at, sign) => {
                rewrite(line(blocks, at), |key, value| Some(format!("{key}{sign}{value}")));
            }
            Self::QuoteKey(at, quote) => {
                rewrite(line(blocks, at), |key, value| Some(format!("{} = {value}", quoted(key, *quote)?)));
            }
            Self::LiteralStrings(at) => rewrite(line(blocks, at), |key, value| {
                let plain = !value.contains(['\\', '\'', '#']);
                plain.then(|| format!("{key} = {}", value.replace('"', "'")))
            }),
            Self::Hexadecimal(at) => rewrite(line(blocks, at), |key, value| {
                Some(format!("{key} = {:#x}", value.trim().parse::<u64>().ok()?))
            }),
            Self::WindowsLines | Self::NoFinalLineBreak => {}
        }
    }
}

fn line<'a>(blocks: &'a mut [Block], at: &Index) -> &'a mut String {
    let mut lines: Vec<_> = blocks.iter_mut().flatten().collect();
    lines.swap_remove(at.index(lines.len()))
}

/// Rewrites a line that states a key, unless it is something else or `new` has nothing to say.
fn rewrite(line: &mut String, new: impl FnOnce(&str, &str) -> Option<String>) {
    if line.trim_start().starts_with(['#', '[']) {
        return;
    }
    // No key of these files has such a sign in it.
    let parts = line.split_once('=').map(|(key, value)| (key.trim_end(), value.trim_start()));
    let Some(new) = parts.and_then(|(key, value)| new(key, value)) else { return };
    *line = new;
}

/// Each bare part of a dotted key in quotes; nothing if a part is quoted already.
fn quoted(key: &str, quote: char) -> Option<String> {
    let bare = !key.contains(['"', '\'']);
    let part = |part: &str| format!("{quote}{}{quote}", part.trim());
    bare.then(|| key.split('.').map(part).collect::<Vec<_>>().join(" . "))
}

fn tidied(text: &str, steps: &[Tidy]) -> String {
    let mut blocks = blocks(text);
    steps.iter().for_each(|step| step.apply(&mut blocks));
    let line_break = if steps.iter().any(|step| matches!(step, Tidy::WindowsLines)) { "\r\n" } else { "\n" };
    let mut text = blocks.concat().join(line_break);
    if !steps.iter().any(|step| matches!(step, Tidy::NoFinalLineBreak)) {
        text.push_str(line_break);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn l5_what_means_nothing_changes_nothing(
        file in 0..FILES.len(),
        steps in prop::collection::vec(tidy(), 1..40),
    ) {
        let original = FILES[file].to_owned();
        let text = tidied(&original, &steps);
        let wanted = meaning(&[original]);
        prop_assert!(wanted.is_ok(), "{:?}", wanted);
        prop_assert_eq!(wanted, meaning(std::slice::from_ref(&text)), "{}", text);
    }
}
