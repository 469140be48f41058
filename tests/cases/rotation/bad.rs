//! Files that cannot be used: at a start they refuse it, later the last good ones stay.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use dragoman_harness::pki::{Issued, Pki, Spec, write_key};
use dragoman_harness::volume::{Volume, replace};
use dragoman_harness::{Dragoman, binaries, process, wait};
use nix::sys::signal::Signal;

use super::{Shop, reloads, taken};

#[test]
fn t1_what_cannot_be_used_keeps_the_last_good_identity() {
    let shop = Shop::new();
    let volume = Volume::new(shop.path("identity"));
    let (certificate, key) = (volume.path().join("tls.crt"), volume.path().join("tls.key"));
    let (first, second) = (shop.client(), shop.client());
    volume.put(&first);
    let dragoman = Dragoman::start(&shop.net, &shop.policy(volume.path(), ""));
    let spec = || Spec::uri("spiffe://shop.test/ns/web/sa/web");
    let (expired, early) = (shop.pki.issue(&spec().expired()), shop.pki.issue(&spec().not_yet_valid()));
    let half = &second.certificate_pem[..second.certificate_pem.len() / 2];
    let present = volume.path().join("..data/tls.crt");
    // Each in one step: what stood between two of them might be seen, and told of.
    type Step<'a> = (&'a str, &'a dyn Fn(), &'a Path, &'a str);
    let steps: [Step<'_>; 7] = [
        // The second file has not come, and does not come.
        (
            "torn",
            &|| replace(&present, &second.certificate_pem),
            &certificate,
            "its first certificate does not belong to the key in ",
        ),
        ("half", &|| replace(&present, half), &certificate, "is damaged: it ends in the middle"),
        ("empty", &|| replace(&present, b""), &certificate, "is empty"),
        ("expired", &|| volume.put(&expired), &certificate, "its first certificate expired 1d0h ago (now "),
        (
            "early",
            &|| volume.put(&early),
            &certificate,
            "its first certificate is not yet valid, for another ",
        ),
        ("gone", &|| fs::remove_file(&key).unwrap(), &key, "cannot be read: No such file"),
        (
            "locked",
            &|| {
                let locked = shop.scratch.write("locked", &early.key_pem);
                fs::set_permissions(&locked, PermissionsExt::from_mode(0o600)).unwrap();
                fs::rename(locked, &key).unwrap();
            },
            &key,
            "cannot be read: Permission denied",
        ),
    ];
    for (n, (what, change, path, reason)) in (1..).zip(steps) {
        change();
        wait::until(&format!("{what} is refused"), wait::SOON, || reloads(&dragoman) == (0, 2 * n));
        assert_eq!(shop.ask("shop.test").0, first.serial, "{what}");
        assert_eq!(shop.ask("own.test").0, first.serial, "{what}");
        assert_eq!(dragoman.metrics().sum("dragoman_tls_files_refused", &[]), 2, "{what}");
        let line = format!("{}: {reason}", path.display());
        wait::until(&format!("{what}: {line}"), wait::SOON, || dragoman.log().contains(&line));
    }
    let log = dragoman.log();
    // Each once, for both destinations and all the looks that were taken meanwhile.
    assert_eq!(log.matches("changed TLS files cannot be used").count(), 7, "{log}");
    volume.link("tls.key");
    volume.put(&second);
    taken(&dragoman, 1);
    assert_eq!(shop.ask("own.test").0, second.serial);
    assert_eq!(dragoman.metrics().sum("dragoman_tls_files_refused", &[]), 0);
    let log = dragoman.log();
    for secret in [&first, &second, &expired, &early].into_iter().flat_map(Issued::secrets) {
        assert!(!log.contains(&secret), "a piece of a key in the log");
    }
}

#[test]
fn t1_files_that_come_back_are_those_in_force() {
    let shop = Shop::new();
    let volume = Volume::new(shop.path("identity"));
    let first = shop.client();
    volume.put(&first);
    let dragoman = Dragoman::start(&shop.net, &shop.policy(volume.path(), ""));
    fs::remove_file(volume.path().join("tls.crt")).unwrap();
    wait::until("its absence is seen", wait::SOON, || reloads(&dragoman) == (0, 2));
    volume.link("tls.crt");
    dragoman
        .metrics_where("it is there again", |metrics| metrics.sum("dragoman_tls_files_refused", &[]) == 0);
    wait::until("it is told", wait::SOON, || {
        dragoman.log().contains("the TLS files are again those in force")
    });
    assert_eq!(reloads(&dragoman), (0, 2));
    assert_eq!(shop.ask("shop.test").0, first.serial);
}

#[test]
fn t10_a_start_with_bad_files_is_refused_with_all_that_is_wrong() {
    let shop = Shop::new();
    let folder = shop.path("identity");
    shop.client().write_to(&folder);
    write_key(&folder.join("tls.key"), &shop.client().key_pem);
    let (roots, list) = (shop.scratch.write("roots.pem", "hello"), shop.scratch.write("list.pem", ""));
    let policy = format!(
        "{}[destination.other]\nhosts = ['other.test']\ntls = {{ roots = ['{}'], crls = ['{}', '/nowhere.pem'] }}\n",
        shop.policy(&folder, ""),
        roots.display(),
        list.display()
    );
    let file = shop.scratch.write("dragoman.toml", policy);
    let mut proxy: Command = shop.net.app.bounded(binaries::dragoman());
    let out = process::output(proxy.args(["proxy", "--config"]).arg(&file));
    let text = process::text(&out);
    assert_eq!(out.status.code(), Some(2), "{text}");
    let certificate = folder.join("tls.crt");
    let errors: Vec<_> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 4, "each once: {text}");
    for path in [&*certificate, &*roots, &*list, Path::new("/nowhere.pem")] {
        let start = format!("error: {}: ", path.display());
        assert!(errors.iter().any(|line| line.starts_with(&start)), "{start} in {text}");
    }
}

#[test]
fn t10_a_reload_with_a_bad_authority_keeps_the_last_good_one() {
    let shop = Shop::new();
    let folder = shop.path("identity");
    let first = shop.client();
    first.write_to(&folder);
    let policy = shop.policy(&folder, "");
    let dragoman = Dragoman::start(&shop.net, &policy);
    let bad = shop.scratch.write("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let refused = policy.replace(&shop.pki.roots().display().to_string(), &bad.display().to_string());
    dragoman.write(&refused);
    dragoman.signal(Signal::SIGHUP);
    dragoman.metrics_where("it is refused", |metrics| {
        metrics.sum("dragoman_config_reloads_total", &[("result", "refused")]) > 0
    });
    assert_eq!(dragoman.metrics().sum("dragoman_config_generation", &[]), 1);
    wait::until("it is told", wait::SOON, || dragoman.log().contains(&format!("{}: ", bad.display())));
    assert_eq!(shop.ask("shop.test").0, first.serial);
    // What is good is taken, and the stranger's server is nobody's.
    let stranger = Pki::new();
    dragoman.reload(
        &policy.replace(&shop.pki.roots().display().to_string(), &stranger.roots().display().to_string()),
    );
    let answer = shop.connect().exchange("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").unwrap();
    assert_eq!(answer.header("x-dragoman-cause"), Some("tls_unknown_ca"), "{}", answer.head);
}
