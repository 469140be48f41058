//! What `dragoman inject` writes for our programs is what they read.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use dragoman_harness::binaries;
use dragoman_harness::scratch::Scratch;
use serde_json::{Value, json};

fn run(command: &mut Command, stdin: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A pod with these annotations, injected; or what is said against it.
fn injected(annotations: &[(&str, &str)], options: &[&str]) -> Result<Value, String> {
    let named = annotations.iter().map(|(name, value)| (format!("dragoman.dev/{name}"), Value::from(*value)));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "annotations": named.collect::<serde_json::Map<_, _>>()},
        "spec": {"terminationGracePeriodSeconds": 3, "restartPolicy": "Never", "containers": [{"name": "app", "command": ["app"]}]},
    });
    let mut command = Command::new(binaries::dragoman());
    let out = run(command.arg("inject").args(options), &pod.to_string());
    match out.status.code() {
        Some(0) => Ok(serde_json::from_slice(&out.stdout).unwrap()),
        _ => Err(String::from_utf8(out.stderr).unwrap()),
    }
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainers", "containers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
    lists.flatten().find(|container| container["name"] == name).unwrap_or_else(|| panic!("{name}: {pod:#}"))
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// The rules that these options of dragoman-init make; nothing where it refuses them.
fn rules(options: &[&str]) -> Option<String> {
    let out = Command::new(binaries::dragoman_init()).arg("print").args(options).output().unwrap();
    out.status.success().then(|| String::from_utf8(out.stdout).unwrap())
}

/// By name, with their values.
type Annotations = &'static [(&'static str, &'static str)];

/// Annotations, and the options of dragoman-init that say the same.
const SAME: &[(Annotations, &[&str])] = &[
    (&[], &[]),
    (&[("exclude-ports", "22, 5432")], &["--exclude-port", "22,5432"]),
    (&[("include-ports", "443")], &["--include-port=443"]),
    (
        &[("exclude-cidrs", "10.96.0.0/12,fd00::/8")],
        &["--exclude-cidr", "10.96.0.0/12", "--exclude-cidr", "fd00::/8"],
    ),
    (&[("include-cidrs", "192.0.2.7")], &["--include-cidr", "192.0.2.7/32"]),
    (&[("exclude-uids", "1000")], &["--exclude-uid", "1000"]),
    (&[("exclude-gids", "1000")], &["--exclude-gid", "1000"]),
    (&[("exclude-interfaces", "eth1,net2")], &["--exclude-interface", "eth1,net2"]),
    (&[("ipv6", "off")], &["--ipv6", "off"]),
    (
        &[("capture-loopback", "true"), ("include-cidrs", "127.0.0.0/8")],
        &["--capture-loopback", "--include-cidr", "127.0.0.0/8"],
    ),
    (&[("capture-dns", "15053")], &["--capture-dns", "15053"]),
    (&[("reject-quic", "true")], &["--reject-quic"]),
    (&[("drop-invalid", "true")], &["--drop-invalid"]),
    (
        &[("inbound", "true"), ("exclude-inbound-ports", "8081"), ("include-inbound-ports", "80,443")],
        &["--inbound", "--exclude-inbound-port", "8081", "--include-inbound-port", "80,443"],
    ),
    // Refused by both.
    (&[("exclude-ports", "0")], &["--exclude-port", "0"]),
    (&[("exclude-ports", "+22")], &["--exclude-port", "+22"]),
    (&[("exclude-ports", "22,")], &["--exclude-port", "22,"]),
    (&[("exclude-ports", "22,22")], &["--exclude-port", "22,22"]),
    (&[("exclude-cidrs", "10.0.0.1/8")], &["--exclude-cidr", "10.0.0.1/8"]),
    (&[("include-cidrs", "::ffff:10.0.0.0/104")], &["--include-cidr", "::ffff:10.0.0.0/104"]),
    (&[("exclude-uids", "root")], &["--exclude-uid", "root"]),
    (&[("exclude-gids", "1337")], &["--exclude-gid", "1337"]),
    (&[("exclude-interfaces", "lo")], &["--exclude-interface", "lo"]),
    (&[("ipv6", "yes")], &["--ipv6", "yes"]),
    (&[("capture-dns", "15001")], &["--capture-dns", "15001"]),
    (&[("reject-quic", "true"), ("exclude-ports", "443")], &["--reject-quic", "--exclude-port", "443"]),
    (&[("exclude-inbound-ports", "80")], &["--exclude-inbound-port", "80"]),
    (&[("reject-quic", "maybe")], &["--reject-quic=maybe"]),
];

#[test]
fn annotations_mean_what_the_options_of_dragoman_init_mean() {
    let mut refused = 0;
    for (annotations, options) in SAME {
        let wanted = rules(options);
        match injected(annotations, &[]) {
            Ok(pod) => {
                let command = words(&container(&pod, "dragoman-init")["command"]);
                assert_eq!(command[..2], ["/dragoman-init", "install"]);
                let written: Vec<_> = command[2..].iter().map(String::as_str).collect();
                assert!(wanted.is_some(), "{annotations:?}: dragoman-init refuses {options:?}");
                assert_eq!(rules(&written), wanted, "{annotations:?}: {written:?}");
            }
            Err(said) => {
                refused += 1;
                assert_eq!(wanted, None, "{annotations:?}: {said}");
            }
        }
    }
    assert_eq!(refused, 14);
}

/// The value that the proxy has for each key, with the variables and files that the sidecar of this pod has.
fn configuration(pod: &Value) -> String {
    let sidecar = container(pod, "dragoman");
    let variables = sidecar["env"].as_array().unwrap().iter();
    let variables =
        variables.map(|variable| (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap()));
    let scratch = Scratch::new("programs");
    let mut check = Command::new(binaries::dragoman());
    check.env_clear().envs(variables).args(["check", "--print"]).arg(scratch.write("empty.toml", ""));
    let out = check.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn the_proxy_reads_what_its_container_says() {
    for (form, annotations, expected) in [
        ("--native-sidecar=true", &[][..], &["drain = \"1s500ms\"", "drain_quiet = \"0s\""][..]),
        (
            "--native-sidecar=false",
            &[("capture-dns", "15053")],
            &[
                "drain = \"1s500ms\"",
                "drain_while_listening = true",
                "quit_on_tcp = true",
                "127.0.0.1:15053",
                "[::1]:15053",
            ],
        ),
    ] {
        let pod = injected(annotations, &[form]).unwrap();
        let printed = configuration(&pod);
        for expected in expected.iter().chain(&["0.0.0.0:15020", "[::]:15020"]) {
            assert!(printed.contains(expected), "{form}: no {expected} in\n{printed}");
        }
    }
}

/// The commands of our containers and hooks, each by its own parser: what `--help` takes beside them is well-formed.
#[test]
fn the_commands_of_our_containers_are_commands() {
    let mut seen = 0;
    for form in ["--native-sidecar=true", "--native-sidecar=false"] {
        let pod = injected(&[], &[form, "--app-config-map", "policy"]).unwrap();
        let ours = ["dragoman", "dragoman-copy", "app"];
        let lists =
            ["initContainers", "containers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
        for container in
            lists.flatten().filter(|container| ours.iter().any(|name| container["name"] == *name))
        {
            let hooks = ["preStop", "postStart"].map(|hook| &container["lifecycle"][hook]["exec"]["command"]);
            for command in
                hooks.into_iter().chain([&container["command"]]).filter(|command| command.is_array())
            {
                let command = words(command);
                if command == ["app"] {
                    continue;
                }
                assert!(
                    ["/dragoman", "/run/dragoman/dragoman"].contains(&command[0].as_str()),
                    "{command:?}"
                );
                let own = command[1..].iter().take_while(|word| *word != "--");
                let mut help = Command::new(binaries::dragoman());
                let out = help.env_clear().args(own).arg("--help").output().unwrap();
                assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 7);
}
