//! Files that can never be stored: they are moved out of the drop folder and never deleted.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::Ingest;
use super::judge::LONGEST_WAIT;
use crate::clock::Now;
use crate::drop_folder::{NAME_MAX, OpenError, Taken};
use crate::key::escape_path;

impl Ingest {
    /// Moves a file that cannot be stored to the set-aside folder.
    pub(super) fn set_aside(&mut self, path: &Path, reason: &str, now: Now) {
        let folder = self.site.config.state_dir.join("set-aside");
        // If an earlier file has the name, the next one gets a number.
        let targets = (0..100).map(|number| aside_place(&folder, path, number));
        let moved = targets.into_iter().find(|target| !target.exists()).ok_or_else(|| "100 are set aside".to_owned());
        let judged = self.queue.last_seen(path, now).map(|seen| seen.stamp);
        let moved = moved.and_then(|target| match self.site.folder.open(path) {
            // Another file has come under the same name, and nobody has judged that one.
            Ok(opened) if judged.is_some_and(|judged| judged != opened.stamp()) => Ok((Taken::PutBack, target)),
            Ok(mut opened) => opened.move_to(&target).map(|taken| (taken, target)).map_err(|error| error.to_string()),
            Err(OpenError::Gone) => Ok((Taken::Away, target)),
            Err(error) => Err(error.to_string()),
        });
        match moved {
            Ok((Taken::Away, target)) => {
                let kept = escape_path(target.strip_prefix(&folder).unwrap_or(&target));
                let message = format!(
                    "set aside {} ({reason}); its bytes are kept in {} as {kept}",
                    escape_path(path),
                    folder.display()
                );
                tracing::error!("{message}");
                self.remember(message);
                self.tally.remember_set_aside(path, reason);
                self.done(path);
            }
            Ok((Taken::PutBack, _)) => self.queue.settle_again(path, reason, now),
            Err(error) => {
                if self.queue.hold(path, &format!("{reason}; {error}"), now.steady + LONGEST_WAIT) {
                    tracing::error!("failed to set aside {} ({reason}): {error}", escape_path(path));
                }
            }
        }
    }
}

/// Returns where a file is set aside: below `folder` under its own path, with `number` added if that is not 0.
fn aside_place(folder: &Path, path: &Path, number: u32) -> PathBuf {
    // The path of a found file has only normal steps; any other could lead out of the folder.
    let mut below: PathBuf = path.components().filter(|step| matches!(step, Component::Normal(_))).collect();
    if let (Some(name), true) = (below.file_name(), number > 0) {
        let suffix = format!(".{number}");
        let mut name = name.as_bytes()[..name.len().min(NAME_MAX - suffix.len())].to_vec();
        name.extend(suffix.bytes());
        below.set_file_name(OsString::from_vec(name));
    }
    folder.join(below)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever anybody calls a file, what is set aside lies below its folder, under a name that a disk takes.
        #[test]
        fn what_is_set_aside_stays_in_its_folder(
            steps in proptest::collection::vec(proptest::collection::vec(1u8.., 1..255), 1..5),
            dots in proptest::collection::vec(0usize..5, 0..3),
            number in 0u32..100,
        ) {
            let mut path = PathBuf::from(OsString::from_vec(steps.join(&b'/')));
            for at in dots {
                path = path.iter().take(at).chain(["..".as_ref()]).chain(path.iter().skip(at)).collect();
            }
            let place = aside_place(Path::new("/state/set-aside"), &path, number);
            let below = place.strip_prefix("/state/set-aside").unwrap();
            let normal = |step: Component<'_>| {
                matches!(step, Component::Normal(name) if name.len() <= NAME_MAX && name != "..")
            };
            prop_assert!(below.components().all(normal), "{below:?}");
        }
    }
}
