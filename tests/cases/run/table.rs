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

/// What has no room in the recorder is not left out in silence.
#[test]
fn l7_explain_says_how_much_it_does_not_list() {
    const REQUESTS: usize = 600;
    let (net, user) = (Net::new(), User::new());
    let _origin = Origin::http(&net.servers, net::server(80), |_, _| Reply::status(200, "here"));
    let script = format!(
        "import http.client; c = http.client.HTTPConnection('198.18.0.2'); \
         [(c.request('GET', '/%d' % n), c.getresponse().read()) for n in range({REQUESTS})]"
    );
    let explained = |memory: &str| {
        let text = format!("[recorder]\nmemory = '{memory}'\n");
        let config = user.home.write("recorder.toml", text).display().to_string();
        let arguments = ["--config", &config, "--explain", "--", "/usr/bin/python3", "-c", &script];
        let (code, _, err) = said(&process::output(&mut user.run(&net, &arguments)));
        assert_eq!(code, Some(0), "{err}");
        err
    };
    let all = explained("1MiB");
    assert_eq!(all.lines().count(), REQUESTS + 1, "a header, and a line for each\n{all}");

    let some = explained("64KiB");
    let (told, note) = some.trim_end().rsplit_once('\n').unwrap();
    let more: usize = note.strip_prefix('(').unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(note.ends_with(" had no room in recorder.memory, 64 KiB)"), "{note}");
    // The connection itself is recorded, and left out of the table.
    assert_eq!(told.lines().count() - 1 + more, REQUESTS, "{some}");
    assert!(told.lines().last().unwrap().contains("/599 "), "the latest are kept\n{some}");

    let none = explained("0B");
    assert_eq!(none, "dragoman: nothing to list: the flight recorder is off (recorder.memory = 0)\n");
}
