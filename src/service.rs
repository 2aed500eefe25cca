//! The systemd service as it is installed: whether its sandbox lets the daemon use the folders of the configuration.
//!
//! The unit opens the folders of the shipped configuration and nothing else. A folder elsewhere needs lines of its own in a
//! drop-in, which [`drop_in`] makes. What the installed unit lacks is told by its properties, before the daemon runs; a
//! daemon that is shut out sees it in its table of mounts. A systemd generator was rejected: it would read the
//! configuration as root at each boot, before anybody could see what it says.

use std::path::{Path, PathBuf};

use crate::config::Config;

mod mounts;
mod transient;
mod unit;

pub use mounts::shut_out;
pub use transient::{as_service, user_of};
pub use unit::{Lacking, UnitProperties, unit_text};

/// The name of the unit.
pub const UNIT: &str = "hk-aws.service";

/// The drop-in that [`drop_in`] is written to.
pub const DROP_IN: &str = "/etc/systemd/system/hk-aws.service.d/paths.conf";

/// What the owner runs if the sandbox shuts the daemon out of a folder.
pub const MEND: &str = "run `sudo hk-aws unit-paths`, then `sudo systemctl restart hk-aws`";

/// The unit as it is shipped.
const SHIPPED: &str = include_str!("../systemd/hk-aws.service");

/// The folders that `ProtectHome=` hides (systemd.exec(5)).
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// The folders of which the service has its own by `PrivateTmp=` (systemd.exec(5)).
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// A folder of the configuration that the daemon writes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedFolder {
    /// Its key in the configuration.
    pub key: &'static str,
    /// The folder.
    pub path: PathBuf,
}

/// Returns the folders that the daemon writes in.
pub fn used_folders(config: &Config) -> Vec<UsedFolder> {
    let folder = |key: &'static str, path: &Path| UsedFolder { key, path: path.to_owned() };
    let mut folders = vec![
        folder("drop_folder.path", &config.drop_folder.path),
        folder("state_dir", &config.state_dir),
        folder("runtime_dir", &config.runtime_dir),
    ];
    if config.keep.days > 0 {
        folders.push(folder("keep.path", &config.keep.path));
    }
    folders
}

/// Returns the drop-in that opens the folders of a configuration; `None` if the shipped unit opens them all.
pub fn drop_in(config: &Config) -> Option<String> {
    let shipped = UnitProperties::of_text(SHIPPED);
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut wanted: Vec<PathBuf> = used_folders(config).into_iter().map(|folder| folder.path).collect();
    wanted.sort();
    for path in wanted {
        // In the order of paths, a folder comes before what is in it.
        if !shipped.opens(&path) && !paths.iter().any(|above| path.starts_with(above)) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return None;
    }
    let all: Vec<String> = paths.iter().map(|path| word(path)).collect();
    let (hidden, open): (Vec<&PathBuf>, Vec<&PathBuf>) = paths.iter().partition(|path| is_hidden(path));
    let mut lines = vec![
        format!(
            "# Made by `hk-aws unit-paths` from {}; run it again when a folder there changes.",
            config.source.display()
        ),
        "[Unit]".to_owned(),
        format!("RequiresMountsFor={}", all.join(" ")),
        String::new(),
        "[Service]".to_owned(),
    ];
    if hidden.iter().any(|path| is_below(path, &HOMES)) {
        lines.push("# The homes of users stay hidden except for what is named here.".to_owned());
        lines.push("ProtectHome=tmpfs".to_owned());
    }
    // A `:` divides a folder from the place where it is to be seen.
    let escaped = |path: &Path| PathBuf::from(path.to_string_lossy().replace(':', "\\:"));
    lines.extend(hidden.into_iter().map(|path| format!("BindPaths=-{}", word(&escaped(path)))));
    lines.extend(open.into_iter().map(|path| format!("ReadWritePaths=-{}", word(path))));
    Some(lines.join("\n") + "\n")
}

fn is_below(path: &Path, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

/// Returns whether the shipped unit hides a folder, so that it must be brought in by a mount.
fn is_hidden(path: &Path) -> bool {
    is_below(path, &HOMES) || is_below(path, &TEMPORARY)
}

/// Returns a path as a word of a unit file (systemd.syntax(7), "Quoting"; `%` is a specifier).
fn word(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%");
    let is_plain = !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\'));
    if is_plain { text } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(drop: &str, more: &str) -> Config {
        let text = format!("drop_folder: {{path: \"{drop}\"}}\ns3: {{bucket: captures}}\ntimezone: UTC\n{more}");
        Config::parse(Path::new("/etc/hk-aws/config.yaml"), &text, &|_| None)
            .unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn lines(config: &Config) -> Vec<String> {
        let text = drop_in(config).unwrap_or_default();
        text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '['])).map(str::to_owned).collect()
    }

    #[test]
    fn the_folders_of_the_shipped_configuration_need_no_drop_in() {
        assert_eq!(drop_in(&config("/var/lib/cctv/storage", "")), None);
    }

    #[test]
    fn a_folder_elsewhere_is_opened_and_its_disk_waited_for() {
        assert_eq!(
            lines(&config("/srv/cams", "keep: {path: /mnt/usb/kept}\n")),
            ["RequiresMountsFor=/mnt/usb/kept /srv/cams", "ReadWritePaths=-/mnt/usb/kept", "ReadWritePaths=-/srv/cams"]
        );
        assert_eq!(
            lines(&config("/srv/cams/in", "keep: {path: /srv/state/kept}\nstate_dir: /srv/state\n")).len(),
            3,
            "a folder inside another needs no line"
        );
        assert_eq!(lines(&config("/srv/cams", "keep: {path: /mnt/usb/kept, days: 0}\n")).len(), 2);
        assert_eq!(
            lines(&config("/srv/my \\\"cams\\\" 5%", "")),
            [r#"RequiresMountsFor="/srv/my \"cams\" 5%%""#, r#"ReadWritePaths=-"/srv/my \"cams\" 5%%""#]
        );
    }

    #[test]
    fn a_folder_in_a_home_is_brought_in_and_the_other_homes_stay_hidden() {
        assert_eq!(
            lines(&config("/home/ftp/cams", "")),
            ["RequiresMountsFor=/home/ftp/cams", "ProtectHome=tmpfs", "BindPaths=-/home/ftp/cams"]
        );
        assert_eq!(
            lines(&config("/var/tmp/a:b", "")),
            ["RequiresMountsFor=/var/tmp/a:b", r#"BindPaths=-"/var/tmp/a\\:b""#]
        );
    }

    #[test]
    fn a_drop_in_opens_what_it_is_made_for() {
        for (drop, more) in [
            ("/srv/cams", ""),
            ("/srv/my cams", "keep: {path: /mnt/usb/kept}\n"),
            ("/home/ftp/cams", "state_dir: /srv/state\nruntime_dir: /srv/run\n"),
            ("/var/tmp/cams", ""),
        ] {
            let config = config(drop, more);
            let lacking = UnitProperties::of_text(SHIPPED).lacking(&used_folders(&config));
            assert!(!lacking.is_empty(), "{drop}");
            let together = format!("{SHIPPED}\n{}", drop_in(&config).unwrap());
            assert_eq!(UnitProperties::of_text(&together).lacking(&used_folders(&config)), [], "{together}");
        }
    }
}
