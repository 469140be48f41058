//! nginx.

use std::fs;

use super::Server;
use crate::net::Namespace;
use crate::scratch::Scratch;

/// nginx on port 80 with the files of `<directory>/www` and these further lines in its `server` block.
/// Its access log is its standard output, one line a request: `peer method path status bytes`.
pub fn nginx(namespace: &Namespace, lines: &str) -> Server {
    const PORT: u16 = 80;
    let scratch = Scratch::new("nginx");
    let directory = scratch.path().display();
    for sub in ["www", "temporary"] {
        fs::create_dir(scratch.path().join(sub)).expect("the scratch directory takes folders");
    }
    let configuration = format!(
        "daemon off; user root; worker_processes 1; error_log stderr warn; pid {directory}/pid;
events {{ worker_connections 512; }}
http {{
  log_format record '$remote_addr $request_method $request_uri $status $body_bytes_sent';
  access_log /dev/stderr record;
  client_body_temp_path {directory}/temporary; proxy_temp_path {directory}/temporary;
  fastcgi_temp_path {directory}/temporary; uwsgi_temp_path {directory}/temporary;
  scgi_temp_path {directory}/temporary;
  server {{
    listen {PORT}; listen [::]:{PORT}; root {directory}/www; client_max_body_size 0;
    {lines}
  }}
}}
"
    );
    let file = scratch.write("nginx.conf", configuration);
    let mut command = namespace.command("nginx");
    command.arg("-p").arg(scratch.path()).arg("-c").arg(file);
    Server::start(namespace, "nginx", &mut command, PORT, scratch)
}

/// nghttpd on port 80: HTTP/2 without TLS, with the files of `<directory>/www`. It echoes nothing; its log
/// is each frame that it sees.
pub fn nghttpd(namespace: &Namespace) -> Server {
    const PORT: u16 = 80;
    let scratch = Scratch::new("nghttpd");
    let www = scratch.path().join("www");
    fs::create_dir(&www).expect("the scratch directory takes folders");
    let mut command = namespace.command("nghttpd");
    command.args(["--no-tls", "--verbose", "--htdocs"]).arg(www).arg(PORT.to_string());
    Server::start(namespace, "nghttpd", &mut command, PORT, scratch)
}
