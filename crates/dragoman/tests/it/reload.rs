//! What becomes of a configuration that changes under a running proxy, as log and metrics tell it.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::running::{DRAGOMAN, PATIENCE, Running, ask, command, config_at, own_address};

const APPLIED: &str = "configuration applied";
const REFUSED: &str = "the configuration was refused: the last good one stays in force";

/// A directory of a test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dragoman-reload-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Directory(path)
    }

    /// Replaces a file as a whole.
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        let new = self.0.join(format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A proxy with its configuration in a file of a directory of its own.
struct Rig {
    directory: Directory,
    address: Ipv4Addr,
    running: Running,
}

impl Rig {
    fn new() -> Rig {
        let (directory, address) = (Directory::new(), own_address());
        let file = directory.put("policy.toml", &config_at(address));
        let running = start(&file);
        Rig { directory, address, running }
    }

    /// Replaces the configuration: what every test needs, and this.
    fn write(&self, more: &str) {
        self.directory.put("policy.toml", &format!("{}{more}", config_at(self.address)));
    }

    fn metric(&self, name: &str) -> u64 {
        metric(self.address, name)
    }
}

fn start(config: &Path) -> Running {
    Running::start(command(Path::new(DRAGOMAN)).arg("proxy").arg("--config").arg(config))
}

fn metric(address: Ipv4Addr, name: &str) -> u64 {
    let page = ask(address, "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let value = page.lines().find_map(|line| line.strip_prefix(&format!("dragoman_config_{name} ")));
    value.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}

#[test]
fn l5_a_wrong_configuration_is_refused_and_the_last_good_one_stays() {
    let mut rig = Rig::new();
    assert_eq!((rig.metric("generation"), rig.metric("last_reload_successful")), (1, 1));
    let hash = rig.metric("hash");
    rig.write("[defaults]\nretries = {}\ntimeout = 'soon'\n");
    rig.running.wait_for("`timeout` takes");
    let said = rig.running.said().to_owned();
    assert!(said.contains(REFUSED) && said.contains("mistakes=2"), "{said}");
    let place = format!("{}:9:1: unknown key `retries`", rig.directory.0.join("policy.toml").display());
    assert!(said.contains(&place), "{said}");
    assert_eq!(rig.metric("reloads_total{result=\"refused\"}"), 1);
    assert_eq!((rig.metric("generation"), rig.metric("last_reload_successful")), (1, 0));
    assert_eq!(rig.metric("hash"), hash);

    rig.write("[defaults]\ntimeout = '1s'\n");
    rig.running.wait_for(APPLIED);
    assert_eq!((rig.metric("generation"), rig.metric("last_reload_successful")), (2, 1));
    assert_ne!(rig.metric("hash"), hash);
    assert_eq!(rig.running.said().matches(REFUSED).count(), 1, "once for one content, not every two seconds");
    assert_eq!(rig.metric("reloads_total{result=\"refused\"}"), 1);
}

#[test]
fn l5_a_change_that_is_taken_back_leaves_everything_as_it_was() {
    let mut rig = Rig::new();
    rig.write("nonsense");
    rig.running.wait_for(REFUSED);
    rig.write("");
    rig.running.wait_for("the configuration is the one in force");
    assert_eq!((rig.metric("generation"), rig.metric("last_reload_successful")), (1, 1));
    assert_eq!(rig.metric("reloads_total{result=\"unchanged\"}"), 1);
}

#[test]
fn sighup_reloads_at_once_and_says_what_came_of_it() {
    let mut rig = Rig::new();
    rig.running.signal("HUP");
    rig.running.wait_for("the configuration is the one in force");
    for generation in 2..8 {
        rig.write(&format!("[defaults]\ntimeout = '{generation}s'\n"));
        rig.running.signal("HUP");
        rig.running.wait_for(&format!("generation={generation}"));
    }
    for _ in 0..2 {
        rig.write("nonsense");
        rig.running.signal("HUP");
        rig.running.wait_for(REFUSED);
    }
    assert_eq!(rig.metric("reloads_total{result=\"refused\"}"), 2, "who asks again is told again");
}

#[test]
fn sighup_without_a_configuration_does_no_harm() {
    let script = format!("ip link set lo up && exec {DRAGOMAN} proxy");
    let mut running = Running::start(command(Path::new("unshare")).args(["--net", "sh", "-c", &script]));
    running.signal("HUP");
    running.wait_for("the configuration is the one in force");
}

/// Kubelet writes a new directory and swaps the link `..data`, through which the names of the files lead.
#[test]
fn a_config_map_is_followed_through_its_symbolic_links() {
    let (map, address) = (Directory::new(), own_address());
    let swap = |version: &str, timeout: &str| {
        let versioned = map.0.join(format!("..{version}"));
        fs::create_dir(&versioned).unwrap();
        fs::write(versioned.join("base.toml"), config_at(address)).unwrap();
        fs::write(versioned.join("policy.toml"), format!("[defaults]\ntimeout = '{timeout}'\n")).unwrap();
        symlink(format!("..{version}"), map.0.join("..data_tmp")).unwrap();
        fs::rename(map.0.join("..data_tmp"), map.0.join("..data")).unwrap();
    };
    swap("2026_01", "1s");
    for name in ["base.toml", "policy.toml"] {
        symlink(format!("..data/{name}"), map.0.join(name)).unwrap();
    }
    let mut running = start(&map.0);
    swap("2026_02", "2s");
    fs::remove_dir_all(map.0.join("..2026_01")).unwrap();
    running.wait_for(APPLIED);
    swap("2026_03", "never");
    running.wait_for("policy.toml:2:11: `timeout` takes");
    assert_eq!((metric(address, "generation"), metric(address, "last_reload_successful")), (2, 0));
    swap("2026_04", "3s");
    running.wait_for("generation=3");
}

#[test]
fn files_that_come_and_go_in_a_directory_are_noticed() {
    let (directory, address) = (Directory::new(), own_address());
    directory.put("10-base.toml", &config_at(address));
    let mut running = start(&directory.0);
    directory.put("20-team.toml", "[destination.a]\nhosts = ['a']\n");
    running.wait_for("20-team.toml");
    fs::remove_file(directory.0.join("20-team.toml")).unwrap();
    running.wait_for("generation=3");
    fs::remove_file(directory.0.join("10-base.toml")).unwrap();
    running.wait_for("has no file *.toml");
    assert_eq!((metric(address, "generation"), metric(address, "last_reload_successful")), (3, 0));
}

/// Mounts it as kubelet does: files are links into a hidden folder, which is replaced whole.
fn mount(map: &Path, version: &str, files: &[(&str, &str)]) {
    let folder = map.join(format!("..{version}"));
    fs::create_dir(&folder).unwrap();
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
        let _ = symlink(format!("..data/{name}"), map.join(name));
    }
    symlink(format!("..{version}"), map.join("..data_tmp")).unwrap();
    fs::rename(map.join("..data_tmp"), map.join("..data")).unwrap();
}

#[test]
fn l5_a_configmap_that_is_not_there_yet_is_noticed_when_it_comes() {
    let (platform, app, address) = (Directory::new(), Directory::new(), own_address());
    mount(&platform.0, "2026_01", &[("base.toml", &config_at(address)), ("notes.txt", "")]);
    mount(&app.0, "2026_01", &[]);
    let mut proxy = command(Path::new(DRAGOMAN));
    proxy.arg("proxy").arg("--config").arg(&platform.0).arg("--config").arg(&app.0);
    let mut running = Running::start(&mut proxy);
    let said = running.said();
    let (empty, other) = (format!("the directory {} has no file *.toml", app.0.display()), "not notes.txt");
    assert!(said.contains(&empty) && said.contains(other) && !said.contains("..data"), "{said}");

    mount(&app.0, "2026_02", &[("app.toml", "[destination.a]\nhosts = ['a']\n")]);
    running.wait_for(APPLIED);
    assert!(running.said().contains("app.toml"), "{}", running.said());
    assert_eq!((metric(address, "generation"), metric(address, "last_reload_successful")), (2, 1));

    // Gone again, as by a mount that is lost: what was in force stays.
    fs::remove_file(app.0.join("app.toml")).unwrap();
    mount(&app.0, "2026_03", &[]);
    running.wait_for(REFUSED);
    running.wait_for("has no file *.toml any more");
    assert_eq!((metric(address, "generation"), metric(address, "last_reload_successful")), (2, 0));
    mount(&app.0, "2026_04", &[("app.toml", "")]);
    running.wait_for(APPLIED);
}

#[test]
fn keys_that_are_read_at_the_start_are_told_and_the_rest_is_applied() {
    let mut rig = Rig::new();
    let moved = config_at(rig.address).replace("[admin]", "port = 16001\n[admin]");
    rig.directory.put("policy.toml", &format!("{moved}[log]\naccess = 'all'\nformat = 'json'\n"));
    rig.running.wait_for("the change of these keys takes effect at the next start");
    assert!(rig.running.said().contains("keys=\"proxy.port, log.format\""), "{}", rig.running.said());
    assert_eq!((rig.metric("generation"), rig.metric("restart_needed")), (2, 1));
    rig.write("");
    rig.running.wait_for(APPLIED);
    assert_eq!((rig.metric("generation"), rig.metric("restart_needed")), (3, 0));
}

#[test]
fn the_level_of_the_log_follows_the_configuration() {
    let mut rig = Rig::new();
    rig.write("[log]\nlevel = 'error'\n");
    rig.running.signal("HUP");
    let end = Instant::now() + PATIENCE;
    while rig.metric("generation") < 2 && Instant::now() < end {
        assert!(rig.running.is_silent_for(Duration::from_millis(20)), "{}", rig.running.said());
    }
    rig.write("");
    rig.running.signal("HUP");
    rig.running.wait_for("generation=3");
}

/// A file that grows is a valid configuration at many a moment, and one that was just emptied allows everything.
#[test]
fn a_file_that_is_being_written_is_left_alone_until_it_has_come_to_rest() {
    let mut rig = Rig::new();
    let path = rig.directory.0.join("policy.toml");
    let whole = format!("{}[defaults]\ntimeout = '1s'\n", config_at(rig.address));
    // Never at rest for a quarter of a second, for longer than it takes until the files are looked at: unless the machine
    // is so busy that it lets the writer rest. Then one of its files may have been taken.
    let (mut written, mut rested) = (Instant::now(), false);
    for line in 0..200 {
        fs::write(&path, format!("{whole}# line {line}\n")).unwrap();
        let is_silent = rig.running.is_silent_for(Duration::from_millis(20));
        rested |= written.elapsed() > Duration::from_millis(100);
        written = Instant::now();
        assert!(is_silent || rested, "{}", rig.running.said());
    }
    assert!(rig.metric("generation") == 1 || rested);
    fs::write(&path, format!("{whole}[destination.last]\nhosts = ['last']\n")).unwrap();
    rig.running.wait_for(APPLIED);
    let said = rig.running.said();
    assert!(rested || !said.contains(REFUSED) && said.matches(APPLIED).count() == 1, "{said}");
    assert!(rig.metric("generation") == 2 || rested);
}

#[test]
fn t10_files_that_only_root_can_read_are_told_at_the_start_and_stay_in_force() {
    let (directory, address) = (Directory::new(), own_address());
    let path = directory.put("policy.toml", &config_at(address));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut running = start(&path);
    let said = running.said();
    assert!(said.contains("as uid 1337 the configuration cannot be read again"), "{said}");
    assert!(said.contains("Permission denied"), "{said}");
    running.wait_for(REFUSED);
    assert_eq!((metric(address, "generation"), metric(address, "last_reload_successful")), (1, 0));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    running.wait_for("the configuration is the one in force");
    assert_eq!(metric(address, "last_reload_successful"), 1);
}
