//! What the process may do: these tests need root, to be able to give it up.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::running::{DRAGOMAN, Running, Scratch, command, config_at, copy, own_address};

/// The fields of every thread's `/proc/PID/task/TID/status` that say what it may do.
fn rights(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let wanted = ["Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapAmb:", "NoNewPrivs:"];
    tasks
        .map(|task| {
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let lines = status.lines().filter(|line| wanted.iter().any(|key| line.starts_with(key)));
            lines
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
                .join("; ")
        })
        .collect()
}

fn assert_root() {
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(own.contains("Uid:\t0"), "this test needs root: it tests that root is given up");
}

#[test]
fn root_is_given_up_in_every_thread() {
    assert_root();
    for (arguments, uid, gid) in
        [(&[][..], 1337, 1337), (&["--user", "nobody", "--group", "4711"][..], 65534, 4711)]
    {
        let file = Scratch::new(&config_at(own_address()));
        let mut command = command(Path::new(DRAGOMAN));
        let running = Running::start(command.args(["proxy", "--config", file.path()]).args(arguments));
        let expected = format!(
            "Uid: {uid} {uid} {uid} {uid}; Gid: {gid} {gid} {gid} {gid}; Groups:; CapPrm: 0000000000000000; \
             CapEff: 0000000000000000; CapAmb: 0000000000000000; NoNewPrivs: 1"
        );
        let threads = rights(running.pid());
        assert!(threads.len() >= 2, "{threads:?}");
        assert!(threads.iter().all(|thread| *thread == expected), "{threads:?}");
    }
}

#[test]
fn l8_without_root_it_keeps_what_it_is() {
    assert_root();
    let file = Scratch::new(&config_at(own_address()));
    // The folder of the build may be closed to others.
    let program = Scratch::new("");
    copy(DRAGOMAN, &program.0);
    std::fs::set_permissions(&program.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = command(&program.0);
    command.args(["proxy", "--config", file.path(), "--user", "1337"]).uid(65534).gid(65534);
    let running = Running::start(&mut command);
    assert!(running.said().contains("--user 1337 has no effect"), "{}", running.said());
    assert!(rights(running.pid()).iter().all(|thread| thread.starts_with("Uid: 65534 65534 65534 65534; ")));
}

#[test]
fn the_limit_of_descriptors_is_raised() {
    let file = Scratch::new(&config_at(own_address()));
    let script =
        format!("ulimit -Sn 100 && ulimit -Hn 4000 && exec {DRAGOMAN} proxy --config {}", file.path());
    let running = Running::start(command(Path::new("sh")).args(["-c", &script]));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], ["4000", "4000"]);
}
