//! The deciders as tables and properties, and the file as a disk may leave it.

use chrono::TimeDelta;
use chrono_tz::{Europe::Kyiv, Tz};
use croner::Cron;
use proptest::prelude::*;

use super::*;

const DAILY: &str = "30 3 * * *";

fn cron(text: &str) -> Cron {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A job whose last run began then and went well.
fn begun(time: &str) -> JobRecord {
    let (schedule, time) = (Some(DAILY.to_owned()), at(time));
    let mut record = JobRecord { schedule, ..JobRecord::default() };
    record.begin(time);
    record.end(RunEnd::Done, "done".to_owned(), time);
    record
}

fn next(record: &JobRecord, schedule: &str, zone: Tz, now: &str) -> String {
    let next = record.next(&cron(schedule), &zone, at(now)).unwrap();
    next.with_timezone(&zone).format("%F %H:%M %:z").to_string()
}

#[test]
fn the_next_run_is_the_first_scheduled_time_that_was_not_made() {
    for (last, schedule, now, expected) in [
        ("2026-02-24T01:30:00Z", DAILY, "2026-02-24T01:40:00Z", "2026-02-25 03:30 +02:00"),
        ("2026-02-24T01:30:00.9Z", DAILY, "2026-02-24T01:30:01Z", "2026-02-25 03:30 +02:00"),
        // A moment before its time it has not been made.
        ("2026-02-24T01:29:59.9Z", DAILY, "2026-02-24T01:29:59.9Z", "2026-02-24 03:30 +02:00"),
        // Missed: due since the first of them.
        ("2026-02-20T01:30:00Z", DAILY, "2026-02-24T12:00:00Z", "2026-02-21 03:30 +02:00"),
        ("2026-02-24T01:30:20Z", "* * * * *", "2026-02-24T01:30:40Z", "2026-02-24 03:31 +02:00"),
        ("2026-02-24T01:30:00Z", "0 0 29 2 *", "2026-02-24T01:30:00Z", "2028-02-29 00:00 +02:00"),
        // 03:00 to 04:00 is left out: the first moment after it, once.
        ("2026-03-28T01:30:00Z", DAILY, "2026-03-28T02:00:00Z", "2026-03-29 04:00 +03:00"),
        ("2026-03-29T01:00:00Z", DAILY, "2026-03-29T01:00:00Z", "2026-03-30 03:30 +03:00"),
        // 03:00 to 04:00 is repeated: in the first of them, and not in the second.
        ("2026-10-24T00:30:00Z", DAILY, "2026-10-24T12:00:00Z", "2026-10-25 03:30 +03:00"),
        ("2026-10-25T00:30:00Z", DAILY, "2026-10-25T00:31:00Z", "2026-10-26 03:30 +02:00"),
        ("2026-10-25T00:40:00Z", DAILY, "2026-10-25T01:10:00Z", "2026-10-26 03:30 +02:00"),
        // Set back by less than an hour, a clock repeats no run.
        ("2026-02-24T01:30:00Z", DAILY, "2026-02-24T00:35:00Z", "2026-02-25 03:30 +02:00"),
    ] {
        assert_eq!(next(&begun(last), schedule, Kyiv, now), expected, "{last}, {schedule}, {now}");
    }
}

#[test]
fn a_job_that_is_new_has_missed_nothing() {
    let mut record = JobRecord::default();
    record.settle(DAILY, at("2026-02-24T12:00:00Z"));
    assert_eq!(next(&record, DAILY, Kyiv, "2026-02-24T12:00:00Z"), "2026-02-25 03:30 +02:00");
    assert_eq!(next(&record, DAILY, Kyiv, "2026-03-24T12:00:00Z"), "2026-02-25 03:30 +02:00", "seen first, and missed");
    assert_eq!(record.job(None), status_of_nothing());
}

fn status_of_nothing() -> crate::status::Job {
    crate::status::Job::default()
}

#[test]
fn what_was_not_asked_for_is_not_missed() {
    let mut record = begun("2026-02-24T01:30:00Z");
    let now = at("2026-02-24T12:00:00Z");
    record.settle("0 10 * * *", now);
    assert_eq!(
        next(&record, "0 10 * * *", Kyiv, "2026-02-24T12:00:00Z"),
        "2026-02-25 10:00 +02:00",
        "another schedule"
    );
    record.turn_off();
    record.settle("0 10 * * *", at("2026-04-01T12:00:00Z"));
    assert_eq!(next(&record, "0 10 * * *", Kyiv, "2026-04-01T12:00:00Z"), "2026-04-02 10:00 +03:00", "off for a month");
    // A file that does not say by which schedule it was written is one of this schedule.
    let mut record = JobRecord { schedule: None, ..begun("2026-02-20T01:30:00Z") };
    record.settle(DAILY, now);
    assert_eq!(next(&record, DAILY, Kyiv, "2026-02-24T12:00:00Z"), "2026-02-21 03:30 +02:00");
}

#[test]
fn a_run_in_the_future_counts_as_now_and_is_not_forgotten() {
    let mut record = begun("2038-01-19T03:14:00Z");
    record.settle(DAILY, at("2026-02-24T12:00:00Z"));
    assert_eq!(next(&record, DAILY, Kyiv, "2026-02-24T12:00:00Z"), "2026-02-25 03:30 +02:00");
    // It is counted from when the clock was found to be wrong, not from ever later moments.
    record.settle(DAILY, at("2026-02-25T01:30:00Z"));
    assert_eq!(next(&record, DAILY, Kyiv, "2026-02-25T01:30:00Z"), "2026-02-25 03:30 +02:00");

    // So it is where there is an older time, too.
    let mut record = JobRecord::default();
    record.settle(DAILY, at("2026-02-01T12:00:00Z"));
    record.begin(at("2038-01-19T03:14:00Z"));
    record.settle(DAILY, at("2026-02-24T12:00:00Z"));
    assert_eq!(next(&record, DAILY, Kyiv, "2026-02-24T12:00:00Z"), "2026-02-25 03:30 +02:00");

    // A box without a clock boots in 1970, and is set.
    let mut record = begun("2026-02-24T01:30:00Z");
    record.settle(DAILY, at("1970-01-01T00:00:05Z"));
    assert_eq!(next(&record, DAILY, Kyiv, "1970-01-01T00:00:05Z"), "1970-01-01 03:30 +03:00");
    record.settle(DAILY, at("2026-02-24T12:00:00Z"));
    assert_eq!(next(&record, DAILY, Kyiv, "2026-02-24T12:00:00Z"), "2026-02-25 03:30 +02:00", "made this morning");
}

#[test]
fn what_passes_is_tried_again_ever_later_and_what_does_not_is_not() {
    let minutes = |record: &JobRecord, now| record.retry_in(now).map(|wait| wait.as_secs() / 60);
    let (mut record, mut now) = (begun("2026-02-24T01:30:00Z"), at("2026-02-25T01:30:00Z"));
    assert_eq!(record.retry_in(now), None);
    for expected in [5, 10, 20, 40, 60, 60] {
        record.begin(now);
        assert_eq!(minutes(&record, now), Some(expected), "killed in it");
        now += TimeDelta::minutes(1);
        record.end(RunEnd::TryLater, "failed: no answer".to_owned(), now);
        assert_eq!(minutes(&record, now), Some(expected));
        assert_eq!(minutes(&record, now - TimeDelta::days(9999)), Some(expected), "whatever the clock does");
        assert_eq!(minutes(&record, now + TimeDelta::minutes(2)), Some(expected - 2));
        assert_eq!(minutes(&record, now + TimeDelta::days(9999)), Some(0));
    }
    for end in [RunEnd::Done, RunEnd::Partly, RunEnd::NeedsOperator] {
        let mut record = record.clone();
        record.begin(now);
        record.end(end, String::new(), now);
        assert_eq!((record.retry_in(now), record.tries), (None, 0), "{end:?}");
        assert_eq!(record.failed(), end != RunEnd::Done);
        assert_eq!(record.last_success_at == Some(now), end == RunEnd::Done);
    }
    record.begin(now);
    record.end(RunEnd::Interrupted, String::new(), now);
    assert_eq!((minutes(&record, now), record.tries), (Some(0), 6), "a stop is no failure");
}

fn jump() -> impl Strategy<Value = TimeDelta> {
    prop_oneof![
        8 => (0_i64..7200).prop_map(TimeDelta::seconds),
        4 => (0_i64..72).prop_map(TimeDelta::hours),
        2 => (-3599_i64..0).prop_map(TimeDelta::seconds),
        1 => (-50_000_i64..50_000).prop_map(TimeDelta::days),
        1 => (-72_i64..0).prop_map(TimeDelta::hours),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// The link is up: whatever is due runs at once.
    #[test]
    fn whatever_the_clock_does_each_time_it_passes_is_made_once(
        schedule in prop::sample::select(vec!["30 3 * * *", "*/7 * * * *", "0 3,4 * * 0", "15 0 1 * *", "59 23 31 12 *"]),
        zone in prop::sample::select(vec![Tz::UTC, Kyiv, chrono_tz::Australia::Lord_Howe, chrono_tz::America::Santiago]),
        jumps in prop::collection::vec((jump(), any::<bool>()), 1..60),
    ) {
        let cron = cron(schedule);
        let (mut record, mut now) = (JobRecord::default(), at("2026-02-24T12:00:00Z"));
        record.settle(schedule, now);
        // What the clock showed last that counts: the beginning, a run, or the other side of a leap back.
        let mut passed = now;
        for (jump, restart) in jumps {
            now += jump;
            if restart {
                let text = serde_json::to_vec(&record).unwrap();
                record = serde_json::from_slice(&text).unwrap();
            }
            record.settle(schedule, now);
            if passed > now + TimeDelta::hours(1) {
                passed = now;
            }
            let due = record.next(&cron, &zone, now).unwrap();
            let missed = cron.find_next_occurrence(&passed.with_timezone(&zone), false).unwrap().to_utc();
            if due <= now {
                prop_assert!(missed <= now, "nothing was scheduled between {passed} and {now}");
                record.begin(now);
                record.end(RunEnd::Done, String::new(), now);
                passed = now;
            }
            prop_assert!(record.next(&cron, &zone, now).unwrap() > now, "once is enough");
        }
    }
}

fn records() -> JobRecords {
    let mut record = begun("2026-02-24T01:30:00Z");
    record.settle(DAILY, at("2026-02-24T01:31:00Z"));
    JobRecords::from([(ROTATE.to_owned(), record)])
}

#[test]
fn what_is_written_is_read_again_and_replaces_what_a_crash_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    std::fs::write(folder.path().join("schedule.json.new"), [0; 9999]).unwrap();
    write(&path, &records()).unwrap();
    assert_eq!(read(&path).unwrap(), records());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_damaged_at_any_byte_makes_one_run_at_most() {
    let whole = serde_json::to_vec_pretty(&records()).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    for place in 0..whole.len() {
        for byte in [0, b' ', b'"', b'9', b'}', whole[place] ^ 1, 0xFF] {
            let mut text = whole.clone();
            text[place] = byte;
            damaged.push(text);
        }
    }
    damaged.extend([vec![b'['; 200_000], b"{\"rotate\": {\"tries\": 4294967295, \"last_begun_at\": null}}".to_vec()]);
    damaged.push(b"{\"rotate\": {\"last_begun_at\": \"+262142-12-31T23:59:59Z\"}}".to_vec());
    let (cron, now) = (cron(DAILY), at("2026-02-24T12:00:00Z"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    for text in damaged {
        std::fs::write(&path, &text).unwrap();
        let mut record = read(&path).unwrap_or_default().remove(ROTATE).unwrap_or_default();
        record.settle(DAILY, now);
        let due = |record: &JobRecord| {
            record.next(&cron, &Kyiv, now).unwrap() <= now || record.retry_in(now).is_some_and(|wait| wait.is_zero())
        };
        if due(&record) {
            record.begin(now);
            record.end(RunEnd::Done, String::new(), now);
        }
        assert!(!due(&record), "{}: {record:?}", String::from_utf8_lossy(&text));
    }
}
