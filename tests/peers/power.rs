//! The power is cut, again and again, in the middle of a flood: drop folder, state and run-time files lie on a file system
//! that loses what was not synced, as a disk does.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hk_aws::drop_folder::ASIDE;

use crate::daemon::wait_for;
use crate::household::{Household, LONG, Shot};
use crate::installation::files;
use crate::volume::Volume;

/// Cuts where `HK_AWS_POWER_CUTS` says nothing else: as many as fit into half a minute.
const CUTS: u64 = 30;

/// The writers of a flood, every other one of which syncs.
const WRITERS: u64 = 4;

/// What a writer answered for.
#[derive(Debug, Default)]
struct Delivered {
    /// Synced with its folder before it was counted: no power cut may lose it.
    synced: Vec<Shot>,
    /// Written and no more, as FTP servers do.
    unsynced: Vec<Shot>,
}

#[test]
fn i5_whatever_was_called_stored_or_was_synced_survives_every_power_cut() {
    let cuts = std::env::var("HK_AWS_POWER_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap());
    let began = Instant::now();
    let volume = Volume::ext4(512);
    let mut house = Household::new();
    house.drop_folder = volume.path().join("drop");
    house.state = volume.path().join("state");
    house.run = volume.path().join("run");
    let delivered = Mutex::new(Delivered::default());
    let mut called_stored = 0;
    for cut in 0..cuts {
        house.start("days: 36500, max_size: 32MiB, min_free: 1MiB");
        flood_until_the_power_goes(&volume, &house, cut, &delivered);
        // What it said before it died, it must not have to take back.
        called_stored = all_that_is_called_stored_is_in_the_bucket(&house);
        house.kill();
        volume.unmount();
        volume.mount();
        the_ledger_tells_no_lies(&house);
    }
    house.start("days: 36500, max_size: 32MiB, min_free: 1MiB");
    // What was just being taken away when the power went waits under a name of its own for a later scan.
    let waits = |path: &PathBuf| !path.file_name().unwrap().as_bytes().starts_with(ASIDE.as_bytes());
    wait_for("a drop folder without work", LONG, || (!files(&house.drop_folder).iter().any(waits)).then_some(()));

    let Delivered { synced, unsynced } = delivered.into_inner().unwrap();
    let here: Vec<Vec<u8>> = files(&house.drop_folder).iter().map(|path| fs::read(path).unwrap()).collect();
    let is_safe = |shot: &&Shot| house.holds(shot) || here.contains(&shot.bytes);
    let lost: Vec<String> = synced.iter().filter(|shot| !is_safe(shot)).map(Shot::key).collect();
    assert!(lost.is_empty(), "{} of {} synced captures are lost: {:?}", lost.len(), synced.len(), lost.first());
    let there = unsynced.iter().filter(|shot| house.holds(shot)).count();
    no_object_is_torn(&house, synced.iter().chain(&unsynced));
    assert!(called_stored > 0 && !synced.is_empty() && !unsynced.is_empty());
    println!(
        "{cuts} power cuts in {:?}: {} captures synced, none lost; {} not synced, {} of them lost before they were sent; \
         {called_stored} called stored, all there; {} came back empty and are set aside; \
         {} requests to put",
        began.elapsed(),
        synced.len(),
        unsynced.len(),
        unsynced.len() - there,
        files(&house.state.join("set-aside")).len(),
        house.s3.count("PutObject"),
    );
}

/// Writes from several cameras at once, and pulls the plug after a while that differs from cut to cut.
fn flood_until_the_power_goes(volume: &Volume, house: &Household, cut: u64, delivered: &Mutex<Delivered>) {
    let (number, off) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (number, off) = (&number, &off);
            scope.spawn(move || {
                while !off.load(Ordering::Relaxed) {
                    let number = cut * 10_000 + number.fetch_add(1, Ordering::Relaxed);
                    let length = 4_000 + usize::try_from(number * 7919 % 60_000).unwrap();
                    let shot = Shot::new(&format!("CAM-{writer}"), number, length);
                    let sync = writer % 2 == 0;
                    if write(&house.drop_folder.join(shot.path()), &shot.bytes, sync).is_err() {
                        // The power is gone; this one nobody was told of.
                        continue;
                    }
                    let mut delivered = delivered.lock().unwrap();
                    if sync {
                        delivered.synced.push(shot)
                    } else {
                        delivered.unsynced.push(shot)
                    }
                    drop(delivered);
                    thread::sleep(Duration::from_millis(3));
                }
            });
        }
        // Spread evenly, without a clock in common with anything else (multiples of the golden ratio).
        thread::sleep(Duration::from_millis(30 + cut * 618 % 1000 * 4 / 10));
        volume.cut_power();
        off.store(true, Ordering::Relaxed);
    });
}

fn write(path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    let folder = path.parent().unwrap();
    let new = !folder.exists();
    fs::create_dir_all(folder)?;
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    if sync {
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        if new {
            File::open(folder.parent().unwrap())?.sync_all()?;
        }
    }
    Ok(())
}

/// Holds the log against the bucket; answers how many captures it called stored.
fn all_that_is_called_stored_is_in_the_bucket(house: &Household) -> usize {
    let log = house.log();
    let stored: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once(" stored CAM-")?.1)).collect();
    house.s3.look(|state| {
        for rest in &stored {
            let key = format!("CAM-{}", rest.split_whitespace().next().unwrap());
            assert!(state.object(&key).is_some(), "{key} was called stored");
        }
    });
    stored.len()
}

/// Whatever the ledger still says after the cut is in the bucket.
fn the_ledger_tells_no_lies(house: &Household) {
    for path in files(&house.state.join("ledger")) {
        for entry in hk_aws::ledger::entries(&path).unwrap() {
            let there = house.s3.look(|state| state.object(&entry.key).map(|object| object.sha256.clone()));
            assert_eq!(there.as_ref(), Some(&entry.sha256), "{}", entry.key);
        }
    }
}

/// Under a capture's own key lies the whole capture, never what a cut left of it.
fn no_object_is_torn<'a>(house: &Household, shots: impl Iterator<Item = &'a Shot>) {
    let whole: HashMap<String, String> = shots.map(|shot| (shot.key(), shot.sha256())).collect();
    house.s3.look(|state| {
        for (key, object) in state.objects() {
            if let Some(sha256) = whole.get(key) {
                assert_eq!(&object.sha256, sha256, "{key} was stored torn, or overwritten");
            }
        }
    });
}

#[test]
fn a_volume_that_loses_its_power_loses_what_was_not_synced_and_only_that() {
    let volume = Volume::ext4(64);
    write(&volume.path().join("synced/a.jpg"), b"evidence", true).unwrap();
    write(&volume.path().join("synced/b.jpg"), b"evidence", false).unwrap();
    volume.cut_power();
    assert!(fs::write(volume.path().join("c.jpg"), b"late").is_err(), "the power is gone");
    volume.unmount();
    volume.mount();
    assert_eq!(fs::read(volume.path().join("synced/a.jpg")).unwrap(), b"evidence");
    assert_ne!(fs::read(volume.path().join("synced/b.jpg")).unwrap_or_default(), b"evidence");
}
