//! What a unit opens to its service, read from its properties or from its text.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{HOMES, TEMPORARY, UNIT, UsedFolder, is_below};

/// The properties of a unit that decide which folders its service may use (systemd.exec(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitProperties {
    values: HashMap<String, Vec<String>>,
}

/// A folder that the service may not use, and the line that its unit lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The folder.
    pub folder: UsedFolder,
    /// What the sandbox does with it.
    pub what: &'static str,
    /// The line that would open it.
    pub line: String,
}

/// The properties that are asked for.
const ASKED: [&str; 9] = [
    "LoadState",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "ReadWritePaths",
    "BindPaths",
    "InaccessiblePaths",
    "StateDirectory",
    "RuntimeDirectory",
];

/// Properties of which the last value counts; of the others all do.
const SINGLE: [&str; 4] = ["LoadState", "ProtectSystem", "ProtectHome", "PrivateTmp"];

/// Asks systemd for something about the unit; `None` if there is no systemd, or it does not answer.
fn ask_systemd(words: &[&str]) -> Option<String> {
    let asked =
        Command::new("systemctl").args(words).arg(UNIT).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).into_owned())
}

/// Returns the text of the installed unit with all its drop-ins, each setting on one line; `None` if there is no systemd or
/// no such unit.
pub fn unit_text() -> Option<String> {
    ask_systemd(&["cat", "--no-pager"]).map(|text| in_whole_lines(&text)).filter(|text| !text.trim().is_empty())
}

impl UnitProperties {
    /// Asks systemd for the properties of the installed unit; `None` if there is no systemd or no such unit.
    pub fn installed() -> Option<Self> {
        let properties = ASKED.join(",");
        let said = Self::of_answer(&ask_systemd(&["show", "--no-pager", "-p", &properties])?);
        (said.last("LoadState") == Some("loaded")).then_some(said)
    }

    /// Reads the answer of `systemctl show`: a line for each property, with its values as words.
    pub fn of_answer(answer: &str) -> Self {
        let mut unit = Self::default();
        for (name, value) in answer.lines().filter_map(|line| line.split_once('=')) {
            if name == "BindPaths" {
                // These it does not quote, but each ends in its mode.
                let bound = value.split(":rbind").flat_map(|rest| rest.split(":norbind")).map(str::trim);
                unit.add(name, bound.filter(|bound| !bound.is_empty()).map(str::to_owned));
            } else {
                unit.add(name, words(value).into_iter());
            }
        }
        unit
    }

    /// Reads the text of a unit file, or of several behind each other, as far as it decides what is open.
    pub(super) fn of_text(text: &str) -> Self {
        let mut unit = Self::default();
        for (name, value) in directives(&in_whole_lines(text)) {
            unit.add(name, words(value).into_iter());
        }
        unit
    }

    fn add(&mut self, name: &str, words: impl Iterator<Item = String>) {
        if !ASKED.contains(&name) {
            return;
        }
        let values = self.values.entry(name.to_owned()).or_default();
        let before = values.len();
        values.extend(words);
        // An empty value takes back what stands before it.
        if values.len() == before {
            values.clear();
        }
    }

    fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn last(&self, name: &str) -> Option<&str> {
        debug_assert!(SINGLE.contains(&name), "{name} is a list");
        self.all(name).last().map(String::as_str)
    }

    /// Returns whether a property of a truth value, or of a word, is not off.
    fn is_on(&self, name: &str) -> bool {
        !matches!(self.last(name), None | Some("no" | "false" | "off" | "0"))
    }

    /// Returns whether one of the folders of a property is `path` or holds it.
    fn holds(&self, name: &str, path: &Path) -> bool {
        self.all(name).iter().any(|folder| path.starts_with(folder.trim_start_matches(['-', '+'])))
    }

    fn is_bound(&self, path: &Path) -> bool {
        let place = |bound: &String| -> Option<PathBuf> {
            let unmarked = bound.trim_start_matches('-').replace("\\:", "\u{0}");
            let mut parts = unmarked.split(':');
            let source = parts.next()?;
            Some(PathBuf::from(
                parts.next().filter(|place| place.starts_with('/')).unwrap_or(source).replace('\u{0}', ":"),
            ))
        };
        self.all("BindPaths").iter().filter_map(place).any(|place| path.starts_with(place))
    }

    /// Returns whether `StateDirectory=` or `RuntimeDirectory=` makes the folder, or one that holds it.
    fn is_made(&self, path: &Path) -> bool {
        [("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run")].iter().any(|(name, around)| {
            self.all(name)
                .iter()
                .any(|folder| path.starts_with(Path::new(around).join(folder.split(':').next().unwrap_or_default())))
        })
    }

    /// Returns whether the service may write in a folder.
    pub(super) fn opens(&self, path: &Path) -> bool {
        self.closes(path).is_none()
    }

    /// Returns what the sandbox does with a folder, and the line that would open it; `None` if the service may write there.
    fn closes(&self, path: &Path) -> Option<(&'static str, String)> {
        if self.is_bound(path) || self.is_made(path) {
            return None;
        }
        let bind = || format!("BindPaths=-{}", path.display());
        if self.holds("InaccessiblePaths", path) {
            return Some(("hides it (InaccessiblePaths)", bind()));
        }
        let home = self.last("ProtectHome").unwrap_or("no");
        if is_below(path, &HOMES) && self.is_on("ProtectHome") && home != "read-only" {
            return Some(("hides the homes of users (ProtectHome)", bind()));
        }
        if is_below(path, &TEMPORARY) && self.is_on("PrivateTmp") {
            return Some(("gives the service a /tmp of its own (PrivateTmp)", bind()));
        }
        let is_read_only = match self.last("ProtectSystem") {
            Some("strict") => true,
            _ if is_below(path, &HOMES) => home == "read-only",
            Some("full") => is_below(path, &["/usr", "/boot", "/efi", "/etc"]),
            Some("yes" | "true" | "on" | "1") => is_below(path, &["/usr", "/boot", "/efi"]),
            _ => false,
        };
        let is_closed = is_read_only && !self.holds("ReadWritePaths", path);
        is_closed.then(|| ("lets it only be read (ProtectSystem)", format!("ReadWritePaths=-{}", path.display())))
    }

    /// Returns the folders that the service may not write in, except those inside another one.
    pub fn lacking(&self, folders: &[UsedFolder]) -> Vec<Lacking> {
        let closed = |folder: &UsedFolder| {
            // What a link leads to is what counts, but the unit may name the link.
            let real = folder.path.canonicalize().unwrap_or_else(|_| folder.path.clone());
            let (what, line) = self.closes(&real).filter(|_| !self.opens(&folder.path))?;
            Some(Lacking { folder: folder.clone(), what, line })
        };
        let mut lacking: Vec<Lacking> = Vec::new();
        for found in folders.iter().filter_map(closed) {
            if !lacking.iter().any(|above| found.folder.path.starts_with(&above.folder.path)) {
                lacking.push(found);
            }
        }
        lacking
    }
}

/// Returns a text without the breaks in its long lines, which end in a backslash (systemd.syntax(7)).
fn in_whole_lines(text: &str) -> String {
    text.replace("\\\n", " ")
}

/// Returns the names and values in the text of a unit file, or of several behind each other (systemd.syntax(7)).
pub(super) fn directives(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_comment = |line: &&str| line.starts_with(['#', ';']);
    text.lines().map(str::trim).filter(move |line| !is_comment(line)).filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim(), value.trim()))
    })
}

/// Splits a value of a unit file into words (systemd.syntax(7), "Quoting").
fn words(value: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut rest = value.trim().chars().peekable();
    while let Some(c) = rest.next() {
        match quote {
            Some(end) if c == end => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if c.is_whitespace() => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            _ if c == '\\' => word.extend(rest.next()),
            _ if c == '%' && rest.peek() == Some(&'%') => word.extend(rest.next()),
            _ => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd 252 says it of the shipped unit with two drop-ins.
    const ANSWER: &str = "ReadWritePaths=-/var/lib/cctv/storage \"-/srv/my cams\"\nProtectHome=yes\nProtectSystem=strict\n\
                          PrivateTmp=yes\nBindPaths=-/home/x/a b:/home/x/a b:rbind -/home/ftp/cams:/home/ftp/cams:rbind\nStateDirectory=hk-aws\n\
                          RuntimeDirectory=hk-aws\nInaccessiblePaths=-/boot\nLoadState=loaded\n";

    #[test]
    fn the_properties_of_a_unit_tell_what_it_lacks() {
        let unit = UnitProperties::of_answer(ANSWER);
        for (path, line) in [
            ("/var/lib/cctv/storage", None),
            ("/var/lib/cctv/storage/front", None),
            ("/var/lib/cctv", Some("ReadWritePaths=-/var/lib/cctv")),
            ("/var/lib/hk-aws/kept", None),
            ("/run/hk-aws", None),
            ("/srv/my cams", None),
            ("/srv/cams", Some("ReadWritePaths=-/srv/cams")),
            ("/home/ftp/cams", None),
            ("/home/x/a b", None),
            ("/home/other", Some("BindPaths=-/home/other")),
            ("/root/cams", Some("BindPaths=-/root/cams")),
            ("/tmp/cams", Some("BindPaths=-/tmp/cams")),
            ("/boot/cams", Some("BindPaths=-/boot/cams")),
        ] {
            let lacking = unit.lacking(&[UsedFolder { key: "drop_folder.path", path: path.into() }]);
            assert_eq!(lacking.first().map(|lacking| lacking.line.as_str()), line, "{path}");
        }
        let open = "ProtectSystem=no\nProtectHome=no\nPrivateTmp=no\nLoadState=loaded\n";
        for path in ["/home/x", "/tmp/x", "/srv/x"] {
            assert!(UnitProperties::of_answer(open).opens(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn an_empty_value_takes_back_what_stands_before_it() {
        let unit = UnitProperties::of_text(
            "ProtectSystem=strict\nReadWritePaths=/srv/a\nReadWritePaths=\nReadWritePaths=/srv/b\n",
        );
        assert!(!unit.opens(Path::new("/srv/a")) && unit.opens(Path::new("/srv/b")));
    }
}
