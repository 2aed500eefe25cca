//! `check`: what is wrong with the configuration, what is missing, and the settings in force.

use std::fmt::Display;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::Told;
use super::out::{Out, tell};
use crate::bucket::{Bucket, Pace, Refusal};
use crate::capture;
use crate::config::{CameraSettings, Config, EXAMPLE_BUCKET};
use crate::key::{Layout, escape_path};
use crate::service::{self, UnitProperties};
use crate::{credentials, daemon, mqtt, rotate};

/// What the configuration leaves to do.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// The same in one line.
    verdict: String,
    /// What is missing, in a few words each.
    missing: Vec<String>,
    /// Remarks on settings that have no effect, or cost more than they need to, and on files that others may read.
    warnings: Vec<String>,
}

/// What is missing: in a few words, and on a line with its place and what to do.
struct Missing {
    what: String,
    line: String,
}

impl Missing {
    /// Returns what is missing by a key of the configuration.
    fn at(config: &Config, key: &str, what: String, mend: impl Display) -> Self {
        Self { line: format!("{}: {key}: {what}; {mend}", place(config, key)), what }
    }
}

/// Says what is missing, remarks on settings that have no effect or cost more than they need to, and ends with the
/// verdict. A wrong file never comes here.
pub(super) async fn check(out: &Out, config: &Config, show: bool) -> anyhow::Result<()> {
    let mut warnings = warnings(config);
    let mut missing = Vec::new();
    missing.extend(no_drop_folder(config, &mut warnings));
    let key = find_key(config, &mut warnings).await;
    missing.extend(
        key.as_ref().err().map(|refusal| Missing {
            what: "the key is missing or cannot be used".to_owned(),
            line: refusal.to_string(),
        }),
    );
    if config.s3.bucket == EXAMPLE_BUCKET {
        let what = format!("the bucket is still the example's, {EXAMPLE_BUCKET}");
        missing.push(Missing::at(config, "s3.bucket", what, "write the name of your own bucket"));
    }
    missing.extend(shut_folders(config));
    for warning in &warnings {
        out.remark(warning);
    }
    for missing in &missing {
        tell(&missing.line);
    }
    let is_ready = missing.is_empty();
    let verdict = if is_ready {
        let (folder, bucket) = (config.drop_folder.path.display(), &config.s3.bucket);
        let key = key.unwrap_or_default();
        format!("ready: captures from {folder} go to s3://{bucket}, signed with the key from {key}")
    } else {
        let what: Vec<&str> = missing.iter().map(|missing| missing.what.as_str()).collect();
        format!("not ready: {}", what.join("; "))
    };
    if show {
        out.item(config, config.effective().trim_end())?;
        if is_ready { out.remark(&verdict) } else { tell(&verdict) }
    } else {
        let missing = missing.iter().map(|missing| missing.what.clone()).collect();
        let readiness = Readiness { ready: is_ready, verdict, missing, warnings };
        out.item(&readiness, &readiness.verdict)?;
    }
    if is_ready { Ok(()) } else { Err(Told.into()) }
}

/// Returns the file, and the line of a key if it has one.
fn place(config: &Config, key: &str) -> String {
    let line = config.line_of(key).map(|line| format!(":{line}")).unwrap_or_default();
    format!("{}{line}", config.source.display())
}

fn warnings(config: &Config) -> Vec<String> {
    let file = &config.source.display();
    let costly = rotate::forewarnings(config)
        .into_iter()
        .map(|(key, warning)| format!("{}: warning: {key}: {warning}", place(config, key)));
    let examples = config.cameras.iter().flat_map(|camera| {
        let describe = move |example: &String| format!("{file}: {}", describe_example(camera, example, config));
        camera.example.iter().map(describe)
    });
    let password = config.mqtt.as_ref().and_then(mqtt::fault_of_password);
    let password =
        password.map(|fault| format!("{}: warning: mqtt.password_file: {fault}", place(config, "mqtt.password_file")));
    costly.chain(examples).chain(password).collect()
}

fn no_drop_folder(config: &Config, warnings: &mut Vec<String>) -> Option<Missing> {
    let path = &config.drop_folder.path;
    let shown = path.display();
    let key = "drop_folder.path";
    let missing = |what: String, mend: &str| Some(Missing::at(config, key, what, mend));
    match path.metadata() {
        Ok(found) if found.is_dir() => None,
        Ok(_) => {
            missing(format!("the drop folder {shown} is a file"), "write the folder that the FTP server writes into")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mend = format!("create it with `sudo install -d -o hk-aws -g hk-aws {shown}`, or correct the path");
            missing(format!("the drop folder {shown} is missing"), &mend)
        }
        Err(error) => {
            let place = place(config, key);
            warnings.push(format!("{place}: warning: {key}: {shown}: {error}; run this with sudo to look at it"));
            None
        }
    }
}

/// Returns the name of the place where the key is.
async fn find_key(config: &Config, warnings: &mut Vec<String>) -> Result<String, Refusal> {
    let bucket = Bucket::connect(&config.s3, None, Pace::new(daemon::now)).await;
    let found = bucket.find_key().await?;
    let file = credentials::path();
    if file == *found {
        warnings.extend(credentials::exposure(&file).map(|exposure| format!("warning: {exposure}")));
    }
    Ok(found)
}

/// Returns the folders that the installed unit shuts the daemon out of.
fn shut_folders(config: &Config) -> Vec<Missing> {
    let Some(unit) = UnitProperties::installed() else { return Vec::new() };
    let describe = |lacking: service::Lacking| {
        let path = lacking.folder.path.display();
        let what = format!("{} lacks the line {}", service::UNIT, lacking.line);
        let mend =
            format_args!("the service may not write in {path}, because its unit {}: {}", lacking.what, service::MEND);
        Missing::at(config, lacking.folder.key, what, mend)
    };
    unit.lacking(&service::used_folders(config)).into_iter().map(describe).collect()
}

/// Says what an example path of a camera gives.
fn describe_example(camera: &CameraSettings, example: &str, config: &Config) -> String {
    let (path, name) = (Path::new(example), &camera.name);
    let shown = escape_path(path);
    match capture::configured(path, config) {
        Some(found) if found.name == *name => {}
        other => {
            let whose = other.map_or("no camera of this file".to_owned(), |other| format!("camera {}", other.name));
            let glob = camera.matches.as_str();
            return format!("warning: example of {name}: {shown} belongs to {whose}; its match is {glob}");
        }
    }
    let sighting = capture::sight(path, config);
    let word = |word: Option<&String>| word.map_or("none".to_owned(), Clone::clone);
    let (event, channel) = (word(sighting.reading.event.as_ref()), word(sighting.reading.channel.as_ref()));
    match sighting.settle_by_path() {
        Some(capture) => {
            let key = Layout::new(&config.s3.prefix, config.s3.key.clone()).render(&capture.fields());
            let (taken, from) = (capture.taken.to_rfc3339(), capture.taken_from.as_str());
            format!(
                "example of {name}: {shown} was taken {taken} (from the {from}), event {event}, channel {channel}, key {key}"
            )
        }
        None => format!(
            "warning: example of {name}: {shown} does not tell when it was taken; event {event}, channel {channel}"
        ),
    }
}
