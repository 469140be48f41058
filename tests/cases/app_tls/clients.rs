//! Unchanged programs that speak TLS themselves, under an allow-list of names.

use std::process::Command;

use dragoman_harness::pki::{Pki, Spec};
use dragoman_harness::{Dragoman, Net, process, programs, servers};

use super::ALLOW_LIST;

/// The name that is asked for, none where it is empty, and whether it is allowed.
const NAMES: [(&str, bool); 6] = [
    ("pay.test", true),
    ("PAY.test", true),
    ("a.shop.test", true),
    ("evil.shop.test", false),
    ("other.test", false),
    ("", false),
];

/// Each name in turn by a client; the line is given a name and the file of roots. What the server answers is its own name of
/// the session, which no other could make: nothing was changed on the way.
fn is_judged_by_name(names: &[(&str, bool)], line: impl Fn(&str, &str) -> String) {
    let net = Net::new();
    let pki = Pki::new();
    let spec = Spec::dns("pay.test").and_dns("*.shop.test").and_dns("other.test");
    let own = pki.issue(&spec);
    let _nginx = servers::nginx(
        &net.servers,
        &format!(
            "listen 443 ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3; \
             location /who {{ return 200 '[$ssl_server_name $ssl_protocol]'; }}",
            own.certificate.display(),
            own.key.display()
        ),
    );
    let roots = pki.roots().to_str().expect("a path of our own");
    let direct: Vec<_> = names.iter().map(|(name, _)| net.app.shell(&line(name, roots))).collect();
    let dragoman = Dragoman::start(&net, ALLOW_LIST);
    for (done, ((name, allowed), direct)) in names.iter().zip(direct).enumerate() {
        let direct = process::text(&direct);
        let answer = format!("[{} tlsv1.3]", name.to_ascii_lowercase());
        assert!(direct.to_ascii_lowercase().contains(&answer), "{name}: {direct}");
        let out = process::text(&net.app.shell(&line(name, roots)));
        assert_eq!(out.contains("TLSv1.3]"), *allowed, "{name}: {out}");
        // One after another: a flow that is refused ends sooner than the one before it, which may not be recorded yet.
        let records = dragoman.records_where(done + 1, |record| record["protocol"] == "tls");
        assert_eq!(records.len(), done + 1, "{records:#?}");
        let record = &records[done];
        let sni = record["sni"].as_str().unwrap_or_default();
        assert_eq!(
            (sni, record["cause"] == "denied"),
            (name.to_ascii_lowercase().as_str(), !allowed),
            "{record}"
        );
    }
}

#[test]
fn curl() {
    is_judged_by_name(&NAMES[..5], |name, roots| {
        format!("curl -sS --max-time 30 --cacert {roots} --connect-to ::198.18.0.2:443 https://{name}/who")
    });
}

#[test]
fn openssl_s_client() {
    is_judged_by_name(&NAMES, |name, roots| {
        let name = if name.is_empty() {
            "-noservername".into()
        } else {
            format!("-servername {name} -verify_hostname {name}")
        };
        format!(
            "printf 'GET /who HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -verify_return_error -CAfile {roots} \
             -connect 198.18.0.2:443 {name}"
        )
    });
}

#[test]
fn python() {
    is_judged_by_name(&NAMES, |name, roots| {
        format!(
            "python3 -c \"import socket, ssl; c = ssl.create_default_context(cafile='{roots}'); name = '{name}' or None; \
             c.check_hostname = bool(name); s = socket.create_connection(('198.18.0.2', 443), timeout=30); \
             s = c.wrap_socket(s, server_hostname=name); s.sendall(b'GET /who HTTP/1.0\\r\\n\\r\\n'); \
             print(b''.join(iter(lambda: s.recv(4096), b'')))\""
        )
    });
}

#[test]
fn java() {
    if !process::output(Command::new("sh").args(["-c", "command -v java"])).status.success() {
        println!("java is not installed here: its client is not tested");
        return;
    }
    let program = programs::path("clients/TlsClient.java");
    // Each takes seconds to start.
    is_judged_by_name(&NAMES[2..4], |name, roots| {
        format!("java -XX:TieredStopAtLevel=1 {} 198.18.0.2 443 {name} {roots} 2>&1", program.display())
    });
}
