//! The app's identity, and the authority of its clients, are replaced while clients come and go.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use dragoman_harness::origin::Reply;
use dragoman_harness::pki::{Issued, Pki, Spec};
use dragoman_harness::scratch::Scratch;
use dragoman_harness::volume::{Volume, replace};
use dragoman_harness::{Dragoman, Net, Origin, load, wait};
use rustls::HandshakeKind::{Full, Resumed};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, HandshakeKind};

use crate::{PAY, Rig, Tls, VERSIONS, WEB, client_of, connect, told};

/// Each connects, asks, and is gone, again and again.
const CLIENTS: usize = 3;

fn app(net: &Net) -> Origin {
    Origin::http(&net.app, "[::]:8080".parse().unwrap(), |_, _| Reply::status(200, "hello"))
}

/// The app's identity by this authority.
fn pay(authority: &Pki) -> Issued {
    authority.issue(&Spec::uri(PAY).and_dns("pay.test"))
}

/// The table of what comes to the app, with the files that change.
fn inbound(volume: &Volume, roots: &Path) -> String {
    let (folder, roots) = (volume.path().display(), roots.display());
    format!(
        "[inbound]\nidentity = {{ certificate = '{folder}/tls.crt', key = '{folder}/tls.key' }}\n\
         roots = ['{roots}']\nallow = ['{WEB}']\n"
    )
}

/// How often changed files have been taken, and refused.
fn reloads(dragoman: &Dragoman) -> (u64, u64) {
    let metrics = dragoman.metrics();
    let count = |result| metrics.sum("dragoman_tls_reloads_total", &[("result", result)]);
    (count("applied"), count("refused"))
}

/// A connection for one request, which goes on with a session of this client's where it may. Returns the certificate that the
/// server has shown, and how they agreed.
fn get(rig: &Rig, client: &ClientConfig) -> (CertificateDer<'static>, Option<HandshakeKind>) {
    let mut tls = connect(&rig.net.servers, client.clone(), Rig::app(8080));
    tls.write_all(b"GET /served HTTP/1.1\r\nHost: pay.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).unwrap();
    let text = answer.escape_ascii();
    assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"hello"), "{text}");
    (tls.conn.peer_certificates().expect("a server shows one")[0].clone(), tls.conn.handshake_kind())
}

/// A request on a connection that stays.
fn ask(tls: &mut Tls) {
    tls.write_all(b"GET /stays HTTP/1.1\r\nHost: pay.test\r\n\r\n").unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\nhello") {
        tls.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.escape_ascii());
}

fn finish(mut tls: Tls) {
    tls.conn.send_close_notify();
    tls.flush().unwrap();
    assert_eq!(tls.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn t1_the_identity_of_the_app_changes_under_its_clients() {
    let (rig, scratch) = (Rig::new(), Scratch::new("rotation"));
    let _app = app(&rig.net);
    let [first, second, third] = [(); 3].map(|()| pay(&rig.pki));
    let volume = Volume::new(scratch.path().join("secret"));
    volume.put(&first);
    let dragoman = rig.start(&inbound(&volume, rig.pki.roots()));
    let clients = || VERSIONS.map(|version| rig.client(Some(&rig.web), version));
    let shows = |identity: &Issued, clients: &[ClientConfig; 2], kinds: &[HandshakeKind]| {
        for client in clients {
            let seen: Vec<_> = kinds.iter().map(|_| get(&rig, client)).collect();
            let meant: Vec<_> = kinds.iter().map(|kind| (identity.chain[0].clone(), Some(*kind))).collect();
            assert!(seen == meant, "{:?}", seen.iter().map(|(_, kind)| kind).collect::<Vec<_>>());
        }
    };
    let known = clients();
    let mut open = clients().map(|client| connect(&rig.net.servers, client, Rig::app(8080)));
    open.iter_mut().for_each(ask);
    let come_and_go = |clients: &mut [ClientConfig; 2], turn: usize| drop(get(&rig, &clients[turn % 2]));
    load::under(CLIENTS, clients, come_and_go, |load| {
        shows(&first, &known, &[Full, Resumed]);
        volume.put(&second);
        wait::until("the second one is in force", wait::SOON, || reloads(&dragoman) == (1, 0));
        shows(&second, &known, &[Full, Resumed]);
        load.reaches(load.turns() + 20);

        replace(&volume.path().join("..data/tls.crt"), &third.certificate_pem);
        wait::until("the torn pair is refused", wait::SOON, || reloads(&dragoman) == (1, 1));
        shows(&second, &clients(), &[Full, Resumed]);
        assert_eq!(dragoman.metrics().sum("dragoman_tls_files_refused", &[]), 1);
        load.reaches(load.turns() + 20);

        volume.put(&third);
        wait::until("the third one is in force", wait::SOON, || reloads(&dragoman) == (2, 1));
        shows(&third, &known, &[Full, Resumed]);
        load.reaches(load.turns() + 20);
    });
    // They are none of the files' business any more.
    open.iter_mut().for_each(ask);
    open.into_iter().for_each(finish);
    let metrics = dragoman.settle();
    let well = metrics.sum("dragoman_flows_total", &[("cause", "-")]);
    assert_eq!(well, metrics.sum("dragoman_flows_total", &[]), "no flow has ended but well");
    let expiry = third.not_after.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let labels = [("destination", "inbound")];
    assert_eq!(metrics.sum("dragoman_tls_certificate_expiry_seconds", &labels), expiry);
    let torn =
        format!("{}/tls.crt: its first certificate does not belong to the key", volume.path().display());
    wait::until("it is told", wait::SOON, || dragoman.log().contains(&torn));
    let log = dragoman.log();
    assert_eq!(log.matches("changed TLS files are in force").count(), 2, "{log}");
    assert_eq!(log.matches("changed TLS files cannot be used").count(), 1, "{log}");
    for secret in [&first, &second, &third].into_iter().flat_map(Issued::secrets) {
        assert!(!log.contains(&secret), "a piece of a key in the log");
    }
}

/// As it is done: first both are trusted, then every client gets an identity by the new one, then the old one goes.
#[test]
fn t1_the_authority_of_the_clients_changes_and_those_of_the_old_one_are_refused() {
    let (rig, new, scratch) = (Rig::new(), Pki::new(), Scratch::new("rotation"));
    let app = app(&rig.net);
    let (volume, roots) = (Volume::new(scratch.path().join("secret")), scratch.path().join("roots.pem"));
    let (old_root, new_root) = (fs::read(rig.pki.roots()).unwrap(), fs::read(new.roots()).unwrap());
    volume.put(&rig.pay);
    replace(&roots, &old_root);
    let dragoman = rig.start(&inbound(&volume, &roots));
    let web = new.issue(&Spec::uri(WEB));
    let clients =
        |identity: &Issued| VERSIONS.map(|version| client_of(&[&rig.pki, &new], Some(identity), version));
    let refused = |clients: &[ClientConfig; 2], count: usize| {
        for (n, client) in clients.iter().enumerate() {
            let said = told(connect(&rig.net.servers, client.clone(), Rig::app(8080)));
            assert!(said.contains("alert"), "{said}");
            dragoman.records_where(count + n + 1, |record| record["cause"] == "client_not_trusted");
        }
    };
    let known = clients(&rig.web);
    let mut open = clients(&rig.web).map(|client| connect(&rig.net.servers, client, Rig::app(8080)));
    open.iter_mut().for_each(ask);
    let (by_new, have_new) = (AtomicBool::new(false), AtomicUsize::new(0));
    let begin = || (clients(&rig.web), false);
    let come_and_go = |(own, is_new): &mut ([ClientConfig; 2], bool), turn: usize| {
        let due = by_new.load(Ordering::SeqCst) && !*is_new;
        if due {
            (*own, *is_new) = (clients(&web), true);
        }
        get(&rig, &own[turn % 2]);
        have_new.fetch_add(usize::from(due), Ordering::SeqCst);
    };
    load::under(CLIENTS, begin, come_and_go, |load| {
        refused(&clients(&web), 0);
        replace(&roots, [&*old_root, &new_root].concat());
        wait::until("both are trusted", wait::SOON, || reloads(&dragoman) == (1, 0));
        known.iter().for_each(|client| assert_eq!(get(&rig, client).1, Some(Full)));
        by_new.store(true, Ordering::SeqCst);
        wait::until("all clients have moved", wait::SOON, || have_new.load(Ordering::SeqCst) == CLIENTS);

        volume.put(&pay(&new));
        wait::until("the app has moved", wait::SOON, || reloads(&dragoman) == (2, 0));
        known.iter().for_each(|client| assert_eq!(get(&rig, client).1, Some(Full)));
        replace(&roots, &new_root);
        wait::until("the old one is gone", wait::SOON, || reloads(&dragoman) == (3, 0));
        // With sessions of the time before, and without.
        refused(&known, 2);
        refused(&clients(&rig.web), 4);
        load.reaches(load.turns() + 20);
    });
    open.iter_mut().for_each(ask);
    open.into_iter().for_each(finish);
    let metrics = dragoman.settle();
    let count = |labels: &[(&str, &str)]| metrics.sum("dragoman_flows_total", labels);
    assert_eq!((count(&[("cause", "client_not_trusted")]), count(&[])), (6, 6 + count(&[("cause", "-")])));
    let paths: Vec<_> = app.requests().iter().map(|request| request.word(1).to_owned()).collect();
    assert!(
        paths.iter().all(|path| path == "/served" || path == "/stays"),
        "a client that was refused was heard"
    );
}
