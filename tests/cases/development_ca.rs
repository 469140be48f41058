//! `dragoman ca` and the proxy together: mutual TLS for an app that knows nothing of it, with what two commands have made.

use std::os::unix::fs::chown;
use std::process::Command;

use dragoman_harness::dragoman::ID;
use dragoman_harness::net::server;
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Net, binaries, process, servers, wait};

/// nginx says by which certificate it knows the proxy: that of the moment, from one connection to the next.
#[test]
fn an_app_without_keys_is_known_by_an_identity_that_is_renewed() {
    let net = Net::new();
    let scratch = Scratch::new("ca");
    let folder = scratch.path().display();
    let ca = |line: &str| {
        let mut command = Command::new(binaries::dragoman());
        process::succeed(command.arg("ca").args(line.split(' ')).current_dir(scratch.path()))
    };
    ca("init");
    ca("issue --dns web.test --out server");
    // The proxy reads as its own user what root renews.
    std::fs::create_dir(scratch.path().join("client")).unwrap();
    chown(scratch.path().join("client"), Some(ID), Some(ID)).unwrap();
    ca("issue --spiffe spiffe://shop.test/ns/app --out client");
    let serial = || {
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-serial", "-in"]).arg(scratch.path().join("client/tls.crt"));
        process::succeed(&mut openssl).trim().replace("serial=", "")
    };
    let _nginx = servers::nginx(
        &net.servers,
        &format!(
            "listen 443 ssl; ssl_certificate {folder}/server/tls.crt; ssl_certificate_key {folder}/server/tls.key; \
             ssl_verify_client on; ssl_client_certificate {folder}/server/ca.crt; \
             location /who {{ return 200 '$ssl_client_verify $ssl_client_serial'; }}"
        ),
    );
    let dragoman = Dragoman::start(
        &net,
        &format!(
            "[identity]\ncertificate = '{folder}/client/tls.crt'\nkey = '{folder}/client/tls.key'\n\
             [destination.web]\nhosts = ['web.test']\ntls = {{ port = 443, roots = ['{folder}/client/ca.crt'] }}\n"
        ),
    );
    let ask = || {
        let answer =
            net.app.connect(server(80)).exchange("GET /who HTTP/1.1\r\nHost: web.test\r\n\r\n").unwrap();
        answer.text()
    };
    let first = serial();
    assert_eq!(ask(), format!("SUCCESS {first}"));
    let said = ca("renew client");
    assert!(said.contains("spiffe://shop.test/ns/app"), "{said}");
    let second = serial();
    assert_ne!(first, second);
    wait::until("the new identity is presented", wait::SOON, || ask() == format!("SUCCESS {second}"));
    assert!(
        dragoman.records().iter().all(|record| record.get("cause").is_none_or(serde_json::Value::is_null))
    );
}
