//! The JSON Schema, as validators that are not ours understand it: it allows whatever dragoman reads, and finds every
//! mistake that stands in one key alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dragoman_config::{Config, Secrets};
use dragoman_harness::process::{self, text};
use dragoman_harness::programs;
use dragoman_harness::scratch::Scratch;

/// Every key that there is, in a file of its own or printed with its default.
const EVERYTHING: &str = include_str!("../../crates/config/tests/everything.toml");

fn read(text: &str) -> Result<Config, dragoman_config::Errors> {
    Config::parse("case.toml", text, &|_| None)
}

/// The texts of valid files of many forms.
fn valid() -> Vec<String> {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policies");
    let policies = fs::read_dir(policies).expect("the policies").map(|entry| entry.expect("an entry").path());
    let mut texts: Vec<_> = policies.map(|path| fs::read_to_string(path).expect("a policy")).collect();
    assert!(texts.len() >= 2, "the policies are not all there");
    texts.extend([String::new(), EVERYTHING.to_owned()]);
    let printed = |text: &String| read(text).expect("valid").print(Secrets::Shown);
    texts.extend(texts.iter().map(printed).collect::<Vec<_>>());
    // Odd forms of what is usually written otherwise.
    texts.extend(
        [
            "[proxy]\nmax_head_bytes = 0x8000\nport = 0o21\nreplay_bytes = 0\n",
            "[proxy]\ndrain = \"0s\"\nrequest_head_timeout = \"001m30s1ms\"\n",
            "[defaults]\nretry.budget.ratio = 1\nretry.statuses = []\n",
            "[defaults]\nretry.budget.ratio = 1e-3\nbreaker.statuses = [599, 500, \"5xx\"]\n",
            "[defaults.headers.set]\n\"x-empty\" = \"\"\n\"X_!#$%&'*+.^`|~\" = \"a \\\"b\\\" ~\"\n",
            "[destination.\"9.a_b-c\"]\nhosts = [\"_A-9.x\", \"*.1\"]\nports = [1, \"1-65535\"]\ncidrs = [\"::/0\"]\n",
            "[destination.a]\nhosts = [\"a\"]\n[destination.a.route.default]\npath = \"/{a}/%2F//..;=@~/*\"\n",
            "[destination.a]\nhosts = [\"a\"]\n[destination.a.route.r]\nmethods = [\"M-SEARCH\", \"!\"]\nquery = { \"%41\" = \"=\" }\n",
        ]
        .map(str::to_owned),
    );
    texts
}

/// A scratch directory with the schema and some files.
struct Case {
    scratch: Scratch,
    schema: PathBuf,
    files: Vec<PathBuf>,
}

impl Case {
    fn new(texts: &[String]) -> Self {
        let scratch = Scratch::new("schema");
        let schema = scratch.write("dragoman.schema.json", dragoman_config::schema());
        let file = |(index, text)| scratch.write(&format!("{index:04}.toml"), text);
        let files = texts.iter().enumerate().map(file).collect();
        Self { scratch, schema, files }
    }

    /// What jsonschema says against each file, in their order; `None` is said of one that is not TOML.
    fn jsonschema(&self) -> Vec<Option<Vec<String>>> {
        let mut command = Command::new(programs::python());
        command.arg(programs::path("schema.py")).arg(&self.schema).args(&self.files);
        let said = process::succeed(&mut command);
        let verdicts: BTreeMap<PathBuf, Option<Vec<String>>> =
            serde_json::from_str(&said).expect("the verdicts");
        assert_eq!(verdicts.len(), self.files.len());
        self.files.iter().map(|file| verdicts[file].clone()).collect()
    }

    /// Whether taplo, which is what editors ask, finds nothing wrong with any of the files.
    fn taplo(&self, files: &[PathBuf]) -> bool {
        let mut command = Command::new(programs::taplo());
        command.arg("check").arg("--schema").arg(format!("file://{}", self.schema.display())).args(files);
        let output = command.current_dir(self.scratch.path()).output().expect("taplo runs");
        // It ends before it has said all, so what it says first must do: one mistake, in a file.
        let said = text(&output);
        let pointed = said.contains("error: ") && said.contains(".toml:");
        assert!(output.status.success() != pointed, "{said}");
        output.status.success()
    }
}

#[test]
fn what_is_read_is_allowed() {
    let texts = valid();
    let case = Case::new(&texts);
    for (text, said) in texts.iter().zip(case.jsonschema()) {
        read(text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(said, Some(vec![]), "{text}");
    }
    assert!(case.taplo(&case.files), "taplo refuses a valid file");
}

/// Each key of the printed configuration with another name, and each with a value that no key takes.
fn mutated_keys() -> Vec<String> {
    let printed = read(EVERYTHING).expect("valid").print(Secrets::Shown);
    let lines: Vec<_> = printed.lines().collect();
    let mut texts = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let mut with = |new: String| {
            let mut lines = lines.clone();
            lines[index] = &new;
            texts.push(lines.join("\n"));
        };
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if !section.contains('.') {
                with(format!("[{section}x]"));
            }
            continue;
        }
        let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
        with(format!("{key} = [[]]"));
        let free = ["headers.set.", "match_headers.", "query."];
        if !free.iter().any(|table| key.contains(table)) {
            with(format!("{key}x = 1"));
        }
    }
    texts
}

#[test]
fn l5_a_mutated_key_is_refused_by_the_schema_and_by_the_reader() {
    let texts = mutated_keys();
    assert!(texts.len() > 400, "there are more keys than that: {}", texts.len());
    let case = Case::new(&texts);
    for (text, said) in texts.iter().zip(case.jsonschema()) {
        assert!(read(text).is_err(), "the reader takes\n{text}");
        assert!(said.is_some_and(|said| !said.is_empty()), "the schema allows\n{text}");
    }
    for file in case.files.iter().step_by(texts.len() / 8) {
        assert!(!case.taplo(std::slice::from_ref(file)), "taplo allows {}", file.display());
    }
}

/// Mistakes in one value that the schema does not see: the limit of segments holds for some paths and not for others.
const UNSEEN: [&str; 1] = ["route-too-deep"];

/// Whether an answer tells of a key that is unknown or of a value that is wrong by itself.
fn is_about_one_key(answer: &str) -> bool {
    answer.split("\n\n").any(|error| {
        let one = error.starts_with("error: unknown ")
            || error.starts_with("error: `")
                && error.lines().next().is_some_and(|line| line.contains("` takes "));
        one && !error.contains("--> environment:")
    })
}

#[test]
fn a_mistake_in_one_key_is_found_by_the_schema_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/config/tests/golden");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("the folder").map(|it| it.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths
        .retain(|path| is_about_one_key(&fs::read_to_string(path.with_extension("txt")).expect("an answer")));
    paths.sort();
    assert!(paths.len() > 20, "the cases are not all there: {}", paths.len());
    let texts: Vec<_> = paths.iter().map(|path| fs::read_to_string(path).expect("a file")).collect();
    let verdicts = Case::new(&texts).jsonschema();
    let unseen = paths.iter().zip(&verdicts).filter(|(_, said)| said.as_deref() == Some(&[]));
    let unseen: Vec<_> =
        unseen.map(|(path, _)| path.file_stem().expect("a name").to_string_lossy()).collect();
    assert_eq!(unseen, UNSEEN);
}

/// The line that the documentation tells to write is understood.
#[test]
fn an_editor_finds_the_schema_by_the_directive() {
    let scratch = Scratch::new("directive");
    scratch.write("dragoman.schema.json", dragoman_config::schema());
    for (name, text, valid) in
        [("good.toml", "[log]\nlevel = \"warn\"\n", true), ("bad.toml", "[log]\nlevle = 1\n", false)]
    {
        let file = scratch.write(name, format!("#:schema ./dragoman.schema.json\n\n{text}"));
        let output =
            Command::new(programs::taplo()).arg("check").arg(file).current_dir(scratch.path()).output();
        assert_eq!(output.expect("taplo runs").status.success(), valid, "{name}");
    }
}
