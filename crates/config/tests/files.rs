//! The files of the repository, and files that are none.

use std::{fs, path::Path};

use dragoman_config::{Access, Config, reference};

fn no_env(_: &str) -> Option<String> {
    None
}

fn in_repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[test]
fn normal_policy_does_what_its_comments_say() {
    let config = Config::load(&in_repository("deploy/policies/normal.toml"), &no_env).expect("it is valid");
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
    let config = Config::load(&in_repository("deploy/policies/example.toml"), &no_env).expect("it is valid");
    let names: Vec<_> = config.destinations().iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["default", "ledger", "metadata", "payments", "vendor"]);
    let routes: Vec<_> = config.destinations()[3].routes.iter().map(|route| &*route.name).collect();
    assert_eq!(routes, ["create", "legacy", "refund-gold", "reports"]);
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = in_repository("docs/configuration.md");
    if std::env::var_os("DRAGOMAN_BLESS").is_some() {
        fs::write(&path, reference()).expect("the page is written");
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == reference(),
        "docs/configuration.md is stale: `DRAGOMAN_BLESS=1 cargo test -p dragoman-config` renews it"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = Config::load(Path::new("/nonexistent/dragoman.toml"), &no_env).expect_err("it is not there");
    assert_eq!(errors.count(), 1);
    let said = errors.to_string();
    assert!(said.contains("cannot read /nonexistent/dragoman.toml: No such file"), "{said}");
    assert_eq!(errors.iter().next().and_then(dragoman_config::Problem::span), None);
}

#[test]
fn an_endless_file_and_a_folder_are_refused() {
    for (path, reason) in [("/dev/zero", "larger than 4 MiB"), ("/", "Is a directory")] {
        let said = Config::load(Path::new(path), &no_env).expect_err("it is no file").to_string();
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_pointed_at() {
    let path = std::env::temp_dir().join(format!("dragoman-config-{}.toml", std::process::id()));
    fs::write(&path, b"[log]\naccess_file = \"/var/\xff\xfe\"\n").expect("a file is written");
    let errors = Config::load(&path, &no_env).expect_err("it is not UTF-8");
    fs::remove_file(&path).expect("the file is removed");
    assert_eq!(errors.iter().next().and_then(dragoman_config::Problem::span), Some(26..29));
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
