//! The doctor: every part of the installation is tried for real, and each check says what to do.
//!
//! The findings hold for the user, rights and credentials that the doctor runs with, so it should run with the
//! daemon's. It leaves nothing behind, except small objects in the bucket, or old versions of them, if it may not delete
//! those.

use std::path::Path;

use serde::Serialize;

use crate::key::escape_path;
use crate::service;
use crate::site::Site;

mod bucket;
mod disk;
mod folder;
mod keys;
mod thief;

pub use thief::{DEEDS, Deed, Power};

use disk::OwnFolder;

/// One check and its finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// How good the finding is.
    pub outcome: CheckOutcome,
    /// The finding.
    pub says: String,
    /// What to do about it; empty if there is nothing to do.
    pub mend: String,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckOutcome {
    /// All is well.
    Ok,
    /// Captures are stored, but something could be better.
    Warn,
    /// Captures are not stored or will soon not be, they cannot be bundled, or whoever takes the box can erase them.
    Fail,
}

/// What was found at the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketReport {
    /// Whether captures can be stored, looked at and rotated.
    pub checks: Vec<Check>,
    /// What whoever has the box's keys can do; empty if nothing can be stored.
    pub thief: Vec<Power>,
}

impl Check {
    fn ok(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, outcome: CheckOutcome::Ok, says: says.into(), mend: String::new() }
    }

    /// Returns a check that warns, to be completed by [`Check::mend`].
    fn warn(name: &'static str, says: impl Into<String>) -> Self {
        Self { outcome: CheckOutcome::Warn, ..Self::ok(name, says) }
    }

    /// Returns a check that failed, to be completed by [`Check::mend`].
    fn fail(name: &'static str, says: impl Into<String>) -> Self {
        Self { outcome: CheckOutcome::Fail, ..Self::ok(name, says) }
    }

    fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: mend.into(), ..self }
    }
}

/// Checks everything on this box. It reads the whole drop folder.
pub fn examine_box(site: &Site) -> Vec<Check> {
    let config = &site.config;
    let state = OwnFolder { name: "state", key: "state_dir", path: &config.state_dir };
    let kept = OwnFolder { name: "local copies", key: "keep.path", path: &config.keep.path };
    let keeps = config.keep.days > 0;
    let shut_out = service::shut_out(config);
    let mut checks = vec![disk::user(&config.state_dir)];
    checks.extend(folder::examine(site, shut_out.as_deref()));
    checks.extend(folder::set_aside(site));
    checks.push(disk::writable(&state, shut_out.as_deref()));
    if keeps {
        checks.push(disk::writable(&kept, shut_out.as_deref()));
    }
    checks.push(disk::room("disk of the drop folder", &config.drop_folder.path, config.keep.min_free));
    checks.push(disk::room("disk of the state", state.path, config.keep.min_free));
    if keeps {
        checks.push(disk::room("disk of the local copies", kept.path, config.keep.min_free));
    }
    checks.push(zone(site));
    checks
}

/// Checks the bucket with the credentials of this process, and tries on it what a thief could do with them.
pub async fn examine_bucket(site: &Site) -> BucketReport {
    bucket::examine(site).await
}

fn zone(site: &Site) -> Check {
    let zone = site.config.timezone;
    let there = chrono::DateTime::<chrono::Utc>::from((site.clock)().wall).with_timezone(&zone);
    let system = iana_time_zone::get_timezone().unwrap_or_else(|_| "not known".to_owned());
    let says = format!(
        "captures are dated in {zone}, where it is {} now; the time zone of this box is {system}",
        there.format("%F %T %:z")
    );
    Check::ok("zone", says)
}

/// Returns a path as text, with control characters escaped so that it is safe to print on a terminal.
fn show(path: &Path) -> String {
    let text = escape_path(path.strip_prefix("/").unwrap_or(path));
    if path.is_absolute() { format!("/{text}") } else { text }
}
