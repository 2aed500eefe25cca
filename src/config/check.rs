//! Checks single values; a value that is refused gets a reason and a remedy.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use chrono_tz::{TZ_VARIANTS, Tz};
use globset::escape;

use super::pattern::{CapturePattern, FolderGlob};
use super::problem::{Fault, nearest};
use super::sections::{STORAGE_CLASSES, Schedule};

/// The longest name of a file, in bytes (Linux, `NAME_MAX`): local copies are in a folder with the camera's name.
const FILE_NAME_BYTES: usize = 255;

/// The longest prefix, in bytes: half of the 1,024 bytes of a key (S3 User Guide, "Naming Amazon S3 objects").
const PREFIX_BYTES: usize = 512;

/// Accepts any text that is not empty and has no control characters.
pub(super) fn text(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(Fault::new("is empty", "write a value, or null"));
    }
    if text.chars().any(char::is_control) {
        return Err(Fault::new("has control characters", "remove them"));
    }
    Ok(text.to_owned())
}

/// Returns a check that accepts the given words, each with its meaning.
pub(super) fn choice<T: Copy>(words: &[(&str, T)]) -> impl Fn(&str) -> Result<T, Fault> {
    move |text| {
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*meaning);
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let mend = match nearest(text, all.iter().copied()) {
            Some(meant) => format!("did you mean {meant}? The choice is {}", all.join(", ")),
            None => format!("the choice is {}", all.join(", ")),
        };
        Err(Fault::new("not one of the choices", mend))
    }
}

/// Accepts the truth values of YAML's core schema.
pub(super) fn truth(text: &str) -> Result<bool, Fault> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err(Fault::new("neither true nor false", "write true or false")),
    }
}

/// Accepts an absolute path without `..`; removes a trailing `/` and doubled ones.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, Fault> {
    let path = Path::new(text);
    let fault = if text.is_empty() {
        Fault::new("is empty", "write the whole path from /, such as /var/lib/cctv/storage")
    } else if text.starts_with('~') {
        Fault::new("~ means nothing here", "write the whole path from /, such as /var/lib/cctv/storage")
    } else if !path.is_absolute() {
        Fault::new("a relative path", format!("write the whole path from /, such as {}", whole_path(text).display()))
    } else if path.components().any(|component| component == Component::ParentDir) {
        Fault::new("a path with ..", "write the path without ..")
    } else if text.chars().any(char::is_control) {
        Fault::new("has control characters", "remove them")
    } else if path.parent().is_none() {
        Fault::new("the root of the file system", "write a folder below it")
    } else {
        return Ok(path.components().collect());
    };
    Err(fault)
}

/// Returns the whole path that a relative one probably stands for: its first folder tells where it begins.
fn whole_path(text: &str) -> PathBuf {
    /// What lies in the root folder (Filesystem Hierarchy Standard 3.0), and is likely to hold captures.
    const IN_ROOT: [&str; 10] = ["var", "srv", "home", "mnt", "media", "opt", "run", "data", "tmp", "root"];
    let named: PathBuf = Path::new(text).components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let is_long = named.components().count() > 1;
    let begins_with = |folders: &[&str]| is_long && folders.iter().any(|folder| named.starts_with(folder));
    let above = if begins_with(&IN_ROOT) {
        "/"
    } else if begins_with(&["lib"]) {
        "/var"
    } else {
        "/var/lib"
    };
    Path::new(above).join(named)
}

/// Accepts a name of the time zone database.
pub(super) fn zone(text: &str) -> Result<Tz, Fault> {
    Tz::from_str(text).map_err(|_| {
        // Etc/GMT+2 is two hours WEST of Greenwich: never suggest it.
        let places =
            TZ_VARIANTS.into_iter().map(Tz::name).filter(|name| name.contains('/') && !name.starts_with("Etc/"));
        let mend = match nearest(text, places) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "write a name of the tz database, such as Europe/Kyiv or UTC".to_owned(),
        };
        Fault::new("no time zone of that name", mend)
    })
}

/// Returns the system's zone: that of `tz`, the variable TZ, if it names one, otherwise that of /etc/localtime.
pub(super) fn system_zone(tz: Option<&str>) -> Result<Tz, Fault> {
    if let Some(zone) = tz.and_then(|tz| Tz::from_str(tz.trim_start_matches(':')).ok()) {
        return Ok(zone);
    }
    let mend = "write the zone's name, such as Europe/Kyiv";
    match iana_time_zone::get_timezone() {
        Ok(name) => {
            Tz::from_str(&name).map_err(|_| Fault::new(format!("the system's zone {name:?} is not known"), mend))
        }
        // localtime(5): without that file the zone is UTC.
        Err(_) if !Path::new("/etc/localtime").exists() => Ok(Tz::UTC),
        Err(_) => Err(Fault::new("the system does not say the name of its zone", mend)),
    }
}

/// Accepts a camera's name, which is one segment of a key and of a path.
pub(super) fn camera_name(name: &str) -> Result<String, Fault> {
    let fault = if name.is_empty() {
        Fault::new("is empty", "write the camera's name in the bucket, such as CAM-EXT-001")
    } else if name.contains('/') {
        Fault::new("has a /", "write one name without /, such as CAM-EXT-001: it is one folder in the bucket")
    } else if name == "." || name == ".." {
        Fault::new("no name", "write a name such as CAM-EXT-001: it is a folder in the bucket")
    } else if name.chars().any(char::is_control) {
        Fault::new("has control characters", "remove them")
    } else if name.len() > FILE_NAME_BYTES {
        Fault::new("too long", format!("write {FILE_NAME_BYTES} bytes at most"))
    } else {
        return Ok(name.to_owned());
    };
    Err(fault)
}

/// Returns the glob that matches everything in the folder with a camera's name.
pub(super) fn camera_folder(name: &str) -> String {
    format!("{}/**", escape(name))
}

/// Accepts a glob for the files of a camera, below the drop folder.
pub(super) fn camera_glob(glob: &str) -> Result<FolderGlob, Fault> {
    relative_glob(glob)?;
    if !glob.contains(['/', '*', '?', '[', '{']) {
        return Err(Fault::new(
            "matches a single file",
            format!("write {glob}/** for all that is in the folder {glob}"),
        ));
    }
    FolderGlob::new(glob).map_err(|error| glob_fault(&error))
}

/// Accepts a glob for files that are not captures.
pub(super) fn ignore_glob(glob: &str) -> Result<String, Fault> {
    relative_glob(glob)?;
    if matches!(glob, "*" | "**" | "**/*" | "**/**" | "*/**") {
        return Err(Fault::new("matches every file", "write what is no capture, such as *.tmp"));
    }
    FolderGlob::new(glob).map_err(|error| glob_fault(&error))?;
    Ok(glob.to_owned())
}

/// Refuses a glob that no path below the drop folder can match.
fn relative_glob(glob: &str) -> Result<(), Fault> {
    if glob.is_empty() {
        return Err(Fault::new("is empty", "write a glob, such as CAM-EXT-001/** or *.tmp, or leave it out"));
    }
    if let Some(rest) = glob.strip_prefix('/').or_else(|| glob.strip_prefix("./")) {
        let mend = format!("write the path below the drop folder, such as {rest}");
        return Err(Fault::new(format!("begins with {}", &glob[..glob.len() - rest.len()]), mend));
    }
    match glob.strip_suffix('/') {
        Some(folder) => {
            Err(Fault::new("ends in /, which no path does", format!("write {folder}/** for all that is in it")))
        }
        None => Ok(()),
    }
}

fn glob_fault(error: &globset::Error) -> Fault {
    Fault::new(
        format!("no glob: {}", error.kind()),
        "write * and ? within a folder, ** across folders, [a-z] and {a,b}, and \\ before one of these characters to mean the character itself",
    )
}

/// Accepts a pattern for file names: a regular expression with at least one of the known groups and no other.
pub(super) fn capture_pattern(text: &str) -> Result<CapturePattern, Fault> {
    let groups = format!("the groups are {}, written (?P<taken>...)", CapturePattern::GROUPS.join(", "));
    let regex = regex::bytes::Regex::new(text).map_err(|error| {
        let reason = error.to_string();
        // The last line says what is wrong; the lines before it point at the place.
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Fault::new(
            format!("no regular expression: {reason}"),
            "mend it (Rust's regex syntax: no look-around, no back references)",
        )
    })?;
    let names: Vec<&str> = regex.capture_names().flatten().collect();
    if let Some(other) = names.iter().find(|name| !CapturePattern::GROUPS.contains(name)) {
        return Err(Fault::new(format!("an unknown group {other}"), groups));
    }
    if names.is_empty() { Err(Fault::new("has none of the groups", groups)) } else { Ok(CapturePattern::new(regex)) }
}

/// Accepts the path of a file below the drop folder.
pub(super) fn example_path(path: &str) -> Result<String, Fault> {
    let path = text(path)?;
    match path.strip_prefix('/') {
        Some(below) => {
            Err(Fault::new("begins with /", format!("write the path below the drop folder, such as {below}")))
        }
        None => Ok(path),
    }
}

/// Accepts a bucket's name by S3's rules (S3 User Guide, "General purpose bucket naming rules").
pub(super) fn bucket(name: &str) -> Result<String, Fault> {
    let mend =
        "write the name of a general purpose bucket: 3 to 63 of a-z, 0-9, - and ., first and last a letter or digit";
    let outside = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.');
    let wrong = if let Some(rest) = name.strip_prefix("s3://") {
        return Err(Fault::new(
            "a URL",
            format!("write the name alone: {}", rest.split('/').next().unwrap_or_default()),
        ));
    } else if name.starts_with("arn:") {
        "an ARN"
    } else if name.len() < 3 {
        "too short"
    } else if name.len() > 63 {
        "too long"
    } else if name.contains(outside) {
        "has characters that no bucket's name has"
    } else if name.starts_with(['-', '.']) || name.ends_with(['-', '.']) {
        "starts or ends with - or ."
    } else if name.contains("..") {
        "has two dots in a row"
    } else if std::net::Ipv4Addr::from_str(name).is_ok() {
        "looks like an IP address"
    } else if ["xn--", "sthree-", "amzn-s3-demo-"].iter().any(|start| name.starts_with(start)) {
        "starts like a name that AWS keeps for itself"
    } else if ["--ol-s3", ".mrap", "--x-s3", "--table-s3"].iter().any(|end| name.ends_with(end)) {
        "ends like a name that AWS keeps for other kinds of buckets"
    } else {
        return Ok(name.to_owned());
    };
    Err(Fault::new(wrong, mend))
}

/// Accepts the number of an AWS account.
pub(super) fn account(text: &str) -> Result<String, Fault> {
    let digits = text.replace('-', "");
    let mend = "write the 12 digits of the account that owns the bucket, such as 111122223333, or null";
    if digits.len() != 12 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::new("no account of AWS", mend));
    }
    if digits == text { Ok(digits) } else { Err(Fault::new("has dashes", format!("write {digits}"))) }
}

/// Whose store has the bucket. Other stores than AWS name their regions and storage classes freely.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreKind {
    Aws,
    Other,
}

/// Accepts a region: one of AWS, or any word for another store.
pub(super) fn region(text: &str, store: StoreKind) -> Result<String, Fault> {
    let (parts, last) = text.rsplit_once('-').unwrap_or((text, ""));
    let words: Vec<&str> = parts.split('-').collect();
    let lower = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let aws = (2..=3).contains(&words.len())
        && words.iter().all(lower)
        && (1..=2).contains(&last.len())
        && last.bytes().all(|byte| byte.is_ascii_digit());
    let named =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if aws || (store == StoreKind::Other && named) {
        return Ok(text.to_owned());
    }
    if text
        .strip_suffix(|last: char| last.is_ascii_lowercase())
        .is_some_and(|zone| region(zone, StoreKind::Aws).is_ok())
    {
        let mend = format!("write the region: {}", &text[..text.len() - 1]);
        return Err(Fault::new("an availability zone", mend));
    }
    let mend = "write a region such as eu-central-1, or null for the one of the AWS files and environment";
    Err(Fault::new("no region", mend))
}

/// Returns a check that accepts a storage class: one of AWS, or any word in capitals for another store.
pub(super) fn storage_class(store: StoreKind) -> impl Fn(&str) -> Result<String, Fault> {
    move |text| {
        let word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if store == StoreKind::Other && text.starts_with(|c: char| c.is_ascii_uppercase()) && text.bytes().all(word) {
            return Ok(text.to_owned());
        }
        choice(&STORAGE_CLASSES.map(|class| (class, class)))(text).map(str::to_owned)
    }
}

/// Accepts the start of all keys; makes it end with exactly one `/`, unless it is empty.
pub(super) fn prefix(text: &str) -> Result<String, Fault> {
    let bare = text.trim_end_matches('/');
    let fault = if text.is_empty() {
        return Ok(String::new());
    } else if text.starts_with('/') {
        let bare = text.trim_matches('/');
        let mend =
            if bare.is_empty() { "write \"\" for none".to_owned() } else { format!("write {bare}/, or \"\" for none") };
        Fault::new("begins with /", mend)
    } else if bare.split('/').any(|part| matches!(part, "" | "." | "..")) {
        Fault::new("has an empty part, . or ..", "write names with one / between them")
    } else if text.chars().any(char::is_control) {
        Fault::new("has control characters", "remove them")
    } else if text.len() > PREFIX_BYTES {
        Fault::new("too long", format!("write {PREFIX_BYTES} bytes at most"))
    } else {
        return Ok(format!("{bare}/"));
    };
    Err(fault)
}

/// Accepts the id, alias or ARN of a KMS key.
pub(super) fn kms_key(text: &str) -> Result<String, Fault> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'/' | b'_' | b'-');
    if text.is_empty() || !text.bytes().all(known) {
        let mend = "write the key's id, its alias such as alias/captures, or its ARN";
        return Err(Fault::new("no KMS key", mend));
    }
    Ok(text.to_owned())
}

/// Accepts the URL of a store, without credentials.
pub(super) fn endpoint(text: &str) -> Result<String, Fault> {
    let url = Url::parse(text)?;
    if url.user.is_some() {
        let mend = "leave them out: the key is in /etc/hk-aws/credentials, the AWS files or the environment";
        return Err(Fault::new("has credentials", mend));
    }
    if text.contains(['?', '#']) {
        return Err(Fault::new("has a query", "leave out what follows ? or #"));
    }
    Ok(text.to_owned())
}

/// Accepts the URL of a service, which may have a user.
pub(super) fn web_address(text: &str) -> Result<(), Fault> {
    Url::parse(text).map(drop)
}

/// A URL that has been checked.
struct Url<'a> {
    /// The user and password before the `@`.
    user: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Self, Fault> {
        let mend = "write http:// or https://, a host, and a port if it is not the usual one, such as https://s3.example.org:9000";
        let wrong = |wrong: &str| Err(Fault::new(wrong, mend));
        let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
            return wrong("does not begin with http:// or https://");
        };
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return wrong("has spaces");
        }
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        host_and_port(address).map_err(|wrong| Fault::new(wrong, mend))?;
        Ok(Self { user })
    }
}

/// Returns the host, an address of IPv6 without its brackets, and the port if there is one.
///
/// # Errors
/// What is wrong, in a few words.
pub(super) fn host_and_port(address: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or("has a wrong port")).transpose()?;
    let is_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if std::net::Ipv6Addr::from_str(address).is_ok() => Ok((address, port)),
        None if is_name(host) => Ok((host, port)),
        _ => Err("has no right host"),
    }
}

/// Accepts an IP address and a port to listen on.
pub(super) fn listen(text: &str) -> Result<std::net::SocketAddr, Fault> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok()).unwrap_or("9187");
        Fault::new(
            "no address and port",
            format!("write an IP address and a port, such as 127.0.0.1:{port} or [::1]:{port}"),
        )
    })
}

/// Accepts a word of a command line; the one `at` 0 is the program.
pub(super) fn command_word(at: usize, word: &str) -> Result<String, Fault> {
    if word.contains('\0') {
        return Err(Fault::new("has a NUL character", "remove it"));
    }
    if at > 0 {
        return Ok(word.to_owned());
    }
    if word.is_empty() {
        return Err(Fault::new("is empty", "write a program, such as /usr/local/bin/notify"));
    }
    // A bare name is looked up in PATH.
    if word.contains('/') { absolute_path(word).map(|_| word.to_owned()) } else { Ok(word.to_owned()) }
}

/// Accepts a cron expression of five fields that matches some time.
pub(super) fn schedule(text: &str) -> Result<Schedule, Fault> {
    let mend = "write minute, hour, day of month, month and day of week, such as \"30 3 * * *\" for 03:30 every day";
    let fields = text.split_whitespace().count();
    if fields != 5 {
        return Err(Fault::new(format!("{fields} fields instead of five"), mend));
    }
    let cron = croner::parser::CronParser::builder()
        .seconds(croner::parser::Seconds::Disallowed)
        .year(croner::parser::Year::Disallowed)
        .build()
        .parse(text)
        .map_err(|error| {
            Fault::new(format!("no cron expression: {}", error.to_string().trim_end_matches('.')), mend)
        })?;
    // The start does not matter: the search looks at enough years to find even 29 February.
    if cron.find_next_occurrence(&chrono::DateTime::UNIX_EPOCH, false).is_err() {
        return Err(Fault::new("a time that never comes", mend));
    }
    Ok(Schedule { text: text.to_owned(), cron })
}
