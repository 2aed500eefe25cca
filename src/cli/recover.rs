//! `recover`: what was deleted or covered, brought back.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use clap::Args;

use super::Partly;
use super::out::{Out, Printing, count, plain, size, tell};
use crate::key::CameraName;
use crate::lock;
use crate::recover::{self, Happened, LeftHidden, RecoverMode, RecoverOrder, RecoverOutcome, Recovered, Window};
use crate::site::Site;

#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// As `cameras` lists it; without it, every camera, also one of which nothing is left to list
    camera: Option<CameraName>,
    /// Only what was deleted or covered at or after this: YYYY-MM-DD, YYYY-MM-DDThh:mm:ss, or a time with its zone
    #[arg(long, value_name = "T", value_parser = parse_time)]
    since: Option<Time>,
    /// Only what was deleted or covered before this
    #[arg(long, value_name = "T", value_parser = parse_time)]
    until: Option<Time>,
    /// Also what a bundle holds, what had expired, and objects of other programs
    #[arg(long)]
    all: bool,
    /// Say what would be brought back, and touch nothing
    #[arg(long)]
    dry_run: bool,
}

/// A time as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// With its zone.
    Exact(DateTime<Utc>),
    /// By the clock of the box.
    Local(NaiveDateTime),
}

impl Time {
    /// Returns the moment; of a time that the clock shows twice the first one, and of one that it leaves out an hour later.
    fn at(self, zone: chrono_tz::Tz) -> DateTime<Utc> {
        match self {
            Self::Exact(time) => time,
            Self::Local(time) => {
                let at = |time: NaiveDateTime| zone.from_local_datetime(&time).earliest().map(|time| time.to_utc());
                at(time).or_else(|| at(time + TimeDelta::hours(1))).unwrap_or_else(|| time.and_utc())
            }
        }
    }
}

impl RecoverArgs {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let _lock = if self.dry_run { None } else { Some(lock::command(&site.config.runtime_dir)?) };
        let at = |time: Option<Time>| time.map(|time| time.at(site.config.timezone));
        let order = RecoverOrder {
            camera: self.camera.as_ref(),
            window: Window { since: at(self.since), until: at(self.until) },
            all: self.all,
            mode: if self.dry_run { RecoverMode::DryRun } else { RecoverMode::Recover },
        };
        let bar = out.spinner();
        let (mut total, mut failed, mut bytes) = (0, 0, 0);
        let mut printing = Printing::default();
        let recovering = recover::recover(site, order, |recovered| {
            total += 1;
            failed += usize::from(recovered.outcome.stays());
            bytes += if recovered.outcome.stays() { 0 } else { recovered.size };
            bar.inc(1);
            printing.go_on(bar.suspend(|| print(out, site, &recovered)))
        });
        let left = recovering.await;
        bar.finish_and_clear();
        let left = printing.or(left)?;
        let (back, word) = (total - failed, if self.dry_run { "would be brought back" } else { "brought back" });
        if total == 0 {
            out.remark("nothing is hidden that has to be brought back");
        } else if back > 0 {
            out.remark(format_args!("{} {word}, {}", count(back, "object"), size(bytes)));
        }
        tell_left(out, &left);
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }
}

/// Prints what comes back as data; what stays hidden is named on stderr.
fn print(out: &Out, site: &Site, recovered: &Recovered) -> anyhow::Result<()> {
    let Recovered { key, camera, date, version, happened, at, to, outcome, why, .. } = recovered;
    let name = match (camera, date) {
        (Some(camera), Some(date)) => format!("{camera} {date} {}", key.rsplit('/').next().unwrap_or(key)),
        _ => key.clone(),
    };
    let name = plain(&name);
    let when = at.with_timezone(&site.config.timezone).to_rfc3339();
    let what = match happened {
        Happened::Deleted => format!("was deleted {when}"),
        Happened::Covered => format!("was covered {when}"),
        Happened::InTheWay => format!("lies in the way since {when}"),
    };
    let to = to.as_deref().unwrap_or_default();
    let place = if to == key { "under its own name".to_owned() } else { format!("as {}", plain(to)) };
    match outcome {
        RecoverOutcome::Recovered => out.item(recovered, format_args!("{name} {what}; it is back {place}")),
        RecoverOutcome::Planned => out.item(recovered, format_args!("{name} {what}; it would come back {place}")),
        RecoverOutcome::Cold | RecoverOutcome::TooLarge | RecoverOutcome::Failed => {
            let why = why.as_deref().unwrap_or_default();
            tell(format_args!("{} {what}; its version {} stays hidden: {why}", plain(key), plain(version)));
            if out.json { out.item(recovered, "") } else { Ok(()) }
        }
    }
}

fn tell_left(out: &Out, left: &LeftHidden) {
    if left.by_rotation > 0 {
        out.remark(format_args!(
            "{} left hidden that the rotation deleted: bundles hold the same bytes, or they had expired; --all brings them \
             back too",
            count(left.by_rotation, "object")
        ));
    }
    if left.others > 0 {
        let more = if left.others > left.named.len() { ", ..." } else { "" };
        out.remark(format_args!(
            "{} left hidden that no camera has: {}{more}; --all brings them back too",
            count(left.others, "object"),
            plain(&left.named.join(", ")),
        ));
    }
}

fn parse_time(text: &str) -> Result<Time, &'static str> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Time::Exact(time.to_utc()));
    }
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(Time::Local(date.and_time(NaiveTime::MIN)));
    }
    ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(Time::Local)
        .ok_or("neither YYYY-MM-DD nor YYYY-MM-DDThh:mm:ss, with or without a zone such as Z or +02:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_at_the_clock_of_the_box_unless_they_name_a_zone() {
        for (text, expected) in [
            ("2022-02-24", "2022-02-23T22:00:00Z"),
            ("2022-02-24T05:06", "2022-02-24T03:06:00Z"),
            ("2022-02-24T05:06:07", "2022-02-24T03:06:07Z"),
            ("2022-02-24T05:06:07Z", "2022-02-24T05:06:07Z"),
            ("2022-02-24T05:06:07+01:00", "2022-02-24T04:06:07Z"),
            // The clock shows it twice, and never.
            ("2022-10-30T03:30", "2022-10-30T00:30:00Z"),
            ("2022-03-27T03:30", "2022-03-27T01:30:00Z"),
        ] {
            let at = parse_time(text).unwrap().at(chrono_tz::Europe::Kyiv);
            assert_eq!(at, expected.parse::<DateTime<Utc>>().unwrap(), "{text}");
        }
        for text in ["", "noon", "2022-02-30", "2022-02-24 05:06", "05:06"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
