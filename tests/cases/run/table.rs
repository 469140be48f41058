//! `--explain`: at the end, what became of each connection and request.

use dragoman_harness::origin::Reply;
use dragoman_harness::{Net, Origin, net, process};

use crate::{User, said};

#[test]
fn l7_explain_lists_at_the_end_what_became_of_each_request() {
    let (net, user) = (Net::new(), User::new());
    let origin = Origin::http(&net.servers, net::server(80), |_, n| match n {
        0 => Reply::SendAndReset(Vec::new()),
        _ => Reply::status(200, "here"),
    });
    let config = user.home.write("retry.toml", "[defaults]\nretry = {}\n").display().to_string();
    let script = "curl -sS http://198.18.0.2/first; curl -s -o refused -w '%{http_code}' http://198.18.0.2:81/; exit 5";
    let arguments = ["--config", &config, "--explain", "--", "sh", "-c", script];
    let (code, out, err) = said(&process::output(&mut user.run(&net, &arguments)));
    assert_eq!((code, out.as_str()), (Some(5), "here503"), "{err}");
    assert_eq!(origin.requests().len(), 2);
    let lines: Vec<Vec<&str>> = err.lines().map(|line| line.split_whitespace().collect()).collect();
    let about = |what: &str| {
        lines.iter().find(|line| line.join(" ").contains(what)).unwrap_or_else(|| panic!("{what}: {err}"))
    };
    assert!(lines[0].contains(&"RESULT") && lines[0].contains(&"ATTEMPTS"), "{err}");
    let repeated = about("GET 198.18.0.2/first");
    assert!(repeated.contains(&"200") && repeated.contains(&"2"), "{err}");
    assert!(about("198.18.0.2:81 ").contains(&"connect_refused"), "{err}");
    assert!(!err.contains('\x1b'), "a pipe gets no colours: {err:?}");
}
