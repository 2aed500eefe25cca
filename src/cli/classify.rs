//! `classify`: what a path would become.

use std::fmt::{self, Display};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use chrono::DateTime;
use serde::Serialize;

use super::{Out, Partly, tell};
use crate::capture::{self, Media, TakenFrom};
use crate::config::Config;
use crate::daemon;
use crate::drop_folder::{DropFolder, Sight};
use crate::ingest::show;
use crate::key::Layout;

#[derive(Debug, Serialize)]
struct Classified {
    path: String,
    camera: String,
    taken_at: Option<String>,
    taken_from: TakenFrom,
    event: Option<String>,
    channel: Option<String>,
    vendor: Option<&'static str>,
    media: Media,
    ignored: Option<String>,
    key: Option<String>,
}

/// Needs no bucket: finding credentials and a region can take seconds.
pub(super) fn classify(out: &Out, config: &Config, paths: &[PathBuf]) -> anyhow::Result<()> {
    let mut failed = 0;
    for path in paths {
        match one(config, path) {
            Ok(classified) => out.item(&classified, &classified)?,
            Err(reason) => {
                failed += 1;
                tell(format_args!("{}: {reason}", show(path)));
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(Partly { failed, total: paths.len() }.into()) }
}

fn one(config: &Config, path: &Path) -> Result<Classified, String> {
    let folder = DropFolder::new(&config.drop_folder);
    let path = below(&folder, path)?;
    let arrival = arrival(&folder, &path, daemon::now().wall)?;
    let sighting = capture::sight(&path, config);
    let capture = sighting.clone().settle(arrival.map(DateTime::from));
    Ok(Classified {
        path: show(&path),
        camera: sighting.camera,
        taken_at: capture.as_ref().map(|capture| capture.taken.to_rfc3339()),
        taken_from: capture.as_ref().map_or(TakenFrom::Arrival, |capture| capture.taken_from),
        event: sighting.reading.event,
        channel: sighting.reading.channel,
        vendor: sighting.reading.vendor,
        media: sighting.media,
        ignored: config.drop_folder.ignore.matches(&path).map(str::to_owned),
        key: capture.map(|capture| {
            let layout = Layout::new(&config.s3.prefix, config.s3.key.clone());
            layout.render(&capture.fields()).as_str().to_owned()
        }),
    })
}

/// The path below the drop folder: of an absolute path, of a file in a shell's folder there, else what was typed.
pub(super) fn below(folder: &DropFolder, path: &Path) -> Result<PathBuf, String> {
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("write the path without `..`".to_owned());
    }
    let from_here = std::path::absolute(path).map_err(|error| error.to_string())?;
    match from_here.strip_prefix(folder.path()) {
        Ok(below) if path.is_absolute() || from_here.symlink_metadata().is_ok() => Ok(below.to_owned()),
        _ if path.is_absolute() => Err(format!("not below the drop folder {}", folder.path().display())),
        _ => Ok(path.components().filter(|part| *part != Component::CurDir).collect()),
    }
}

/// When the file arrived; `None` where there is none, and the name alone is judged.
fn arrival(folder: &DropFolder, path: &Path, now: SystemTime) -> Result<Option<SystemTime>, String> {
    match folder.look(path, now) {
        Ok(Some(Sight::File(found))) => Ok(Some(found.stamp.modified)),
        Ok(Some(Sight::Folder(_))) => Err("is a folder; name the files in it".to_owned()),
        Ok(Some(Sight::LeftAlone(_, reason))) => Err(reason),
        Ok(Some(Sight::Ignored(..)) | None) => Ok(None),
        // The drop folder itself may be missing: names can be judged all the same.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

impl Display for Classified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = "-".to_owned();
        let media = format!("{:?}", self.media).to_lowercase();
        let taken = match &self.taken_at {
            Some(taken) => format!("{taken} (from the {})", self.taken_from.as_str()),
            None if self.ignored.is_some() => "unknown: the name does not say".to_owned(),
            None => "unknown: the name does not say, and there is no such file".to_owned(),
        };
        writeln!(f, "{}", self.path)?;
        for (name, value) in [
            ("camera", &self.camera),
            ("taken", &taken),
            ("event", self.event.as_ref().unwrap_or(&none)),
            ("channel", self.channel.as_ref().unwrap_or(&none)),
            ("vendor", &self.vendor.map_or(none.clone(), str::to_owned)),
            ("media", &media),
        ] {
            writeln!(f, "  {name:<8} {value}")?;
        }
        match &self.ignored {
            Some(pattern) => write!(f, "  ignored  matches {pattern} of drop_folder.ignore"),
            None => write!(f, "  {:<8} {}", "key", self.key.as_ref().unwrap_or(&none)),
        }
    }
}
