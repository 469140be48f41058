//! Several files: how they are merged, and how files and directories are read.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use dragoman_config::{Config, Destination, Errors, Level, Secrets, Sources};

fn resolve(files: &[&str]) -> Result<Config, Errors> {
    let named = files.iter().enumerate().map(|(index, text)| (format!("{index}.toml"), *text));
    Config::resolve(&named.collect(), &|_| None)
}

fn merge(files: &[&str]) -> Config {
    resolve(files).unwrap_or_else(|errors| panic!("{errors}"))
}

fn named<'a>(config: &'a Config, name: &str) -> &'a Destination {
    config.destinations().iter().find(|it| &*it.name == name).expect("a destination of that name")
}

/// A directory that is gone when the test is over.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique =
            format!("dragoman-several-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, text).expect("a file");
        path
    }

    fn read(&self) -> Result<Sources, Errors> {
        Sources::read(std::slice::from_ref(&self.0))
    }

    fn refusal(&self) -> String {
        self.read().expect_err("refused").to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const BASE: &str = r#"
[proxy]
max_flows = 100
[log]
level = "warn"
access = "all"
[defaults]
retry = { attempts = 5, statuses = [503], budget.ratio = 0.5 }
breaker = {}
[destination.pay]
hosts = ["pay", "pay.example"]
timeout = "10s"
headers = { set = { X-Team = "a", x-b = "1" }, remove = ["x-c"] }
[destination.pay.route.create]
path = "/v1"
methods = ["POST"]
"#;

#[test]
fn l5_a_later_file_overrides_key_by_key() {
    let config = merge(&[
        BASE,
        r#"
[log]
level = "debug"
[defaults]
retry = { attempts = 2, budget.min_per_second = 7 }
[destination.pay]
hosts = ["pay.internal"]
headers.set = { x-TEAM = "b" }
[destination.pay.route.create]
timeout = "1s"
[destination.pay.route.list]
path = "/v2"
[destination.new]
ports = [99]
"#,
        "[destination.pay]\nheaders.remove = []\nbreaker = false\n",
    ]);
    assert_eq!((config.proxy.max_flows, config.log.level), (100, Level::Debug));
    assert_eq!(config.log.access, dragoman_config::Access::All);
    let pay = named(&config, "pay");
    let retry = pay.policy.retry.clone().expect("on");
    assert_eq!(retry.attempts, 2);
    assert!(retry.statuses.contains(503) && !retry.statuses.contains(502));
    assert_eq!((retry.budget.ratio, retry.budget.min_per_second), (0.5, 7));
    assert!(pay.breaker.is_none() && named(&config, "new").breaker.is_some());
    let team = ("x-TEAM".to_owned(), "b".to_owned());
    assert_eq!(pay.policy.headers.set, [team, ("x-b".to_owned(), "1".to_owned())]);
    assert!(pay.policy.headers.remove.is_empty());
    let routes: Vec<_> = pay.routes.iter().map(|route| (&*route.name, route.policy.timeout)).collect();
    let (one, ten) = (std::time::Duration::from_secs(1), std::time::Duration::from_secs(10));
    assert_eq!(routes, [("create", Some(one)), ("list", Some(ten))]);
    let address = ([192, 0, 2, 1], 80).into();
    let host = |name| &*config.lookup(address, dragoman_config::Name::Host(name)).name;
    assert_eq!((host("pay.internal"), host("pay")), ("pay", "default"), "a list is replaced");
}

#[test]
fn false_replaces_a_table_and_a_later_table_starts_anew() {
    let attempts = |files: &[&str]| {
        let retry = merge(files).destinations()[0].policy.retry.clone();
        retry.map(|retry| (retry.attempts, retry.statuses.contains(502)))
    };
    let (on, off, again) = (
        "defaults.retry = { statuses = [503], attempts = 5 }",
        "defaults.retry = false",
        "defaults.retry.attempts = 4",
    );
    assert_eq!(attempts(&[on]), Some((5, false)));
    assert_eq!(attempts(&[on, off]), None);
    assert_eq!(attempts(&[off, on]), Some((5, false)));
    assert_eq!(attempts(&[on, again]), Some((4, false)));
    assert_eq!(attempts(&[on, off, again]), Some((4, true)));
}

#[test]
fn each_printed_value_names_the_file_and_line_that_it_came_from() {
    let printed = merge(&[BASE, "[destination.pay]\n\ntimeout = \"3s\"\nheaders.set.x-team = \"c\"\n"])
        .print(Secrets::Shown);
    let pay = printed.split("[destination.pay]\n").nth(1).expect("a section");
    for (key, origin) in [
        ("hosts", "0.toml:11"),
        ("timeout", "1.toml:3"),
        ("headers.set.x-team", "1.toml:4"),
        ("headers.set.x-b", "0.toml:13"),
        ("retry.attempts", "0.toml:8"),
        ("retry.base", "default"),
    ] {
        let line = pay.lines().find(|line| line.starts_with(&format!("{key} ="))).expect("a line");
        assert!(line.ends_with(&format!("# {origin}")), "{line}");
    }
}

#[test]
fn a_later_file_may_repair_what_an_earlier_one_says() {
    let wrong = "[destination.a]\nhosts = [\"a\"]\ntimeout = \"1s\"\ntry_timeout = \"2s\"\n";
    assert!(resolve(&[wrong]).is_err());
    merge(&[wrong, "destination.a.timeout = \"3s\"\n"]);
    // But what cannot be read at all stays wrong, although nothing would be left of it.
    let errors = resolve(&["defaults.timeout = 5", "defaults.timeout = \"5s\""]).expect_err("no unit");
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("0.toml:1:20: `timeout` takes a duration"), "{lines:?}");
}

#[test]
fn l5_a_duplicate_inside_one_file_is_an_error() {
    let errors = resolve(&["[log]\nlevel = \"info\"\n", "[log]\nlevel = \"warn\"\nlevel = \"info\"\n"]);
    let errors = errors.expect_err("a duplicate");
    let position = errors.iter().find_map(|problem| errors.position(problem)).expect("a place");
    assert_eq!((position.file, position.line), ("1.toml", 3));
}

#[test]
fn lines_for_a_log_show_none_of_the_text() {
    let errors = Config::resolve(
        &Sources::from_iter([("a.toml", "defaults.headers.set.authorization = \"hunter2 \"\n")]),
        &|name| (name == "DRAGOMAN_LOG_LEVEL").then(|| "hunter2".into()),
    )
    .expect_err("a space at the end");
    assert!(errors.to_string().contains("hunter2"));
    let lines: Vec<_> = errors.lines().collect();
    assert!(lines[0].starts_with("a.toml:1:38: `authorization` takes"), "{lines:?}");
    assert!(lines[1].starts_with("environment DRAGOMAN_LOG_LEVEL: `DRAGOMAN_LOG_LEVEL` takes"), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("hunter2")), "{lines:?}");
}

#[test]
fn a_directory_is_read_in_the_order_of_bytes_without_what_is_hidden() {
    let directory = Directory::new();
    for name in [
        "b.toml",
        "B.toml",
        "10.toml",
        "9.toml",
        "é.toml",
        ".hidden.toml",
        "..data/b.toml",
        "c.toml.bak",
        "toml",
        ".toml",
    ] {
        directory.write(name, format!("# {name}\n"));
    }
    symlink("..data/b.toml", directory.0.join("a.toml")).expect("a link");
    let sources = directory.read().expect("readable");
    let names: Vec<_> = sources.names().map(|name| name.rsplit_once('/').expect("a path").1).collect();
    assert_eq!(names, ["10.toml", "9.toml", "B.toml", "a.toml", "b.toml", "é.toml"]);
}

#[test]
fn files_and_directories_follow_each_other_as_they_are_named() {
    let directory = Directory::new();
    directory.write("conf.d/1.toml", "log.level = \"warn\"\nlog.access = \"all\"\n");
    let first = directory.write("z.toml", "log.level = \"error\"\nproxy.port = 1\n");
    let last = directory.write("a.toml", "log.level = \"trace\"\n");
    let conf = directory.0.join("conf.d");
    let level = |paths: &[&PathBuf]| {
        let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
        let config = Config::resolve(&Sources::read(&paths).expect("readable"), &|_| None).expect("valid");
        (config.log.level, config.proxy.port)
    };
    assert_eq!(level(&[&first, &conf]), (Level::Warn, 1));
    assert_eq!(level(&[&conf, &first]), (Level::Error, 1));
    assert_eq!(level(&[&first, &conf, &last]), (Level::Trace, 1));
    assert_eq!(level(&[]), (Level::Info, 15001));
}

#[test]
fn content_is_what_is_compared() {
    let directory = Directory::new();
    directory.write("a.toml", "log.level = \"warn\"\n");
    let first = directory.read().expect("readable");
    directory.write("a.toml", "log.level = \"warn\"\n");
    assert_eq!(directory.read().expect("readable"), first, "a new time is no change");
    directory.write("a.toml", "log.level = \"info\"\n");
    assert_ne!(directory.read().expect("readable"), first);
    directory.write("a.toml", "log.level = \"warn\"\n");
    directory.write("b.toml", "");
    assert_ne!(directory.read().expect("readable"), first, "a file more");
}

#[test]
fn l5_everything_that_cannot_be_read_is_told_at_once() {
    let directory = Directory::new();
    directory.write("ok.toml", "log.level = \"warn\"\n");
    directory.write("folder.toml/x", "");
    directory.write("latin1.toml", b"# caf\xe9\n");
    symlink("/nonexistent/policy", directory.0.join("dangling.toml")).expect("a link");
    symlink("loop.toml", directory.0.join("loop.toml")).expect("a link");
    let said = directory.refusal();
    for (name, reason) in [
        ("dangling.toml", "No such file or directory"),
        ("folder.toml", "neither a regular file nor a directory"),
        ("loop.toml", "symbolic links"),
    ] {
        let line = said.lines().find(|line| line.contains(&format!("{name}: "))).expect(name);
        assert!(line.starts_with("error: cannot read ") && line.contains(reason), "{line}");
    }
    assert!(said.contains("latin1.toml:1:6") && said.contains("the file is not UTF-8"), "{said}");
    assert!(said.ends_with("4 errors"), "{said}");
}

/// As a ConfigMap is mounted that is optional and not there, and what comes of it.
#[test]
fn l5_a_directory_without_files_configures_nothing_and_is_told_of() {
    let directory = Directory::new();
    directory.write(".hidden.toml", "");
    let empty = directory.read().expect("readable");
    let [warning] = empty.warnings() else { panic!("{:?}", empty.warnings()) };
    assert!(warning.contains(directory.0.to_str().expect("text")) && warning.contains("no file *.toml"));
    assert_eq!(empty, Sources::default());
    assert!(empty.missing_since(&empty).is_empty(), "it was empty before");

    directory.write("a.toml", "");
    let full = directory.read().expect("readable");
    assert!(full != empty && full.warnings().is_empty(), "{:?}", full.warnings());
    let missing = empty.missing_since(&full);
    assert!(missing.len() == 1 && missing[0].contains("any more"), "{missing:?}");
    assert!(full.missing_since(&empty).is_empty());
}

#[test]
fn l5_what_does_not_count_in_a_directory_is_told_of() {
    let directory = Directory::new();
    for name in ["a.toml", "policy.yaml", "b.toml~", ".hidden", "..data"] {
        directory.write(name, "");
    }
    let sources = directory.read().expect("readable");
    let [warning] = sources.warnings() else { panic!("{:?}", sources.warnings()) };
    assert!(warning.ends_with("not b.toml~, policy.yaml"), "{warning}");
}

#[test]
fn files_have_an_end_and_a_number() {
    let directory = Directory::new();
    // Three files that are too large only together.
    for name in ["a.toml", "b.toml", "c.toml"] {
        directory.write(name, " ".repeat(1_400_000));
    }
    let said = directory.refusal();
    assert!(said.contains("c.toml: the configuration is larger than 4 MiB"), "{said}");
    fs::remove_file(directory.0.join("c.toml")).expect("removed");
    directory.read().expect("less than 4 MiB");
    for number in 0..1023 {
        directory.write(&format!("{number}.toml"), "");
    }
    let said = directory.refusal();
    assert!(said.contains("more than 1024 files"), "{said}");
}

#[test]
fn a_name_with_a_line_break_cannot_end_a_comment() {
    let directory = Directory::new();
    directory.write("a\nproxy.port = 7.toml", "log.level = \"warn\"\n");
    let config = Config::resolve(&directory.read().expect("readable"), &|_| None).expect("valid");
    let printed = config.print(Secrets::Masked);
    assert!(printed.lines().all(|line| !line.starts_with("proxy")), "{printed}");
    Config::parse("printed.toml", &printed, &|_| None).expect("valid");
}

/// Swaps the directory as kubelet swaps a ConfigMap: two files that change together, by one rename.
fn swap(directory: &Path, generation: u32) {
    let data = format!("..{generation}");
    fs::create_dir(directory.join(&data)).expect("a directory");
    for name in ["a.toml", "b.toml"] {
        fs::write(directory.join(&data).join(name), format!("# {generation}\n")).expect("a file");
    }
    let link = directory.join("..new");
    symlink(&data, &link).expect("a link");
    let old = fs::read_link(directory.join("..data"));
    fs::rename(link, directory.join("..data")).expect("a rename");
    if let Ok(old) = old {
        fs::remove_dir_all(directory.join(old)).expect("removed");
    }
}

#[test]
fn l5_files_that_change_together_are_never_mixed() {
    let directory = Directory::new();
    let mounted = directory.0.join("conf.d");
    fs::create_dir(&mounted).expect("a directory");
    swap(&mounted, 0);
    for name in ["a.toml", "b.toml"] {
        symlink(format!("..data/{name}"), mounted.join(name)).expect("a link");
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (1..)
                .take_while(|_| !done.load(Ordering::Relaxed))
                .for_each(|generation| swap(&mounted, generation));
        });
        let mixed = read_generations(&mounted, 100);
        done.store(true, Ordering::Relaxed);
        assert_eq!(mixed, None);
    });
}

/// Reads until so many generations have been seen; returns what was a mixture of two.
fn read_generations(mounted: &Path, wanted: u32) -> Option<String> {
    let (mut seen, mut last) = (0, String::new());
    for _ in 0..200_000 {
        if seen == wanted {
            return None;
        }
        // In the middle of a swap a file may be gone for a moment, which is an error and no mixture.
        let Ok(sources) = Sources::read(&[mounted.to_owned()]) else { continue };
        let texts = format!("{sources:?}");
        let found: Vec<_> = texts.split("# ").skip(1).filter_map(|rest| rest.split("\\n").next()).collect();
        if found.len() != 2 || found[0] != found[1] {
            return Some(texts);
        }
        seen += u32::from(last != found[0]);
        last = found[0].to_owned();
    }
    Some(format!("only {seen} generations were seen"))
}
