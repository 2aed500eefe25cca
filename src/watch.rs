//! inotify events, reduced to hints where to look. No state that matters is kept here.
//!
//! An event never says what happened, only which path should be looked at; losing one means that a file is found later,
//! by the next full scan. The number of hints is bounded: too many become "look everywhere", as does an overflow of the
//! kernel's queue.
//!
//! Every folder has a watch of its own. The scan adds it before it reads the folder, so that a file that is created in
//! between is seen by the watch or by the scan. The recursive mode of the `notify` crate was rejected: it adds the
//! watch of a new folder after it has reported the folder, and files that come in between would wait for the next full
//! scan.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use tokio::sync::Notify;

use crate::drop_folder::ASIDE;
use crate::place::{self, Mount, MountTable};
use crate::queue::Hint;

/// The most hints that are held; one more replaces them all with "look everywhere".
const MAX_HINTS: usize = 10_000;

/// The most folders that are watched; all programs of a user share the kernel's own limit.
pub const MAX_WATCHES: usize = 8192;

/// The most folders that a [`Watch`] covers: [`MountWatch`] has one watch of its own.
const MOST_COVERED: usize = MAX_WATCHES - 1;

/// The paths to look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HintedPaths {
    /// Whether everything is to be looked at; `paths` is then empty.
    pub everywhere: bool,
    /// Files and folders below the drop folder.
    pub paths: HashMap<PathBuf, Hint>,
}

/// Hints that wait to be taken.
#[derive(Debug, Default)]
pub struct Hints {
    hinted: Mutex<HintedPaths>,
    wake: Notify,
}

impl Hints {
    /// Asks for a look at everything.
    pub fn everywhere(&self) {
        let mut hinted = self.lock();
        hinted.everywhere = true;
        hinted.paths.clear();
        self.wake.notify_one();
    }

    /// Asks for a look at one path below the drop folder.
    pub fn at(&self, path: &Path, hint: Hint) {
        let mut hinted = self.lock();
        if hinted.everywhere {
            return;
        }
        if hinted.paths.len() >= MAX_HINTS {
            drop(hinted);
            return self.everywhere();
        }
        let known = hinted.paths.entry(path.to_owned()).or_insert(hint);
        if hint == Hint::Closed {
            *known = hint;
        }
        self.wake.notify_one();
    }

    /// Waits until there is a hint. Cancel-safe.
    pub async fn ready(&self) {
        self.wake.notified().await;
    }

    /// Returns all hints and forgets them.
    pub fn take(&self) -> HintedPaths {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HintedPaths> {
        self.hinted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notices that a disk was unmounted or mounted in the drop folder, even if it is mounted again by the next look: the
/// kernel drops the watches of a disk that is unmounted, and the `notify` crate does not pass that on.
#[derive(Debug, Default)]
pub struct MountWatch {
    /// Watches the drop folder alone; `None` if the kernel has no inotify instance left.
    inotify: Option<OwnedFd>,
    /// `None` if `/proc` cannot be read.
    table: Option<MountTable>,
    /// The mounts in the drop folder when the table was last read.
    mounts: Vec<Mount>,
}

impl MountWatch {
    /// Returns a watch on the drop folder.
    pub fn start(root: &Path) -> Self {
        let watched = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)
            // `IN_UNMOUNT` and `IN_IGNORED` come whatever is asked for (inotify(7)).
            .and_then(|instance| inotify::add_watch(&instance, root, WatchFlags::DELETE_SELF).map(|_| instance));
        let mut table = MountTable::open().ok();
        let mounts = mounts_in(root, table.as_mut());
        Self { inotify: watched.ok(), table, mounts }
    }

    /// Returns whether something was unmounted or mounted since the last call.
    pub fn has_changed(&mut self, root: &Path) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 512];
        let lost = self.inotify.as_ref().is_some_and(|instance| {
            inotify::Reader::new(instance, &mut buffer)
                .next()
                .is_ok_and(|event| event.events().intersects(ReadFlags::UNMOUNT | ReadFlags::IGNORED))
        });
        if !self.table.as_ref().is_some_and(MountTable::has_changed) {
            return lost;
        }
        let mounts = mounts_in(root, self.table.as_mut());
        let moved = mounts != self.mounts;
        self.mounts = mounts;
        lost || moved
    }
}

fn mounts_in(root: &Path, table: Option<&mut MountTable>) -> Vec<Mount> {
    let mounts = table.and_then(|table| table.read().ok()).unwrap_or_default();
    place::mounts_below(root, &mounts).map(|below| below.cloned().collect()).unwrap_or_default()
}

/// The watches on the folders below a drop folder: on all of them, or on the most active ones if there are too many.
#[derive(Debug)]
pub struct Watch {
    watcher: RecommendedWatcher,
    root: PathBuf,
    covered: HashMap<PathBuf, Covered>,
    /// The path at which each watched folder was seen last, by device and inode.
    places: HashMap<(u64, u64), PathBuf>,
    /// Watches that were lost since the last full scan began.
    lost: Arc<Mutex<Lost>>,
    /// Those that were lost before: the scan that is under way adds them again.
    lost_before: Lost,
    /// The watched folders, the least active first. A folder is as active as its contents and comes after them.
    by_activity: BTreeSet<ActivityRank>,
    /// The number of full scans so far.
    scan: u64,
    /// Whether one of them has come to its end.
    has_seen_all: bool,
    /// The most folders that can be watched now.
    limit: usize,
    /// Whether it has been reported that not all folders can be watched.
    reported_full: bool,
}

/// The folders below the drop folder whose watches may be lost although they are there, and with them those of all folders
/// in them: the kernel drops the watch of a folder that is removed, and the `notify` crate drops those of one that is
/// renamed. An event tells of each before it happens.
#[derive(Debug, Default)]
struct Lost {
    /// Events were lost, too.
    all: bool,
    folders: HashSet<PathBuf>,
}

impl Lost {
    fn add(&mut self, folder: &Path) {
        self.all |= self.folders.len() >= MAX_HINTS;
        if self.all {
            self.folders.clear();
        } else {
            self.folders.insert(folder.to_owned());
        }
    }

    fn has(&self, folder: &Path) -> bool {
        self.all || !self.folders.is_empty() && folder.ancestors().any(|step| self.folders.contains(step))
    }
}

/// A watched folder.
#[derive(Debug, Clone, Copy)]
struct Covered {
    /// Its device and inode.
    inode: (u64, u64),
    /// The last known change in the folder or below it.
    active: SystemTime,
    /// The number of the last full scan that found it.
    scan: u64,
}

/// The order in which watches are given up: by activity, then the deepest folder first.
type ActivityRank = (SystemTime, Reverse<usize>, PathBuf);

impl Watch {
    /// Returns an inotify instance without any watch; [`Watch::cover`] adds them.
    ///
    /// # Errors
    /// [`notify::Error`] if the kernel has no inotify instance left: the folder has to be polled.
    pub fn start(root: &Path, hints: Arc<Hints>) -> notify::Result<Self> {
        let base = root.to_owned();
        let lost = Arc::<Mutex<Lost>>::default();
        let losing = Arc::clone(&lost);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if let Ok(event) = event {
                note_loss(&event, &base, &losing);
                pass_on(&event, &base, &hints);
            } else {
                lock(&losing).all = true;
                hints.everywhere();
            }
        })?;
        Ok(Self {
            watcher,
            root: root.to_owned(),
            covered: HashMap::new(),
            places: HashMap::new(),
            lost,
            lost_before: Lost::default(),
            by_activity: BTreeSet::new(),
            scan: 0,
            has_seen_all: false,
            limit: MOST_COVERED,
            reported_full: false,
        })
    }

    /// Watches a folder below the drop folder and every folder on the way to it; does no harm if they are watched
    /// already.
    ///
    /// If too many are watched, the least active one is given up for one that changed later.
    ///
    /// # Errors
    /// The reason why not all folders can be watched, the first time that it happens; the full scans still find what is
    /// in the others.
    pub fn cover(&mut self, folder: &Path) -> Result<(), String> {
        let found = std::fs::symlink_metadata(self.root.join(folder));
        let found = found.and_then(|found| Ok(((found.dev(), found.ino()), found.modified()?)));
        // It is gone again, or may not be read: the scan reports that.
        let Ok((inode, active)) = found else { return Ok(()) };
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        let mut result = Ok(());
        for step in way {
            if step == folder {
                if !self.is_watched(step, inode) {
                    result = result.and(self.cover_one(step, inode, active));
                }
            } else if !self.covered.contains_key(step)
                && let Ok(found) = std::fs::symlink_metadata(self.root.join(step))
            {
                result = result.and(self.cover_one(step, (found.dev(), found.ino()), active));
            }
            self.note(step, active);
        }
        result
    }

    /// Watches a folder as [`Watch::cover`] does, with less work: it has this device and inode, and has not changed since an
    /// earlier scan found it.
    ///
    /// # Errors
    /// As of [`Watch::cover`].
    pub fn keep(&mut self, folder: &Path, inode: (u64, u64)) -> Result<(), String> {
        // What found no room among more active ones finds none now.
        let has_no_room = self.has_seen_all && self.covered.len() >= self.limit && !self.covered.contains_key(folder);
        if has_no_room || self.is_watched(folder, inode) { Ok(()) } else { self.cover(folder) }
    }

    /// Returns whether the folder at a path has its watch, and marks it as found by this scan. To ask the kernel once more
    /// would be safe, too, but costs two changes of thread for each of thousands of folders a minute.
    fn is_watched(&mut self, folder: &Path, inode: (u64, u64)) -> bool {
        let is_lost = self.lost_before.has(folder) || lock(&self.lost).has(folder);
        let covered = self.covered.get_mut(folder).filter(|covered| covered.inode == inode && !is_lost);
        let is_watched = covered.is_some();
        if let Some(covered) = covered {
            covered.scan = self.scan;
        }
        is_watched
    }

    /// Adds the watch of one folder.
    fn cover_one(&mut self, folder: &Path, inode: (u64, u64), active: SystemTime) -> Result<(), String> {
        // It was renamed: both names have one watch in the kernel, which would go with the old one.
        if let Some(before) = self.places.get(&inode).filter(|before| *before != folder).cloned() {
            self.give_up(&before);
        }
        // Another folder has its place.
        if self.covered.get(folder).is_some_and(|covered| covered.inode != inode) {
            self.give_up(folder);
        }
        let known = self.covered.contains_key(folder);
        let mut why = format!("{} folders are watched already", self.limit);
        let mut result = Ok(());
        loop {
            if !known && self.covered.len() >= self.limit {
                result = self.report_full(&why);
                if !self.make_room(active) {
                    return result;
                }
            }
            match self.watcher.watch(&self.root.join(folder), RecursiveMode::NonRecursive) {
                Ok(()) => {
                    let first = Covered { inode, active: SystemTime::UNIX_EPOCH, scan: self.scan };
                    self.covered.entry(folder.to_owned()).or_insert(first).scan = self.scan;
                    self.places.insert(inode, folder.to_owned());
                    return result;
                }
                Err(notify::Error { kind: notify::ErrorKind::PathNotFound | notify::ErrorKind::Io(_), .. }) => {
                    return result;
                }
                // The kernel allows fewer than we do, at least for now.
                Err(error) if !known && matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                    why = error.to_string();
                    self.limit = self.covered.len();
                }
                Err(error) => return self.report_full(&error.to_string()),
            }
        }
    }

    /// Remembers that something changed in a watched folder or below it.
    fn note(&mut self, folder: &Path, active: SystemTime) {
        let Some(covered) = self.covered.get_mut(folder) else { return };
        let before = covered.active;
        // One that has no rank yet gets the first one.
        if active > before || before == SystemTime::UNIX_EPOCH {
            covered.active = active;
            self.by_activity.remove(&rank(folder, before));
            self.by_activity.insert(rank(folder, active));
        }
    }

    /// Gives up the watch on the least active folder if that last changed before `active`; returns whether it did.
    fn make_room(&mut self, active: SystemTime) -> bool {
        let is_less_active = |rank: &&ActivityRank| rank.0 < active;
        let Some((_, _, least)) = self.by_activity.first().filter(is_less_active).cloned() else { return false };
        self.give_up(&least);
        true
    }

    fn give_up(&mut self, folder: &Path) {
        if let Some(covered) = self.covered.remove(folder) {
            self.by_activity.remove(&rank(folder, covered.active));
            if self.places.get(&covered.inode).is_some_and(|place| place == folder) {
                self.places.remove(&covered.inode);
            }
        }
        // An error is usual: the kernel drops the watch together with the folder.
        let _dropped = self.watcher.unwatch(&self.root.join(folder));
    }

    /// Returns `why` as an error unless it has been reported that not all folders can be watched.
    fn report_full(&mut self, why: &str) -> Result<(), String> {
        if self.reported_full {
            return Ok(());
        }
        self.reported_full = true;
        Err(why.to_owned())
    }

    /// Begins a full scan, which calls [`Watch::cover`] for every folder.
    pub fn scan_begins(&mut self) {
        self.scan += 1;
        self.limit = MOST_COVERED;
        // The one before may have ended early.
        let Lost { all, folders } = std::mem::take(&mut *lock(&self.lost));
        self.lost_before.all |= all;
        for folder in folders {
            self.lost_before.add(&folder);
        }
    }

    /// Ends a full scan: gives up the watches on folders that it did not find.
    pub fn scan_ends(&mut self) {
        let gone = self.covered.iter().filter(|(_, covered)| covered.scan < self.scan);
        let gone: Vec<PathBuf> = gone.map(|(folder, _)| folder.clone()).collect();
        for folder in gone {
            self.give_up(&folder);
        }
        self.lost_before = Lost::default();
        self.has_seen_all = true;
        self.reported_full &= self.covered.len() >= self.limit;
    }
}

fn rank(folder: &Path, active: SystemTime) -> ActivityRank {
    (active, Reverse(folder.components().count()), folder.to_owned())
}

fn lock(lost: &Mutex<Lost>) -> MutexGuard<'_, Lost> {
    // A panic elsewhere leaves it usable.
    lost.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes whose watch an event says to be lost.
fn note_loss(event: &Event, root: &Path, lost: &Mutex<Lost>) {
    if event.need_rescan() {
        lock(lost).all = true;
    }
    if !matches!(
        event.kind,
        EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(RemoveKind::Folder | RemoveKind::Any | RemoveKind::Other)
    ) {
        return;
    }
    for path in event.paths.iter().filter_map(|path| path.strip_prefix(root).ok()).filter(|path| !is_ours(path)) {
        lock(lost).add(path);
    }
}

/// Returns whether a path is that of a file which we take away.
fn is_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(ASIDE.as_bytes()))
}

/// Turns an event into a hint, if it tells of a file or folder that has come or is complete.
fn pass_on(event: &Event, root: &Path, hints: &Hints) {
    if event.need_rescan() {
        return hints.everywhere();
    }
    let hint = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both | RenameMode::Any)) => Hint::Closed,
        EventKind::Create(CreateKind::File | CreateKind::Folder | CreateKind::Any | CreateKind::Other)
        // A folder that is made for a camera (install -d -o) belongs to nobody but its maker at first: there is nothing
        // to be read or watched in it until its owner or mode has changed.
        | EventKind::Modify(ModifyKind::Metadata(_)) => Hint::Scan,
        EventKind::Remove(_) => {
            if event.paths.iter().any(|path| path == root) {
                hints.everywhere();
            }
            return;
        }
        _ => return,
    };
    // A rename has two paths; the last one is the new name.
    let Some(path) = event.paths.last().and_then(|path| path.strip_prefix(root).ok()) else { return };
    if !is_ours(path) {
        hints.at(path, hint);
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{Flag, MetadataKind};

    use super::*;

    fn event(kind: EventKind, paths: &[&str]) -> Event {
        paths.iter().fold(Event::new(kind), |event, path| event.add_path(path.into()))
    }

    fn hints_of(events: &[Event]) -> HintedPaths {
        let hints = Hints::default();
        for event in events {
            pass_on(event, Path::new("/drop"), &hints);
        }
        hints.take()
    }

    #[test]
    fn closing_and_moving_in_say_that_a_file_is_whole_and_creating_or_a_new_owner_does_not() {
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        let hinted = hints_of(&[
            event(EventKind::Create(CreateKind::File), &["/drop/a/1.jpg"]),
            event(closed, &["/drop/a/1.jpg"]),
            event(EventKind::Create(CreateKind::File), &["/drop/a/2.jpg"]),
            event(renamed, &["/drop/a/3.tmp", "/drop/a/3.jpg"]),
            event(EventKind::Modify(ModifyKind::Any), &["/drop/a/4.jpg"]),
            event(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), &["/drop/b"]),
            event(closed, &["/drop/a/.hk-aws-1f-5.jpg"]),
        ]);
        assert!(!hinted.everywhere);
        let mut paths: Vec<_> = hinted.paths.iter().map(|(path, hint)| (path.to_string_lossy(), *hint)).collect();
        paths.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            paths,
            [
                ("a/1.jpg".into(), Hint::Closed),
                ("a/2.jpg".into(), Hint::Scan),
                ("a/3.jpg".into(), Hint::Closed),
                ("b".into(), Hint::Scan),
            ]
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
        assert_eq!(hints.take(), HintedPaths { everywhere: true, paths: HashMap::new() });
    }

    /// Returns a drop folder with three days of a camera; the third is the newest.
    fn three_days() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for day in 1..=3 {
            let path = folder.path().join(format!("CAM/{day}"));
            std::fs::create_dir_all(&path).unwrap();
            date(&path, day);
        }
        for path in ["CAM", ""] {
            date(&folder.path().join(path), 0);
        }
        folder
    }

    fn date(path: &Path, day: u64) {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(day * 86_400);
        std::fs::File::open(path).unwrap().set_modified(time).unwrap();
    }

    fn covered(watch: &Watch) -> Vec<&str> {
        assert_eq!(watch.covered.len(), watch.by_activity.len());
        let mut covered: Vec<&str> = watch.covered.keys().map(|path| path.to_str().unwrap()).collect();
        covered.sort_unstable();
        covered
    }

    #[test]
    fn i6_of_too_many_folders_the_most_active_are_watched_and_the_way_to_them() {
        let folder = three_days();
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let mut watch = Watch::start(folder.path(), Arc::default()).unwrap();
            watch.scan_begins();
            watch.limit = 4;
            let said: Vec<bool> = ["", "CAM"]
                .into_iter()
                .map(str::to_owned)
                .chain(order.map(|day| format!("CAM/{day}")))
                .map(|path| watch.cover(Path::new(&path)).is_err())
                .collect();
            watch.scan_ends();
            assert_eq!(said, [false, false, false, false, true], "said once");
            assert_eq!(covered(&watch), ["", "CAM", "CAM/2", "CAM/3"], "{order:?}");
            // What has not changed neither needs to be looked at nor takes the place of another.
            watch.scan_begins();
            watch.limit = 4;
            for path in ["", "CAM", "CAM/1", "CAM/2", "CAM/3"] {
                let inode =
                    std::fs::metadata(folder.path().join(path)).map(|found| (found.dev(), found.ino())).unwrap();
                watch.keep(Path::new(path), inode).unwrap();
            }
            watch.scan_ends();
            assert_eq!(covered(&watch), ["", "CAM", "CAM/2", "CAM/3"], "{order:?}");
            // An old one in which something happens is watched again.
            date(&folder.path().join("CAM/1"), 4);
            watch.cover(Path::new("CAM/1")).unwrap();
            assert_eq!(covered(&watch), ["", "CAM", "CAM/1", "CAM/3"], "{order:?}");
            date(&folder.path().join("CAM/1"), 1);
        }
    }

    #[test]
    fn i6_a_new_watch_takes_the_most_active_of_folders_that_have_not_changed_since_the_one_before() {
        let folder = three_days();
        let mut watch = Watch::start(folder.path(), Arc::default()).unwrap();
        watch.scan_begins();
        watch.limit = 4;
        let said: Vec<bool> = ["", "CAM", "CAM/1", "CAM/2", "CAM/3"]
            .into_iter()
            .map(|path| {
                let found = std::fs::metadata(folder.path().join(path)).unwrap();
                watch.keep(Path::new(path), (found.dev(), found.ino())).is_err()
            })
            .collect();
        assert_eq!(said, [false, false, false, false, true], "said once");
        assert_eq!(covered(&watch), ["", "CAM", "CAM/2", "CAM/3"]);
    }

    /// Changes that take the watch of `CAM/1` away, or give its place to another folder.
    #[expect(clippy::disallowed_methods, reason = "a test may remove and rename what it made")]
    fn changes() -> [fn(&Path) -> std::io::Result<()>; 5] {
        use std::fs::{create_dir, create_dir_all, remove_dir, rename};
        [
            |root| remove_dir(root.join("CAM/1")).and_then(|()| create_dir(root.join("CAM/1"))),
            |root| {
                rename(root.join("CAM/1"), root.join("CAM/9"))
                    .and_then(|()| rename(root.join("CAM/9"), root.join("CAM/1")))
            },
            |root| rename(root.join("CAM"), root.join("OLD")).and_then(|()| rename(root.join("OLD"), root.join("CAM"))),
            |root| rename(root.join("CAM"), root.join("OLD")).and_then(|()| create_dir_all(root.join("CAM/1"))),
            |root| {
                rename(root.join("CAM/1"), root.join("CAM/9"))
                    .and_then(|()| rename(root.join("CAM/2"), root.join("CAM/1")))
            },
        ]
    }

    #[tokio::test]
    async fn a_folder_whose_watch_was_lost_is_watched_again_by_a_scan() {
        for (case, change) in changes().into_iter().enumerate() {
            let (folder, hints) = (three_days(), Arc::<Hints>::default());
            let mut watch = Watch::start(folder.path(), Arc::clone(&hints)).unwrap();
            let mut scan = || {
                watch.scan_begins();
                for path in ["", "CAM", "CAM/9", "CAM/1", "CAM/2", "CAM/3", "OLD", "OLD/1", "OLD/2"] {
                    watch.cover(Path::new(path)).unwrap();
                }
                watch.scan_ends();
            };
            scan();
            scan();
            change(folder.path()).unwrap();
            let is_seen = async {
                for number in 0.. {
                    // The events of the change may not have come yet.
                    scan();
                    let file = format!("CAM/1/{number}.jpg");
                    std::fs::write(folder.path().join(&file), "x").unwrap();
                    let seen = async {
                        while hints.take().paths.get(Path::new(&file)) != Some(&Hint::Closed) {
                            hints.ready().await;
                        }
                    };
                    if tokio::time::timeout(std::time::Duration::from_millis(200), seen).await.is_ok() {
                        break;
                    }
                }
            };
            let seen = tokio::time::timeout(std::time::Duration::from_secs(10), is_seen).await;
            assert!(seen.is_ok(), "case {case}");
        }
    }

    #[test]
    fn folders_that_a_scan_does_not_find_are_not_watched_any_more() {
        let folder = three_days();
        let mut watch = Watch::start(folder.path(), Arc::default()).unwrap();
        for path in ["", "CAM", "CAM/1", "CAM/2"] {
            watch.cover(Path::new(path)).unwrap();
        }
        #[expect(clippy::disallowed_methods, reason = "a test may remove what it made")]
        std::fs::remove_dir(folder.path().join("CAM/2")).unwrap();
        watch.scan_begins();
        for path in ["", "CAM", "CAM/1"] {
            watch.cover(Path::new(path)).unwrap();
        }
        watch.scan_ends();
        assert_eq!(covered(&watch), ["", "CAM", "CAM/1"]);
    }
}
