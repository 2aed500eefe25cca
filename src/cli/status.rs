//! `status`: what is wrong and what to do, the cameras, and what the daemon does.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Local, Utc};

use super::out::{Colour, Out, clear_screen, count, has_colours, plain, print_in, print_json, print_line, size};
use crate::health::in_words;
use crate::status::{CameraStatus, Condition, ConditionKind, DaemonState, Job, Snapshot, Weight};
use crate::{daemon, lock};

/// How often the status is shown again.
const AGAIN: Duration = Duration::from_secs(2);

/// A running daemon renews its status every second; one that is this old is an old one.
const STALE: Duration = Duration::from_mins(1);

/// The most files that are named to people; `--json` names all that the snapshot has.
const MOST_FILES: usize = 20;

/// A line for people.
type Line = (Option<Colour>, String);

pub(super) fn status(out: &Out, runtime_dir: &Path, watch: bool) -> anyhow::Result<()> {
    loop {
        if watch {
            clear_screen()?;
        }
        let shown = show(out, runtime_dir);
        if !watch {
            return shown;
        }
        if let Err(error) = shown {
            // It may come back.
            out.remark(format_args!("{error:#}"));
        }
        std::thread::sleep(AGAIN);
    }
}

fn show(out: &Out, runtime_dir: &Path) -> anyhow::Result<()> {
    let snapshot = Snapshot::read(runtime_dir)
        .with_context(|| format!("failed to read the status in {}; is the daemon running?", runtime_dir.display()))?;
    if out.json {
        print_json(&snapshot)?;
    } else {
        let has_colours = has_colours();
        for (colour, line) in lines(&snapshot) {
            match colour.filter(|_| has_colours) {
                Some(colour) => print_in(colour, &line)?,
                None => print_line(line)?,
            }
        }
    }
    let said = snapshot.at.format("%F %T UTC");
    if !lock::is_daemon_running(runtime_dir) {
        bail!("the daemon is not running; this is what it said last, at {said}");
    }
    let age = daemon::now().wall.duration_since(snapshot.at.into()).unwrap_or_default();
    if age > STALE && snapshot.state != DaemonState::Stopping {
        bail!("the daemon runs, and has said nothing since {said}: see `journalctl -u hk-aws`");
    }
    Ok(())
}

/// Returns a snapshot for people: what is wrong first, then the cameras, then the rest.
fn lines(snapshot: &Snapshot) -> Vec<Line> {
    let mut lines = conditions(snapshot);
    lines.extend(cameras(snapshot));
    lines.push((None, String::new()));
    lines.extend(captures(snapshot).into_iter().map(|line| (None, line)));
    lines.extend(room(snapshot).into_iter().map(|line| (None, line)));
    for (name, job) in &snapshot.jobs {
        lines.push((None, format!("{name:10} {}", describe_job(job, snapshot.at))));
    }
    lines.extend(files(snapshot).into_iter().map(|line| (None, line)));
    let errors = snapshot.last_errors.iter().filter(|error| !is_said(snapshot, &error.message));
    lines.extend(errors.map(|error| (None, format!("error      {} {}", local(error.at), error.message))));
    lines
}

/// Returns the state, and each condition with what to do.
fn conditions(snapshot: &Snapshot) -> Vec<Line> {
    let worst = snapshot.conditions.first();
    let (colour, state) = match (snapshot.state, worst) {
        (DaemonState::Degraded, Some(worst)) if worst.kind.stops_storing() => {
            (Colour::Red, format!("NOT STORING since {}: pictures wait here and are sent later", local(worst.since)))
        }
        (DaemonState::Degraded, Some(worst)) if worst.kind.weight() == Weight::Grave => {
            (Colour::Red, format!("IN DANGER since {}", local(worst.since)))
        }
        (DaemonState::Degraded, Some(worst)) => {
            (Colour::Yellow, format!("storing, and needs attention since {}", local(worst.since)))
        }
        (DaemonState::Starting, _) => (Colour::Yellow, "starting".to_owned()),
        (DaemonState::Stopping, _) => (Colour::Yellow, "stopping".to_owned()),
        (DaemonState::Ok | DaemonState::Degraded, _) => (Colour::Green, "ok".to_owned()),
    };
    let mut lines = vec![(Some(colour), format!("state      {state}"))];
    for condition in &snapshot.conditions {
        let colour = match condition.kind.weight() {
            Weight::Grave => Some(Colour::Red),
            Weight::Warning => Some(Colour::Yellow),
            Weight::Notice => None,
        };
        lines.push((colour, format!("           {} (since {})", condition.sentence, local(condition.since))));
        if !condition.advice.is_empty() {
            lines.push((None, format!("             -> {}", condition.advice)));
        }
        if let Some(detail) = &condition.detail {
            lines.push((None, format!("             detail: {}", plain(detail))));
        }
    }
    lines
}

/// Returns the cameras as a table.
fn cameras(snapshot: &Snapshot) -> Vec<Line> {
    let silent: BTreeMap<&str, &Condition> = (snapshot.conditions.iter())
        .filter(|condition| condition.kind == ConditionKind::CameraSilent)
        .filter_map(|condition| Some((condition.camera.as_deref()?, condition)))
        .collect();
    let since = |name: &str| silent.get(name).map_or_else(|| "-".to_owned(), |condition| local(condition.since));
    let mut rows: Vec<[String; 5]> = Vec::new();
    for (name, camera) in &snapshot.cameras {
        let last = camera.last_taken_at.format("%F %T").to_string();
        rows.push([plain(name).into_owned(), last, camera.today(snapshot.at).to_string(), clock(camera), since(name)]);
    }
    for name in silent.keys().filter(|name| !snapshot.cameras.contains_key(**name)) {
        rows.push([plain(name).into_owned(), "-".to_owned(), "0".to_owned(), "-".to_owned(), since(name)]);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let head = ["camera", "last capture", "today", "clock", "silent since"].map(str::to_owned);
    let width = |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            2 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![(None, String::new()), (Some(Colour::Bold), line(&head))];
    for row in &rows {
        let is_well = !row[3].starts_with("WRONG") && row[4] == "-";
        lines.push(((!is_well).then_some(Colour::Yellow), line(row)));
    }
    lines
}

fn clock(camera: &CameraStatus) -> String {
    match (&camera.wrong_clock, &camera.clock_offset) {
        (Some(wrong), _) if wrong.is_now => format!("WRONG, said {}", wrong.last_said.format("%F %T")),
        (_, Some(offset)) => format!("WRONG, {offset}"),
        // Nothing has come since the start by which it could be judged.
        _ if camera.captures == 0 => "-".to_owned(),
        _ => "right".to_owned(),
    }
}

/// Returns where captures go, and how many are stored, wait, or are not sent.
fn captures(snapshot: &Snapshot) -> Vec<String> {
    let (waiting, stored) = (&snapshot.waiting, &snapshot.stored);
    let mut lines = vec![
        format!("bucket     {}", snapshot.bucket),
        format!(
            "stored     {}, {} since {}",
            captures_of(stored.captures),
            size(stored.bytes),
            local(snapshot.started_at)
        ),
        format!(
            "waiting    {} files: {} still arriving, {} in line, {} uploading, {} to retry; {}",
            waiting.files(),
            waiting.settling,
            waiting.queued + waiting.on_disk,
            waiting.uploading,
            waiting.backing_off,
            size(waiting.bytes)
        ),
    ];
    if let Some(oldest) = &snapshot.oldest_only_here {
        let (path, age) = (&oldest.path, in_words(snapshot.at - oldest.since));
        lines.push(format!("           oldest picture not in the bucket yet: {path}, for {age}"));
    }
    if waiting.elsewhere > 0 {
        lines.push(format!("elsewhere  {} files waited in the drop folder that was here before", waiting.elsewhere));
    }
    let mut not_sent = format!(
        "not sent   {} not pictures (see \"ignore\"), {} cannot be read, {} damaged (moved away)",
        waiting.ignored, waiting.unreadable, waiting.set_aside
    );
    if waiting.left_alone > 0 {
        let _infallible = write!(not_sent, ", {} links and the like left alone", waiting.left_alone);
    }
    lines.push(not_sent);
    lines
}

fn captures_of(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "capture")
}

/// Returns how much room there is, and how much the local copies take.
fn room(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, free) in [("drop folder", snapshot.drop_folder_free_bytes), ("state", snapshot.state_free_bytes)] {
        lines.extend(free.map(|free| format!("free       {} ({name})", size(free))));
    }
    if let Some(bytes) = snapshot.kept_bytes {
        let without = match snapshot.not_kept {
            0 => String::new(),
            number => format!("; {} went without a copy, as there was no room", captures_of(number)),
        };
        lines.push(format!("copies     {} of local copies{without}", size(bytes)));
    }
    lines
}

/// Returns the files that wait or are not sent, and why; not again what is said of the whole box above.
fn files(snapshot: &Snapshot) -> Vec<String> {
    let all = snapshot.files.iter().chain(&snapshot.not_uploaded);
    let told = |word: &str| {
        match word {
            "settling" => "still arriving",
            "queued" => "in line",
            "backing off" => "to retry",
            "set aside" => "damaged (moved away)",
            _ => return word.to_owned(),
        }
        .to_owned()
    };
    let is_stopped = snapshot.conditions.iter().any(|condition| condition.kind.stops_storing());
    let mut lines: Vec<String> = (all.clone().take(MOST_FILES))
        .map(|file| {
            // While nothing can be stored, whatever is in line waits for that, and not for what its last attempt met.
            let is_explained = file.state == "queued" && is_stopped;
            let reason = file.reason.as_ref().filter(|reason| !is_explained && !is_said(snapshot, reason));
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("file       {} {}{reason}", file.path, told(&file.state))
        })
        .collect();
    let more = all.count().saturating_sub(MOST_FILES);
    if more > 0 {
        lines.push(format!("           and {more} more: hk-aws --json status"));
    }
    lines
}

/// Returns whether a text is about what a condition says already, in the error's own words.
fn is_said(snapshot: &Snapshot, text: &str) -> bool {
    let details = snapshot.conditions.iter().filter_map(|condition| condition.detail.as_ref());
    details.into_iter().any(|detail| !detail.is_empty() && text.contains(detail.as_str()))
}

/// Returns one line about a job, in the zone of its schedule.
fn describe_job(job: &Job, at: DateTime<Utc>) -> String {
    let mut line = match (job.running_since, job.next_at) {
        (Some(since), _) => format!("runs since {}", local(since)),
        (None, Some(next)) if next <= at => format!("due since {}, and waits for the bucket", local(next)),
        (None, Some(next)) => format!("next {}", local(next)),
        (None, None) => "never due again".to_owned(),
    };
    // The run under way has no outcome yet; the one before it ended before it began.
    let last = if job.running_since.is_some() { job.last_ended_at } else { job.last_begun_at };
    if let (Some(last), Some(outcome)) = (last, &job.outcome) {
        let _infallible = write!(line, "; last {}: {}", local(last), plain(outcome));
    }
    line
}

/// Returns a time as the clock on the wall beside the box has it.
fn local(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local).format("%F %H:%M").to_string()
}
