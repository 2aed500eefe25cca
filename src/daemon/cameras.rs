//! What is remembered of the cameras from one start to the next: their rhythms in a file, and their last captures by the
//! ledger.
//!
//! The ledger may be long, so it is read in the background, and only once the daemon is ready.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Days, TimeDelta, Utc};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::now;
use crate::health::{Rhythms, rhythm};
use crate::ledger::{self, Recent};
use crate::persist::{self, Purpose};
use crate::status::{CameraStatus, DayCount, Snapshot};

/// How often it is written: what a crash loses is as good as nothing.
const WRITTEN: TimeDelta = TimeDelta::minutes(5);

/// The longest file that is read: a thousand cameras have less.
const LONGEST_FILE_BYTES: u64 = 4 << 20;

/// A camera that has sent nothing for so many days is not looked for in the ledger; its rhythm is forgotten then, too.
const DAYS: Days = Days::new(60);

/// What the daemon knows of the cameras from before its start.
pub(super) struct Cameras {
    pub(super) rhythms: Rhythms,
    path: PathBuf,
    written_at: Option<DateTime<Utc>>,
    state_dir: PathBuf,
    earlier: Earlier,
}

/// The last captures from before the start.
enum Earlier {
    Unread,
    /// Dropping the guard ends the reading.
    Reading(JoinHandle<BTreeMap<String, Recent>>, #[expect(dead_code, reason = "is dropped")] DropGuard),
    Known(BTreeMap<String, Recent>),
}

impl Cameras {
    /// Reads the file. One that cannot be read costs some days of learning.
    pub(super) fn open(state_dir: &Path, now: DateTime<Utc>) -> Self {
        let path = state_dir.join(rhythm::FILE);
        let rhythms: Rhythms = persist::read(&path, LONGEST_FILE_BYTES).unwrap_or_default();
        let (rhythms, state_dir) = (rhythms.resume(now), state_dir.to_owned());
        Self { rhythms, path, written_at: None, state_dir, earlier: Earlier::Unread }
    }

    /// Takes note of what the cameras sent, and adds to the snapshot what they sent before the start.
    pub(super) fn see(&mut self, snapshot: &mut Snapshot) {
        match &self.earlier {
            Earlier::Unread if snapshot.scanned => self.earlier = read(&self.state_dir, snapshot.started_at),
            Earlier::Known(earlier) => complete(snapshot, earlier),
            _ => {}
        }
        self.rhythms.see(snapshot);
        if self.written_at.is_none_or(|at| (snapshot.at - at).abs() >= WRITTEN) {
            self.written_at = Some(snapshot.at);
            self.write();
        }
    }

    /// Returns once the ledger has been read; never, if it is not being read.
    pub(super) async fn learn(&mut self) {
        let Earlier::Reading(reading, _) = &mut self.earlier else { return std::future::pending().await };
        // Nothing is told of the time before the start if it cannot be read.
        let earlier = reading.await.unwrap_or_default();
        self.earlier = Earlier::Known(earlier);
    }

    /// Writes the file.
    pub(super) fn write(&self) {
        if let Err(error) = persist::write(&self.path, &self.rhythms, Purpose::NextStart) {
            tracing::debug!("failed to write {}: {error}", self.path.display());
        }
    }
}

/// Begins to read the ledger.
fn read(state_dir: &Path, started_at: DateTime<Utc>) -> Earlier {
    let ends = CancellationToken::new();
    let guard = ends.clone().drop_guard();
    let folder = ledger::folder(state_dir);
    Earlier::Reading(
        tokio::task::spawn_blocking(move || {
            let now: DateTime<Utc> = now().wall.into();
            let since = now.date_naive().checked_sub_days(DAYS).unwrap_or_default();
            // What was stored since the start is counted by the loop. A box whose clock was behind at its start has older
            // lines with a later time.
            let is_earlier = |at: DateTime<Utc>| !ends.is_cancelled() && !(started_at..=now).contains(&at);
            ledger::recent(&folder, since, &is_earlier)
        }),
        guard,
    )
}

/// Adds to a snapshot what the cameras sent before the start.
fn complete(snapshot: &mut Snapshot, earlier: &BTreeMap<String, Recent>) {
    for (name, before) in earlier {
        let day = DayCount { date: before.day, captures: before.captures };
        if let Some(camera) = snapshot.cameras.get_mut(name) {
            camera.last_taken_at = camera.last_taken_at.max(before.last_taken_at);
            camera.last_stored_at = camera.last_stored_at.max(before.last_stored_at);
            camera.newest_day = match camera.newest_day {
                Some(now) if now.date == day.date => {
                    Some(DayCount { date: day.date, captures: now.captures + day.captures })
                }
                Some(now) if now.date > day.date => Some(now),
                _ => Some(day),
            };
            continue;
        }
        let camera = CameraStatus {
            captures: 0,
            newest_day: Some(day),
            last_taken_at: before.last_taken_at,
            last_stored_at: before.last_stored_at,
            wrong_clock: None,
            clock_offset: None,
        };
        snapshot.cameras.insert(name.clone(), camera);
    }
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;

    use super::*;
    use crate::health::tests::well;

    fn time(text: &str) -> DateTime<FixedOffset> {
        DateTime::parse_from_rfc3339(text).unwrap()
    }

    /// The status of a camera as the loop has it, after captures of one day.
    fn since_the_start(captures: u64, last: &str) -> CameraStatus {
        let date = time(last).date_naive();
        CameraStatus {
            captures,
            newest_day: Some(DayCount { date, captures }),
            last_taken_at: time(last),
            last_stored_at: time(last).to_utc(),
            wrong_clock: None,
            clock_offset: None,
        }
    }

    #[test]
    fn after_a_restart_around_midnight_today_is_the_cameras_own() {
        // Three captures until 23:59 at the camera, which is 21:59 at Greenwich.
        let before = Recent {
            day: "2026-03-04".parse().unwrap(),
            captures: 3,
            last_taken_at: time("2026-03-04T23:59:00+02:00"),
            last_stored_at: time("2026-03-04T23:59:01+02:00").to_utc(),
        };
        let earlier = BTreeMap::from([("CAM".to_owned(), before)]);
        for (at, since, (captures, today, last)) in [
            ("2026-03-04T23:59:30+02:00", None, (0, 3, "2026-03-04T23:59:00+02:00")),
            ("2026-03-05T00:01:00+02:00", None, (0, 0, "2026-03-04T23:59:00+02:00")),
            ("2026-03-04T23:59:50+02:00", Some((2, "2026-03-04T23:59:40+02:00")), (2, 5, "2026-03-04T23:59:40+02:00")),
            ("2026-03-05T00:02:00+02:00", Some((1, "2026-03-05T00:01:00+02:00")), (1, 1, "2026-03-05T00:01:00+02:00")),
            // A late one of the day before.
            ("2026-03-05T00:02:00+02:00", Some((1, "2026-03-04T22:00:00+02:00")), (1, 0, "2026-03-04T23:59:00+02:00")),
            ("2026-03-04T23:59:50+02:00", Some((1, "2026-03-03T22:00:00+02:00")), (1, 3, "2026-03-04T23:59:00+02:00")),
        ] {
            let mut snapshot = well(0);
            snapshot.at = time(at).to_utc();
            snapshot.cameras =
                (since.iter()).map(|(captures, last)| ("CAM".to_owned(), since_the_start(*captures, last))).collect();
            complete(&mut snapshot, &earlier);
            let camera = &snapshot.cameras["CAM"];
            assert_eq!(
                (camera.captures, camera.today(snapshot.at), camera.last_taken_at),
                (captures, today, time(last)),
                "{at}"
            );
            assert!(camera.last_stored_at >= before.last_stored_at);
        }
    }

    #[tokio::test]
    async fn the_ledger_is_read_once_the_daemon_is_ready_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut cameras = Cameras::open(folder.path(), now().wall.into());
        let mut snapshot = well(0);
        snapshot.scanned = false;
        cameras.see(&mut snapshot);
        assert!(matches!(cameras.earlier, Earlier::Unread));
        snapshot.scanned = true;
        cameras.see(&mut snapshot);
        assert!(matches!(cameras.earlier, Earlier::Reading(..)));
        cameras.learn().await;
        assert!(matches!(cameras.earlier, Earlier::Known(_)));
    }
}
