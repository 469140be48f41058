use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use dragoman_telemetry::AccessLog;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::shared::Shared;
use crate::testing::Folder;
use follow::Looked;

/// 2026-06-15, when all that is issued here is in date but where the case says otherwise.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_781_481_600)
}

/// A certificate of its own key, for these years, as PEM.
fn issue(years: std::ops::Range<i32>) -> (String, String) {
    let mut params = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
    (params.not_before, params.not_after) =
        (date_time_ymd(years.start, 1, 1), date_time_ymd(years.end, 1, 1));
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A proxy's store, and the files that it reads.
struct Rig {
    folder: Folder,
    shared: Shared,
}

impl Rig {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let (certificate, key) = issue(2026..2027);
        folder.write("tls.crt", &certificate);
        folder.write("tls.key", &key);
        folder.write("ca.crt", &certificate);
        let config = Arc::new(Config::empty());
        let telemetry = Telemetry::new(config.names().to_vec(), AccessLog::off());
        Self { folder, shared: Shared::new(config, telemetry, vec![]) }
    }

    /// Two destinations with an identity in common, and one without any, with these further keys.
    fn config(&self, keys: &str) -> Config {
        let path = |name| self.folder.path(name).display().to_string();
        let (certificate, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
        let text = format!(
            "[identity]\ncertificate = '{certificate}'\nkey = '{key}'\n\
             [destination.one]\nhosts = ['one']\ntls = {{ roots = ['{ca}'] }}\n{keys}\n\
             [destination.two]\nhosts = ['two']\ntls = {{ roots = ['webpki', '{ca}'] }}\n\
             [destination.other]\nhosts = ['other']\ntls = {{ identity = false }}\n"
        );
        Config::parse("test", &text, &|_| None).unwrap()
    }

    fn started(name: &str) -> Self {
        let rig = Self::new(name);
        rig.apply("").unwrap();
        rig
    }

    /// As a reload does, at the time of the cases.
    fn apply(&self, keys: &str) -> Result<(), Vec<String>> {
        let shared = &self.shared;
        let prepared = shared.tls.prepare(&self.config(keys), now())?;
        shared.config.replace(self.config(keys), |next| {
            shared.telemetry.add_destinations(next.names());
            shared.tls.adopt(&prepared, next, &shared.telemetry);
        });
        Ok(())
    }

    fn destination(&self, name: &str) -> Arc<Destination> {
        let config = self.shared.config.now();
        Arc::clone(config.destinations().iter().find(|it| &*it.name == name).unwrap())
    }

    fn generation(&self, name: &str) -> u64 {
        self.shared.tls.client(&self.destination(name)).unwrap().generation()
    }

    fn look(&self) -> Looked {
        self.shared.tls.look(&self.shared.telemetry, now())
    }

    /// Puts a pair in place, one file after the other, with a look between.
    fn replace(&self, (certificate, key): &(String, String)) -> [Looked; 3] {
        self.folder.write("tls.crt", certificate);
        let between = self.look();
        self.folder.write("tls.key", key);
        [between, self.look(), self.look()]
    }

    fn metric(&self, series: &str) -> Option<u64> {
        let page = self.shared.telemetry.render();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    fn reloads(&self) -> (u64, u64, u64) {
        let result = |name| self.metric(&format!("dragoman_tls_reloads_total{{result=\"{name}\"}}")).unwrap();
        (result("applied"), result("refused"), self.metric("dragoman_tls_files_refused").unwrap())
    }
}

const CHANGING: Looked = Looked { changing: true, applied: false };
const APPLIED: Looked = Looked { changing: false, applied: true };
const NOTHING: Looked = Looked { changing: false, applied: false };

#[test]
fn each_destination_has_what_policy_says() {
    let rig = Rig::started("tls-each");
    assert!(rig.shared.tls.client(&rig.destination("default")).is_none(), "it has no TLS");
    let generations = ["one", "two", "other"].map(|name| rig.generation(name));
    assert_eq!(HashSet::from(generations).len(), 3, "{generations:?}");
    let expiry =
        |name| rig.metric(&format!("dragoman_tls_certificate_expiry_seconds{{destination=\"{name}\"}}"));
    assert_eq!((expiry("one"), expiry("two")), (Some(1_798_761_600), Some(1_798_761_600)));
    assert_eq!(expiry("other"), None, "it presents nothing");
    assert_eq!(rig.look(), NOTHING);
}

#[test]
fn a_pair_is_taken_when_both_have_come_and_rest() {
    let rig = Rig::started("tls-pair");
    let before = ["one", "two", "other"].map(|name| rig.generation(name));
    let version = rig.destination("one").version();
    assert_eq!(rig.replace(&issue(2025..2028)), [CHANGING, CHANGING, APPLIED]);
    let after = ["one", "two", "other"].map(|name| rig.generation(name));
    assert!(before[0] != after[0] && before[1] != after[1], "{before:?} {after:?}");
    assert_eq!(before[2], after[2], "it has no part in that");
    assert!(!rig.shared.config.allows(version, Some(before[0])));
    assert!(rig.shared.config.allows(version, Some(after[0])));
    assert_eq!(rig.reloads(), (2, 0, 0));
    assert_eq!(rig.look(), NOTHING);
}

#[test]
fn what_is_wrong_keeps_the_last_good_one() {
    let rig = Rig::started("tls-wrong");
    let good = issue(2026..2028);
    rig.replace(&good);
    let before = (rig.generation("one"), rig.generation("two"));
    let other = issue(2026..2028);
    let steps: [(&str, Option<(&str, &str)>); 6] = [
        ("torn", Some((&other.0, &good.1))),
        ("expired on arrival", None),
        ("empty", Some(("", ""))),
        ("half", Some((&good.0[..200], &good.1))),
        ("no PEM", Some(("hello", "hello"))),
        ("gone", None),
    ];
    let expired = issue(2020..2021);
    for (number, (what, pair)) in (1..).zip(steps) {
        match (what, pair) {
            ("gone", _) => ["tls.crt", "tls.key"]
                .map(|name| fs::remove_file(rig.folder.path(name)).unwrap())
                .into_iter()
                .collect(),
            (_, Some((certificate, key))) => {
                rig.folder.write("tls.crt", certificate);
                rig.folder.write("tls.key", key);
            }
            (_, None) => {
                rig.folder.write("tls.crt", &expired.0);
                rig.folder.write("tls.key", &expired.1);
            }
        }
        assert_eq!(rig.look(), CHANGING, "{what}");
        for _ in 0..3 {
            assert_eq!(rig.look(), NOTHING, "{what}");
        }
        assert_eq!(rig.reloads(), (2, 2 * number, 2), "{what}: once for each destination");
        assert_eq!((rig.generation("one"), rig.generation("two")), before, "{what}");
    }
    assert_eq!(rig.replace(&good), [CHANGING, CHANGING, NOTHING], "those in force are back");
    assert_eq!(rig.reloads(), (2, 12, 0));
    assert_eq!((rig.generation("one"), rig.generation("two")), before);
    assert_eq!(rig.replace(&other), [CHANGING, CHANGING, APPLIED]);
    assert_eq!(rig.reloads(), (4, 12, 0));
}

#[test]
fn what_is_not_valid_yet_is_taken_when_it_is() {
    let rig = Rig::started("tls-early");
    let before = rig.generation("one");
    rig.replace(&issue(2027..2028));
    assert_eq!(rig.generation("one"), before);
    let later = now() + Duration::from_secs(230 * 86_400);
    assert_eq!(rig.shared.tls.look(&rig.shared.telemetry, later), APPLIED);
    assert_ne!(rig.generation("one"), before);
    assert_eq!(rig.reloads(), (2, 2, 0));
}

#[test]
fn an_identity_that_expires_in_force_stays() {
    let rig = Rig::started("tls-expires");
    let before = rig.generation("one");
    for days in [100, 150, 199, 200, 5000] {
        let later = now() + Duration::from_secs(days * 86_400);
        assert_eq!(rig.shared.tls.look(&rig.shared.telemetry, later), NOTHING);
    }
    assert_eq!(rig.generation("one"), before);
}

#[test]
fn a_start_tells_all_mistakes_at_once_and_each_once() {
    let rig = Rig::new("tls-start");
    rig.folder.write("tls.key", "hello");
    rig.folder.write("ca.crt", "hello");
    let errors = rig.shared.tls.prepare(&rig.config(""), now()).unwrap_err();
    let path = |name| rig.folder.path(name).display().to_string();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with(&path("ca.crt")) && errors[1].starts_with(&path("tls.key")), "{errors:?}");
}

#[test]
fn a_reload_goes_on_with_what_it_does_not_change() {
    let rig = Rig::started("tls-reload");
    let before = (rig.generation("one"), rig.generation("two"));
    let keys = rig.folder.path("tls.key");
    fs::remove_file(&keys).unwrap();
    // Another key of the destination: a version of its own, and the same terms of TLS.
    rig.apply("timeout = '7s'").unwrap();
    assert_eq!((rig.generation("one"), rig.generation("two")), before);

    fs::remove_file(rig.folder.path("ca.crt")).unwrap();
    let version = rig.destination("one").version();
    let errors = rig.apply("[destination.new]\nhosts = ['new']\ntls = {}").unwrap_err();
    assert_eq!(errors.len(), 1, "the new one needs a key: {errors:?}");
    assert!(errors[0].starts_with(&keys.display().to_string()), "{errors:?}");
    assert_eq!(rig.destination("one").version(), version, "nothing has changed");
    assert_eq!((rig.generation("one"), rig.generation("two")), before);
}

#[test]
fn what_is_under_way_by_an_old_version_keeps_its_material() {
    let rig = Rig::started("tls-retired");
    let old = rig.destination("one");
    let before = rig.generation("one");
    rig.apply("[destination.one.headers.set]\nx-a = '1'").unwrap();
    assert_ne!(rig.destination("one").version(), old.version());
    assert_eq!(rig.shared.tls.client(&old).unwrap().generation(), before);
    assert!(!rig.shared.config.allows(old.version(), Some(before)), "but nothing of it is kept");
    let version = old.version();
    drop(old);
    rig.apply("[destination.one.headers.set]\nx-a = '2'").unwrap();
    assert!(!rig.shared.tls.table.load().retired.contains_key(&version));
}

#[test]
fn nothing_secret_is_printed() {
    let rig = Rig::started("tls-debug");
    let prepared = rig.shared.tls.prepare(&rig.config(""), now()).unwrap();
    assert_eq!(format!("{prepared:?} {:?}", rig.shared.tls).matches("\"one\"").count(), 2);
    assert!(!format!("{prepared:?} {:?}", rig.shared.tls).contains("BEGIN"));
}

#[test]
fn inbound_changes_with_its_files_and_not_with_the_configuration() {
    let rig = Rig::new("tls-inbound");
    let config = |keys: &str| {
        let path = |name| rig.folder.path(name).display().to_string();
        let (certificate, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
        let identity = format!("identity = {{ certificate = '{certificate}', key = '{key}' }}");
        Config::parse("test", &format!("inbound = {{ roots = ['{ca}'], {identity} }}\n{keys}"), &|_| None)
            .unwrap()
    };
    let shared = &rig.shared;
    let apply = |keys: &str| {
        let prepared = shared.tls.prepare(&config(keys), now())?;
        shared.config.replace(config(keys), |next| shared.tls.adopt(&prepared, next, &shared.telemetry));
        Ok::<_, Vec<String>>(())
    };
    apply("").unwrap();
    let first = shared.tls.inbound().unwrap();
    assert_eq!(rig.replace(&issue(2026..2028)), [CHANGING, CHANGING, APPLIED]);
    let second = shared.tls.inbound().unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(
        rig.metric("dragoman_tls_certificate_expiry_seconds{destination=\"inbound\"}"),
        Some(1_830_297_600)
    );
    fs::remove_file(rig.folder.path("tls.key")).unwrap();
    apply("log = { level = 'debug' }").unwrap();
    assert!(Arc::ptr_eq(&second, &shared.tls.inbound().unwrap()));
    // At a start it is needed.
    let errors = Store::default().prepare(&config(""), now()).unwrap_err();
    assert!(errors.len() == 1 && errors[0].contains("tls.key: cannot be read"), "{errors:?}");
}
