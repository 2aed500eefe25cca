//! inotify, reduced to hints where to look. It carries no state that matters.
//!
//! An event never says what happened, only where the folder should be read again; losing one costs promptness, nothing
//! else. Hints are bounded: too many collapse into "look everywhere", as does an overflow of the kernel's queue.
//!
//! Every folder is watched by itself, by whoever scans it and before it is read, so that a file made in between is
//! seen by one of the two. The recursive mode of the `notify` crate was rejected: it adds the watch of a new folder
//! after it has told of it, and the files that came in between would wait for the next full scan.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::drop_folder::ASIDE;
use crate::queue::Hint;

/// More hints than this are one: look everywhere.
const MAX_HINTS: usize = 10_000;

/// Most folders that are watched; the kernel's own limit is shared with every other program of the box.
const MAX_WATCHES: usize = 8192;

/// Where to look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Everywhere; the rest is then empty.
    pub everywhere: bool,
    /// Paths below the drop folder; whether file or folder shows when they are looked at.
    pub paths: HashMap<PathBuf, Hint>,
}

/// Hints that wait to be taken.
#[derive(Debug, Default)]
pub struct Hints {
    places: Mutex<Places>,
    wake: Notify,
}

impl Hints {
    /// Asks for a look at everything.
    pub fn everywhere(&self) {
        let mut places = self.lock();
        places.everywhere = true;
        places.paths.clear();
        self.wake.notify_one();
    }

    /// Asks for a look at one path below the drop folder.
    pub fn at(&self, path: &Path, hint: Hint) {
        let mut places = self.lock();
        if places.everywhere {
            return;
        }
        if places.paths.len() >= MAX_HINTS {
            drop(places);
            return self.everywhere();
        }
        let known = places.paths.entry(path.to_owned()).or_insert(hint);
        if hint == Hint::Closed {
            *known = hint;
        }
        self.wake.notify_one();
    }

    /// Waits until there is a hint. Cancel-safe.
    pub async fn ready(&self) {
        self.wake.notified().await;
    }

    /// Takes all hints.
    pub fn take(&self) -> Places {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watches on a drop folder.
#[derive(Debug)]
pub struct Watch {
    watcher: RecommendedWatcher,
    root: PathBuf,
    covered: HashSet<PathBuf>,
    full: bool,
}

impl Watch {
    /// Starts without a single watch; [`Watch::cover`] adds them.
    ///
    /// # Errors
    /// Where the kernel has no inotify instance left.
    pub fn start(root: &Path, hints: Arc<Hints>) -> notify::Result<Self> {
        let base = root.to_owned();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) => pass_on(&event, &base, &hints),
            Err(_) => hints.everywhere(),
        })?;
        Ok(Self { watcher, root: root.to_owned(), covered: HashSet::new(), full: false })
    }

    /// Watches one folder below the drop folder; harmless if it is watched already.
    ///
    /// # Errors
    /// Where the kernel refuses, or as many are watched as this program takes; said once, and the folder is found by scans alone.
    pub fn cover(&mut self, folder: &Path) -> Result<(), String> {
        let known = self.covered.contains(folder);
        if !known && self.covered.len() >= MAX_WATCHES {
            return self.say_full(format!("{MAX_WATCHES} folders are watched already"));
        }
        match self.watcher.watch(&self.root.join(folder), RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.covered.insert(folder.to_owned());
                Ok(())
            }
            // Gone again, or no right to read it: the scan says so.
            Err(notify::Error { kind: notify::ErrorKind::PathNotFound | notify::ErrorKind::Io(_), .. }) => Ok(()),
            Err(error) => self.say_full(error.to_string()),
        }
    }

    fn say_full(&mut self, why: String) -> Result<(), String> {
        if std::mem::replace(&mut self.full, true) { Ok(()) } else { Err(why) }
    }

    /// Gives up the watches on folders that a full scan did not come across.
    pub fn retain(&mut self, seen: &HashSet<PathBuf>) {
        let gone: Vec<PathBuf> = self.covered.iter().filter(|folder| !seen.contains(*folder)).cloned().collect();
        for folder in gone {
            self.covered.remove(&folder);
            // The kernel has most often dropped the watch together with the folder.
            let _dropped = self.watcher.unwatch(&self.root.join(&folder));
            self.full = false;
        }
    }
}

/// Turns an event into hints.
fn pass_on(event: &Event, root: &Path, hints: &Hints) {
    if event.need_rescan() {
        return hints.everywhere();
    }
    let hint = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both | RenameMode::Any)) => Hint::Closed,
        EventKind::Create(CreateKind::File | CreateKind::Folder | CreateKind::Any | CreateKind::Other) => Hint::Scan,
        EventKind::Remove(_) => {
            if event.paths.iter().any(|path| path == root) {
                hints.everywhere();
            }
            return;
        }
        _ => return,
    };
    // Of a rename's two names the last is the one that is there.
    let Some(path) = event.paths.last().and_then(|path| path.strip_prefix(root).ok()) else { return };
    let ours = |name: &OsStr| name.as_encoded_bytes().starts_with(ASIDE.as_bytes());
    if !path.file_name().is_some_and(ours) {
        hints.at(path, hint);
    }
}

#[cfg(test)]
mod tests {
    use notify::event::Flag;

    use super::*;

    fn event(kind: EventKind, paths: &[&str]) -> Event {
        paths.iter().fold(Event::new(kind), |event, path| event.add_path(path.into()))
    }

    fn hints_of(events: &[Event]) -> Places {
        let hints = Hints::default();
        for event in events {
            pass_on(event, Path::new("/drop"), &hints);
        }
        hints.take()
    }

    #[test]
    fn closing_and_moving_in_say_that_a_file_is_whole_and_creating_does_not() {
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        let places = hints_of(&[
            event(EventKind::Create(CreateKind::File), &["/drop/a/1.jpg"]),
            event(closed, &["/drop/a/1.jpg"]),
            event(EventKind::Create(CreateKind::File), &["/drop/a/2.jpg"]),
            event(renamed, &["/drop/a/3.tmp", "/drop/a/3.jpg"]),
            event(EventKind::Modify(ModifyKind::Any), &["/drop/a/4.jpg"]),
            event(closed, &["/drop/a/.hk-aws-1f-5.jpg"]),
        ]);
        assert!(!places.everywhere);
        let mut paths: Vec<_> = places.paths.iter().map(|(path, hint)| (path.to_string_lossy(), *hint)).collect();
        paths.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            paths,
            [("a/1.jpg".into(), Hint::Closed), ("a/2.jpg".into(), Hint::Scan), ("a/3.jpg".into(), Hint::Closed)]
        );
    }

    #[test]
    fn an_overflow_and_the_loss_of_the_folder_mean_look_everywhere() {
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(hints_of(&[overflow]).everywhere);
        let removed = event(EventKind::Remove(notify::event::RemoveKind::Folder), &["/drop"]);
        assert!(hints_of(&[removed]).everywhere);
    }

    #[test]
    fn i6_too_many_hints_are_one() {
        let hints = Hints::default();
        for number in 0..=MAX_HINTS {
            hints.at(Path::new(&number.to_string()), Hint::Closed);
        }
        assert_eq!(hints.take(), Places { everywhere: true, paths: HashMap::new() });
    }
}
