//! `status`: what the daemon said of itself last.

use std::fmt::Write;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Local, Utc};

use super::out::{Out, plain, print_json, print_line, size};
use crate::config::Config;
use crate::lock;
use crate::status::{Job, Snapshot};

pub(super) fn status(out: &Out, config: &Config) -> anyhow::Result<()> {
    let snapshot = Snapshot::read(&config.runtime_dir).with_context(|| {
        format!("failed to read the status in {}; is the daemon running?", config.runtime_dir.display())
    })?;
    if out.json {
        print_json(&snapshot)?;
    } else {
        describe(&snapshot)?;
    }
    if !lock::is_daemon_running(&config.runtime_dir) {
        bail!("the daemon is not running; this is what it said last, at {}", snapshot.at.format("%F %T UTC"));
    }
    Ok(())
}

fn describe(snapshot: &Snapshot) -> anyhow::Result<()> {
    describe_captures(snapshot)?;
    describe_room(snapshot)?;
    for (name, job) in &snapshot.jobs {
        print_line(format!("{name:10} {}", describe_job(job, snapshot.at)))?;
    }
    describe_cameras(snapshot)?;
    for file in snapshot.files.iter().chain(&snapshot.not_uploaded) {
        let reason = file.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        print_line(format!("file       {} {}{reason}", file.path, file.state))?;
    }
    for error in &snapshot.last_errors {
        print_line(format!("error      {} {}", error.at.format("%F %T UTC"), error.message))?;
    }
    Ok(())
}

/// Prints where captures go, and how many are stored, wait, or are not sent.
fn describe_captures(snapshot: &Snapshot) -> anyhow::Result<()> {
    let waiting = &snapshot.waiting;
    print_line(format!("state      {}", format!("{:?}", snapshot.state).to_lowercase()))?;
    print_line(format!("bucket     {}", snapshot.bucket))?;
    if let Some(trouble) = &snapshot.trouble {
        print_line(format!("trouble    since {}: {}", trouble.since.format("%F %T UTC"), trouble.reason))?;
        if !trouble.advice.is_empty() {
            print_line(format!("           {}", trouble.advice))?;
        }
    }
    print_line(format!(
        "stored     {} captures, {} since {}",
        snapshot.stored.captures,
        size(snapshot.stored.bytes),
        snapshot.started_at.format("%F %T UTC")
    ))?;
    print_line(format!(
        "waiting    {} settling, {} queued, {} uploading, {} backing off, {} on disk: {}",
        waiting.settling,
        waiting.queued,
        waiting.uploading,
        waiting.backing_off,
        waiting.on_disk,
        size(waiting.bytes)
    ))?;
    if let Some(oldest) = &snapshot.oldest_only_here {
        print_line(format!("only here  {} since {}", oldest.path, oldest.since.format("%F %T UTC")))?;
    }
    if waiting.elsewhere > 0 {
        print_line(format!("elsewhere  {} waited in the drop folder that was here before", waiting.elsewhere))?;
    }
    print_line(format!(
        "not sent   {} ignored, {} left alone, {} set aside",
        waiting.ignored, waiting.left_alone, waiting.set_aside
    ))
}

/// Prints how much room there is, and how much the local copies take.
fn describe_room(snapshot: &Snapshot) -> anyhow::Result<()> {
    for (name, free) in [("drop folder", snapshot.drop_folder_free_bytes), ("state", snapshot.state_free_bytes)] {
        if let Some(free) = free {
            print_line(format!("free       {} ({name})", size(free)))?;
        }
    }
    let Some(bytes) = snapshot.kept_bytes else { return Ok(()) };
    let without = if snapshot.not_kept == 0 {
        String::new()
    } else {
        format!("; {} captures went without a copy for want of room", snapshot.not_kept)
    };
    print_line(format!("kept       {} of local copies{without}", size(bytes)))
}

fn describe_cameras(snapshot: &Snapshot) -> anyhow::Result<()> {
    for (name, camera) in &snapshot.cameras {
        print_line(format!(
            "camera     {name}: {} captures, last taken {}",
            camera.captures,
            camera.last_taken_at.to_rfc3339()
        ))?;
        if let Some(wrong) = &camera.wrong_clock {
            let (captures, said) = (wrong.captures, wrong.last_said.to_rfc3339());
            print_line(format!("           its clock is wrong: {captures} filed by arrival, one said {said}"))?;
        }
    }
    Ok(())
}

/// Returns one line about a job, in the zone of its schedule.
fn describe_job(job: &Job, at: DateTime<Utc>) -> String {
    let local = |time: DateTime<Utc>| time.with_timezone(&Local).format("%F %H:%M %:z").to_string();
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
