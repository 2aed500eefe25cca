//! A command run as the service runs: with its user, its rights and its sandbox.

use std::path::Path;

use super::unit::directives;

/// The settings of a unit that decide what its programs may do and see (systemd.exec(5)), as far as a command can have
/// them too. A run-time folder is not among them: it would be removed with the command.
const SETTINGS: [&str; 56] = [
    "AmbientCapabilities",
    "BindPaths",
    "BindReadOnlyPaths",
    "CapabilityBoundingSet",
    "DeviceAllow",
    "DevicePolicy",
    "Environment",
    "EnvironmentFile",
    "ExecPaths",
    "Group",
    "IPAddressAllow",
    "IPAddressDeny",
    "ImportCredential",
    "InaccessiblePaths",
    "KeyringMode",
    "LimitNOFILE",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoExecPaths",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RemoveIPC",
    "RestrictAddressFamilies",
    "RestrictFileSystems",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SecureBits",
    "StateDirectory",
    "StateDirectoryMode",
    "SupplementaryGroups",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "TemporaryFileSystem",
    "UMask",
    "User",
];

/// Returns the user of a unit; `None` if it is root's.
pub fn user_of(unit: &str) -> Option<String> {
    let user = directives(unit).filter(|(name, _)| *name == "User").last().map(|(_, value)| value.to_owned())?;
    (!matches!(user.as_str(), "" | "root" | "0")).then_some(user)
}

/// Returns the arguments of `systemd-run` by which a command runs as the service of a unit does; its run-time folder must
/// be there already.
pub fn as_service(unit: &str, runtime_dir: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = ["--quiet", "--collect", "--pipe", "--wait"].map(str::to_owned).into();
    let settings = directives(unit).filter(|(name, _)| SETTINGS.contains(name));
    // Its properties know no specifiers, so a `%` is written once.
    arguments.extend(settings.map(|(name, value)| format!("--property={name}={}", value.replace("%%", "%"))));
    arguments.push(format!("--property=ReadWritePaths=-{}", runtime_dir.display()));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gets_the_settings_of_the_unit_in_their_order_and_nothing_else() {
        let unit = "# /lib/systemd/system/hk-aws.service\n[Unit]\nAfter=network.target\n[Service]\nType=notify\n\
                    ExecStart=/usr/bin/hk-aws run\nUser=hk-aws\nRuntimeDirectory=hk-aws\nCapabilityBoundingSet=\n\
                    SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n\n\
                    # /etc/systemd/system/hk-aws.service.d/paths.conf\n[Service]\nReadWritePaths=-\"/srv/my cams 5%%\"\n";
        assert_eq!(
            as_service(unit, Path::new("/run/hk-aws"))[4..],
            [
                "--property=User=hk-aws",
                "--property=CapabilityBoundingSet=",
                "--property=SystemCallFilter=@system-service",
                "--property=SystemCallFilter=~@privileged @resources",
                "--property=ReadWritePaths=-\"/srv/my cams 5%\"",
                "--property=ReadWritePaths=-/run/hk-aws",
            ]
        );
        assert_eq!(user_of(unit).as_deref(), Some("hk-aws"));
        assert_eq!(user_of("[Service]\nUser=hk-aws\nUser=root\n"), None);
    }

    #[test]
    fn every_setting_of_the_shipped_unit_that_a_command_can_have_is_passed_on() {
        let left: Vec<&str> = directives(super::super::SHIPPED)
            .map(|(name, _)| name)
            .filter(|name| !SETTINGS.contains(name))
            .filter(|name| {
                ["Protect", "Private", "Restrict", "System", "Capab", "Ambient", "Inacc", "ReadW"]
                    .iter()
                    .any(|start| name.starts_with(start))
            })
            .collect();
        assert_eq!(left, Vec::<&str>::new());
    }
}
