//! `classify`: what a path would become.

use std::fmt::{self, Display};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::Partly;
use super::out::{Out, tell};
use crate::capture::media::{self, FileEnd};
use crate::capture::naming::{self, PathReading, Trial};
use crate::capture::{self, Arrival, CameraFrom, Media, Sighting, TakenFrom};
use crate::config::Config;
use crate::daemon;
use crate::drop_folder::{DropFolder, Sight};
use crate::key::{Layout, escape_path};

#[derive(Debug, Serialize)]
struct Classified {
    path: String,
    camera: String,
    taken_at: Option<String>,
    taken_from: TakenFrom,
    /// `unknown` if only the day is known; `taken_at` is then the end of that day.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_of_day: Option<&'static str>,
    event: Option<String>,
    channel: Option<String>,
    vendor: Option<&'static str>,
    media: Media,
    ignored: Option<String>,
    key: Option<String>,
    /// What the camera's clock says, if that is not believed.
    camera_time: Option<String>,
    /// Whether the content has its end, where there is a file.
    end: Option<FileEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Explanation>,
}

#[derive(Debug, Serialize)]
struct Explanation {
    camera_from: CameraFrom,
    zone: String,
    rules: Vec<TriedRule>,
}

/// One way to read a path, and what came of it.
#[derive(Debug, Serialize)]
struct TriedRule {
    vendor: Option<&'static str>,
    shape: String,
    reads: bool,
    why: String,
}

/// Prints what each path would become. It needs no bucket: finding credentials and a region can take seconds.
pub(super) fn classify(out: &Out, config: &Config, paths: &[PathBuf], explain: bool) -> anyhow::Result<()> {
    let mut failed = 0;
    for path in paths {
        match one(config, path, explain) {
            Ok(classified) => out.item(&classified, &classified)?,
            Err(reason) => {
                failed += 1;
                tell(format_args!("{}: {reason}", escape_path(path)));
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(Partly { failed, total: paths.len() }.into()) }
}

fn one(config: &Config, path: &Path, explain: bool) -> Result<Classified, String> {
    let folder = DropFolder::new(&config.drop_folder);
    let path = below(&folder, path)?;
    let (mut end, mut content) = (None, None);
    let now = daemon::now().wall;
    let arrival = arrival(&folder, &path, now)?;
    // A file that is there and not ignored although its name is temporary is stored under its final name.
    let stored_as = arrival.map_or_else(|| path.clone(), |_| folder.stored_as(&path).path);
    let sighting = capture::sight(&stored_as, config);
    if arrival.is_some() {
        let opened = folder.open(&path).map_err(|error| error.to_string())?;
        let read = opened.reader().and_then(|mut file| Ok((media::end_of(&mut file)?, sighting.ask(&mut file)?)));
        let (found, told) = read.map_err(|error| format!("failed to read file: {error}"))?;
        (end, content) = (Some(found), told);
    }
    let capture = match arrival {
        Some(arrival) => {
            Some(sighting.clone().settle(content, Arrival { at: capture::arrival(arrival), now: now.into() }))
        }
        None => sighting.clone().settle_by_path(),
    };
    let layout = Layout::new(&config.s3.prefix, config.s3.key.clone());
    Ok(Classified {
        path: escape_path(&path),
        taken_at: capture.as_ref().map(|capture| capture.taken.to_rfc3339()),
        taken_from: capture.as_ref().map_or(TakenFrom::Arrival, |capture| capture.taken_from),
        time_of_day: capture.as_ref().and_then(|capture| capture.is_day_only.then_some("unknown")),
        camera_time: capture.as_ref().and_then(|capture| capture.camera_time).map(|told| told.to_rfc3339()),
        ignored: config.drop_folder.ignore.matches(&stored_as).map(str::to_owned),
        key: capture.map(|capture| layout.render(&capture.fields()).as_str().to_owned()),
        end,
        explain: explain.then(|| explanation(&stored_as, &sighting, config)),
        camera: sighting.camera,
        event: sighting.reading.event,
        channel: sighting.reading.channel,
        vendor: sighting.reading.vendor,
        media: sighting.media,
    })
}

fn explanation(path: &Path, sighting: &Sighting<'_>, config: &Config) -> Explanation {
    let configured = capture::configured(path, config);
    let mut rules = Vec::new();
    let mut own_reads = false;
    if let Some((camera, pattern)) = configured.and_then(|camera| Some((camera, camera.pattern.as_ref()?))) {
        let read = naming::read_own(path, camera).map(|(reading, _)| reading);
        own_reads = read.is_some();
        let why = read.map_or_else(|| "the path does not match it".to_owned(), |reading| describe(&reading));
        let shape = format!("pattern of {}: {}", camera.name, pattern.as_str());
        rules.push(TriedRule { vendor: None, shape, reads: own_reads, why });
    }
    let vendor = configured.map_or("auto", |camera| camera.vendor.as_str());
    for (row, shape, trial) in naming::explain(path, vendor) {
        let why = match &trial {
            _ if own_reads => "not asked: the pattern reads the path".to_owned(),
            Trial::Reads(reading) => describe(reading),
            Trial::OtherShape => "the path has another shape".to_owned(),
            Trial::NoTime(digits) => format!("{digits} is no time"),
            Trial::OtherVendor => format!("not asked: the camera's vendor is {vendor}"),
            Trial::TooLate => "would read the path, but a rule before it does".to_owned(),
        };
        let reads = !own_reads && matches!(trial, Trial::Reads(_));
        rules.push(TriedRule { vendor: row, shape: shape.to_owned(), reads, why });
    }
    Explanation { camera_from: sighting.camera_from, zone: sighting.zone.to_string(), rules }
}

fn describe(reading: &PathReading) -> String {
    let stamp = reading.stamp.map(|stamp| format!("{} from the {}", stamp.wall, stamp.from.as_str()));
    let parts =
        [("time", &stamp), ("device", &reading.device), ("channel", &reading.channel), ("event", &reading.event)];
    let told: Vec<String> =
        parts.iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?))).collect();
    if told.is_empty() {
        "reads the path, which tells nothing".to_owned()
    } else {
        format!("reads {}", told.join(", "))
    }
}

/// Returns the path below the drop folder: of an absolute path, of a file in the shell's folder if that lies there,
/// otherwise what was typed.
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

/// Returns when the file arrived; `None` if there is no file, so that the name alone is judged.
fn arrival(folder: &DropFolder, path: &Path, now: SystemTime) -> Result<Option<SystemTime>, String> {
    match folder.look(path, now) {
        Ok(Some(Sight::File(found))) => Ok(Some(found.stamp.modified)),
        Ok(Some(Sight::Folder(..))) => Err("is a folder; name the files in it".to_owned()),
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
            Some(taken) if self.time_of_day.is_some() => {
                format!("{} (from the folder), time of day unknown", &taken[..10.min(taken.len())])
            }
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
        if let Some(told) = &self.camera_time {
            writeln!(f, "  {:<8} says {told}, which cannot be: filed by arrival", "clock")?;
        }
        if self.end == Some(FileEnd::Cut) {
            writeln!(f, "  {:<8} missing: stored as a partial, beside the key", "end")?;
        }
        match &self.ignored {
            Some(pattern) => write!(f, "  ignored  matches {pattern} of drop_folder.ignore"),
            None => write!(f, "  {:<8} {}", "key", self.key.as_ref().unwrap_or(&none)),
        }?;
        self.explain.as_ref().map_or(Ok(()), |explanation| write!(f, "\n{explanation}"))
    }
}

impl Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let camera = match self.camera_from {
            CameraFrom::Pattern => "the group `camera` of its pattern",
            CameraFrom::Match => "the configured camera whose `match` fits",
            CameraFrom::Folder => "the first folder that is not of a vendor's own tree",
            CameraFrom::Device => "what the device calls itself: no folder is a camera's",
            CameraFrom::Nothing => "neither a folder nor the name tells it",
        };
        writeln!(f, "  the camera is {camera}; its clock is read in {}", self.zone)?;
        write!(f, "  rules, in their order:")?;
        for rule in &self.rules {
            let mark = if rule.reads { '>' } else { ' ' };
            write!(f, "\n  {mark} {:<10} {}: {}", rule.vendor.unwrap_or("any"), rule.shape, rule.why)?;
        }
        Ok(())
    }
}
