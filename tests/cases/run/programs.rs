//! Unchanged programs against real servers: the same result as without, and each flow with its right original
//! destination.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Net, process, programs, servers};

use crate::{User, says};

const V4: &str = "198.18.0.2";

/// Runs each shell line as the user, without dragoman and then in `dragoman run`. Both must say the same, and every
/// flow must have gone to one of the line's destinations, each of which must have been met. Returns what was printed.
fn same(net: &Net, user: &User, lines: &[(String, &[&str])]) -> Vec<String> {
    let config = user.logging();
    let one = |(line, destinations): &(String, &[&str])| {
        let direct = says(user.runs(net, "sh").args(["-c", line]));
        let _ = fs::remove_file(user.log_file());
        let captured = says(&mut user.run(net, &["--config", &config, "--", "sh", "-c", line]));
        assert_eq!(captured, direct, "captured, then direct: {line}");
        let mut met = user.destinations();
        met.dedup();
        let mut expected: Vec<SocketAddr> = destinations.iter().map(|one| one.parse().unwrap()).collect();
        expected.sort_unstable();
        assert_eq!(met, expected, "{line}");
        captured.1
    };
    lines.iter().map(one).collect()
}

#[test]
fn l7_curl_gets_the_same_by_both_versions_of_ip() {
    let (net, user) = (Net::new(), User::new());
    let nginx = servers::nginx(&net.servers, "location /gone { return 410; }");
    fs::write(nginx.directory().join("www/file"), "content\n".repeat(100_000)).unwrap();
    let lines = [
        (format!("curl -sS http://{V4}/file | sha256sum"), &["198.18.0.2:80"][..]),
        ("curl -sS 'http://[fd98::2]/file' | sha256sum".to_owned(), &["[fd98::2]:80"]),
        (format!("curl -sS -o /dev/null -w '%{{http_code}}\n' http://{V4}/gone"), &["198.18.0.2:80"]),
        (
            "curl -sS -o /dev/null -w '%{remote_ip} %{local_ip}\n' http://198.18.0.4/file".to_owned(),
            &["198.18.0.4:80"],
        ),
        (
            format!(
                "for i in 1 2 3 4 5; do curl -sS http://{V4}/file http://198.18.0.3/file | sha256sum & done; wait"
            ),
            &["198.18.0.2:80", "198.18.0.3:80"],
        ),
    ];
    let printed = same(&net, &user, &lines);
    assert_eq!(printed[0], printed[1]);
    assert_eq!(printed[2], "410\n");
    assert_eq!(printed[3], "198.18.0.4 198.18.0.1\n", "the source is the host's own address");
    assert_eq!(printed[4].lines().count(), 5);
}

#[test]
fn l7_git_clones_over_http() {
    let (net, user) = (Net::new(), User::new());
    let git = servers::git_daemon(&net.servers, &[("readme", b"hello\n")]);
    let alias = format!("location /git/ {{ alias {}/; }}", git.directory().display());
    let _nginx = servers::nginx(&net.servers, &alias);
    let clone = |url: String| {
        format!(
            "rm -rf clone; git clone -q {url} clone 2>&1 && git -C clone rev-parse HEAD && cat clone/readme"
        )
    };
    let lines = [
        (clone(format!("http://{V4}/git/repository.git")), &["198.18.0.2:80"][..]),
        (clone(format!("git://{V4}/repository.git")), &["198.18.0.2:9418"]),
    ];
    let printed = same(&net, &user, &lines);
    assert!(printed[0].ends_with("hello\n") && printed[0] == printed[1], "{printed:?}");
}

#[test]
fn l7_python_requests_and_node_fetch_get_the_same() {
    let (net, user) = (Net::new(), User::new());
    let _nginx = servers::nginx(&net.servers, "location /hello { return 200 'hello $request_method'; }");
    // The folder of the tests' own packages may be closed to others.
    let list = "import requests, urllib3, idna, certifi, charset_normalizer as c; \
                print(*{m.__path__[0] for m in (requests, urllib3, idna, certifi, c)})";
    let packages = process::succeed(Command::new(programs::python()).args(["-c", list]));
    let modules = user.home.path().join("modules");
    fs::create_dir(&modules).unwrap();
    process::succeed(Command::new("cp").arg("-r").args(packages.split_whitespace()).arg(&modules));
    let requests = "import requests as r; s = r.Session(); \
                    print([s.post('http://198.18.0.2/hello', data='x').text for _ in range(3)])";
    let fetch = "fetch('http://198.18.0.2/hello').then(r => r.text()).then(console.log)";
    let lines = [
        (
            format!("PYTHONPATH={} /usr/bin/python3 -W ignore -c \"{requests}\"", modules.display()),
            &["198.18.0.2:80"][..],
        ),
        (format!("node -e \"{fetch}\""), &["198.18.0.2:80"]),
    ];
    let printed = same(&net, &user, &lines);
    assert_eq!(printed, ["['hello POST', 'hello POST', 'hello POST']\n", "hello GET\n"]);
}

#[test]
fn l7_java_gets_the_same() {
    if !process::output(Command::new("sh").args(["-c", "command -v java"])).status.success() {
        println!("java is not installed here: its client is not tested");
        return;
    }
    let (net, user) = (Net::new(), User::new());
    let _nginx = servers::nginx(&net.servers, "location /hello { return 200 'hello'; }");
    let source = "public class Get { public static void main(String[] a) throws Exception { \
                  var in = java.net.URI.create(\"http://198.18.0.2/hello\").toURL().openStream(); \
                  System.out.println(new String(in.readAllBytes())); } }";
    user.home.write("Get.java", source);
    let line = "java -XX:TieredStopAtLevel=1 -XX:-UsePerfData Get.java".to_owned();
    assert_eq!(same(&net, &user, &[(line, &["198.18.0.2:80"])]), ["hello\n"]);
}

#[test]
fn l7_psql_and_redis_cli_get_the_same() {
    let (net, user) = (Net::new(), User::new());
    let _postgres = servers::postgres(&net.servers);
    let _redis = servers::redis(&net.servers);
    let psql = |host: &str| {
        format!(
            "psql 'host={host} user=app password=secret dbname=postgres' -At -c 'select 6*7, inet_client_addr()'"
        )
    };
    let lines = [
        (psql(V4), &["198.18.0.2:5432"][..]),
        (psql("fd98::2"), &["[fd98::2]:5432"]),
        (format!("redis-cli -h {V4} set k v; redis-cli -h {V4} get k"), &["198.18.0.2:6379"]),
        (format!("seq 5000 | sed 's/.*/incr n/' | redis-cli -h {V4} --pipe | tail -1"), &["198.18.0.2:6379"]),
    ];
    let printed = same(&net, &user, &lines);
    assert_eq!(printed[..3], ["42|198.18.0.1\n", "42|fd98::1\n", "OK\nv\n"]);
    assert!(printed[3].ends_with("replies: 5000\n"), "{}", printed[3]);
}

#[test]
fn l7_a_server_that_speaks_first_is_heard() {
    let (net, user) = (Net::new(), User::new());
    let _ssh = servers::ssh(&net.servers);
    let lines = [
        (format!("nc {V4} 22 </dev/null | head -c 8"), &["198.18.0.2:22"][..]),
        (format!("ssh-keyscan -t ed25519 {V4} 2>/dev/null"), &["198.18.0.2:22"]),
    ];
    let printed = same(&net, &user, &lines);
    assert_eq!(printed[0], "SSH-2.0-");
    assert!(printed[1].contains("ssh-ed25519 "), "{}", printed[1]);
}

#[test]
fn a_static_program_is_captured_too() {
    let (net, user) = (Net::new(), User::new());
    let _nginx = servers::nginx(&net.servers, "location /hello { return 200 'hello'; }");
    let source = user.home.write(
        "get.c",
        "#include <arpa/inet.h>\n#include <unistd.h>\n#include <sys/socket.h>\n\
         int main(void) { struct sockaddr_in to = { AF_INET, htons(80), { inet_addr(\"198.18.0.2\") } };\n\
         char answer[4096]; const char get[] = \"GET /hello HTTP/1.0\\r\\n\\r\\n\"; long n;\n\
         int s = socket(AF_INET, SOCK_STREAM, 0);\n\
         if (connect(s, (void *)&to, sizeof to) || write(s, get, sizeof get - 1) < 0) return 1;\n\
         while ((n = read(s, answer, sizeof answer)) > 0) if (write(1, answer, n) < 0) return 1;\n\
         return n < 0; }\n",
    );
    let program = user.home.path().join("get");
    process::succeed(Command::new("cc").arg("-static").arg("-o").arg(&program).arg(&source));
    let line = format!("{} | tail -n 1", program.display());
    assert_eq!(same(&net, &user, &[(line, &["198.18.0.2:80"])]), ["hello"]);
}

/// Root needs no user namespace, and stays root.
#[test]
fn root_has_the_same_results() {
    let net = Net::new();
    let _nginx = servers::nginx(&net.servers, "location /hello { return 200 'hello'; }");
    let dragoman = dragoman_harness::binaries::dragoman();
    let scratch = Scratch::new("run-root");
    let script = format!(
        "id -u; curl -sS http://{V4}/hello; touch {0}/mine; chown 12345 {0}/mine; stat -c ' %u' {0}/mine; exit 7",
        scratch.path().display()
    );
    let run = |command: &mut Command| says(command.args(["sh", "-c", &script]));
    let direct = run(&mut net.app.bounded("env"));
    let captured = run(net.app.bounded(dragoman).args(["run", "--"]));
    assert_eq!(captured, direct);
    assert_eq!(captured, (Some(7), "0\nhello 12345\n".to_owned(), String::new()));
}
