use std::time::Duration;

use rcgen::{
    CertificateParams, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, SerialNumber, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::default_provider;

use super::*;
use crate::roots::Roots;
use crate::testing::{Authority, Issued, leaf};

/// 2026-11-21T14:31:37Z.
const NOW: u64 = 1_795_271_497;

struct Rules {
    roots: Vec<String>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    pins: Vec<[u8; 32]>,
    verify: Verify,
    now: u64,
}

impl Rules {
    fn new(authority: &Authority) -> Self {
        Self { roots: vec![authority.pem()], crls: vec![], pins: vec![], verify: Verify::Name, now: NOW }
    }

    fn check(&self, shown: &Issued, name: &str) -> Result<(), Failure> {
        let mut roots = Roots::default();
        for pem in &self.roots {
            roots.add_pem(pem.as_bytes()).unwrap();
        }
        let chain =
            Chain::new(roots.store(), &self.crls, &default_provider()).unwrap().with_pins(self.pins.clone());
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(self.now));
        let verifier = server_verifier(chain, self.verify.clone());
        match verifier.verify_server_cert(&shown.chain[0], &shown.chain[1..], &name, &[], now) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) => {
                Err(inner.downcast_ref::<Failure>().expect("one of ours").clone())
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn kind(&self, shown: &Issued, name: &str) -> Result<(), FailureKind> {
        self.check(shown, name).map_err(|failure| failure.kind)
    }
}

fn with_serial(sans: &[&str], serial: u64) -> CertificateParams {
    let mut params = leaf(sans);
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

fn pin(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let parsed = EndEntityCert::try_from(certificate).unwrap();
    digest(&SHA256, &parsed.subject_public_key_info()).as_ref().try_into().unwrap()
}

#[test]
fn names_and_addresses_are_compared() {
    let authority = Authority::new("ca");
    let rules = Rules::new(&authority);
    let shown = authority.issue(&leaf(&["a.test", "*.b.test", "10.0.0.1", "fd00::1"]));
    for name in ["a.test", "A.TEST", "x.b.test", "10.0.0.1", "fd00::1"] {
        assert_eq!(rules.kind(&shown, name), Ok(()), "{name}");
    }
    for name in ["b.test", "x.y.b.test", "a.test.evil", "10.0.0.2", "fd00::2"] {
        assert_eq!(rules.kind(&shown, name), Err(FailureKind::WrongName), "{name}");
    }
    let words = rules.check(&shown, "other.test").unwrap_err().detail;
    assert_eq!(
        words,
        "asked for `other.test`, and the certificate is for `a.test`, `*.b.test`, 10.0.0.1, fd00::1"
    );
    // The common name counts for nothing.
    let nameless = authority.issue(&leaf(&[]));
    assert!(rules.check(&nameless, "leaf").unwrap_err().detail.ends_with("is for no names"));
}

#[test]
fn a_stranger_is_not_trusted_whatever_he_is_called() {
    let authority = Authority::new("ca");
    let rules = Rules::new(&authority);
    for other in ["other", "ca"] {
        let shown = Authority::new(other).issue(&leaf(&["a.test"]));
        assert_eq!(rules.kind(&shown, "a.test"), Err(FailureKind::UnknownCa), "{other}");
    }
    // Not even if he shows our own root.
    let shown = Authority::new("ca").issue(&leaf(&["a.test"])).with(&authority);
    assert_eq!(rules.kind(&shown, "a.test"), Err(FailureKind::UnknownCa));
}

#[test]
fn a_chain_needs_what_is_between() {
    let authority = Authority::new("ca");
    let between = authority.below("between");
    let rules = Rules::new(&authority);
    let shown = between.issue(&leaf(&["a.test"]));
    assert_eq!(rules.kind(&shown, "a.test"), Err(FailureKind::UnknownCa));
    assert_eq!(rules.kind(&shown.with(&between), "a.test"), Ok(()));
}

#[test]
fn times_are_told_with_both_ends_and_the_skew() {
    let authority = Authority::new("ca");
    let rules = Rules::new(&authority);
    let mut params = leaf(&["a.test"]);
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 11, 20));
    let failure = rules.check(&authority.issue(&params), "a.test").unwrap_err();
    assert_eq!(failure.kind, FailureKind::Expired);
    assert_eq!(
        failure.detail,
        "`CN=leaf` expired 1d14h ago (now 2026-11-21T14:31:37Z, notBefore 2026-01-01T00:00:00Z, notAfter \
         2026-11-20T00:00:00Z)"
    );
    (params.not_before, params.not_after) = (date_time_ymd(2026, 11, 22), date_time_ymd(2027, 1, 1));
    let failure = rules.check(&authority.issue(&params), "a.test").unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotYetValid);
    assert_eq!(
        failure.detail,
        "`CN=leaf` is not yet valid, for another 9h28m (now 2026-11-21T14:31:37Z, notBefore 2026-11-22T00:00:00Z, notAfter \
         2027-01-01T00:00:00Z)"
    );
}

#[test]
fn what_is_for_clients_is_not_for_servers() {
    let authority = Authority::new("ca");
    let rules = Rules::new(&authority);
    let mut params = leaf(&["a.test"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert_eq!(rules.kind(&authority.issue(&params), "a.test"), Err(FailureKind::BadCertificate));
    // A CA's own certificate is nobody's.
    let own = Issued { chain: vec![authority.der()], key: authority.issue(&params).key };
    assert_eq!(rules.kind(&own, "a.test"), Err(FailureKind::BadCertificate));
    let nonsense = Issued { chain: vec![vec![0x30, 0x03, 1, 2, 3].into()], key: own.key };
    assert_eq!(rules.kind(&nonsense, "a.test"), Err(FailureKind::BadCertificate));
}

#[test]
fn name_constraints_hold() {
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("a.test".into()),
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8)),
        ],
        excluded_subtrees: vec![],
    });
    let authority = Authority::of(params);
    let rules = Rules::new(&authority);
    assert_eq!(rules.kind(&authority.issue(&leaf(&["x.a.test"])), "x.a.test"), Ok(()));
    assert_eq!(rules.kind(&authority.issue(&leaf(&["b.test"])), "b.test"), Err(FailureKind::BadCertificate));
}

#[test]
fn an_identity_stands_for_the_name() {
    let authority = Authority::new("ca");
    let mut rules = Rules::new(&authority);
    let allowed = ["spiffe://shop.test/ns/pay/*", "spiffe://shop.test/bank"];
    rules.verify = Verify::Spiffe(allowed.iter().map(|text| SpiffePattern::parse(text).unwrap()).collect());
    for id in ["spiffe://shop.test/ns/pay/sa/api", "spiffe://shop.test/bank"] {
        assert_eq!(rules.kind(&authority.issue(&leaf(&[id])), "any.test"), Ok(()), "{id}");
    }
    for sans in [
        &["spiffe://shop.test/ns/shop/sa/api"][..],
        &["spiffe://evil.test/bank"],
        // An X.509-SVID has one URI, and no more.
        &["spiffe://shop.test/bank", "spiffe://shop.test/ns/pay/x"],
        &["any.test"],
        &[],
    ] {
        assert_eq!(
            rules.kind(&authority.issue(&leaf(sans)), "any.test"),
            Err(FailureKind::WrongIdentity),
            "{sans:?}"
        );
    }
    let shown = authority.issue(&leaf(&["spiffe://shop.test/x"]));
    assert_eq!(
        rules.check(&shown, "any.test").unwrap_err().detail,
        "the certificate is for `spiffe://shop.test/x`, and has to have `spiffe://shop.test/ns/pay/*` or \
         `spiffe://shop.test/bank` as its only URI"
    );
    // The chain is checked as ever.
    let stranger = Authority::new("other").issue(&leaf(&["spiffe://shop.test/bank"]));
    assert_eq!(rules.kind(&stranger, "any.test"), Err(FailureKind::UnknownCa));
}

#[test]
fn a_pin_is_of_any_key_of_the_chain() {
    let authority = Authority::new("ca");
    let between = authority.below("between");
    let shown = between.issue(&leaf(&["a.test"])).with(&between);
    let other = Authority::new("other");
    let mut rules = Rules::new(&authority);
    for pinned in [&shown.chain[0], &between.der(), &authority.der()] {
        rules.pins = vec![pin(&other.der()), pin(pinned)];
        assert_eq!(rules.kind(&shown, "a.test"), Ok(()));
    }
    rules.pins = vec![pin(&other.der())];
    assert_eq!(rules.kind(&shown, "a.test"), Err(FailureKind::WrongPin));
    // What is sent beside the chain, and has signed nothing of it, is no part of it.
    let padded = between.issue(&leaf(&["a.test"])).with(&between).with(&other);
    assert_eq!(rules.kind(&padded, "a.test"), Err(FailureKind::WrongPin));
    // A pin is beside the rest, and not in its place.
    rules.pins = vec![pin(&shown.chain[0])];
    assert_eq!(rules.kind(&shown, "b.test"), Err(FailureKind::WrongName));
    rules.roots = vec![other.pem()];
    assert_eq!(rules.kind(&shown, "a.test"), Err(FailureKind::UnknownCa));
}

#[test]
fn what_is_revoked_or_told_of_by_nobody_is_refused() {
    let authority = Authority::new("ca");
    let between = authority.below("between");
    let (good, bad) = (
        between.issue(&with_serial(&["a.test"], 7)).with(&between),
        between.issue(&with_serial(&["a.test"], 8)).with(&between),
    );
    let mut rules = Rules::new(&authority);
    rules.crls = vec![authority.revoke(&[], 2030), between.revoke(&[8], 2030)];
    assert_eq!(rules.kind(&good, "a.test"), Ok(()));
    assert_eq!(rules.kind(&bad, "a.test"), Err(FailureKind::Revoked));
    // Each of the chain has to be told of.
    rules.crls = vec![between.revoke(&[8], 2030)];
    assert_eq!(rules.kind(&good, "a.test"), Err(FailureKind::Revoked));
    rules.crls = vec![authority.revoke(&[], 2030)];
    let words = rules.check(&good, "a.test").unwrap_err().detail;
    assert_eq!(words, "no revocation list tells of `CN=leaf`, or of one that signed it");
    // A list that is out of date tells nothing.
    rules.crls = vec![authority.revoke(&[], 2030), between.revoke(&[8], 2026)];
    let failure = rules.check(&good, "a.test").unwrap_err();
    assert_eq!(failure.kind, FailureKind::Revoked);
    assert!(failure.detail.contains("expired 324d14h ago"), "{failure}");
    // Nor one that somebody else has signed under that name.
    rules.crls = vec![authority.revoke(&[], 2030), authority.below("between").revoke(&[], 2030)];
    assert_eq!(rules.kind(&good, "a.test"), Err(FailureKind::Revoked));
}

#[test]
fn nothing_is_verified_only_where_policy_says_so() {
    let authority = Authority::new("ca");
    let mut rules = Rules::new(&authority);
    rules.roots = vec![];
    let shown = Authority::new("other").issue(&leaf(&["a.test"]));
    assert_eq!(rules.kind(&shown, "b.test"), Err(FailureKind::UnknownCa), "without roots nobody is trusted");
    rules.verify = Verify::Nothing;
    assert_eq!(rules.kind(&shown, "b.test"), Ok(()));
}
