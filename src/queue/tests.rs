use proptest::prelude::*;

use super::*;

const SETTLE: Duration = Duration::from_secs(3);

fn start() -> Now {
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    Now { steady: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789) }
}

fn later(now: Now, by: Duration) -> Now {
    Now { steady: now.steady + by, wall: now.wall + by }
}

/// Returns a file that was last changed `age` before `now`.
fn file(name: &str, age: Duration, now: Now) -> FoundFile {
    let time = now.wall - age;
    FoundFile { path: name.into(), stamp: Stamp { inode: (1, 1), size: 9, modified: time, changed: time } }
}

fn failure(stored_at_start: u64, stored_now: u64, is_link_down: bool) -> FailedUpload {
    FailedUpload { stored_at_start, stored_now, is_link_down }
}

fn drain(queue: &mut Queue, now: Now) -> Vec<String> {
    std::iter::from_fn(|| queue.next(Eligible::AnySize, now))
        .map(|due| due.path.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_closed_file_is_due_at_once_and_a_found_one_after_it_was_quiet() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    queue.observe(&file("closed", Duration::ZERO, now), Hint::Closed, now);
    queue.observe(&file("found", Duration::ZERO, now), Hint::Scan, now);
    queue.observe(&file("quiet", SETTLE, now), Hint::Scan, now);
    assert_eq!(drain(&mut queue, now), ["closed", "quiet"]);
    let then = later(now, SETTLE);
    assert_eq!(queue.next_wake(), Some(then.steady));
    assert_eq!(queue.settled(then), [PathBuf::from("found")]);
    queue.observe(&file("found", SETTLE, then), Hint::Scan, then);
    assert_eq!(drain(&mut queue, then), ["found"]);
}

#[test]
fn a_file_that_grows_settles_anew() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    queue.observe(&file("clip", Duration::ZERO, now), Hint::Scan, now);
    let then = later(now, SETTLE);
    queue.observe(&file("clip", Duration::ZERO, then), Hint::Scan, then);
    assert_eq!(drain(&mut queue, then), Vec::<String>::new());
    assert_eq!(queue.files().map(|file| file.state).collect::<Vec<_>>(), [FileState::Settling]);
}

#[test]
fn a_file_rests_by_the_steady_clock_from_when_it_was_seen_whatever_the_wall_clock_does() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    let second = Duration::from_secs(1);
    queue.observe(&file("old", 5 * second, now), Hint::Scan, now);
    let rests = |queue: &Queue, now| queue.last_seen(Path::new("old"), now).unwrap().age;
    for wall in [SystemTime::UNIX_EPOCH, now.wall + Duration::from_hours(6)] {
        assert_eq!(rests(&queue, Now { steady: now.steady + second, wall }), 6 * second);
    }
    let changed = Now { steady: now.steady + second, wall: now.wall - Duration::from_hours(6) };
    queue.observe(&file("old", 2 * second, now), Hint::Scan, changed);
    assert_eq!(rests(&queue, later(changed, second)), second, "changed, and in the future by this clock");
}

#[test]
fn a_wall_clock_that_stepped_back_makes_a_file_wait_not_starve() {
    let mut now = start();
    let found = file("from-the-future", Duration::ZERO, now);
    now.wall = SystemTime::UNIX_EPOCH;
    let mut queue = Queue::new(9, SETTLE);
    queue.observe(&found, Hint::Scan, now);
    let then = Now { steady: now.steady + SETTLE, ..now };
    assert_eq!(queue.settled(then).len(), 1);
    queue.observe(&found, Hint::Scan, then);
    assert_eq!(drain(&mut queue, then), ["from-the-future"]);
}

#[test]
fn i7_the_newest_goes_first_and_the_oldest_every_fourth_time() {
    let now = start();
    let mut queue = Queue::new(99, SETTLE);
    for age in 10..18 {
        queue.observe(&file(&format!("{age}"), Duration::from_secs(age), now), Hint::Scan, now);
    }
    assert_eq!(drain(&mut queue, now), ["10", "11", "12", "17", "13", "14", "15", "16"]);
}

#[test]
fn i7_where_only_small_files_are_wanted_the_large_ones_keep_their_places() {
    let now = start();
    let mut queue = Queue::new(99, SETTLE);
    for (name, age, size) in [("new-clip", 5, LARGE_BYTES), ("picture", 6, LARGE_BYTES - 1), ("old-clip", 7, 1 << 30)] {
        let mut found = file(name, Duration::from_secs(age), now);
        found.stamp.size = size;
        queue.observe(&found, Hint::Scan, now);
    }
    let mut next = |eligible| queue.next(eligible, now).map(|due| (due.path.to_string_lossy().into_owned(), due.size));
    assert_eq!(next(Eligible::SmallOnly), Some(("picture".to_owned(), SizeClass::Small)));
    assert_eq!(next(Eligible::SmallOnly), None);
    assert_eq!(next(Eligible::AnySize), Some(("new-clip".to_owned(), SizeClass::Large)));
    assert_eq!(next(Eligible::AnySize), Some(("old-clip".to_owned(), SizeClass::Large)));
    assert_eq!(next(Eligible::AnySize), None);
}

#[test]
fn i6_the_queue_is_bounded_and_holds_the_newest() {
    let now = start();
    let mut queue = Queue::new(4, SETTLE);
    for age in [50, 10, 40, 20, 30, 60, 5] {
        queue.observe(&file(&format!("{age}"), Duration::from_secs(age), now), Hint::Scan, now);
    }
    assert_eq!(queue.count(), 4);
    assert!(queue.left_on_disk() && !queue.wants_scan());
    let names = drain(&mut queue, now);
    assert_eq!(names, ["5", "10", "20", "30"]);
    for name in names {
        queue.done(Path::new(&name));
    }
    assert!(queue.wants_scan());
}

#[test]
fn a_file_that_waits_does_not_block_the_others() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    queue.observe(&file("poison", Duration::from_secs(5), now), Hint::Closed, now);
    let poison = queue.next(Eligible::AnySize, now).unwrap().path;
    queue.hold(&poison, "refused", now.steady + Duration::from_secs(1));
    queue.observe(&file("good", Duration::from_secs(9), now), Hint::Closed, now);
    assert_eq!(drain(&mut queue, now), ["good"]);
    assert_eq!(drain(&mut queue, later(now, Duration::from_secs(1))), ["poison"]);
}

#[test]
fn a_failure_is_the_files_own_where_others_were_stored_in_between() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    queue.observe(&file("a", Duration::from_secs(5), now), Hint::Closed, now);
    let path = queue.next(Eligible::AnySize, now).unwrap().path;
    let mut own = |down, counts: [u64; 5]| counts.map(|stored| queue.failed(&path, failure(7, stored, down)));
    assert_eq!(own(true, [7, 7, 8, 8, 8]), [0, 0, 1, 1, 1]);
    assert_eq!(
        own(false, [8, 8, 9, 9, 9]),
        [1, 1, 2, 3, 4],
        "then it waits ever longer, also while nothing else comes"
    );
    assert_eq!(own(true, [9, 9, 9, 9, 10]), [4, 4, 4, 4, 5], "but an outage is no file's fault");
    queue.observe(&file("b", Duration::from_secs(5), now), Hint::Closed, now);
    assert_eq!(queue.failed(Path::new("b"), failure(7, 10, false)), 1, "others were stored while it was in work");
}

#[test]
fn waits_double_up_to_a_limit() {
    let seconds =
        |failures, jitter| backoff(failures, Duration::from_secs(1), Duration::from_mins(5), jitter).as_secs_f64();
    let waits: Vec<f64> = [1, 2, 3, 9, 10, u32::MAX].iter().map(|failures| seconds(*failures, 0.0)).collect();
    assert_eq!(waits, [1.0, 2.0, 4.0, 256.0, 300.0, 300.0]);
    assert!((seconds(3, 1.0) - 2.0).abs() < f64::EPSILON);
}

#[test]
fn when_the_bucket_answers_again_all_is_due_but_what_has_its_own_trouble() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    let until = now.steady + SETTLE;
    for (name, stored) in [("bucket's", &[5, 5, 5][..]), ("own", &[5, 6, 7])] {
        queue.observe(&file(name, Duration::from_secs(9), now), Hint::Closed, now);
        for stored in stored {
            queue.failed(Path::new(name), failure(5, *stored, false));
        }
        queue.hold(Path::new(name), "refused", until);
    }
    queue.retry_all();
    assert_eq!(drain(&mut queue, now), ["bucket's"]);
    queue.retry_even_own_trouble();
    assert_eq!(drain(&mut queue, now), ["own"]);
}

#[test]
fn a_probe_is_made_with_what_failed_least_and_is_newest() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    for (name, age) in [("older", 9), ("newest", 5), ("newer", 7)] {
        queue.observe(&file(name, Duration::from_secs(age), now), Hint::Closed, now);
    }
    let mut probed = Vec::new();
    for _ in 0..5 {
        let path = queue.next_to_probe(now).unwrap().path;
        queue.failed(&path, failure(0, 0, true));
        queue.hold(&path, "refused", now.steady);
        probed.push(path.to_string_lossy().into_owned());
    }
    assert_eq!(probed, ["newest", "newer", "older", "newest", "newer"]);
    let then = later(now, SETTLE);
    queue.observe(&file("fresh", Duration::ZERO, then), Hint::Closed, then);
    assert!(queue.has_newcomer());
    assert_eq!(queue.next_to_probe(then).unwrap().path, Path::new("fresh"));
    assert!(!queue.has_newcomer());
}

#[test]
fn a_file_that_is_asked_again_while_it_grows_is_no_newcomer() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    queue.observe(&file("growing", Duration::ZERO, now), Hint::Closed, now);
    let path = queue.next(Eligible::AnySize, now).unwrap().path;
    queue.settle_again(&path, "open for writing", Duration::MAX, now);
    let then = later(now, SETTLE);
    queue.observe(&file("growing", SETTLE, then), Hint::Closed, then);
    queue.observe(&file("other", SETTLE, then), Hint::Closed, then);
    assert_eq!(queue.next(Eligible::AnySize, then).unwrap().path, Path::new("other"));
    assert!(!queue.has_newcomer());
    assert_eq!(queue.next(Eligible::AnySize, then).unwrap().path, path);
}

#[test]
fn what_comes_under_a_name_that_is_in_work_is_looked_at_when_that_is_done() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    for (seen, wanted) in [
        (&[][..], None),
        (&[(Duration::from_secs(9), Hint::Closed)], None),
        (&[(Duration::ZERO, Hint::Scan)], Some(Hint::Scan)),
        (&[(Duration::ZERO, Hint::Closed), (Duration::ZERO, Hint::Scan)], Some(Hint::Closed)),
    ] {
        queue.observe(&file("a", Duration::from_secs(9), now), Hint::Closed, now);
        queue.next(Eligible::AnySize, now).unwrap();
        for (age, hint) in seen {
            queue.observe(&file("a", *age, now), *hint, now);
        }
        assert_eq!(queue.done(Path::new("a")), wanted, "{seen:?}");
    }
}

#[test]
fn what_a_full_scan_does_not_find_is_forgotten_unless_in_work() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    for name in ["gone", "there", "in-work"] {
        queue.observe(&file(name, Duration::from_secs(9), now), Hint::Scan, now);
    }
    while queue.next(Eligible::AnySize, now).is_some_and(|due| due.path != Path::new("in-work")) {}
    queue.settle_again(Path::new("gone"), "", Duration::MAX, now);
    queue.settle_again(Path::new("there"), "", Duration::MAX, now);
    let then = later(now, SETTLE);
    queue.observe(&file("there", Duration::from_secs(12), then), Hint::Scan, then);
    queue.scanned(then.steady);
    assert_eq!(queue.count(), 2);
    assert!(queue.files().any(|file| (file.path, file.state) == (Path::new("in-work"), FileState::Uploading)));
}

/// The capture of a file of the queue that is stored, and why the file is still there.
fn stored(found: &FoundFile, left: Option<&str>) -> Arc<Stored> {
    let text = "drop_folder: {path: /srv/drop}\ns3: {bucket: abc}\n";
    let config = crate::config::Config::parse(Path::new("queue.yaml"), text, &|_| None).unwrap();
    let arrival = crate::capture::arrival(found.stamp.modified);
    let capture =
        crate::capture::sight(&found.path, &config).settle(None, crate::capture::Arrival { at: arrival, now: arrival });
    let key = crate::key::Layout::new("", config.s3.key).render(&capture.fields());
    let (size, stamp, left) = (found.stamp.size, found.stamp, left.map(str::to_owned));
    let (elapsed, again, partial, open) = (SETTLE, false, false, false);
    let (sha256, written, not_kept) = ([0; 32], true, None);
    Arc::new(Stored { capture, key, size, elapsed, again, partial, open, stamp, sha256, written, left, not_kept })
}

#[test]
fn i6_stored_files_that_cannot_go_give_up_their_places_and_are_not_due_again() {
    let now = start();
    let mut queue = Queue::new(8, SETTLE);
    let files: Vec<FoundFile> = (10..30).map(|age| file(&format!("{age}"), Duration::from_secs(age), now)).collect();
    let scan = |queue: &mut Queue| {
        queue.scan_begins();
        for found in &files {
            queue.observe(found, Hint::Scan, now);
        }
    };
    let mut uploaded = Vec::new();
    for _ in 0..9 {
        scan(&mut queue);
        while let Some(Due { path, .. }) = queue.next(Eligible::AnySize, now) {
            let found = files.iter().find(|found| found.path == path).unwrap();
            queue.remember_stored(&path, stored(found, Some("read-only")));
            queue.hold(&path, "read-only", now.steady + SETTLE);
            uploaded.push(path);
        }
    }
    assert_eq!((uploaded.len(), queue.count(), queue.left()), (20, 8, 8), "each once");
    assert!(queue.left_on_disk() && !queue.wants_scan());
    assert!(queue.stored(&files[0].path).is_some() || queue.left.fingerprints.len() == 12);
    for found in &files {
        queue.done(&found.path);
    }
    assert_eq!(queue.left(), 0);
    assert!(queue.dispose_again() && !queue.dispose_again());
    scan(&mut queue);
    assert_eq!(queue.count(), 8);
}

#[test]
fn what_is_remembered_of_a_file_goes_with_it_and_when_it_changes() {
    let now = start();
    let mut queue = Queue::new(9, SETTLE);
    let found = file("a", Duration::from_secs(9), now);
    queue.observe(&found, Hint::Closed, now);
    let path = queue.next(Eligible::AnySize, now).unwrap().path;
    queue.remember_stored(&path, stored(&found, None));
    queue.hold(&path, "cut off", now.steady + SETTLE);
    queue.observe(&found, Hint::Closed, now);
    assert!(queue.stored(&path).is_some() && queue.left() == 0);
    queue.observe(&file("a", Duration::from_secs(8), now), Hint::Closed, now);
    assert!(queue.stored(&path).is_none());
}

#[test]
fn where_times_are_coarse_a_stored_file_that_is_closed_again_is_uploaded_again() {
    let start = start();
    let now = Now { wall: SystemTime::UNIX_EPOCH + Duration::from_hours(480_000), ..start };
    let mut queue = Queue::new(9, SETTLE);
    let found = file("a", Duration::from_secs(9), now);
    queue.observe(&found, Hint::Closed, now);
    let path = queue.next(Eligible::AnySize, now).unwrap().path;
    queue.remember_stored(&path, stored(&found, None));
    queue.hold(&path, "cut off", now.steady + SETTLE);
    queue.observe(&found, Hint::Scan, now);
    assert!(queue.stored(&path).is_some());
    queue.observe(&found, Hint::Closed, now);
    assert!(queue.stored(&path).is_none());
}

proptest! {
    /// Whatever happens, the indexes of the queue agree with each other.
    #[test]
    fn the_indexes_agree(steps in proptest::collection::vec((0u8..9, 0u64..6, 0u64..20), 1..80)) {
        let mut now = start();
        let mut queue = Queue::new(4, SETTLE);
        let mut working = Vec::new();
        for (step, name, age) in steps {
            let mut found = file(&name.to_string(), Duration::from_secs(age), now);
            found.stamp.size = age / 10 * LARGE_BYTES;
            match step {
                0 | 1 => queue.observe(&found, Hint::Scan, now),
                2 => queue.observe(&found, Hint::Closed, now),
                3 => working.extend(queue.next(Eligible::AnySize, now).map(|due| due.path)),
                8 => working.extend(queue.next(Eligible::SmallOnly, now).map(|due| due.path)),
                4 => working.iter().for_each(|path| { queue.done(path); }),
                5 => working.iter().for_each(|path| { queue.hold(path, "", now.steady + SETTLE); }),
                6 => { queue.settled(now); }
                _ => now = later(now, Duration::from_secs(age)),
            }
            if (4..6).contains(&step) { working.clear(); }
            prop_assert!(queue.count() <= 4);
            prop_assert_eq!(queue.by_age.len(), queue.count());
            let count = |state| queue.items.values().filter(|item| item.state == state).count();
            prop_assert_eq!(queue.ready.small.len() + queue.ready.large.len(), count(FileState::Queued));
            prop_assert_eq!(queue.timers.len(), count(FileState::Settling) + count(FileState::BackingOff));
        }
    }
}
