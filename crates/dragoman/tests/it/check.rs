//! `dragoman check` and the command line.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::running::{
    DRAGOMAN, Folder, Running, Scratch, ask_control, command, config_at, own_address, run, text,
};

#[test]
fn a_good_file_is_ok() {
    let file = Scratch::new("[destination.a]\nports = [80]\n[destination.a.route.b]\npath = \"/b\"\n");
    let output = run(&["check", file.path()]);
    assert_eq!(text(&output.stdout), format!("{}: ok (1 destination, 1 route)\n", file.path()));
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_empty_file_is_ok() {
    let file = Scratch::new("");
    let output = run(&["check", file.path()]);
    assert_eq!(text(&output.stdout), format!("{}: ok (0 destinations, 0 routes)\n", file.path()));
}

#[test]
fn the_policies_that_we_ship_are_ok() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policies");
    for name in ["normal.toml", "example.toml", "mtls.toml"] {
        let output = run(&["check", "--no-files", folder.join(name).to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}

#[test]
fn l5_all_errors_are_shown_at_once_with_their_place() {
    let file = Scratch::new("[proxy]\nprot = 1\n\n[log]\nlevel = \"loud\"\n");
    for arguments in [&["check", file.path()][..], &["proxy", "--config", file.path()]] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(text(&output.stdout), "");
        assert!(said.contains(&format!("{}:2:1", file.path())), "{said}");
        assert!(said.contains(&format!("{}:5:9", file.path())), "{said}");
        assert!(said.contains("2 errors"), "{said}");
        assert!(!said.contains('\x1b'), "colour, although this is no terminal: {said}");
    }
}

#[test]
fn what_may_not_be_as_it_was_meant_is_a_warning() {
    let (empty, full) = (Folder::new(), Folder::new());
    std::fs::write(full.0.join("policy.yaml"), "").unwrap();
    std::fs::write(full.0.join("policy.toml"), "[proxy]\ndrain = '3s'\n").unwrap();
    let paths = [full.0.to_str().unwrap(), empty.0.to_str().unwrap()];
    let output = run(&["check", paths[0], paths[1], "--print"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let expected = format!(
        "warning: of the directory {} only files *.toml are read, not policy.yaml\n\
         warning: the directory {} has no file *.toml: it configures nothing\n",
        paths[0], paths[1]
    );
    assert_eq!(said, expected);
    assert!(text(&output.stdout).contains("policy.toml:2"), "{}", text(&output.stdout));
}

#[test]
fn a_missing_file_is_named() {
    let output = run(&["check", "/nonexistent/policy.toml"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("/nonexistent/policy.toml") && said.contains("No such file"), "{said}");
}

#[test]
fn print_shows_where_a_value_comes_from() {
    let file = Scratch::new("[proxy]\nport = 15999\n");
    let environment = ("DRAGOMAN_RETRY_ATTEMPTS", "7");
    let mut command = command(Path::new(DRAGOMAN));
    let output =
        command.args(["check", file.path(), "--print"]).env(environment.0, environment.1).output().unwrap();
    let printed = text(&output.stdout);
    let line = |key: &str| {
        printed
            .lines()
            .find(|line| line.trim_start().starts_with(key))
            .unwrap_or_else(|| panic!("{key}: {printed}"))
    };
    assert!(line("port =").contains("15999") && line("port =").contains(".toml:2"), "{printed}");
    assert!(line("max_flows =").contains("default"), "{printed}");
    assert!(
        line("retry.attempts =").contains('7') && line("retry.attempts =").contains(environment.0),
        "{printed}"
    );
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let script = format!("{DRAGOMAN} check --print \"$1\" | :; exit ${{PIPESTATUS[0]}}");
    let file = Scratch::new("");
    let output = command(Path::new("bash")).args(["-c", &script, "bash", file.path()]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_what() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage: dragoman <COMMAND>"),
        (&["prxoy"], "a similar subcommand exists: 'proxy'"),
        (&["check"], "<PATH>"),
        (&["proxy", "--user", "no-such-user"], "no such user here"),
        (&["proxy", "--group", "4294967295"], "no such group here"),
    ];
    for (arguments, expected) in cases {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn each_command_has_help_with_examples() {
    for command in ["proxy", "wait", "check"] {
        let output = run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(&format!("Examples:\n  dragoman {command}")));
    }
    assert_eq!(text(&run(&["--version"]).stdout), format!("dragoman {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn several_files_are_merged_and_each_value_names_its_own() {
    let base = Scratch::new("[proxy]\nport = 15999\n[log]\nlevel = \"warn\"\n");
    let over = Scratch::new("\n[proxy]\nport = 15998\nheaders.x = 1\n");
    let wrong = run(&["check", base.path(), over.path()]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains(&format!("{}:4:1", over.path())), "{}", text(&wrong.stderr));
    let over = Scratch::new(
        "\n[proxy]\nport = 15998\n[defaults]\nendpoints = [\"192.0.2.1:80\"]\nheaders.set.authorization = \"hunter2\"\n",
    );
    for arguments in [
        &["check", "--print", base.path(), over.path()][..],
        &["check", "--print", "--config", base.path(), "--config", over.path()],
        &["check", "--print", "--show-secrets", "-c", base.path(), "-c", over.path()],
    ] {
        let output = run(arguments);
        let page = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let ends = |start: &str, end: String| {
            page.lines().any(|line| line.starts_with(start) && line.ends_with(&end))
        };
        assert!(ends("port = 15998 ", format!("# {}:3", over.path())), "{page}");
        assert!(ends("level = \"warn\" ", format!("# {}:4", base.path())), "{page}");
        assert_eq!(page.contains("hunter2"), arguments.contains(&"--show-secrets"), "{page}");
    }
}

#[test]
fn paths_come_with_the_option_or_without_it() {
    let file = Scratch::new("");
    for arguments in [&["check"][..], &["check", "--config", file.path(), file.path()]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("Usage: dragoman check"), "{}", text(&output.stderr));
    }
}

#[test]
fn the_schema_is_printed() {
    let output = run(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/dragoman.schema.json");
    assert_eq!(text(&output.stdout), std::fs::read_to_string(file).unwrap());
}

/// The same paths mean the same to the proxy, whose page of the control surface shows it without secrets.
#[test]
fn the_proxy_takes_several_files_and_directories_as_check_does() {
    let address = own_address();
    let base = Scratch::new(&config_at(address));
    let folder = Folder::new();
    std::fs::write(folder.0.join("10-defaults.toml"), "defaults.timeout = \"9s\"\n").unwrap();
    let over = "defaults.timeout = \"7s\"\ndefaults.headers.set.authorization = \"hunter2\"\ndefaults.endpoints = [\"192.0.2.1:80\"]\n";
    std::fs::write(folder.0.join("20-tonight.toml"), over).unwrap();
    let paths = ["--config", base.path(), "--config", folder.0.to_str().unwrap()];
    let _proxy = Running::start(command(Path::new(DRAGOMAN)).arg("proxy").args(paths));
    let page = ask_control(address, "GET /config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let checked = run(&[&["check", "--print"], &paths[..]].concat());
    let summary = text(&run(&["check", base.path(), folder.0.to_str().unwrap()]).stdout);
    assert!(summary.ends_with(": ok (3 files, 0 destinations, 0 routes)\n"), "{summary}");
    let body = page.split_once("\r\n\r\n").map(|(_, body)| body);
    assert_eq!(body, Some(&*text(&checked.stdout)), "{page}");
    assert!(page.contains("20-tonight.toml:1\n") && !page.contains("hunter2"), "{page}");
}

/// A folder with an authority, and certificates and keys that it issued.
fn issued(names: &[&str]) -> Folder {
    let folder = Folder::new();
    let ca = |arguments: &[&str]| {
        let output = command(Path::new(DRAGOMAN)).arg("ca").args(arguments).current_dir(&folder.0).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    ca(&["init"]);
    for name in names {
        ca(&["issue", "--dns", name, "--out", name]);
    }
    folder
}

#[test]
fn files_that_can_be_used_are_ok_and_what_is_doubtful_is_a_warning() {
    let files = issued(&["web"]);
    let at = files.0.display();
    let config = Scratch::new(&format!(
        "[identity]\ncertificate = '{at}/web/tls.crt'\nkey = '{at}/web/tls.key'\n\
         [destination.pay]\nhosts = ['pay']\ntls = {{ roots = ['{at}/web/ca.crt'] }}\n\
         [inbound]\nroots = ['{at}/web/ca.crt']\n"
    ));
    let output = run(&["check", config.path()]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    std::fs::set_permissions(files.0.join("web/tls.key"), Permissions::from_mode(0o644)).unwrap();
    let output = run(&["check", config.path()]);
    let wanted = format!(
        "warning: {at}/web/tls.key: every user of the machine may read this key: chmod o-r\n --> {}:3:7\n",
        config.path()
    );
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), wanted));
    assert!(text(&output.stdout).contains(": ok ("), "{}", text(&output.stdout));
}

#[test]
fn all_that_is_wrong_with_the_files_is_told_at_once_with_its_place() {
    let files = issued(&["web", "pay"]);
    let at = files.0.display();
    let write = |name: &str, text: &str| std::fs::write(files.0.join(name), text).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut old = rcgen::CertificateParams::new(["old".to_owned()]).unwrap();
    (old.not_before, old.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2020, 1, 2));
    write("old.crt", &old.self_signed(&key).unwrap().pem());
    write("old.key", &key.serialize_pem());
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2020, 2, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    write("stale.crl", &list.signed_by(&issuer).unwrap().pem().unwrap());
    write("garbage.pem", "-----BEGIN CERTIFICATE-----\nSECRET\n");
    let config = Scratch::new(&format!(
        "[identity]\ncertificate = '{at}/web/tls.crt'\nkey = '{at}/pay/tls.key'\n\
         [destination.a]\nhosts = ['a']\ntls = {{ roots = ['{at}/garbage.pem'] }}\n\
         [destination.b]\nhosts = ['b']\ntls.crls = ['{at}/stale.crl']\n\
         tls.identity = {{ certificate = '{at}/old.crt', key = '{at}/old.key' }}\n\
         [destination.c]\nhosts = ['c']\ntls = {{ identity = {{ certificate = '{at}/gone.crt', key = '{at}/pay/tls.key' }} }}\n"
    ));
    let output = run(&["check", config.path()]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{said}");
    let errors: Vec<_> = said.split("error: ").skip(1).collect();
    assert_eq!(errors.len(), 5, "{said}");
    for (file, reason, line) in [
        ("web/tls.crt", "does not belong to the key in", 2),
        ("garbage.pem", "", 6),
        ("stale.crl", " ago (now ", 9),
        ("old.crt", "notAfter 2020-01-02T00:00:00Z", 10),
        ("gone.crt", "cannot be read: No such file", 13),
    ] {
        let told = errors.iter().find(|error| error.starts_with(&format!("{at}/{file}: ")));
        let told = told.unwrap_or_else(|| panic!("nothing is said of {file}: {said}"));
        assert!(told.contains(reason) && told.contains(&format!("{}:{line}:", config.path())), "{told}");
    }
    assert!(!said.contains("SECRET"), "{said}");
    for arguments in [&["check", "--no-files", config.path()][..], &["check", "--print", config.path()]] {
        let output = run(arguments);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    }
}
