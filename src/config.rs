//! The configuration: the settings in the file, checked, with every default filled in.
//!
//! A value in [`Config`] is right, and nothing outside this module checks a setting again. All problems of a file are
//! reported together, each with its line and its remedy, because an operator on a ladder does not want to find seven
//! mistakes in seven restarts.

mod alerts;
mod apart;
mod bandwidth;
mod check;
mod file;
mod mqtt;
mod notation;
mod pattern;
mod problem;
mod reader;
mod sections;
mod settings;
mod taken_format;
#[cfg(test)]
mod tests;
mod told;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use alerts::{AlertFormat, AlertsSettings, BodyTemplate, HeartbeatSettings, Quiet, SecretUrl};
pub use bandwidth::{Bandwidth, BandwidthChange};
pub use mqtt::{BrokerUrl, MqttSettings};
pub use pattern::{CapturePattern, FolderGlob, Ignore};
pub use problem::{Problem, Problems, nearest};
pub use sections::{
    Access, ArchiveSettings, CameraSettings, CaptureLines, Checksum, Config, DropFolderSettings, ExpireSettings,
    KeepSettings, LockMode, LogSettings, LogTarget, MetricsSettings, ObjectLock, RotateSettings, RotatedCameras,
    S3Settings, STORAGE_CLASSES, Schedule, Sse, TransitionSettings, UploadSettings, VENDORS,
};
pub use taken_format::TakenFormat;

impl Config {
    /// Reads and checks the file at `path`, with the process's environment, and the folders that it names as they are on
    /// the disks now.
    ///
    /// # Errors
    /// All problems of the file; a file that cannot be read is one problem.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let text = file::open(path).map_err(|problem| Problems::new(path, vec![problem]))?;
        let config = Self::parse(path, &text, &|name| std::env::var(name).ok())?;
        let problems = apart::problems(&config);
        if problems.is_empty() { Ok(config) } else { Err(Problems::new(path, problems)) }
    }

    /// Checks `text`, the content of a file that messages call `source`, with the environment `env`.
    ///
    /// If the time zone is `system` and `env` has no `TZ`, it asks the system for its zone; otherwise it depends on its
    /// arguments alone.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(source: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        settings::parse(source, text, env)
    }

    /// Returns the line of a key such as `s3.undo` in the file, or of the section that it would be in; `None` if the file
    /// has neither, or cannot be read any more.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        let text = file::open(&self.source).ok()?;
        file::read(&text).ok()??.line_of(key)
    }

    /// Returns the same settings with the state in the run-time folder, for a state folder that cannot be written.
    ///
    /// That folder is in memory, and empty after the next boot. So no local copies and no bundles under way go there, and
    /// nothing is moved or deleted in the bucket.
    #[must_use]
    pub fn without_state_folder(mut self) -> Self {
        let state_dir = self.runtime_dir.join("state");
        if self.keep.path.starts_with(&self.state_dir) {
            self.keep.path = state_dir.join("kept");
            self.keep.days = 0;
        }
        (self.rotate.archive, self.rotate.transition, self.rotate.expire) = (None, None, None);
        self.state_dir = state_dir;
        self
    }

    /// Returns the run-time folder of a file that may be wrong in every other way: the one that it names, otherwise the
    /// default.
    pub fn runtime_dir_of(source: &Path) -> PathBuf {
        let text = file::open(source).unwrap_or_default();
        let named = file::read(&text).ok().flatten().and_then(|root| root.text_of("runtime_dir").map(PathBuf::from));
        let default = || std::env::var_os(settings::RUNTIME_DIR.variable).map(PathBuf::from);
        let known = named.filter(|path| path.is_absolute()).or_else(default).filter(|path| path.is_absolute());
        known.unwrap_or_else(|| PathBuf::from(settings::RUNTIME_DIR.default))
    }
}

/// Reads a duration as the file writes it, such as `30d`.
///
/// # Errors
/// What is wrong with the text, and what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    notation::duration(text).map_err(|fault| format!("{}; {}", fault.wrong, fault.mend))
}

/// The bucket of the shipped configuration, which is nobody's yet.
pub const EXAMPLE_BUCKET: &str = "my-video-surveillance";
