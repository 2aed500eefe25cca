//! The folders of the configuration as they really are on the disks: none of hk-aws's own may be in the drop folder, or
//! it would upload its own files for ever.
//!
//! The paths are compared while the file is read. Links and mounts are on the disk, so they are looked at here.

use std::io;
use std::path::Path;

use super::problem::{Problem, quote};
use super::sections::Config;
use crate::place::{self, Mount, Place};

/// A folder of hk-aws's own, and where it really is.
struct OwnFolder<'a> {
    key: &'static str,
    path: &'a Path,
    place: Place,
}

/// Returns a problem for each folder that links or mounts bring into a place where it may not be.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    // Without /proc, links are followed all the same.
    let mounts = place::mounts().unwrap_or_default();
    // A path that cannot be followed cannot be used either, and whoever uses it says why.
    find(config, &mounts).unwrap_or_default()
}

fn find(config: &Config, mounts: &[Mount]) -> io::Result<Vec<Problem>> {
    let incoming = &config.drop_folder.path;
    let drop_folder = Place::of(incoming, mounts)?;
    let below: Vec<&Mount> = place::mounts_below(incoming, mounts)?.collect();
    let own =
        [("state_dir", &config.state_dir), ("runtime_dir", &config.runtime_dir), ("keep.path", &config.keep.path)];
    let shown = quote(&incoming.to_string_lossy());
    let mut problems = Vec::new();
    for (key, path) in own {
        let own = OwnFolder { key, path, place: Place::of(path, mounts)? };
        let shows = |mount: &Place| mount.holds(&own.place) || own.place.holds(mount);
        // The drop folder itself may be in state_dir.
        let seen_at = below.iter().find(|mount| !drop_folder.holds(&mount.place) && shows(&mount.place));
        // The default is inside state_dir, which has its own problem.
        let is_told = key == "keep.path" && path.starts_with(&config.state_dir) && !problems.is_empty();
        if is_told {
            continue;
        }
        if drop_folder.holds(&own.place) {
            let wrong = format!("leads into drop_folder.path {shown} through a link or a mount");
            problems.push(own.problem(config, wrong));
        } else if let Some(mount) = seen_at {
            let point = quote(&mount.point.to_string_lossy());
            problems.push(own.problem(config, format!("can be seen in drop_folder.path {shown}, mounted at {point}")));
        } else if key == "keep.path" && own.place.holds(&drop_folder) {
            let wrong =
                format!("holds drop_folder.path {shown} through a link or a mount: what waits there is no copy");
            problems.push(own.problem(config, wrong));
        }
    }
    for below in ["set-aside", "ledger"] {
        if Place::of(&config.state_dir.join(below), mounts)?.holds(&drop_folder) {
            let wrong = format!("is {below} in state_dir, or inside it: hk-aws keeps its own files there");
            let own = OwnFolder { key: "drop_folder.path", path: incoming, place: drop_folder.clone() };
            problems.push(own.problem(config, wrong));
        }
    }
    Ok(problems)
}

impl OwnFolder<'_> {
    fn problem(&self, config: &Config, wrong: String) -> Problem {
        Problem {
            line: config.line_of(self.key),
            key: self.key.to_owned(),
            wrong,
            value: Some(quote(&self.path.to_string_lossy())),
            mend: "write a directory outside it, whatever leads there: what lies in the drop folder is uploaded"
                .to_owned(),
        }
    }
}
