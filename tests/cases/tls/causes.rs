//! Each cause of TLS, with each protocol.

use std::time::SystemTime;

use dragoman_harness::pki::{DAY, Pki, Spec, Usage};
use dragoman_harness::tls::{At, Fault, Versions};

use crate::matrix::{App, NAME, goes_well, quoted, shows, stamp};

#[test]
fn what_is_good_goes_through_and_is_known_for_whom_it_is() {
    goes_well(|_, _| {});
}

#[test]
fn every_way_to_be_right_goes_through() {
    goes_well(|side, way| {
        side.shows(way, &Spec::uri("spiffe://shop.test/ns/pay/sa/web"));
        side.keys += ", spiffe = [\"spiffe://shop.test/ns/pay/*\"]";
    });
    goes_well(|side, way| {
        let spare = Pki::new().issue(&Spec::new());
        let server = side.shows(way, &Spec::dns(NAME));
        side.keys += &format!(", pins = [{:?}, {:?}]", spare.pin(), server.pin());
        side.keys += &format!(", crls = [{}], min_version = \"1.3\"", quoted(&side.pki.crl(&[])));
    });
    goes_well(|side, way| {
        let middle = side.pki.intermediate();
        side.shows_what(way, &middle.intermediate().issue(&Spec::dns("a.test").and_dns("SHOP.test")));
        side.keys += ", post_quantum = false";
        side.setting.versions = Versions::Only12;
    });
    goes_well(|side, _| {
        side.setting.segment = 1;
    });
    goes_well(|side, _| {
        side.setting.versions = Versions::Only13;
        side.setting.updates_keys = true;
    });
}

#[test]
fn cause_tls_certificate_expired_says_when() {
    shows("tls_certificate_expired", |side, way| {
        let server = side.shows(way, &Spec::dns(NAME).expired());
        side.says(["expired", "now", "1d0h"]);
        side.says([server.not_before, server.not_after].map(stamp));
    });
}

#[test]
fn cause_tls_certificate_expired_where_it_is_that_of_an_authority() {
    shows("tls_certificate_expired", |side, way| {
        let middle = side.pki.intermediate_of(&Spec::new().expired());
        side.shows_what(way, &middle.issue(&Spec::dns(NAME)));
        side.says(["expired"]);
    });
}

#[test]
fn cause_tls_certificate_not_yet_valid_says_when() {
    let now = SystemTime::now();
    shows("tls_certificate_not_yet_valid", |side, way| {
        let server = side.shows(way, &Spec::dns(NAME).between(now + DAY + DAY / 2 + DAY / 48, now + 9 * DAY));
        side.says(["not yet valid", "now", "1d12h"]);
        side.says([server.not_before, server.not_after].map(stamp));
    });
}

#[test]
fn cause_tls_wrong_name_says_which_it_has() {
    shows("tls_wrong_name", |side, way| {
        side.shows(way, &Spec::dns("other.test").and_dns("*.more.test"));
        side.says([NAME, "other.test", "*.more.test"]);
    });
}

#[test]
fn cause_tls_wrong_name_in_place_of_an_address() {
    shows("tls_wrong_name", |side, way| {
        side.shows(way, &Spec::ip([198, 18, 0, 99].into()));
        side.says([NAME, "198.18.0.99"]);
    });
}

#[test]
fn cause_tls_unknown_ca_of_a_stranger() {
    shows("tls_unknown_ca", |side, way| {
        side.shows_what(way, &Pki::new().issue(&Spec::dns(NAME)));
    });
}

#[test]
fn cause_tls_unknown_ca_where_the_public_ones_alone_are_trusted() {
    shows("tls_unknown_ca", |side, way| {
        side.roots = "webpki".into();
        // To whoever is what the app calls it, no identity may be presented.
        if way.app != App::Opaque {
            side.keys += &format!(", server_name = {NAME:?}");
        }
    });
}

#[test]
fn cause_tls_certificate_revoked() {
    shows("tls_certificate_revoked", |side, way| {
        let server = side.shows(way, &Spec::dns(NAME));
        side.keys += &format!(", crls = [{}]", quoted(&side.pki.crl(&[&server])));
    });
}

#[test]
fn cause_tls_certificate_revoked_where_no_list_tells() {
    shows("tls_certificate_revoked", |side, way| {
        let stranger = Pki::new();
        let list = std::fs::read(stranger.crl(&[])).unwrap();
        let file = side.pki.write(&format!("{:?}-{}.crl", way.app, way.mutual), list);
        side.keys += &format!(", crls = [{}]", quoted(&file));
    });
}

#[test]
fn cause_tls_wrong_identity_says_whose_it_is() {
    shows("tls_wrong_identity", |side, way| {
        side.shows(way, &Spec::uri("spiffe://shop.test/ns/other/sa/web").and_dns(NAME));
        side.keys += ", spiffe = [\"spiffe://shop.test/ns/pay/*\"]";
        side.says(["spiffe://shop.test/ns/other/sa/web"]);
    });
}

#[test]
fn cause_tls_wrong_identity_where_there_are_two_or_none() {
    shows("tls_wrong_identity", |side, way| {
        let spec = match way.app {
            App::Http1 => Spec::dns(NAME),
            _ => Spec::uri("spiffe://shop.test/ns/pay/a").and_uri("spiffe://shop.test/ns/pay/b"),
        };
        side.shows(way, &spec);
        side.keys += ", spiffe = [\"spiffe://shop.test/ns/pay/*\"]";
    });
}

#[test]
fn cause_tls_wrong_pin() {
    shows("tls_wrong_pin", |side, way| {
        side.shows(way, &Spec::dns(NAME));
        side.keys += &format!(", pins = [{:?}]", Pki::new().issue(&Spec::new()).pin());
    });
}

#[test]
fn cause_tls_bad_certificate_that_is_for_clients() {
    shows("tls_bad_certificate", |side, way| {
        side.shows(way, &Spec::dns(NAME).only_for(Usage::Client));
    });
}

#[test]
fn cause_tls_version_below_the_lowest() {
    shows("tls_version", |side, _| {
        side.setting.versions = Versions::Only12;
        side.keys += ", min_version = \"1.3\"";
    });
}

#[test]
fn cause_tls_no_alpn_where_a_server_agrees_to_nothing() {
    shows("tls_no_alpn", |side, way| {
        side.setting.alpn.clear();
        // HTTP/1 is what a server speaks that says nothing, and opaque bytes have no name.
        if way.app != App::Http2 {
            side.cause = None;
        }
    });
}

#[test]
fn cause_tls_no_alpn_where_a_server_wants_another() {
    shows("tls_no_alpn", |side, way| match way.app {
        App::Http1 => side.setting.alpn = vec!["h2"],
        App::Http2 => side.setting.alpn = vec!["http/1.1"],
        App::Opaque => side.cause = None,
    });
}

#[test]
fn cause_tls_client_certificate_refused() {
    for versions in [Versions::Only12, Versions::Only13] {
        shows("tls_client_certificate_refused", |side, way| {
            // Without one, and with one of a stranger.
            side.setting = side.setting.clone().for_clients_of(side.clients);
            side.setting.versions = versions;
            if way.mutual {
                side.identity = Some(Pki::new().issue(&Spec::uri("spiffe://shop.test/app")));
            }
        });
    }
}

#[test]
fn cause_tls_client_certificate_refused_by_a_server_that_trusts_another_authority() {
    shows("tls_client_certificate_refused", |side, way| {
        side.setting = side.setting.clone().for_clients_of(side.clients);
        if way.mutual {
            side.setting = side.setting.clone().for_clients_of(&Pki::new());
        }
    });
}

#[test]
fn cause_tls_timeout() {
    shows("tls_timeout", |side, way| {
        let at = if way.mutual { At::Byte(0) } else { At::Byte(100) };
        side.setting = side.setting.clone().with_fault(at, Fault::Stall);
        side.more = "connect_timeout = \"2s\"\n".to_owned();
    });
}

#[test]
fn cause_tls_closed() {
    shows("tls_closed", |side, way| {
        let (at, fault) = match way.app {
            App::Http1 => (At::Byte(0), Fault::Close),
            App::Http2 => (At::Byte(100), Fault::Close),
            App::Opaque => (At::Byte(100), Fault::Reset),
        };
        side.setting = side.setting.clone().with_fault(at, fault);
    });
}

#[test]
fn cause_tls_failed() {
    shows("tls_failed", |side, way| {
        let at = if way.mutual { At::Byte(0) } else { At::Byte(100) };
        side.setting = side.setting.clone().with_fault(at, Fault::Garbage);
    });
}
