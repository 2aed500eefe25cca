//! The systemd unit as it is shipped.

const UNIT: &str = include_str!("../../systemd/hk-aws.service");

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
fn a_capture_becomes_a_local_copy_by_a_rename_because_both_lie_in_one_mount() {
    // Each writable path becomes a mount of its own, and so does a StateDirectory.
    assert_eq!(values("ReadWritePaths"), ["/var/lib"]);
    assert!(values("StateDirectory").is_empty());
    assert!(include_str!("../../config/config.yaml").contains("path: /var/lib/cctv/storage "));
}

#[test]
fn every_folder_that_the_daemon_needs_is_made_by_the_package() {
    assert_eq!(values("RuntimeDirectory"), ["hk-aws"]);
    let made: Vec<(&str, &str)> = include_str!("../../packaging/usr/lib/tmpfiles.d/hk-aws.conf")
        .lines()
        .filter_map(|line| line.strip_prefix("d "))
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .map(|fields| (fields[0], fields[2].trim_start_matches(':')))
        .collect();
    let (user, folders) = (values("User")[0], ["/var/lib/hk-aws", "/var/lib/cctv", "/var/lib/cctv/storage"]);
    assert_eq!(made, folders.map(|folder| (folder, user)));
    let users = include_str!("../../packaging/usr/lib/sysusers.d/hk-aws.conf");
    let line = users.lines().find(|line| line.starts_with(&format!("u {user} "))).unwrap();
    // An .rpm needs the group before it is unpacked.
    assert!(include_str!("../../packaging/rpm/pre").lines().any(|said| said == line), "{line}");
}

#[test]
fn the_daemon_has_no_capability_and_the_drop_in_for_other_owners_resets_the_lists_first() {
    assert_eq!(values("CapabilityBoundingSet"), [""]);
    assert_eq!(values("AmbientCapabilities"), [""]);
    let drop_in = include_str!("../../packaging/doc/examples/other-owners.conf");
    for list in ["CapabilityBoundingSet=", "AmbientCapabilities=", "ReadWritePaths="] {
        let lines: Vec<&str> = drop_in.lines().filter(|line| line.starts_with(list)).collect();
        assert!(lines.len() == 2 && lines[0] == list && lines[1] > list, "{lines:?}");
    }
}
