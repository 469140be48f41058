//! Servers that end, or stop, in the middle of what they say.

use dragoman_harness::Net;
use dragoman_harness::faulty::Stage;
use dragoman_harness::pki::{Pki, Spec};
use dragoman_harness::tls::Setting;
use nix::sys::signal::Signal;

use crate::case::{Case, PATIENT, Pair};
use crate::protocol::{ALL, HTTP, Protocol};

/// Strikes each server where it has halted.
fn strike(fault: &'static str, protocols: &[Protocol], stage: Stage, fall: fn(&mut Pair)) {
    let net = Net::new();
    struck(&Case::new(&net, fault, PATIENT), protocols, stage, fall);
}

/// The same where the servers speak TLS. What does so for them ends when they do: as the kernel would end it, or with TLS's own end.
fn strike_tls(fault: &'static str, stage: Stage, notifies: bool, fall: fn(&mut Pair)) {
    let (net, pki) = (Net::new(), Pki::new());
    let setting = Setting { notifies, ..Setting::of(&pki.issue(&Spec::dns("shop.test"))) };
    struck(&Case::with_tls(&net, fault, pki.roots(), setting), &ALL, stage, fall);
}

fn struck(case: &Case<'_>, protocols: &[Protocol], stage: Stage, fall: fn(&mut Pair)) {
    let mut pairs: Vec<Pair> = protocols.iter().map(|protocol| case.halted(*protocol, stage)).collect();
    pairs.iter_mut().for_each(fall);
    let (apps, servers): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|pair| ((pair.protocol, pair.app), pair.server)).unzip();
    let rows = case.ends(apps);
    drop(servers);
    case.finish(&rows);
}

fn killed(pair: &mut Pair) {
    pair.server.kill();
}

fn reset(pair: &mut Pair) {
    pair.server.reset();
}

#[test]
fn killed_before_its_answer() {
    strike("server killed before its answer", &ALL, Stage::Start, killed);
}

#[test]
fn killed_in_the_head() {
    strike("server killed in the head", &HTTP, Stage::Head, killed);
}

#[test]
fn killed_in_the_body() {
    strike("server killed in the body", &ALL, Stage::Body, killed);
}

#[test]
fn killed_in_the_trailer() {
    strike("server killed in the trailer", &HTTP, Stage::Trailer, killed);
}

#[test]
fn reset_before_its_answer() {
    strike("server resets before its answer", &ALL, Stage::Start, reset);
}

#[test]
fn reset_in_the_head() {
    strike("server resets in the head", &HTTP, Stage::Head, reset);
}

#[test]
fn reset_in_the_body() {
    strike("server resets in the body", &ALL, Stage::Body, reset);
}

#[test]
fn reset_in_the_trailer() {
    strike("server resets in the trailer", &HTTP, Stage::Trailer, reset);
}

#[test]
fn killed_before_its_answer_with_tls() {
    strike_tls("server with TLS killed before its answer", Stage::Start, false, killed);
}

#[test]
fn killed_in_the_body_with_tls() {
    strike_tls("server with TLS killed in the body", Stage::Body, false, killed);
}

#[test]
fn reset_in_the_body_with_tls() {
    strike_tls("server with TLS resets in the body", Stage::Body, false, reset);
}

#[test]
fn tls_ended_in_the_body() {
    strike_tls("server with TLS ends that in the body", Stage::Body, true, killed);
}

#[test]
fn the_app_resets_in_the_body() {
    let net = Net::new();
    let case = Case::new(&net, "app resets in the body", PATIENT);
    let pairs: Vec<Pair> = ALL.iter().map(|protocol| case.halted(*protocol, Stage::Body)).collect();
    let (apps, servers): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|pair| ((pair.protocol, pair.app), pair.server)).unzip();
    let rows: Vec<_> = apps.into_iter().map(|(protocol, app)| case.row(protocol, app.reset())).collect();
    drop(servers);
    case.finish(&rows);
}

/// Stops each server where it has halted. What no deadline is for waits, and goes on with its server.
fn stop(fault: &'static str, protocols: &[Protocol], stage: Stage, policy: &str) {
    let net = Net::new();
    let case = Case::new(&net, fault, policy);
    let mut pairs: Vec<Pair> = protocols.iter().map(|protocol| case.halted(*protocol, stage)).collect();
    pairs.iter_mut().for_each(|pair| pair.server.signal(Signal::SIGSTOP));
    let (http, opaque): (Vec<_>, Vec<_>) =
        pairs.into_iter().partition(|pair| pair.protocol != Protocol::Opaque);
    let (apps, servers): (Vec<_>, Vec<_>) =
        http.into_iter().map(|pair| ((pair.protocol, pair.app), pair.server)).unzip();
    let mut rows = case.ends(apps);
    for mut pair in opaque {
        assert!(pair.app.waits(), "{fault}: no policy gives an opaque flow a deadline");
        pair.server.signal(Signal::SIGCONT);
        pair.server.go_on();
        let mut ended = case.ends(vec![(pair.protocol, pair.app)]);
        ended[0].known = "when the server goes on".into();
        rows.append(&mut ended);
    }
    servers.iter().for_each(|server| server.signal(Signal::SIGCONT));
    drop(servers);
    case.finish(&rows);
}

const TRY: &str = "[defaults]\ntry_timeout = '2s'\n";
const WHOLE: &str = "[defaults]\ntimeout = '5s'\n";

#[test]
fn stopped_before_its_answer() {
    stop("server stopped before its answer", &ALL, Stage::Start, TRY);
}

#[test]
fn stopped_in_the_head() {
    stop("server stopped in the head", &HTTP, Stage::Head, TRY);
}

#[test]
fn stopped_in_the_body() {
    stop("server stopped in the body", &ALL, Stage::Body, WHOLE);
}

#[test]
fn stopped_in_the_trailer() {
    stop("server stopped in the trailer", &HTTP, Stage::Trailer, WHOLE);
}

#[test]
fn slow_to_accept() {
    stop("server does not accept", &ALL, Stage::Accept, TRY);
}
