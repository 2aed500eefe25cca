use std::fs::File;

use sha2::{Digest, Sha256};

use super::*;

#[test]
fn copies_lie_by_camera_and_date_and_never_replace_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let date = NaiveDate::from_ymd_opt(2022, 2, 24).unwrap();
    let find = |bytes: &[u8]| {
        place(folder.path(), CopyOf { camera: "CAM", date, file: "a.jpg" }, &Sha256::digest(bytes).into()).unwrap()
    };
    let first = folder.path().join("CAM/2022-02-24/a.jpg");
    assert_eq!(find(b"one"), CopyPlace::Free(first.clone()));
    std::fs::create_dir_all(first.parent().unwrap()).unwrap();
    std::fs::write(&first, b"one").unwrap();
    assert_eq!(find(b"one"), CopyPlace::Held);
    let hash = &hex::encode(Sha256::digest(b"two"))[..8];
    let second = first.with_file_name(format!("a~{hash}.jpg"));
    assert_eq!(find(b"two"), CopyPlace::Free(second.clone()));
    std::fs::write(&second, b"two").unwrap();
    assert_eq!(find(b"two"), CopyPlace::Held);
}

#[test]
fn copies_that_made_room_are_told_with_their_day_or_days() {
    let [first, last] = [26, 27].map(|day| NaiveDate::from_ymd_opt(2026, 11, day).unwrap());
    let given = GivenUp { copies: 205, bytes: 39 << 20 };
    let told = "deleted 205 local copies of 2026-11-27 (39 MiB) to make room; the bucket has them";
    assert_eq!(given.of_days(last, last), told);
    assert!(given.of_days(first, last).contains(" of 2026-11-26 to 2026-11-27 "));
}

const WALL: Duration = Duration::from_hours(24 * 365 * 52);

/// Copies of one camera by day and name, each `bytes` long; those that `listed` are in the ledger.
fn kept(settings: &str, copies: &[(&str, &str, usize, bool)]) -> (tempfile::TempDir, Kept) {
    kept_by("rotate: {archive: null}", settings, copies)
}

fn kept_by(rotate: &str, settings: &str, copies: &[(&str, &str, usize, bool)]) -> (tempfile::TempDir, Kept) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().display();
    let text = format!(
        "drop_folder: {{path: /srv/drop}}\ns3: {{bucket: abc}}\ntimezone: UTC\nstate_dir: {state}\n\
         keep: {{min_free: 0, {settings}}}\n{rotate}\n"
    );
    let config = Config::parse(Path::new("kept.yaml"), &text, &|_| None).unwrap();
    for (number, (day, name, bytes, listed)) in copies.iter().enumerate() {
        let path = folder.path().join("kept/CAM").join(day).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, vec![7; *bytes]).unwrap();
        let age = Duration::from_secs(number.try_into().unwrap());
        File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH + age).unwrap();
        let taken_at = format!("{day}T12:00:00+00:00").parse().unwrap();
        let key = format!("CAM/{day}/{name}");
        let sha256 = hex::encode(Sha256::digest(vec![7; *bytes]));
        let (size, source) = ((*bytes).try_into().unwrap(), key.clone());
        let stored_at = chrono::DateTime::UNIX_EPOCH;
        let entry = ledger::LedgerEntry { stored_at, key, size, sha256, taken_at, event: None, source, partial: false };
        if *listed {
            ledger::append(&folder.path().join("ledger"), "CAM", &entry).unwrap();
        }
    }
    (folder, Kept::new(&config))
}

fn now() -> Now {
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    Now { steady: Instant::now(), wall: std::time::UNIX_EPOCH + WALL }
}

/// The copies that are there, as `DATE/name`.
fn names_in(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for day in std::fs::read_dir(folder.join("kept/CAM")).unwrap().flatten() {
        let files = std::fs::read_dir(day.path()).unwrap().flatten();
        let day = day.file_name().into_string().unwrap();
        names.extend(files.map(|file| format!("{day}/{}", file.file_name().into_string().unwrap())));
    }
    names.sort();
    names
}

#[test]
fn the_oldest_copies_go_and_their_empty_folders() {
    let copies = [
        ("2021-12-01", "b.jpg", 1 << 19, true),
        ("2021-12-01", "a.jpg", 1 << 19, true),
        ("2021-12-02", "z.jpg", 1 << 19, true),
        ("2021-12-02", "y.jpg", 1 << 19, true),
        ("2021-12-03", "x.jpg", 1 << 19, true),
    ];
    let (folder, kept) = kept("days: 36500, max_size: 1MiB", &copies);
    assert_eq!(kept.bytes(), None);
    assert_eq!(kept.give_way(now()), GivenUp { copies: 3, bytes: 3 << 19 });
    assert_eq!(names_in(folder.path()), ["2021-12-02/y.jpg", "2021-12-03/x.jpg"]);
    assert!(!folder.path().join("kept/CAM/2021-12-01").exists());
    assert_eq!(kept.bytes(), Some(1 << 20));
    kept.came(5);
    assert_eq!(kept.bytes(), Some((1 << 20) + 5));
    assert_eq!(kept.give_way(now()), GivenUp::default());
}

#[test]
fn copies_go_by_their_date_and_when_a_write_has_failed() {
    let copies =
        [("2021-10-01", "a.jpg", 10, true), ("2021-12-18", "b.jpg", 10, true), ("2021-12-19", "c.jpg", 0, true)];
    let (folder, kept) = kept("days: 30", &copies);
    assert_eq!(kept.give_way(now()), GivenUp { copies: 1, bytes: 10 });
    assert_eq!(kept.give_way(now()), GivenUp::default());
    assert_eq!(kept.make_room(5, now()), GivenUp { copies: 1, bytes: 10 });
    assert_eq!(names_in(folder.path()), ["2021-12-19/c.jpg"]);
}

#[test]
fn a_day_stays_past_its_time_until_its_bundle_is_made() {
    let copies =
        [("2021-11-01", "a.jpg", 10, true), ("2021-11-02", "b.jpg", 10, true), ("2021-12-19", "c.jpg", 0, true)];
    let (folder, kept) = kept_by("rotate: {archive: {after: 30d}}", "days: 35", &copies);
    let bundle = |date: &str| ledger::Bundled {
        bundled_at: chrono::DateTime::UNIX_EPOCH,
        key: format!("CAM/archive/{date}.tar"),
        date: date.parse().unwrap(),
        members: 1,
        size: 10,
        sha256: String::new(),
    };
    assert_eq!(kept.give_way(now()), GivenUp::default());
    ledger::append_bundle(&folder.path().join("ledger"), "CAM", &bundle("2021-11-02")).unwrap();
    assert_eq!(kept.give_way(now()), GivenUp { copies: 1, bytes: 10 });
    assert_eq!(names_in(folder.path()), ["2021-11-01/a.jpg", "2021-12-19/c.jpg"]);
    assert_eq!(
        kept.make_room(5, now()),
        GivenUp { copies: 1, bytes: 10 },
        "where a write has failed, it goes all the same"
    );
}

#[test]
fn i1_what_is_not_ours_stays_and_no_link_is_followed() {
    let copies = [
        ("2021-12-01", "ours.jpg", 9, true),
        ("2021-12-01", "unlisted.jpg", 9, false),
        ("2021-12-01", "grown.jpg", 9, true),
        ("2021-12-02", "cut.jpg", 9, true),
        ("2021-12-2", "no date.jpg", 9, true),
    ];
    let (folder, kept) = kept("days: 0", &copies[..4]);
    let at = |path: &str| folder.path().join("kept").join(path);
    std::fs::write(at("CAM/2021-12-01/grown.jpg"), b"longer than it was stored").unwrap();
    std::fs::write(at("CAM/2021-12-02/cut.jpg"), b"").unwrap();
    std::fs::create_dir(at("CAM/2021-12-2")).unwrap();
    std::fs::write(at("CAM/2021-12-2/no date.jpg"), b"foreign").unwrap();
    std::fs::write(at("CAM/loose.jpg"), b"foreign").unwrap();
    std::fs::create_dir_all(folder.path().join("elsewhere/2021-12-01")).unwrap();
    std::fs::write(folder.path().join("elsewhere/2021-12-01/ours.jpg"), b"precious!").unwrap();
    for (link, target) in [("LINK", "../elsewhere"), ("CAM/2021-12-03", "../../elsewhere/2021-12-01")] {
        std::os::unix::fs::symlink(target, at(link)).unwrap();
    }
    std::os::unix::fs::symlink("unlisted.jpg", at("CAM/2021-12-01/link.jpg")).unwrap();
    let fresh = at("CAM/2021-12-01/.hk-aws-copy");
    std::fs::write(&fresh, b"under way").unwrap();

    assert_eq!(kept.give_way(now()), GivenUp { copies: 2, bytes: 9 });
    for path in
        ["CAM/2021-12-01/unlisted.jpg", "CAM/2021-12-01/grown.jpg", "CAM/2021-12-2/no date.jpg", "CAM/loose.jpg"]
    {
        assert!(at(path).exists(), "{path}");
    }
    assert!(at("CAM/2021-12-01/link.jpg").is_symlink() && at("CAM/2021-12-03").is_symlink());
    assert!(folder.path().join("elsewhere/2021-12-01/ours.jpg").exists());
    assert!(fresh.exists() && !at("CAM/2021-12-02").exists());
    // An hour after it was last touched it is no copy under way any more; a change time is the system's own.
    #[expect(clippy::disallowed_methods, reason = "files are stamped with the real time")]
    let later = Now { wall: std::time::SystemTime::now() + 2 * LEFT_BEHIND_AFTER, ..now() };
    kept.give_way(later);
    assert!(!fresh.exists());
}

#[test]
fn what_cannot_go_is_made_up_for_by_what_can_and_a_day_of_any_length_goes() {
    let mut copies = vec![("2021-12-01", "unlisted.jpg", 1 << 20, false)];
    let names: Vec<String> = (0..BATCH + 50).map(|number| format!("{number}.jpg")).collect();
    copies.extend(names.iter().map(|name| ("2021-12-02", name.as_str(), 0, true)));
    copies.extend([("2021-12-02", "big.jpg", 1 << 20, true), ("2021-12-03", "new.jpg", 1 << 20, true)]);
    let (folder, kept) = kept("days: 36500, max_size: 2MiB", &copies);
    assert_eq!(kept.give_way(now()), GivenUp { copies: names.len() as u64 + 1, bytes: 1 << 20 });
    assert_eq!(names_in(folder.path()), ["2021-12-01/unlisted.jpg", "2021-12-03/new.jpg"]);
}

#[test]
fn a_full_disk_is_not_walked_again_and_again_for_nothing() {
    let (folder, kept) = kept("days: 30", &[]);
    assert_eq!(kept.make_room(5, now()), GivenUp::default());
    let (other, _) = self::kept("days: 30", &[("2021-12-18", "b.jpg", 10, true)]);
    for part in ["kept", "ledger"] {
        #[expect(clippy::disallowed_methods, reason = "a test may rename")]
        std::fs::rename(other.path().join(part), folder.path().join(part)).unwrap();
    }
    assert_eq!(kept.make_room(5, now()), GivenUp::default());
    let later = Now { steady: now().steady + FRUITLESS, ..now() };
    assert_eq!(kept.make_room(5, later), GivenUp { copies: 1, bytes: 10 });
}

#[test]
fn a_process_that_stops_gives_nothing_up_but_for_a_write_that_failed() {
    let (_folder, kept) = kept("days: 0", &[("2021-12-18", "a.jpg", 10, true), ("2021-12-18", "b.jpg", 10, true)]);
    kept.stop();
    assert_eq!(kept.give_way(now()), GivenUp::default());
    assert_eq!(kept.make_room(5, now()).copies, 2);
}
