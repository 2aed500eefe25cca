//! `cameras`, `days`, `list`: what the bucket holds.

use anyhow::bail;
use chrono::NaiveDate;
use clap::Args;
use serde::Serialize;

use super::out::{Out, plain, print_lines, size, tell};
use super::times::{CameraTime, span};
use super::{Partly, parse_date};
use crate::holdings::{self, Holding, Listing, Misfits, Selection};
use crate::key::CameraName;
use crate::site::Site;

/// How many bytes are printed together: a write for each line of a day of 10,000 captures costs more than their lines.
const PRINTED_TOGETHER: usize = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// As `cameras` lists it
    camera: CameraName,
    /// YYYY-MM-DD, at the camera; without it, every day
    #[arg(value_parser = parse_date)]
    date: Option<NaiveDate>,
    /// Only this event, as `list` spells it
    #[arg(long)]
    event: Option<String>,
    /// Only captures taken at or after this, at the camera: hh:mm of DATE, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss
    #[arg(long, value_name = "T")]
    from: Option<CameraTime>,
    /// Only captures taken before this
    #[arg(long, value_name = "T", visible_alias = "until")]
    to: Option<CameraTime>,
}

pub(super) async fn cameras(out: &Out, site: &Site) -> anyhow::Result<()> {
    let cameras = holdings::cameras(site).await?;
    let misfits = holdings::misfits::beside_cameras(site, &cameras).await?;
    for camera in &cameras {
        #[derive(Serialize)]
        struct CameraLine<'a> {
            camera: &'a CameraName,
        }
        out.item(&CameraLine { camera }, plain(camera))?;
    }
    if cameras.is_empty() {
        out.remark(format_args!("no camera in {}", site.bucket.describe()));
    }
    remark_on(out, &misfits);
    Ok(())
}

pub(super) async fn days(out: &Out, site: &Site, camera: &str) -> anyhow::Result<()> {
    let dates = holdings::days(site, camera).await?;
    remark_on(out, &holdings::misfits::of_camera(site, camera).await?);
    if dates.is_empty() {
        holdings::must_exist(site, camera).await?;
        bail!("the bucket holds no captures of {}; `hk-aws cameras` lists the cameras", plain(camera));
    }
    for date in dates {
        #[derive(Serialize)]
        struct DayLine<'a> {
            camera: &'a str,
            date: NaiveDate,
        }
        out.item(&DayLine { camera, date }, date)?;
    }
    Ok(())
}

impl ListArgs {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let ListArgs { camera: wanted, date, event, from, to } = self;
        let camera = plain(&wanted);
        let (from, to) = span(date, from, to)?;
        let selection = Selection { camera: wanted.to_string(), date, event, from, to };
        let mut listing = Listing::begin(site, selection).await?;
        let (mut shown, mut unread, mut without_index) = (0, 0, Vec::new());
        while let Some(day) = listing.next_day().await? {
            for bundle in &day.unread {
                tell(format_args!("{}: {}; what is in it is not listed", plain(&bundle.key), bundle.error));
            }
            let mut lines = String::with_capacity(PRINTED_TOGETHER + 1024);
            for holding in &day.captures {
                add_line(&mut lines, out, holding)?;
                if lines.len() >= PRINTED_TOGETHER {
                    print_lines(&lines)?;
                    lines.clear();
                }
            }
            print_lines(&lines)?;
            shown += day.captures.len();
            unread += day.unread.len();
            without_index.extend(day.without_index);
        }
        remark_on(out, listing.misfits());
        if let [first, more @ ..] = &*without_index {
            let (first, has) = (plain(first), if more.is_empty() { "has" } else { "have" });
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            out.remark(format_args!(
                "{first}{more} {has} no index: what is in it nobody can tell, and `hk-aws get {camera} DATE` unpacks it whole"
            ));
        }
        if unread > 0 {
            return Err(Partly { failed: unread, total: unread + shown }.into());
        }
        if shown == 0 && without_index.is_empty() {
            if listing.misfits().objects == 0 {
                remark_on(out, &holdings::misfits::of_camera(site, &wanted).await?);
            }
            holdings::must_exist(site, &wanted).await?;
            out.remark(format_args!("nothing found; `hk-aws cameras` and `hk-aws days {camera}` list what there is"));
        }
        Ok(())
    }
}

fn remark_on(out: &Out, misfits: &Misfits) {
    if let Some(line) = misfits.line() {
        out.remark(line);
    }
}

/// Adds the line of a capture.
fn add_line(lines: &mut String, out: &Out, holding: &Holding) -> anyhow::Result<()> {
    let taken = match holding.taken_at {
        Some(taken) => taken.to_rfc3339(),
        // The members of a bundle without an index may be of any time of that day.
        None if holding.bundle.as_ref() == Some(&holding.key) => holding.date.to_string(),
        None => format!("{} time unknown", holding.date),
    };
    let event = plain(holding.event.as_deref().unwrap_or("-"));
    let bytes = size(holding.size).to_string();
    let mark = if holding.partial { "  partial" } else { "" };
    let class = plain(&holding.storage_class);
    let place = match &holding.bundle {
        Some(bundle) if *bundle != holding.key => {
            format!("  in {}, {class}", plain(bundle.rsplit('/').next().unwrap_or(bundle)))
        }
        Some(_) => format!("  no index, {class}"),
        None => String::new(),
    };
    let key = plain(&holding.key);
    out.add_line(lines, holding, format_args!("{taken:<29}  {bytes:>10}  {event:<24}  {key}{mark}{place}"))
}
