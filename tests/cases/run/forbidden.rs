//! Where namespaces are forbidden, the error names the setting.

use dragoman_harness::{Net, process};

use crate::{User, as_user, said, says};

/// The limits of a user namespace of the test's own.
#[test]
fn a_limit_of_namespaces_is_named() {
    let net = Net::new();
    for limit in ["max_user_namespaces", "max_net_namespaces", "max_mnt_namespaces"] {
        let user = User::new();
        let mut command = net.app.command("setpriv");
        let script =
            format!("echo 0 >/proc/sys/user/{limit} && exec {} run -- true", user.dragoman.display());
        as_user(&mut command, user.uid);
        command.args(["unshare", "--user", "--map-current-user", "--keep-caps", "--", "sh", "-c", &script]);
        let (code, out, err) = said(&process::output(&mut command));
        assert_eq!((code, out.as_str()), (Some(125), ""), "{err}");
        let expected = format!(
            "dragoman: cannot make namespaces for the command: No space left on device (os error 28); user.{limit} = 0 \
             forbids it: allow it with `sudo sysctl user.{limit}=10000`, or run it as root\n"
        );
        assert_eq!(err, expected);
    }
}

/// As in a container: a filter says EPERM to unshare(2).
#[test]
fn a_filter_of_system_calls_is_named() {
    let (net, user) = (Net::new(), User::new());
    // struct sock_filter: code, jt, jf, k. Load the number of the call; unshare gets EPERM, all else is allowed.
    let filter = "import ctypes, os, platform, struct, sys\n\
                  unshare = {'x86_64': 272, 'aarch64': 97}[platform.machine()]\n\
                  rules = [(0x20, 0, 0, 0), (0x15, 0, 1, unshare), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]\n\
                  code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *rule) for rule in rules))\n\
                  program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(rules), ctypes.addressof(code)))\n\
                  libc = ctypes.CDLL(None, use_errno=True)\n\
                  assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0\n\
                  os.execv(sys.argv[1], [sys.argv[1], 'run', '--', 'true'])\n";
    let mut command = user.runs(&net, "/usr/bin/python3");
    let (code, out, err) = says(command.args(["-c", filter]).arg(&user.dragoman));
    assert_eq!((code, out.as_str()), (Some(125), ""), "{err}");
    assert!(
        err.starts_with(
            "dragoman: cannot make namespaces for the command: Operation not permitted (os error 1); a filter of system \
             calls (seccomp) forbids it"
        ),
        "{err}"
    );
}
