//! The access log of a real process: rotated, on a full disk, and read by somebody who goes away.

use std::fs;
use std::path::Path;

use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Net, Origin, process, wait};
use nix::sys::signal::Signal;

fn ask(net: &Net, times: usize) {
    let mut client = net.app.connect(server(80));
    for _ in 0..times {
        assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status(), 200);
    }
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn start<'n>(net: &'n Net, path: &Path, more: &str) -> (Dragoman<'n>, Origin) {
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let log = format!("[log]\naccess = 'all'\naccess_file = '{}'\n{more}", path.display());
    (Dragoman::start(net, &log), origin)
}

#[test]
fn a_log_is_rotated_by_a_signal_without_losing_a_line() {
    let (net, scratch) = (Net::new(), Scratch::new("rotate"));
    fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let path = scratch.path().join("access.log");
    let (dragoman, _origin) = start(&net, &path, "");
    let mut rotated = 0;
    for round in 0..5 {
        ask(&net, 20);
        let old = scratch.path().join(format!("access.log.{round}"));
        fs::rename(&path, &old).unwrap();
        dragoman.signal(Signal::SIGUSR1);
        wait::until("a new file", wait::SOON, || path.exists());
        rotated += 20;
    }
    dragoman.settle();
    // A line for each exchange, and one for each flow.
    let all = || {
        (0..5).map(|n| lines(&scratch.path().join(format!("access.log.{n}")))).sum::<usize>() + lines(&path)
    };
    wait::until("all lines", wait::SOON, || all() == rotated + 5);
    assert_eq!(dragoman.metrics().sum("dragoman_access_log_dropped_total", &[]), 0);
}

#[test]
fn a_name_that_cannot_be_opened_again_is_said_and_the_old_file_written_on() {
    let (net, scratch) = (Net::new(), Scratch::new("reopen"));
    let path = scratch.path().join("access.log");
    let (dragoman, _origin) = start(&net, &path, "");
    let old = scratch.path().join("access.log.1");
    fs::rename(&path, &old).unwrap();
    // Only root may make files in this directory, and the proxy is nobody.
    dragoman.signal(Signal::SIGUSR1);
    wait::until("a warning", wait::SOON, || dragoman.log().contains("cannot reopen the access log"));
    ask(&net, 3);
    dragoman.settle();
    wait::until("the lines", wait::SOON, || lines(&old) == 4);
}

#[test]
fn a_disk_that_fills_up_loses_lines_and_no_request() {
    let (net, scratch) = (Net::new(), Scratch::new("disk"));
    let disk = scratch.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = Mount::tmpfs(&disk, "64k");
    let path = disk.join("access.log");
    let (dragoman, _origin) = start(&net, &path, "");
    ask(&net, 500);
    let metrics =
        dragoman.metrics_where("lines are lost", |m| m.sum("dragoman_access_log_dropped_total", &[]) > 0);
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("code", "200")]), 500, "no request noticed");
    assert!(dragoman.log().contains("cannot write the access log"));
    dragoman.settle();

    // Somebody makes room, and the log goes on by itself; the line that was cut stands alone.
    process::succeed(std::process::Command::new("mount").args(["-o", "remount,size=4m"]).arg(&mount.0));
    ask(&net, 10);
    let metrics = dragoman.settle();
    let written = || fs::read_to_string(&path).unwrap();
    let good =
        |text: &str| text.lines().filter(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()).count();
    let lost = metrics.sum("dragoman_access_log_dropped_total", &[]) as usize;
    // 510 exchanges and two flows.
    wait::until("the rest", wait::SOON, || good(&written()) + lost == 512);
    let text = written();
    assert!(text.lines().count() - good(&text) <= 1, "one line is cut at most");
    assert!(dragoman.log().contains("the access log is written again"));
}

#[test]
fn a_reader_that_goes_away_and_comes_back_costs_lines_and_nothing_else() {
    let (net, scratch) = (Net::new(), Scratch::new("pipe"));
    let pipe = scratch.path().join("pipe");
    process::succeed(std::process::Command::new("mkfifo").arg(&pipe));
    let open = || fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let first = open();
    let (dragoman, _origin) = start(&net, &pipe, "");
    drop(first);
    ask(&net, 20);
    let lost = || dragoman.metrics().sum("dragoman_access_log_dropped_total", &[]);
    wait::until("lines are lost", wait::SOON, || lost() >= 20);
    dragoman.settle();
    let so_far = lost();

    let _second = open();
    ask(&net, 20);
    dragoman.settle();
    wait::until("it is written again", wait::SOON, || {
        dragoman.log().contains("the access log is written again")
    });
    assert_eq!(lost(), so_far);
}

#[test]
fn a_sample_is_taken_of_what_ended_well() {
    let (net, scratch) = (Net::new(), Scratch::new("sample"));
    let path = scratch.path().join("access.log");
    let (dragoman, _origin) = start(&net, &path, "access_sample = 0.1\n");
    ask(&net, 2000);
    for _ in 0..20 {
        net.app.knock(server(81), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    dragoman.settle();
    let text = || fs::read_to_string(&path).unwrap();
    wait::until("each failure", wait::SOON, || text().matches("connect_refused").count() >= 20);
    let well = text().lines().filter(|line| !line.contains("\"cause\"")).count();
    println!("{well} of 2021 lines");
    assert!((100..300).contains(&well), "{well}");
}

/// A small file system, gone with the value.
struct Mount(std::path::PathBuf);

impl Mount {
    fn tmpfs(path: &Path, size: &str) -> Mount {
        let mut command = std::process::Command::new("mount");
        process::succeed(
            command.args(["-t", "tmpfs", "-o", &format!("size={size},mode=777"), "tmpfs"]).arg(path),
        );
        Mount(path.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the proxy of a failed case still has a file open.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
