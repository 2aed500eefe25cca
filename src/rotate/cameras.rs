//! Which cameras of the bucket the rotation may touch, and what else lies there.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::capture::{self, CameraFrom};
use crate::config::RotatedCameras;
use crate::holdings::{self, HoldingsError};
use crate::key::{self, CameraName};
use crate::ledger;
use crate::site::Site;

/// How many folders of others are named; the rest is only counted.
const MOST_NAMED: usize = 20;

/// How many objects of such a folder are counted: a page of a listing.
const MOST_COUNTED: usize = 1000;

/// The folders of the bucket that the rotation leaves alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Others {
    /// Their number.
    pub folders: u64,
    /// The first 20 of them.
    pub named: Vec<OtherFolder>,
}

/// A folder that the rotation leaves alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherFolder {
    /// Its name.
    pub name: String,
    /// Its objects, at most 1,000.
    pub objects: u64,
    /// Whether there may be more than these.
    pub more: bool,
}

impl Others {
    /// Returns one line about them; `None` if there are none.
    pub fn line(&self) -> Option<String> {
        let name = |folder: &OtherFolder| {
            let OtherFolder { name, objects, more } = folder;
            // Anybody who can store an object there chooses the name.
            let name = key::printable(name);
            let (more, plural) = (if *more { " or more" } else { "" }, if *objects == 1 { "" } else { "s" });
            format!("{name} ({objects}{more} object{plural})")
        };
        let mut names: Vec<String> = self.named.iter().map(name).collect();
        let rest = self.folders - self.named.len() as u64;
        if rest > 0 {
            names.push(format!("{rest} more"));
        }
        (self.folders > 0).then(|| {
            let (folders, names) = (self.folders, names.join(", "));
            let are = if folders == 1 { "folder in the bucket is" } else { "folders in the bucket are" };
            format!("{folders} {are} none of rotate.cameras and left alone: {names}")
        })
    }
}

/// Splits the bucket's folders into the cameras that the rotation may touch, and the others.
///
/// # Errors
/// [`HoldingsError::Refused`] if the bucket cannot be listed; [`HoldingsError::Local`] if ledger or drop folder cannot be
/// read, so that nobody can tell which cameras are known.
pub(super) async fn split(site: &Site) -> Result<(Vec<CameraName>, Others), HoldingsError> {
    let folders = holdings::cameras(site).await?;
    let known = match &site.config.rotate.cameras {
        RotatedCameras::All => return Ok((folders, Others::default())),
        RotatedCameras::Named(names) => names.iter().map(|name| key::camera_segment(name.as_bytes())).collect(),
        RotatedCameras::Known => known(site)?,
    };
    let (cameras, rest): (Vec<_>, Vec<_>) = folders.into_iter().partition(|name| known.contains(&**name));
    let mut others = Others { folders: rest.len() as u64, named: Vec::new() };
    for name in rest.into_iter().take(MOST_NAMED) {
        let folders = site.prefixes().into_values().map(|layout| site.bucket.objects(&layout.camera_prefix(&name)));
        let objects = stream::iter(folders.collect::<Vec<_>>()).flatten().take(MOST_COUNTED);
        let counted = objects.try_fold(0, |count, _| std::future::ready(Ok(count + 1))).await;
        let objects = counted.map_err(|error| HoldingsError::from(error).about(site.bucket.describe()))?;
        others.named.push(OtherFolder { name: name.into(), objects, more: objects >= MOST_COUNTED as u64 });
    }
    Ok((cameras, others))
}

/// Returns the cameras that this box knows, as segments of keys.
fn known(site: &Site) -> Result<BTreeSet<String>, HoldingsError> {
    let unread = |folder: &Path, error: &io::Error| {
        HoldingsError::local(
            format_args!("failed to read {}, which tells the cameras to rotate", folder.display()),
            error,
        )
    };
    let configured = site.config.cameras.iter().map(|camera| key::camera_segment(camera.name.as_bytes()));
    let mut known: BTreeSet<String> = configured.collect();
    let ledger = site.ledger();
    let stored = ledger::cameras_with_captures(&ledger).map_err(|error| unread(&ledger, &error))?;
    known.extend(stored);
    let drop_folder = site.folder.path();
    known.extend(folders(site, drop_folder).map_err(|error| unread(drop_folder, &error))?);
    Ok(known)
}

/// Returns the cameras whose files the folders directly in the drop folder would hold.
fn folders(site: &Site, drop_folder: &Path) -> io::Result<BTreeSet<String>> {
    let entries = match std::fs::read_dir(drop_folder) {
        // On another machine there is none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries?,
    };
    let mut cameras = BTreeSet::new();
    for entry in entries {
        let entry = entry?;
        let name = Path::new(&entry.file_name()).join("file");
        if !entry.file_type()?.is_dir() || site.config.drop_folder.ignore.matches(&name).is_some() {
            continue;
        }
        let sighting = capture::sight(&name, &site.config);
        if matches!(sighting.camera_from, CameraFrom::Pattern | CameraFrom::Match | CameraFrom::Folder) {
            cameras.insert(sighting.camera);
        }
    }
    Ok(cameras)
}
