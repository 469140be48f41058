//! The files of the repository, and files that are none.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use dragoman_config::{Access, Config, Errors, Position, Sources, reference, schema};

fn no_env(_: &str) -> Option<String> {
    None
}

fn load(paths: &[&Path]) -> Result<Config, Errors> {
    let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
    Config::resolve(&Sources::read(&paths)?, &no_env)
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[test]
fn normal_policy_does_what_its_comments_say() {
    let config = load(&[&in_repository("deploy/policies/normal.toml")]).expect("it is valid");
    let default = &config.destinations()[0];
    assert_eq!(config.destinations().len(), 1);
    assert_eq!(default.policy.retry, Some(dragoman_policy::RetryParams::default()));
    assert_eq!(default.breaker.as_ref().map(|it| it.params), Some(dragoman_policy::BreakerParams::default()));
    assert!(default.pool.is_some() && default.policy.headers.request_id && default.policy.headers.trace);
    assert!(!default.observe_only);
    assert_eq!(config.log.access, Access::Failures);
}

#[test]
fn example_policy_is_valid() {
    let config = load(&[&in_repository("deploy/policies/example.toml")]).expect("it is valid");
    let names: Vec<_> = config.destinations().iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["default", "ledger", "metadata", "payments", "vendor"]);
    let routes: Vec<_> = config.destinations()[3].routes.iter().map(|route| &*route.name).collect();
    assert_eq!(routes, ["create", "legacy", "refund-gold", "reports"]);
}

#[test]
fn the_reference_page_and_the_schema_are_up_to_date() {
    for (path, text) in [("docs/configuration.md", reference()), ("docs/dragoman.schema.json", schema())] {
        let file = in_repository(path);
        if std::env::var_os("DRAGOMAN_BLESS").is_some() {
            fs::write(&file, &text).expect("the page is written");
        }
        assert!(
            fs::read_to_string(&file).unwrap_or_default() == text,
            "{path} is stale: `DRAGOMAN_BLESS=1 cargo test -p dragoman-config` renews it"
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = load(&[Path::new("/nonexistent/dragoman.toml")]).expect_err("it is not there");
    assert_eq!(errors.count(), 1);
    let said = errors.to_string();
    assert!(said.contains("cannot read /nonexistent/dragoman.toml: No such file"), "{said}");
    assert_eq!(errors.iter().find_map(|problem| errors.position(problem)), None);
}

#[test]
fn an_endless_file_is_refused() {
    let said = load(&[Path::new("/dev/zero")]).expect_err("it is no file").to_string();
    assert!(said.contains("neither a regular file"), "{said}");
}

/// Whoever watches the files would wait for ever on a pipe to which nobody writes.
#[test]
fn a_pipe_that_comes_in_place_of_the_file_stops_no_reading() {
    let folder = std::env::temp_dir().join(format!("dragoman-config-pipe-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a directory is made");
    let (path, pipe, file) = (folder.join("a.toml"), folder.join("pipe"), folder.join("file"));
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    fs::write(&file, "[log]\nlevel = \"warn\"\n").expect("a file is written");
    fs::hard_link(&file, &path).expect("a file is linked");
    let (over, is_over) = channel::<()>();
    let reading = thread::spawn({
        let paths = [path.clone()];
        // Each may find the pipe, the file, or that it changes.
        move || {
            (0..50_000).for_each(|_| drop(Sources::read(&paths)));
            drop(over);
        }
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while is_over.try_recv() == Err(TryRecvError::Empty) && Instant::now() < deadline {
        for next in [&pipe, &file] {
            let new = folder.join("next");
            fs::hard_link(next, &new).expect("a link is made");
            fs::rename(new, &path).expect("it is put in place");
        }
    }
    assert_eq!(is_over.try_recv(), Err(TryRecvError::Disconnected), "a reading waits for ever");
    reading.join().expect("no reading panics");
    fs::remove_dir_all(&folder).expect("the directory is removed");
}

#[test]
fn bytes_that_are_not_utf8_are_pointed_at() {
    let path = std::env::temp_dir().join(format!("dragoman-config-{}.toml", std::process::id()));
    fs::write(&path, b"[log]\naccess_file = \"/var/\xff\xfe\"\n").expect("a file is written");
    let errors = load(&[&path]).expect_err("it is not UTF-8");
    fs::remove_file(&path).expect("the file is removed");
    let position = errors.iter().find_map(|problem| errors.position(problem)).expect("a place");
    let file = path.to_string_lossy();
    assert_eq!(position, Position { file: &file, line: 2, column: 21, span: 26..29 });
    assert!(errors.to_string().contains(":2:21"), "{errors}");
}

#[test]
fn a_colored_report_says_the_same() {
    let errors = Config::parse("f.toml", "[proxy]\nport = 0\n", &no_env).expect_err("port 0");
    let colored = errors.render(true);
    assert!(colored.contains("\x1b["));
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    assert_eq!(plain, errors.render(false));
}
