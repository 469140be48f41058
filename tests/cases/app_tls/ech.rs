//! Real post-quantum and encrypted hellos, made by rustls, to nginx.

use std::io::{Read, Write};
use std::sync::Arc;

use dragoman_harness::net::server;
use dragoman_harness::pki::{Pki, Spec};
use dragoman_harness::{Dragoman, Net, servers};
use rustls::client::{EchConfig, EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::hpke::{ALL_SUPPORTED_SUITES, DH_KEM_X25519_HKDF_SHA256_AES_128};
use rustls::crypto::hpke::Hpke;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, EchConfigListBytes, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use super::ALLOW_LIST;
use super::hello::prefixed16;

/// What an HTTPS record in DNS would say (RFC 9849 §4): a key that nobody has, behind a public name.
fn ech_config(public_name: &str) -> EchConfig {
    let key = DH_KEM_X25519_HKDF_SHA256_AES_128.generate_key_pair().unwrap().0.0;
    let name = [&[u8::try_from(public_name.len()).unwrap()], public_name.as_bytes()].concat();
    let contents =
        [&[3, 0, 0x20][..], &prefixed16(&key), &prefixed16(&[0, 1, 0, 1]), &[64], &name, &[0, 0]].concat();
    let list = prefixed16(&[&[0xfe, 0x0d][..], &prefixed16(&contents)].concat());
    EchConfig::new(EchConfigListBytes::from(list), ALL_SUPPORTED_SUITES).unwrap()
}

/// One request by rustls, which says what went wrong.
fn request(net: &Net, pki: &Pki, ech: Option<EchMode>, name: &str) -> Result<String, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.roots()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = match ech {
        Some(mode) => builder.with_ech(mode),
        None => builder.with_safe_default_protocol_versions(),
    };
    let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let peer = net.app.connect(server(443));
    let mut stream = Stream { conn: &mut session, sock: &mut peer.stream() };
    stream.write_all(b"GET /who HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    Ok(answer.rsplit("\r\n").next().unwrap_or_default().to_owned())
}

#[test]
fn encrypted_hellos_are_judged_by_their_outer_name() {
    let net = Net::new();
    let pki = Pki::new();
    let own = pki.issue(&Spec::dns("pay.test").and_dns("hidden.test"));
    let _nginx = servers::nginx(
        &net.servers,
        &format!(
            "listen 443 ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3; \
             location /who {{ return 200 '$ssl_server_name $ssl_protocol'; }}",
            own.certificate.display(),
            own.key.display()
        ),
    );
    let dragoman = Dragoman::start(&net, ALLOW_LIST);
    let answer = Ok("pay.test TLSv1.3".to_owned());
    // X25519MLKEM768 makes the hello longer than a segment.
    assert_eq!(request(&net, &pki, None, "pay.test"), answer);
    let suite = DH_KEM_X25519_HKDF_SHA256_AES_128;
    let grease = EchMode::Grease(EchGreaseConfig::new(suite, suite.generate_key_pair().unwrap().0));
    assert_eq!(request(&net, &pki, Some(grease), "pay.test"), answer);
    let passed = dragoman.records_where(2, |record| record["sni"] == "pay.test");
    assert!(passed[0]["bytes_from_app"].as_u64().unwrap() > 1400, "{}", passed[0]);

    // hidden.test is not allowed; the name that everybody sees is. nginx knows nothing of ECH, and says so by its answer: the
    // app learns that the real name was never asked for.
    let hidden = request(&net, &pki, Some(EchMode::Enable(ech_config("pay.test"))), "hidden.test");
    assert!(hidden.as_ref().is_err_and(|why| why.contains("RejectedEncryptedClientHello")), "{hidden:?}");
    let records = dragoman.records_where(3, |record| record["sni"] == "pay.test");
    assert_eq!(records[2]["destination"], "pay");
    // Without ECH the name is seen, and denied.
    assert!(request(&net, &pki, None, "hidden.test").is_err());
    let record = dragoman.record_of("denied");
    assert_eq!((&record["sni"], &record["destination"]), (&"hidden.test".into(), &"default".into()));
}
