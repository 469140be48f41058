//! Damaged files: whatever happens to a valid one, the answer is a configuration or a list of places in it.

use dragoman_config::{Config, Secrets};
use proptest::{prelude::*, sample::Index};

const VALID: [&str; 4] = [
    include_str!("everything.toml"),
    include_str!("../../../deploy/policies/normal.toml"),
    include_str!("../../../deploy/policies/example.toml"),
    r#"
[proxy]
listen = ["::1"]
max_head_bytes = "8KiB"
[admin]
listen = []
[defaults]
breaker = { statuses = ["5xx", 429], window = "1m30s" }
retry.budget.ratio = 0.5
headers.set."x-a" = "1"
"#,
];

/// One way to damage a text.
#[derive(Clone, Debug)]
enum Damage {
    DropChar(Index),
    DoubleChar(Index),
    ReplaceChar(Index, char),
    InsertChar(Index, char),
    DropLine(Index),
    DoubleLine(Index),
    SwapLines(Index, Index),
    CutAt(Index),
    SwapTokens(Index, Index),
    ReplaceToken(Index, Index),
}

/// Words, whole strings, and every other character by itself.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let end = match first {
            '"' => rest[1..].find('"').map_or(1, |end| end + 2),
            _ if word(first) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(end);
        tokens.push(token);
        rest = after;
    }
    tokens
}

impl Damage {
    fn apply(&self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut tokens = tokens(text);
        if chars.is_empty() {
            return String::new();
        }
        match self {
            Self::DropLine(at) => drop(lines.remove(at.index(lines.len()))),
            Self::DoubleLine(at) => lines.insert(at.index(lines.len()), lines[at.index(lines.len())]),
            Self::SwapLines(one, other) => {
                let count = lines.len();
                lines.swap(one.index(count), other.index(count));
            }
            Self::DropChar(at) => drop(chars.remove(at.index(chars.len()))),
            Self::DoubleChar(at) => chars.insert(at.index(chars.len()), chars[at.index(chars.len())]),
            Self::ReplaceChar(at, new) => {
                let count = chars.len();
                chars[at.index(count)] = *new;
            }
            Self::InsertChar(at, new) => chars.insert(at.index(chars.len()), *new),
            Self::CutAt(at) => chars.truncate(at.index(chars.len())),
            Self::SwapTokens(one, other) => {
                let count = tokens.len();
                tokens.swap(one.index(count), other.index(count));
            }
            Self::ReplaceToken(at, new) => {
                let count = tokens.len();
                tokens[at.index(count)] = tokens[new.index(count)];
            }
        }
        match self {
            Self::DropLine(_) | Self::DoubleLine(_) | Self::SwapLines(..) => lines.concat(),
            Self::SwapTokens(..) | Self::ReplaceToken(..) => tokens.concat(),
            _ => chars.into_iter().collect(),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let char = || {
        prop_oneof![
            prop::sample::select("=[]{}\"'#.,\n\r\t \\0-9".chars().collect::<Vec<_>>()),
            any::<char>()
        ]
    };
    prop_oneof![
        at().prop_map(Damage::DropChar),
        at().prop_map(Damage::DoubleChar),
        (at(), char()).prop_map(|(at, new)| Damage::ReplaceChar(at, new)),
        (at(), char()).prop_map(|(at, new)| Damage::InsertChar(at, new)),
        at().prop_map(Damage::DropLine),
        at().prop_map(Damage::DoubleLine),
        (at(), at()).prop_map(|(one, other)| Damage::SwapLines(one, other)),
        at().prop_map(Damage::CutAt),
        (at(), at()).prop_map(|(one, other)| Damage::SwapTokens(one, other)),
        (at(), at()).prop_map(|(at, new)| Damage::ReplaceToken(at, new)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn l5_a_damaged_file_is_accepted_or_refused_at_a_place_inside_it(
        file in 0..VALID.len(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let text = damages.iter().fold(VALID[file].to_owned(), |text, damage| damage.apply(&text));
        accepted_or_refused(&[("damaged.toml", &text)])?;
    }

    #[test]
    fn l5_a_damaged_file_beside_others_is_accepted_or_refused_at_a_place_in_the_right_one(
        files in prop::collection::vec((0..VALID.len(), prop::collection::vec(damage(), 0..2)), 2..4),
    ) {
        let texts: Vec<_> = files
            .iter()
            .map(|(file, damages)| damages.iter().fold(VALID[*file].to_owned(), |text, damage| damage.apply(&text)))
            .collect();
        let names = ["first.toml", "second.toml", "third.toml"];
        let files: Vec<_> = names.into_iter().zip(texts.iter().map(String::as_str)).collect();
        accepted_or_refused(&files)?;
    }

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        accepted_or_refused(&[("any.toml", &text)])?;
    }

    #[test]
    fn any_environment_is_survived(value in ".*") {
        let variables = [
            "DRAGOMAN_RETRY_ATTEMPTS",
            "DRAGOMAN_BREAKER_FAILURES",
            "DRAGOMAN_UPSTREAM",
            "DRAGOMAN_LOG_LEVEL",
            "DRAGOMAN_PROXY_DRAIN",
            "DRAGOMAN_PROXY_DRAIN_QUIET",
            "DRAGOMAN_PROXY_DRAIN_WHILE_LISTENING",
            "DRAGOMAN_ADMIN_LISTEN",
            "DRAGOMAN_DNS_LISTEN",
            "DRAGOMAN_CONTROL_QUIT_ON_TCP",
        ];
        for variable in variables {
            let env = |name: &str| (name == variable).then(|| value.clone());
            if let Err(errors) = Config::parse("empty.toml", "", &env) {
                let report = errors.to_string();
                prop_assert!(report.contains(variable), "{report}");
                prop_assert_eq!(errors.iter().find_map(|problem| errors.position(problem)), None);
            }
        }
    }
}

/// Either all of it counts, and prints as what can be read again; or nothing does, and every reason has a place.
fn accepted_or_refused(files: &[(&str, &str)]) -> Result<(), TestCaseError> {
    let errors = match Config::resolve(&files.iter().copied().collect(), &|_| None) {
        Ok(config) => {
            let printed = config.print(Secrets::Shown);
            let again = Config::parse("printed.toml", &printed, &|_| None);
            prop_assert!(again.is_ok(), "{}\n{printed}", again.expect_err("refused"));
            return Ok(());
        }
        Err(errors) => errors,
    };
    prop_assert!(errors.count() > 0);
    let mut last = (0, 0);
    for problem in errors.iter() {
        let place = errors.position(problem);
        let place = place.ok_or_else(|| TestCaseError::fail("a problem without a place"))?;
        let file = files.iter().position(|(name, _)| *name == place.file).expect("one of them");
        let (text, span) = (files[file].1, place.span);
        prop_assert!(text.get(span.clone()).is_some(), "{span:?} of {}", text.len());
        prop_assert!(place.line <= text.split('\n').count(), "line {} of {text:?}", place.line);
        prop_assert!((file, span.start) >= last, "not in the order of the files");
        prop_assert!(!problem.message().is_empty());
        last = (file, span.start);
    }
    let report = errors.to_string();
    prop_assert!(files.iter().any(|(name, _)| report.contains(&format!("{name}:"))), "{report}");
    prop_assert_eq!(errors.lines().count(), errors.count().min(51));
    Ok(())
}

#[test]
fn a_file_of_nothing_but_mistakes_is_told_quickly_and_briefly() {
    let text: String = (0..20_000).map(|line| format!("[k{line}\nx =\n")).collect();
    let errors = Config::parse("f.toml", &text, &|_| None).expect_err("nothing is right");
    assert!(errors.count() >= 20_000);
    let report = errors.to_string();
    assert!(report.len() < 40_000, "{}", report.len());
    assert!(errors.lines().last().is_some_and(|line| line.ends_with(" more errors")));
    assert!(report.ends_with("of which the first 50 are shown"), "{}", &report[report.len() - 200..]);
}

#[test]
fn depth_without_end_is_refused() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let text = format!("a = {}1{}\n", open.repeat(10_000), close.repeat(10_000));
        assert!(Config::parse("f.toml", &text, &|_| None).is_err());
    }
    let dotted = format!("{}a = 1\n", "a.".repeat(10_000));
    assert!(Config::parse("f.toml", &dotted, &|_| None).is_err());
}
