//! The doctor: tries everything for real and says of each what to do about it.
//!
//! What it finds holds for who runs it: the same user, rights and credentials as the daemon's make it worth most. It
//! leaves nothing behind but, where it may not delete, the one small object that it puts.

use std::path::Path;

use serde::Serialize;

use crate::key::escape_path;
use crate::site::Site;

mod bucket;
mod disk;
mod folder;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub outcome: Outcome,
    /// What was found.
    pub says: String,
    /// What to do; empty where nothing.
    pub mend: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warn,
    /// Captures are not stored, or not for long.
    Fail,
}

impl Check {
    fn ok(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, says: says.into(), mend: String::new() }
    }

    fn warn(name: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warn, says: says.into(), mend: mend.into() }
    }

    fn fail(name: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Fail, says: says.into(), mend: mend.into() }
    }
}

/// Looks at everything that is on this box. Reads the whole drop folder.
pub fn examine_box(site: &Site) -> Vec<Check> {
    let config = &site.config;
    let mut checks = vec![disk::user(&config.state_dir)];
    checks.extend(folder::examine(site));
    checks.push(disk::writable("state", "state_dir", &config.state_dir));
    if config.keep.days > 0 {
        checks.push(disk::writable("local copies", "keep.path", &config.keep.path));
    }
    checks.push(disk::room("disk of the drop folder", &config.drop_folder.path, config.keep.min_free));
    checks.push(disk::room("disk of the state", &config.state_dir, config.keep.min_free));
    if config.keep.days > 0 {
        checks.push(disk::room("disk of the local copies", &config.keep.path, config.keep.min_free));
    }
    checks.push(zone(site));
    checks
}

/// Tries the bucket, with the credentials of who runs this.
pub async fn examine_bucket(site: &Site) -> Vec<Check> {
    bucket::examine(site).await
}

fn zone(site: &Site) -> Check {
    let zone = site.config.timezone;
    let there = chrono::DateTime::<chrono::Utc>::from((site.clock)().wall).with_timezone(&zone);
    let system = iana_time_zone::get_timezone().unwrap_or_else(|_| "not known".to_owned());
    let says = format!(
        "captures are dated by {zone}, where it is {} now; the zone of this box is {system}",
        there.format("%F %T %:z")
    );
    Check::ok("zone", says)
}

/// A path as text that cannot play tricks on a terminal.
fn show(path: &Path) -> String {
    let text = escape_path(path.strip_prefix("/").unwrap_or(path));
    if path.is_absolute() { format!("/{text}") } else { text }
}
