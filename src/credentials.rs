//! The file with the box's AWS key, in the format of AWS's own credentials files.
//!
//! It is read again whenever a key is asked for, so a mended key works without a restart. The daemon and every command read
//! it alike: it belongs to root and to the service's group, and nobody else may read it (mode 0640). What it says about
//! roles and programs that give keys is left to the AWS files (`s3.profile`): a box has a key of its own.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config;

/// Where the key is, unless [`VARIABLE`] or systemd says otherwise.
pub const FILE: &str = "/etc/hk-aws/credentials";

/// The environment variable that names another file.
pub const VARIABLE: &str = "HK_AWS_CREDENTIALS";

/// The name of the systemd credential that holds the file (systemd.exec(5), `LoadCredential`).
const SYSTEMD_CREDENTIAL: &str = "hk-aws.credentials";

/// The profile that is read if the configuration names none.
const DEFAULT_PROFILE: &str = "default";

/// The largest file that is read, in bytes; a key takes some hundred.
const MOST_BYTES: u64 = 64 << 10;

/// The bits of a file's mode by which somebody other than its owner and its group may use it.
const OTHERS: u32 = 0o007;

const ACCESS_KEY: &str = "aws_access_key_id";
const SECRET_KEY: &str = "aws_secret_access_key";
const TOKEN: &str = "aws_session_token";

/// A key of AWS.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Names the key.
    pub access_key_id: String,
    /// What requests are signed with.
    pub secret_access_key: String,
    /// Goes with a key for a limited time.
    pub session_token: Option<String>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Why a file gives no key, on one line: the file, the line, what is wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; {mend}", self.fault())]
pub struct BadKeyFile {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None`: the file as a whole.
    pub line: Option<usize>,
    /// What is wrong. It never has the secret.
    pub wrong: String,
    /// How to mend it.
    pub mend: String,
}

impl BadKeyFile {
    /// Returns where something is wrong, and what.
    pub fn fault(&self) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}: {}", self.file.display(), self.wrong)
    }
}

/// Returns the path of the file: that of `$HK_AWS_CREDENTIALS`, otherwise the systemd credential `hk-aws.credentials` if
/// there is one, otherwise [`FILE`].
pub fn path() -> PathBuf {
    if let Some(named) = env::var_os(VARIABLE) {
        return named.into();
    }
    let given = env::var_os("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join(SYSTEMD_CREDENTIAL));
    given.filter(|given| given.exists()).unwrap_or_else(|| FILE.into())
}

/// Reads the key of a profile, or that of `default`; `None` if there is no file, or nothing of that profile in it.
///
/// # Errors
/// [`BadKeyFile`] if the file cannot be read, or what it says of the profile gives no key.
pub fn read(file: &Path, profile: Option<&str>) -> Result<Option<Key>, BadKeyFile> {
    let bad =
        |wrong: String, mend: &str| BadKeyFile { file: file.to_owned(), line: None, wrong, mend: mend.to_owned() };
    let mut text = String::new();
    let read = File::open(file).and_then(|open| open.take(MOST_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => parse(file, &text, profile.unwrap_or(DEFAULT_PROFILE)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::PermissionDenied => bad(
                "this user may not read the key".to_owned(),
                "run the command with sudo, or add your user to the group hk-aws; the file belongs to root:hk-aws with mode \
                 0640",
            ),
            io::ErrorKind::InvalidData => bad("not UTF-8".to_owned(), "save the file as UTF-8"),
            _ => bad(
                format!("failed to read the key: {error}"),
                "check that the file can be read, for instance with cat",
            ),
        }),
    }
}

/// A key file that every user of the box may read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{says}; {mend}")]
pub struct Exposure {
    /// What is wrong.
    pub says: String,
    /// What to do about it.
    pub mend: String,
}

/// Returns what to do about a key file that every user of the box may read; `None` if that is not so.
pub fn exposure(file: &Path) -> Option<Exposure> {
    exposure_of("key", file)
}

/// Returns what to do about a file with another secret, such as a password, that every user of the box may read; `None` if
/// that is not so.
pub fn exposure_of(secret: &str, file: &Path) -> Option<Exposure> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o777;
    (mode & OTHERS != 0).then(|| {
        let file = file.display();
        Exposure {
            says: format!("every user of this box may use the {secret} in {file} (mode {mode:04o})"),
            mend: format!("mend it with `sudo chmod 640 {file}`"),
        }
    })
}

/// What tells whether the file at a path is still the same.
pub fn state(file: &Path) -> Option<(u64, u64, i64, i64)> {
    let found = fs::metadata(file).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

/// A profile of the file.
struct Profile<'a> {
    /// The line of its name.
    line: usize,
    settings: Vec<Setting<'a>>,
}

/// A name with its value.
struct Setting<'a> {
    line: usize,
    name: String,
    value: &'a str,
}

fn parse(file: &Path, text: &str, profile: &str) -> Result<Option<Key>, BadKeyFile> {
    let bad = |(line, wrong, mend)| BadKeyFile { file: file.to_owned(), line: Some(line), wrong, mend };
    let Some(found) = find(text, profile).map_err(bad)? else { return Ok(None) };
    let needed = |name: &str| found.value(name)?.ok_or_else(|| found.lacks(name, profile));
    Ok(Some(Key {
        access_key_id: needed(ACCESS_KEY).map_err(bad)?,
        secret_access_key: needed(SECRET_KEY).map_err(bad)?,
        session_token: found.value(TOKEN).map_err(bad)?,
    }))
}

/// A line, what is wrong with it, and how to mend it.
type Fault = (usize, String, String);

/// Finds a profile in the text of a file.
fn find<'a>(text: &'a str, profile: &str) -> Result<Option<Profile<'a>>, Fault> {
    let mut found: Option<Profile<'a>> = None;
    let (mut is_inside, mut has_section) = (false, false);
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (number, line) = (at + 1, line.trim());
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            // The AWS file `config` writes it with the word.
            let name = name.trim().trim_start_matches("profile ").trim();
            (is_inside, has_section) = (name == profile, true);
            if is_inside {
                found.get_or_insert(Profile { line: number, settings: Vec::new() });
            }
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            let mend = format!("write [{profile}], and below it {ACCESS_KEY} = ... and {SECRET_KEY} = ...");
            return Err((number, "neither a [profile] nor a name with its value".to_owned(), mend));
        };
        if !has_section {
            let mend = format!("write the line [{profile}] above it");
            return Err((number, format!("{} stands in no profile", name.trim()), mend));
        }
        // What follows a blank is a comment.
        let value = value.split_whitespace().next().unwrap_or_default();
        if let Some(found) = found.as_mut().filter(|_| is_inside) {
            found.settings.push(Setting { line: number, name: name.trim().to_ascii_lowercase(), value });
        }
    }
    Ok(found)
}

impl Profile<'_> {
    /// Returns the value of a name; of several the last one counts.
    fn value(&self, name: &str) -> Result<Option<String>, Fault> {
        let Some(Setting { line, value, .. }) = self.settings.iter().rfind(|setting| setting.name == name) else {
            return Ok(None);
        };
        if value.is_empty() {
            return Err((*line, format!("{name} has no value"), "write the one that AWS printed".to_owned()));
        }
        if value.starts_with(['"', '\'']) {
            return Err((*line, format!("the value of {name} is in quotes"), "write it without them".to_owned()));
        }
        Ok(Some((*value).to_owned()))
    }

    /// Says what stands in the place of a name that is missing.
    fn lacks(&self, name: &str, profile: &str) -> Fault {
        let others = self.settings.iter().map(|setting| setting.name.as_str());
        let others = others.filter(|other| ![ACCESS_KEY, SECRET_KEY, TOKEN].contains(other));
        let near = config::nearest(name, others);
        match self.settings.iter().find(|setting| near == Some(setting.name.as_str())) {
            Some(Setting { line, name: near, .. }) => {
                (*line, format!("{near} is no name that AWS knows"), format!("did you mean {name}?"))
            }
            None => (self.line, format!("[{profile}] has no {name}"), format!("write {name} = ... below it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, profile: &str) -> Result<Option<Key>, String> {
        parse(Path::new("/etc/x"), text, profile).map_err(|bad| bad.to_string())
    }

    #[test]
    fn a_key_is_read_as_aws_writes_it() {
        let key = |id: &str, secret: &str, token: Option<&str>| {
            Some(Key {
                access_key_id: id.to_owned(),
                secret_access_key: secret.to_owned(),
                session_token: token.map(str::to_owned),
            })
        };
        for (text, profile, expected) in [
            (
                "[default]\naws_access_key_id = AKIA\naws_secret_access_key = a/b+c=\n",
                "default",
                key("AKIA", "a/b+c=", None),
            ),
            (
                "\u{feff}# made by hand\r\n[ default ]\r\nregion=x\r\nAWS_ACCESS_KEY_ID=AKIA # the box\r\n\
                 aws_secret_access_key=s\r\naws_session_token=t\r\n",
                "default",
                key("AKIA", "s", Some("t")),
            ),
            (
                "[default]\naws_access_key_id = A\n\n[profile box]\naws_access_key_id=B\naws_secret_access_key=s\n",
                "box",
                key("B", "s", None),
            ),
            ("", "default", None),
            ("# nothing yet\n", "default", None),
            ("[other]\naws_access_key_id = A\n", "default", None),
        ] {
            assert_eq!(parsed(text, profile), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_gives_no_key_names_file_line_and_mend_and_never_the_secret() {
        for (text, expected) in [
            (
                "[default]\naws_access_key_id = A\n",
                "/etc/x:1: [default] has no aws_secret_access_key; write aws_secret_access_key = ... below it",
            ),
            (
                "[default]\naws_access_key_id = A\naws_secret_acess_key = hush\n",
                "/etc/x:3: aws_secret_acess_key is no name that AWS knows; did you mean aws_secret_access_key?",
            ),
            (
                "AWS_ACCESS_KEY_ID=hush\n",
                "/etc/x:1: AWS_ACCESS_KEY_ID stands in no profile; write the line [default] above it",
            ),
            (
                "[default]\nhush\n",
                "/etc/x:2: neither a [profile] nor a name with its value; write [default], and below it",
            ),
            ("[default]\naws_access_key_id =\naws_secret_access_key = s", "/etc/x:2: aws_access_key_id has no value"),
            (
                "[default]\naws_access_key_id=A\naws_secret_access_key = \"hush\"",
                "/etc/x:3: the value of aws_secret_access_key is in quotes; write it without them",
            ),
        ] {
            let said = parsed(text, "default").unwrap_err();
            assert!(said.starts_with(expected), "{text}: {said}");
            assert!(!said.contains("hush"), "{said}");
        }
        assert!(
            !format!("{:?}", parsed("[default]\naws_access_key_id=A\naws_secret_access_key=hush", "default"))
                .contains("hush")
        );
    }

    #[test]
    fn a_file_that_everybody_may_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        assert_eq!(exposure(&file), None);
        for (mode, told) in [(0o600, false), (0o640, false), (0o644, true), (0o666, true)] {
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let said = exposure(&file);
            assert_eq!(said.is_some(), told, "{mode:o}");
            assert!(
                said.is_none_or(
                    |said| said.says.contains(&format!("mode {mode:04o}")) && said.mend.contains("chmod 640")
                )
            );
        }
    }
}
