//! Real servers that speak TLS. Each shows `identity`, and serves clients of `clients` alone where that is said.

use std::path::Path;
use std::process::Command;

use super::{Server, nginx};
use crate::net::Namespace;
use crate::pki::{Issued, Pki};
use crate::process;
use crate::programs;
use crate::scratch::Scratch;

/// nginx on port 443 besides 80, over HTTP/1 and HTTP/2. It answers `client: the serial number of the client's certificate,
/// or none; over: the protocol`.
pub fn nginx_with_tls(namespace: &Namespace, identity: &Issued, clients: Option<&Pki>) -> Server {
    let clients = clients.map_or(String::new(), |clients| {
        format!("ssl_client_certificate {}; ssl_verify_client on;", clients.roots().display())
    });
    let lines = format!(
        "listen 443 ssl http2; listen [::]:443 ssl http2;
    ssl_certificate {}; ssl_certificate_key {}; {clients}
    location / {{ default_type text/plain; return 200 \"client: $ssl_client_serial; over: $server_protocol\"; }}",
        identity.certificate.display(),
        identity.key.display()
    );
    nginx(namespace, &lines)
}

/// `openssl s_server` on port 443, with these further arguments. Among the useful ones are `-rev`, which answers each line
/// with the same backwards, and `-www`, which answers a request with a page about the connection.
pub fn s_server(
    namespace: &Namespace,
    identity: &Issued,
    clients: Option<&Pki>,
    arguments: &[&str],
) -> Server {
    const PORT: u16 = 443;
    let mut command = namespace.command("openssl");
    command.args(["s_server", "-accept", &PORT.to_string(), "-cert_chain"]).arg(&identity.certificate);
    command.arg("-cert").arg(&identity.certificate).arg("-key").arg(&identity.key).args(arguments);
    if let Some(clients) = clients {
        command.args(["-Verify", "3", "-verify_return_error", "-CAfile"]).arg(clients.roots());
    }
    Server::start(namespace, "openssl s_server", &mut command, PORT, Scratch::new("s_server"))
}

/// stunnel on port 443, which decrypts what a plain server on port `behind` of S's loopback gets.
pub fn stunnel(namespace: &Namespace, identity: &Issued, clients: Option<&Pki>, behind: u16) -> Server {
    const PORT: u16 = 443;
    let scratch = Scratch::new("stunnel");
    let clients = clients.map_or(String::new(), |clients| {
        format!("verifyChain = yes\nCAfile = {}\nrequireCert = yes\n", clients.roots().display())
    });
    let configuration = format!(
        "foreground = yes\nsyslog = no\npid =\n[tls]\naccept = :::{PORT}\nconnect = 127.0.0.1:{behind}\ncert = {}\nkey = {}\n{clients}",
        identity.certificate.display(),
        identity.key.display()
    );
    let file = scratch.write("stunnel.conf", configuration);
    Server::start(namespace, "stunnel", namespace.command("stunnel4").arg(file), PORT, scratch)
}

/// Redis on port 443, with TLS alone.
pub fn redis_with_tls(namespace: &Namespace, identity: &Issued, clients: Option<&Pki>) -> Server {
    const PORT: u16 = 443;
    let scratch = Scratch::new("redis");
    let mut command = namespace.command("redis-server");
    command.args(["--save", "", "--protected-mode", "no", "--bind", "*", "-::*", "--port", "0"]);
    command.args(["--tls-port", &PORT.to_string(), "--dir"]).arg(scratch.path());
    command.arg("--tls-cert-file").arg(&identity.certificate).arg("--tls-key-file").arg(&identity.key);
    // It takes none without authorities, whether it asks clients or not.
    let authorities = clients.map_or(identity.certificate.as_path(), Pki::roots);
    command.arg("--tls-ca-cert-file").arg(authorities);
    command.args(["--tls-auth-clients", if clients.is_some() { "yes" } else { "no" }]);
    Server::start(namespace, "redis-server", &mut command, PORT, scratch)
}

/// The HTTP server of the JDK on port 443, which answers as [`nginx_with_tls`] does; `None` where no Java is installed.
pub fn java_with_tls(namespace: &Namespace, identity: &Issued, clients: &Pki) -> Option<Server> {
    const PORT: u16 = 443;
    if !process::output(Command::new("sh").args(["-c", "command -v java"])).status.success() {
        return None;
    }
    let scratch = Scratch::new("java");
    let store = scratch.path().join("identity.p12");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkcs12", "-export", "-passout", "pass:secret", "-in"]).arg(&identity.certificate);
    process::succeed(openssl.arg("-inkey").arg(&identity.key).arg("-out").arg(&store));
    let mut command = namespace.command("java");
    command.args(["-XX:TieredStopAtLevel=1"]).arg(programs::path("tls/Server.java")).arg(PORT.to_string());
    command.arg(Path::new(&store)).arg(clients.roots());
    Some(Server::start(namespace, "java", &mut command, PORT, scratch))
}
