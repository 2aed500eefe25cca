//! The systemd unit as it is shipped.

const UNIT: &str = include_str!("../../packaging/usr/lib/systemd/system/hk-aws.service");

/// The values of a directive, in order.
fn values(directive: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix('=')).collect()
}

#[test]
fn the_unit_runs_the_daemon_as_systemd_is_told() {
    assert_eq!(values("ExecStart"), ["/usr/bin/hk-aws run"]);
    assert_eq!(values("Type"), ["notify"]);
    assert_eq!(values("NotifyAccess"), ["main"]);
    assert_eq!(values("ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    // The daemon keeps its watchdog from WATCHDOG_USEC and its drain below TimeoutStopSec.
    assert_eq!(values("WatchdogSec"), ["60"]);
    assert_eq!(values("TimeoutStopSec"), ["30"]);
}

#[test]
fn a_wrong_configuration_is_not_tried_again_and_again() {
    assert_eq!(values("Restart"), ["always"]);
    assert_eq!(values("RestartPreventExitStatus"), ["2"]);
}

#[test]
fn no_socket_that_is_a_door_to_root_and_no_secret_of_others_can_be_reached() {
    let closed: Vec<&str> = values("InaccessiblePaths").into_iter().flat_map(str::split_whitespace).collect();
    for path in [
        "/boot",
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/ssh",
        "/etc/ssl/private",
        "/etc/sudoers",
        "/run/docker.sock",
        "/run/docker",
        "/run/containerd",
        "/run/podman",
        "/run/crio",
        "/run/libvirt",
        "/run/snapd.socket",
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
        "/run/acpid.socket",
        "/run/udev/control",
    ] {
        assert!(closed.contains(&format!("-{path}").as_str()), "{path}");
    }
    // The daemon speaks to systemd and to the journal.
    for path in ["/run", "/run/systemd", "/run/systemd/notify", "/run/systemd/journal", "/etc", "/etc/ssl"] {
        assert!(!closed.contains(&format!("-{path}").as_str()), "{path}");
    }
}

#[test]
fn the_unit_makes_the_directories_the_daemon_defaults_to() {
    assert_eq!(values("StateDirectory"), ["hk-aws"]);
    assert_eq!(values("RuntimeDirectory"), ["hk-aws"]);
    let folder = "/var/lib/cctv/storage";
    assert!(
        values("ReadWritePaths").concat().contains(folder),
        "the drop folder of the shipped configuration can be written"
    );
    assert!(include_str!("../../packaging/etc/hk-aws/config.yaml").contains(&format!("path: {folder} ")));
}
