//! Which setting of a machine forbids namespaces to a user, and what to do about it. The kernel says no more than EPERM
//! or ENOSPC; the settings are found in `/proc`.

use std::fs;
use std::path::Path;

use nix::errno::Errno;

/// What the machine says about namespaces. `None` is a setting that it does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The kernel has user namespaces.
    pub(super) user_namespaces: bool,
    /// `user.max_user_namespaces`, `user.max_net_namespaces` and `user.max_mnt_namespaces`.
    pub(super) limits: [Option<u64>; 3],
    /// `kernel.unprivileged_userns_clone`, of Debian's and others' kernels.
    pub(super) unprivileged: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's.
    pub(super) apparmor: Option<u64>,
    /// A filter of system calls, as containers have.
    pub(super) seccomp: bool,
}

const LIMITS: [&str; 3] = ["user.max_user_namespaces", "user.max_net_namespaces", "user.max_mnt_namespaces"];

impl Facts {
    pub(super) fn read() -> Facts {
        let sysctl = |name: &str| -> Option<u64> {
            fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?.trim().parse().ok()
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let filtered = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
        Facts {
            user_namespaces: Path::new("/proc/self/ns/user").exists(),
            limits: LIMITS.map(sysctl),
            unprivileged: sysctl("kernel.unprivileged_userns_clone"),
            apparmor: sysctl("kernel.apparmor_restrict_unprivileged_userns"),
            seccomp: filtered.is_some_and(|mode| mode.trim() == "2"),
        }
    }
}

/// What forbids it, if it is forbidden and the facts tell by what.
pub(super) fn advice(errno: Errno, root: bool, facts: &Facts) -> Option<String> {
    if !matches!(errno, Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EUSERS | Errno::EINVAL) {
        return None;
    }
    if errno == Errno::EINVAL {
        return (!facts.user_namespaces).then(|| {
            "this kernel has no user namespaces (CONFIG_USER_NS); run it as root, which needs none".to_owned()
        });
    }
    if errno == Errno::EUSERS {
        return Some("namespaces are nested too deeply: 32 is the most".to_owned());
    }
    if errno == Errno::ENOSPC {
        let (name, limit) =
            LIMITS.iter().zip(facts.limits).min_by_key(|(_, limit)| limit.unwrap_or(u64::MAX))?;
        return Some(match limit {
            Some(0) => allow(name, "0", "10000"),
            Some(limit) => format!("there are as many namespaces as {name} = {limit} allows; raise it"),
            None => "namespaces are nested too deeply: 32 is the most".to_owned(),
        });
    }
    Some(if facts.unprivileged == Some(0) && !root {
        allow("kernel.unprivileged_userns_clone", "0", "1")
    } else if facts.apparmor.is_some_and(|value| value != 0) && !root {
        "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns = 1): give dragoman a profile \
         with the rule `userns,` (docs/run.md has one), allow it to all with `sudo sysctl \
         kernel.apparmor_restrict_unprivileged_userns=0`, or run it as root"
            .to_owned()
    } else if facts.seccomp {
        "a filter of system calls (seccomp) forbids it, as that of most containers does: start the container with \
         `--security-opt seccomp=unconfined`, or with CAP_SYS_ADMIN and as root"
            .to_owned()
    } else if root {
        "root lacks CAP_SYS_ADMIN here, as in most containers".to_owned()
    } else {
        "a security module, or a root directory that was changed (chroot), forbids user namespaces; run it as root, or \
         outside of that"
            .to_owned()
    })
}

fn allow(name: &str, value: &str, better: &str) -> String {
    format!("{name} = {value} forbids it: allow it with `sudo sysctl {name}={better}`, or run it as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Facts {
        Facts { user_namespaces: true, limits: [Some(1000); 3], ..Facts::default() }
    }

    #[test]
    fn each_setting_is_named_with_what_to_do() {
        let cases: [(Errno, bool, Facts, &str); 9] = [
            (Errno::EPERM, false, Facts { unprivileged: Some(0), ..open() }, "unprivileged_userns_clone=1`"),
            (
                Errno::EPERM,
                false,
                Facts { apparmor: Some(1), ..open() },
                "apparmor_restrict_unprivileged_userns=0`",
            ),
            (Errno::EACCES, false, Facts { apparmor: Some(1), ..open() }, "rule `userns,`"),
            (Errno::EPERM, false, Facts { seccomp: true, ..open() }, "--security-opt seccomp=unconfined"),
            (Errno::EPERM, true, open(), "CAP_SYS_ADMIN"),
            (Errno::EPERM, false, open(), "chroot"),
            (
                Errno::ENOSPC,
                false,
                Facts { limits: [Some(0), Some(9), Some(9)], ..open() },
                "sysctl user.max_user_namespaces=10000`",
            ),
            (
                Errno::ENOSPC,
                true,
                Facts { limits: [Some(9), Some(2), Some(9)], ..open() },
                "user.max_net_namespaces = 2 allows",
            ),
            (Errno::EINVAL, false, Facts::default(), "CONFIG_USER_NS"),
        ];
        for (errno, root, facts, expected) in cases {
            let advice = advice(errno, root, &facts).unwrap();
            assert!(advice.contains(expected), "{errno:?} {facts:?}: {advice}");
        }
    }

    #[test]
    fn what_is_no_refusal_gets_no_advice() {
        assert_eq!(advice(Errno::ENOMEM, false, &open()), None);
        assert_eq!(advice(Errno::EINVAL, false, &open()), None);
    }
}
