//! Start and end of the process.

use std::net::TcpListener;
use std::path::Path;

use nix::libc;

use crate::running::{
    DRAGOMAN, Running, Scratch, command, config_at, own_address, run, text, without_family,
};

#[test]
fn l2_a_signal_ends_it_with_0() {
    for signal in ["TERM", "INT"] {
        let file = Scratch::new(&config_at(own_address()));
        let running = Running::start(command(Path::new(DRAGOMAN)).args(["proxy", "--config", file.path()]));
        running.signal(signal);
        let (code, said) = running.end();
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("draining: flows, old and new") && said.contains(signal), "{said}");
    }
}

#[test]
fn a_taken_port_is_said() {
    let address = own_address();
    let _taken = TcpListener::bind((address, 15001)).unwrap();
    let file = Scratch::new(&config_at(address));
    let output = run(&["proxy", "--config", file.path()]);
    let expected = format!(
        "dragoman: cannot listen on {address}:15001: the port is taken (by another dragoman? `ss -lntup sport = \
         :15001` says by whom); free it or change proxy.port\n"
    );
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), expected));
}

#[test]
fn an_address_of_another_machine_is_said() {
    let file = Scratch::new("[proxy]\nlisten = [\"192.0.2.1\"]\n");
    let output = run(&["proxy", "--config", file.path()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("192.0.2.1:15001: this machine does not have the address"), "{said}");
}

#[test]
fn an_access_log_that_cannot_be_opened_is_said() {
    let text_of = |key: &str| format!("{}[log]\naccess_file = \"{key}\"\n", config_at(own_address()));
    let file = Scratch::new(&text_of("/nonexistent/access.log"));
    let output = run(&["proxy", "--config", file.path()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot open the access log /nonexistent/access.log (log.access_file)"), "{said}");
}

#[test]
fn the_configuration_may_come_from_the_environment() {
    let address = own_address();
    let file = Scratch::new(&config_at(address));
    let running =
        Running::start(command(Path::new(DRAGOMAN)).arg("proxy").env("DRAGOMAN_CONFIG", file.path()));
    assert!(running.said().contains(&address.to_string()), "{}", running.said());
}

#[test]
fn the_log_can_be_json() {
    let file = Scratch::new(&format!("{}[log]\nformat = \"json\"\n", config_at(own_address())));
    let mut running = Running::spawn(command(Path::new(DRAGOMAN)).args(["proxy", "--config", file.path()]));
    running.wait_for("\"message\":\"ready\"");
    assert!(
        running.said().lines().all(|line| line.starts_with('{') && line.ends_with('}')),
        "{}",
        running.said()
    );
}

/// Runs it in a network namespace of its own, with the default ports and without a configuration.
fn start_alone(prepare: &str) -> Running {
    let script = format!("ip link set lo up && {prepare} exec {DRAGOMAN} proxy");
    Running::start(command(Path::new("unshare")).args(["--net", "sh", "-c", &script]))
}

/// As the variable of a pod says it, on a machine with IPv6 and on one without.
#[test]
fn probes_are_answered_on_both_families_where_there_are_both() {
    let mut inside = command(Path::new("/usr/bin/unshare"));
    inside.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" proxy", DRAGOMAN]);
    inside.env("DRAGOMAN_ADMIN_LISTEN", "0.0.0.0:15020,[::]:15020");
    let live = |running: &Running, at: &str| {
        let mut curl = command(Path::new("nsenter"));
        curl.args(["--net", "--target", &running.pid().to_string()]);
        let output =
            curl.args(["curl", "-sS", "--max-time", "20", &format!("http://{at}:15020/live")]).output();
        text(&output.unwrap().stdout) == "live\n"
    };
    let running = Running::start(&mut inside);
    assert!(live(&running, "127.0.0.1") && live(&running, "[::1]"), "{}", running.said());
    assert!(!running.said().contains("no IPv6 here"), "{}", running.said());
    drop(running);

    let running = Running::start(&mut without_family(libc::AF_INET6, libc::EAFNOSUPPORT, &inside));
    assert!(live(&running, "127.0.0.1") && !live(&running, "[::1]"), "{}", running.said());
    assert!(
        running.said().contains("no IPv6 here: not listening there (admin.listen)"),
        "{}",
        running.said()
    );
    drop(running);

    inside.env("DRAGOMAN_ADMIN_LISTEN", "[::]:15020");
    let output = without_family(libc::AF_INET6, libc::EAFNOSUPPORT, &inside).output().unwrap();
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("admin.listen"),
        "with no other address: {said}"
    );
}

#[test]
fn without_a_configuration_it_observes() {
    let running = start_alone("");
    let said = running.said();
    assert!(said.contains("observing only") && said.contains("127.0.0.1:15001, [::1]:15001"), "{said}");
}

#[test]
fn a_machine_without_ipv6_is_served_with_ipv4() {
    let running = start_alone("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 &&");
    let said = running.said();
    assert!(said.contains("no IPv6 here"), "{said}");
    running.signal("TERM");
    assert_eq!(running.end().0, 0);
}
