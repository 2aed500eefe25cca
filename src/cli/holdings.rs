//! `cameras`, `days`, `list`, `get`: what the bucket holds.
//!
//! What came of a capture that was cut off is shown, and downloaded with its day, only where no whole one followed. The
//! whole one is known by its key, because a listing tells nothing of metadata and a request for each would be dear.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::{Day, Out, Partly, parse_date, plain, size, tell};
use crate::bucket::Object;
use crate::capture;
use crate::ingest::Context;
use crate::key::{self, Parts, Variant};

#[derive(Debug, Args)]
pub(super) struct List {
    /// As `cameras` lists it
    camera: String,
    /// YYYY-MM-DD, at the camera; without it, every day
    #[arg(value_parser = parse_date)]
    date: Option<NaiveDate>,
    /// Only this event, as `list` spells it
    #[arg(long)]
    event: Option<String>,
    /// Only captures taken at or after this: YYYY-MM-DD or YYYY-MM-DDThh:mm:ss, at the camera
    #[arg(long, value_name = "T", value_parser = parse_time)]
    from: Option<NaiveDateTime>,
    /// Only captures taken before this
    #[arg(long, value_name = "T", value_parser = parse_time)]
    to: Option<NaiveDateTime>,
}

#[derive(Debug, Args)]
pub(super) struct Get {
    #[command(flatten)]
    day: Day,
    /// Names or keys as `list` shows them; without any, the whole day
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// The folder to download into
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

#[derive(Debug, Serialize)]
struct Holding {
    key: String,
    file: String,
    camera: String,
    date: NaiveDate,
    taken_at: Option<DateTime<FixedOffset>>,
    event: Option<String>,
    size: u64,
    storage_class: String,
    partial: bool,
}

/// The cameras in the bucket.
pub(super) async fn camera_names(context: &Context) -> anyhow::Result<Vec<String>> {
    let prefix = context.layout.prefix();
    let folders = folders(context, prefix).await?;
    let names = folders.iter().map(|folder| folder[prefix.len()..].trim_end_matches('/').to_owned());
    // A key that begins with `/` lies in a folder without a name.
    Ok(names.filter(|name| !name.is_empty()).collect())
}

pub(super) async fn cameras(out: &Out, context: &Context) -> anyhow::Result<()> {
    let cameras = camera_names(context).await?;
    for camera in &cameras {
        #[derive(Serialize)]
        struct Camera<'a> {
            camera: &'a str,
        }
        out.item(&Camera { camera }, plain(camera))?;
    }
    if cameras.is_empty() {
        out.remark(format_args!("no camera in {}", context.bucket.describe()));
    }
    Ok(())
}

pub(super) async fn days(out: &Out, context: &Context, camera: &str) -> anyhow::Result<()> {
    let prefix = context.layout.camera_prefix(camera);
    let mut dates: Vec<NaiveDate> = if context.layout.has_date_folders() {
        // A stranger's folder may look like a date; a capture in it would have to parse as one.
        let parts = |folder: &String| context.layout.parse(&format!("{folder}file"));
        folders(context, &prefix).await?.iter().filter_map(parts).map(|parts| parts.date).collect()
    } else {
        let mut dates = Vec::new();
        holdings(context, &prefix, |parts, _| {
            dates.push(parts.date);
            Ok(())
        })
        .await?;
        dates
    };
    dates.sort_unstable();
    dates.dedup();
    if dates.is_empty() {
        bail!("the bucket holds no captures of {camera}; `hk-aws cameras` lists those it has");
    }
    for date in dates {
        #[derive(Serialize)]
        struct Date<'a> {
            camera: &'a str,
            date: NaiveDate,
        }
        out.item(&Date { camera, date }, date)?;
    }
    Ok(())
}

impl List {
    pub(super) async fn run(self, out: &Out, context: &Context) -> anyhow::Result<()> {
        let prefix = match self.date {
            Some(date) => context.layout.day_prefix(&self.camera, date),
            None => context.layout.camera_prefix(&self.camera),
        };
        let (mut found, mut nothing) = (Vec::new(), true);
        holdings(context, &prefix, |parts, object| {
            let holding = holding(context, parts, object);
            if !self.wants(&holding) {
                return Ok(());
            }
            nothing = false;
            // Keys come day by day: no more than a day is held, however many years the bucket has.
            let day: Option<&Holding> = found.last();
            if context.layout.has_date_folders() && day.is_some_and(|last| last.date != holding.date) {
                print(out, std::mem::take(&mut found))?;
            }
            found.push(holding);
            Ok(())
        })
        .await?;
        print(out, found)?;
        if nothing {
            let camera = &self.camera;
            out.remark(format_args!("nothing found; `hk-aws cameras` and `hk-aws days {camera}` list what there is"));
        }
        Ok(())
    }

    fn wants(&self, holding: &Holding) -> bool {
        let taken = holding.taken_at.map_or_else(|| holding.date.and_time(NaiveTime::MIN), |taken| taken.naive_local());
        holding.camera == self.camera
            && self.date.is_none_or(|date| date == holding.date)
            && (self.event.is_none() || self.event == holding.event)
            && self.from.is_none_or(|from| taken >= from)
            && self.to.is_none_or(|to| taken < to)
    }
}

/// Prints captures of whole days in the order in which they were taken: a vendor's names sort by device first.
fn print(out: &Out, mut found: Vec<Holding>) -> anyhow::Result<()> {
    leave_out_superseded(&mut found, |holding| &holding.key);
    found.sort_by(|a, b| (a.taken_at, &a.key).cmp(&(b.taken_at, &b.key)));
    for holding in &found {
        let taken = holding.taken_at.map_or_else(|| holding.date.to_string(), |taken| taken.to_rfc3339());
        let event = plain(holding.event.as_deref().unwrap_or("-"));
        let bytes = size(holding.size).to_string();
        let mark = if holding.partial { "  partial" } else { "" };
        out.item(holding, format_args!("{taken:<29}  {bytes:>10}  {event:<24}  {}{mark}", plain(&holding.key)))?;
    }
    Ok(())
}

/// Leaves out what came of a cut-off capture where a whole one with its key, or beside that, is there as well; says how
/// many.
fn leave_out_superseded<T>(found: &mut Vec<T>, key: impl Fn(&T) -> &str) -> usize {
    let whole_key = |item: &T| key::read_variant(key(item)).filter(|(_, variant)| *variant == Variant::Partial);
    let mut alone: HashSet<String> = found.iter().filter_map(whole_key).map(|(whole, _)| whole).collect();
    if alone.is_empty() {
        return 0;
    }
    for item in found.iter() {
        alone.remove(key(item));
        if let Some((first, Variant::Whole)) = key::read_variant(key(item)) {
            alone.remove(&first);
        }
    }
    let before = found.len();
    found.retain(|item| whole_key(item).is_none_or(|(whole, _)| alone.contains(&whole)));
    before - found.len()
}

impl Get {
    pub(super) async fn run(self, out: &Out, context: &Context) -> anyhow::Result<()> {
        let Day { camera, date } = &self.day;
        let is = |file: &String, name: &str, object: &Object| *file == name || *file == object.key;
        let mut wanted = Vec::new();
        holdings(context, &context.layout.day_prefix(camera, *date), |parts, object| {
            let named = self.files.is_empty() || self.files.iter().any(|file| is(file, &parts.file, &object));
            if named && parts.camera == *camera && parts.date == *date {
                wanted.push((parts.file, object));
            }
            Ok(())
        })
        .await?;
        if self.files.is_empty() {
            let left_out = leave_out_superseded(&mut wanted, |(_, object)| &object.key);
            if left_out > 0 {
                let captures = if left_out == 1 { "capture" } else { "captures" };
                out.remark(format_args!("{left_out} cut-off {captures} left out: the whole ones are there"));
            }
        }
        let missing: Vec<&String> =
            self.files.iter().filter(|file| !wanted.iter().any(|(name, object)| is(file, name, object))).collect();
        for file in &missing {
            tell(format_args!("{file}: no such capture of {camera} on {date}"));
        }
        if wanted.is_empty() && missing.is_empty() {
            bail!("the bucket holds no captures of {camera} on {date}; `hk-aws days {camera}` lists the days it has");
        }
        if !wanted.is_empty() {
            std::fs::create_dir_all(&self.to).with_context(|| format!("failed to create {}", self.to.display()))?;
        }
        let bar = if out.quiet || out.json { ProgressBar::hidden() } else { ProgressBar::new(wanted.len() as u64) };
        let (total, mut failed) = (wanted.len() + missing.len(), missing.len());
        for (file, object) in wanted {
            // On disk a name has 255 bytes, in the bucket more.
            let target = self.to.join(key::bounded(&file, 255));
            match download(context, &object, &target).await {
                Ok(()) => bar.suspend(|| {
                    out.item(&Downloaded { key: &object.key, to: &target }, plain(&target.to_string_lossy()))
                })?,
                Err(error) => {
                    failed += 1;
                    bar.suspend(|| tell(format_args!("{}: {error:#}", plain(&object.key))));
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        if failed == 0 { Ok(()) } else { Err(Partly { failed, total }.into()) }
    }
}

#[derive(Debug, Serialize)]
struct Downloaded<'a> {
    key: &'a str,
    to: &'a Path,
}

/// Downloads one object, checks it, and only then gives it its name. A file that is there is never replaced.
async fn download(context: &Context, object: &Object, target: &Path) -> anyhow::Result<()> {
    let folder = target.parent().context("no folder to download into")?;
    if target.exists() {
        bail!("{} exists already; remove it or choose another folder", target.display());
    }
    // As any file that a program makes: the umask decides who may read it.
    let mode = PermissionsExt::from_mode(0o666);
    let part = tempfile::Builder::new().permissions(mode).tempfile_in(folder);
    let part = part.with_context(|| format!("failed to write in {}", folder.display()))?;
    let mut file = tokio::fs::File::from_std(part.reopen()?);
    let got = context.bucket.get(&object.key, None, &mut file).await?;
    if got.size != object.size || got.expected.iter().any(|expected| *expected != got.sha256) {
        bail!(
            "the bytes that came are not the ones that were stored: {} of {}, SHA-256 {}",
            got.size,
            object.size,
            got.sha256
        );
    }
    file.sync_all().await?;
    part.persist_noclobber(target).with_context(|| format!("failed to write {}", target.display()))?;
    Ok(())
}

async fn folders(context: &Context, prefix: &str) -> anyhow::Result<Vec<String>> {
    let (mut folders, mut from) = (Vec::new(), None);
    loop {
        let page = context.bucket.list(prefix, true, from).await.with_context(|| context.bucket.describe())?;
        folders.extend(page.folders);
        from = page.next;
        if from.is_none() {
            return Ok(folders);
        }
    }
}

async fn holdings(
    context: &Context,
    prefix: &str,
    mut each: impl FnMut(Parts, Object) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut from = None;
    loop {
        let page = context.bucket.list(prefix, false, from).await.with_context(|| context.bucket.describe())?;
        for object in page.objects {
            if let Some(parts) = context.layout.parse(&object.key) {
                each(parts, object)?;
            }
        }
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}

fn holding(context: &Context, parts: Parts, object: Object) -> Holding {
    let named = capture::read_stored(&parts.camera, &parts.file, &context.config);
    let partial = matches!(key::read_variant(&object.key), Some((_, Variant::Partial)));
    Holding {
        key: object.key,
        file: parts.file,
        camera: parts.camera,
        date: parts.date,
        taken_at: named.taken,
        event: named.event,
        size: object.size,
        storage_class: object.storage_class,
        partial,
    }
}

fn parse_time(text: &str) -> Result<NaiveDateTime, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN));
    }
    ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .ok_or_else(|| "neither YYYY-MM-DD nor YYYY-MM-DDThh:mm:ss".to_owned())
}
