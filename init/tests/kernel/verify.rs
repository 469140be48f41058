//! `dragoman-init verify` with and without rules, with and without a proxy, and with strangers in its place.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use dragoman_capture::probe;
use dragoman_harness::process;

use crate::rig::{HERE_V4, HERE_V6, INIT, PORT, Rig, complaint};

const ALONE: &str = "\
IPv4: proved: 192.0.2.151:15151 arrived at 127.0.0.1:15001 with its original destination (the proxy is not running)
IPv6: proved: [2001:db8::151]:15151 arrived at [::1]:15001 with its original destination (the proxy is not running)
";

/// What verify said and how it ended.
fn verify(rig: &Rig, arguments: &str) -> (String, Option<i32>) {
    let output = rig.init(&format!("verify {arguments}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.is_empty(), "{complaints}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

/// Has someone answer each connection on the port of A's loopback as `answer` says, from the first bytes.
fn answer_with(rig: &Rig, address: SocketAddr, answer: fn(&[u8], SocketAddr) -> Vec<u8>) {
    let listener: TcpListener = rig.net.app.listen(address);
    let original =
        SocketAddr::new(if address.is_ipv4() { probe::IPV4.into() } else { probe::IPV6.into() }, probe::PORT);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; probe::REQUEST_MAX_BYTES];
            let len = std::io::Read::read(&mut stream, &mut request).unwrap_or(0);
            let _ = stream.write_all(&answer(&request[..len], original));
        }
    });
}

#[test]
fn c9_with_rules_and_no_proxy_the_check_listens_itself() {
    let rig = Rig::new();
    rig.succeed("install");
    assert_eq!(verify(&rig, ""), (ALONE.to_owned(), Some(0)));
    assert_eq!(verify(&rig, ""), (ALONE.to_owned(), Some(0)), "again at once");
}

#[test]
fn c9_it_needs_no_privilege() {
    let rig = Rig::new();
    rig.succeed("install");
    let mut command = rig.net.app.bounded("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", INIT, "verify"]);
    assert_eq!(process::succeed(&mut command), ALONE);
}

#[test]
fn c9_without_rules_it_fails_for_both_within_its_deadline() {
    let rig = Rig::new();
    let start = Instant::now();
    let (said, code) = verify(&rig, "");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(code, Some(1));
    let hint = "; are the rules installed, and with the same options?";
    let lines: Vec<&str> = said.lines().collect();
    // S drops what is not its own over IPv4, and over IPv6 answers that there is no way.
    assert_eq!(
        lines[0],
        format!("IPv4: FAILED: 192.0.2.151:15151 is not redirected (connection timed out){hint}")
    );
    assert!(lines[1].starts_with("IPv6: FAILED: [2001:db8::151]:15151 is not redirected ("), "{said}");
    assert!(lines[1].ends_with(hint) && lines.len() == 2, "{said}");
}

#[test]
fn c9_half_of_the_rules_is_half_of_the_proof() {
    let rig = Rig::new();
    rig.succeed("--ipv6 off");
    let (said, code) = verify(&rig, "");
    assert!(said.starts_with("IPv4: proved: ") && said.contains("\nIPv6: FAILED: "), "{said}");
    assert_eq!(code, Some(1));
    let (said, code) = verify(&rig, "--ipv6 off");
    assert!(said.ends_with("\nIPv6: skipped: --ipv6 off lets IPv6 pass by\n"), "{said}");
    assert_eq!(code, Some(0));
}

#[test]
fn c9_a_running_proxy_answers_with_the_token_and_the_destination() {
    let rig = Rig::new();
    rig.succeed("install");
    for address in [HERE_V4, HERE_V6] {
        answer_with(&rig, SocketAddr::new(address, PORT), |request, original| {
            assert!(probe::is_probe(original));
            probe::answer(request, original).expect("a check's request is well-formed")
        });
    }
    assert_eq!(
        verify(&rig, ""),
        (
            "\
IPv4: proved: 192.0.2.151:15151 arrived at the proxy on 127.0.0.1:15001 with its original destination
IPv6: proved: [2001:db8::151]:15151 arrived at the proxy on [::1]:15001 with its original destination
"
            .to_owned(),
            Some(0)
        )
    );
    rig.succeed("remove");
    let (said, code) = verify(&rig, "");
    assert_eq!((said.matches("FAILED: ").count(), code), (2, Some(1)), "{said}");
}

#[test]
fn c9_a_stranger_on_the_port_proves_nothing() {
    let rig = Rig::new();
    rig.succeed("install");
    // One that repeats what it hears, token and all; one that says nothing.
    answer_with(&rig, SocketAddr::new(HERE_V4, PORT), |request, _| request.to_vec());
    answer_with(&rig, SocketAddr::new(HERE_V6, PORT), |_, _| Vec::new());
    let (said, code) = verify(&rig, "");
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("IPv4: FAILED: 192.0.2.151:15151 was answered by \"DRAGOMAN VERIFY "),
        "{said}"
    );
    assert!(lines[0].ends_with("\\n\", which is not the proxy's answer"), "{said}");
    assert_eq!(
        lines[1],
        "IPv6: FAILED: [2001:db8::151]:15151 was reached, but whoever has [::1]:15001 did not answer: \
         unexpected end of file"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn c9_a_stranger_that_is_silent_or_never_stops_is_left_in_time() {
    let rig = Rig::new();
    rig.succeed("install");
    let silent = rig.net.app.listen(SocketAddr::new(HERE_V4, PORT));
    answer_with(&rig, SocketAddr::new(HERE_V6, PORT), |_, _| vec![b'x'; 1 << 20]);
    let start = Instant::now();
    let (said, code) = verify(&rig, "");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(
        said.contains(
            "IPv4: FAILED: 192.0.2.151:15151 was reached, but whoever has 127.0.0.1:15001 did not answer: "
        ),
        "{said}"
    );
    assert!(said.contains("did not answer: the answer is too long"), "{said}");
    assert_eq!(code, Some(1));
    drop(silent);
}

#[test]
fn c9_a_proxy_that_listens_on_ipv4_alone_is_found_out() {
    let rig = Rig::new();
    rig.succeed("install");
    answer_with(&rig, SocketAddr::new(HERE_V4, PORT), |request, original| {
        probe::answer(request, original).unwrap_or_default()
    });
    let (said, code) = verify(&rig, "");
    assert!(said.starts_with("IPv4: proved: "), "{said}");
    assert!(
        said.ends_with(
            "\nIPv6: FAILED: the proxy runs, but does not listen on [::1]:15001, where connections are redirected\n"
        ),
        "{said}"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn c9_without_a_route_there_is_nothing_to_prove_unless_ipv6_is_asked_for() {
    let rig = Rig::new();
    rig.succeed("install");
    rig.net.app.succeed("ip -6 route del default");
    let why = "no IPv6 route to 2001:db8::151 (Network is unreachable (os error 101))";
    let (said, code) = verify(&rig, "");
    assert!(said.ends_with(&format!("\nIPv6: skipped: {why}\n")), "{said}");
    assert_eq!(code, Some(0));
    let (said, code) = verify(&rig, "--ipv6 on");
    assert!(said.ends_with(&format!("\nIPv6: FAILED: {why}, but --ipv6 on asks for proof\n")), "{said}");
    assert_eq!(code, Some(1));
    rig.net.app.succeed("ip route del default");
    let (said, code) = verify(&rig, "");
    let last = "\nNothing was proved: there must be a route to at least one of these addresses.\n";
    assert!(said.ends_with(last), "{said}");
    assert_eq!(code, Some(1));
}

#[test]
fn c9_it_dials_a_port_that_the_rules_capture_and_says_where_they_cannot() {
    let rig = Rig::new();
    for options in ["--include-port 443,80", "--exclude-port 15151", "--port 16001", "--capture-loopback"] {
        rig.succeed(options);
        let (said, code) = verify(&rig, options);
        assert_eq!((said.matches("proved: ").count(), code), (2, Some(0)), "{options}: {said}");
    }
    let (said, code) = verify(&rig, "--include-cidr 10.0.0.0/8,2001:db8::/32");
    assert!(
        said.starts_with(
            "IPv4: FAILED: --include-cidr leaves 192.0.2.151 alone, which the check dials; include it to verify\n"
        ),
        "{said}"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn c9_under_the_proxys_own_group_it_refuses_to_say_anything() {
    let rig = Rig::new();
    rig.succeed("install");
    for (gid, options, expected) in [
        (
            1337,
            "",
            "verify runs under the proxy's own group 1337, which is never captured; run it under another",
        ),
        (
            5,
            "--exclude-gid 5",
            "verify runs under group 5, which --exclude-gid leaves alone; run it under another",
        ),
        (6, "--exclude-uid 0", "verify runs as user 0, whom --exclude-uid leaves alone; run it as another"),
    ] {
        let mut command = rig.net.app.bounded("setpriv");
        command.args([format!("--regid={gid}"), "--clear-groups".to_owned()]);
        let output = process::output(command.args([INIT, "verify"]).args(options.split_whitespace()));
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(complaint(&output), expected);
    }
}

#[test]
fn c9_as_json_for_programs() {
    let rig = Rig::new();
    rig.succeed("install");
    rig.net.app.succeed("ip -6 route del default");
    let (said, code) = verify(&rig, "--json");
    assert_eq!(
        said,
        "{\"proof\":true,\"ipv4\":{\"outcome\":\"proved\",\"detail\":\"192.0.2.151:15151 arrived at 127.0.0.1:15001 with \
         its original destination (the proxy is not running)\"},\"ipv6\":{\"outcome\":\"skipped\",\"detail\":\"no IPv6 \
         route to 2001:db8::151 (Network is unreachable (os error 101))\"}}\n"
    );
    assert_eq!(code, Some(0));
    // What a stranger says must not end the string.
    answer_with(&rig, SocketAddr::new(HERE_V4, PORT), |_, _| b"a\"\\\x01\xc3\xa9\n".to_vec());
    let (said, code) = verify(&rig, "--json --ipv6 off");
    let parsed: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        parsed["ipv4"]["detail"],
        "192.0.2.151:15151 was answered by \"a\\\"\\\\\\u{1}é\\n\", which is not the proxy's answer"
    );
    assert_eq!((&parsed["proof"], &parsed["ipv4"]["outcome"]), (&false.into(), &"failed".into()));
    assert_eq!(code, Some(1));
}

#[test]
fn c9_a_proxy_that_lacks_a_port_of_the_range_is_found_out() {
    let rig = Rig::new();
    rig.succeed("--port 15001-15003");
    for port in [15001, 15002] {
        for address in [HERE_V4, HERE_V6] {
            answer_with(&rig, SocketAddr::new(address, port), |request, original| {
                probe::answer(request, original).unwrap_or_default()
            });
        }
    }
    let (said, code) = verify(&rig, "--port 15001-15003");
    let lacks = |here: &str| {
        format!(
            "FAILED: the proxy runs, but does not listen on {here}:15003, where connections are redirected\n"
        )
    };
    assert_eq!(said, format!("IPv4: {}IPv6: {}", lacks("127.0.0.1"), lacks("[::1]")));
    assert_eq!(code, Some(1));
    let (said, code) = verify(&rig, "--port 15001-15002");
    assert_eq!((said.matches("proved: ").count(), code), (2, Some(0)), "{said}");
}
