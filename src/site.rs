//! The site: one configuration with the drop folder, the bucket and the local copies that it names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Utc};

use crate::bucket::{Bucket, Credentials, Pace};
use crate::capture::media::Readable;
use crate::capture::{self, Arrival, Capture};
use crate::clock::Now;
use crate::config::Config;
use crate::disk::Room;
use crate::drop_folder::DropFolder;
use crate::kept::Kept;
use crate::key::{FormerKeyParts, KeyParts, Layout, ObjectKey};
use crate::{ledger, set_aside};

/// The site in force, as the ingest loop passes it on to the scheduler.
#[derive(Debug, Clone)]
pub struct SiteInForce {
    /// The site.
    pub site: Arc<Site>,
    /// How many times somebody has asked to try again what failed: by a reload or by the signal to look. New
    /// credentials do not count, because they come by themselves.
    pub retries_asked: u64,
}

impl SiteInForce {
    /// Returns a site that nobody has asked to try again.
    pub fn new(site: Arc<Site>) -> Self {
        Self { site, retries_asked: 0 }
    }
}

/// One configuration and its parts, as uploads, commands and rotation use them. A reload replaces the whole value.
#[derive(Debug)]
pub struct Site {
    /// The settings.
    pub config: Arc<Config>,
    /// The drop folder.
    pub folder: DropFolder,
    /// The bucket.
    pub bucket: Bucket,
    /// The local copies.
    pub kept: Arc<Kept>,
    /// How object keys are made.
    pub layout: Layout,
    /// How they were made before: captures under such keys are still read.
    pub former: Vec<Layout>,
    /// Reads both clocks.
    pub clock: fn() -> Now,
    /// When the configuration was read.
    pub since: SystemTime,
}

impl Site {
    /// Connects the parts that a configuration names.
    ///
    /// `credentials` replace the standard AWS chain. `pace` takes over the bandwidth limit of this configuration, also
    /// for uploads that an earlier configuration started.
    pub async fn new(config: Arc<Config>, credentials: Option<Credentials>, pace: Pace, clock: fn() -> Now) -> Self {
        pace.set(config.upload.bandwidth.clone());
        pace.share_turns(&config.runtime_dir);
        let layout = Layout::new(&config.s3.prefix, config.s3.key.clone());
        let former = config.s3.former_keys.iter().map(|shape| shape.layout(&config.s3.prefix)).collect();
        let bucket = Bucket::connect(&config.s3, credentials, pace).await.with_state(&config.state_dir);
        let kept = Arc::new(Kept::new(&config));
        let own: [&Path; 3] = [&config.state_dir, &config.runtime_dir, &config.keep.path];
        let folder = DropFolder::new(&config.drop_folder).apart_from(&own);
        let since = clock().wall;
        Self { config, folder, bucket, kept, layout, former, clock, since }
    }

    /// Returns the same site for each folder of files that are set aside, in place of the drop folder.
    pub fn set_aside(&self) -> Vec<Self> {
        let at = |path: PathBuf| Self {
            config: Arc::clone(&self.config),
            folder: DropFolder::of_set_aside(path),
            layout: self.layout.clone(),
            former: self.former.clone(),
            kept: Arc::clone(&self.kept),
            bucket: self.bucket.clone(),
            clock: self.clock,
            since: self.since,
        };
        set_aside::roots(&self.config.state_dir).into_iter().map(at).collect()
    }

    /// Returns the same settings with everything that the AWS files say, such as credentials, read again.
    pub async fn renewed(&self) -> Self {
        let (config, folder, layout) = (Arc::clone(&self.config), self.folder.clone(), self.layout.clone());
        Self {
            config,
            folder,
            layout,
            former: self.former.clone(),
            kept: Arc::clone(&self.kept),
            bucket: self.bucket.renewed().await,
            clock: self.clock,
            since: self.since,
        }
    }

    /// Returns the layout of today and the former ones, in the order in which they are tried.
    pub fn layouts(&self) -> impl Iterator<Item = &Layout> {
        std::iter::once(&self.layout).chain(&self.former)
    }

    /// Returns the prefixes of all layouts, each once, with the first layout that has it.
    pub fn prefixes(&self) -> BTreeMap<&str, &Layout> {
        let mut prefixes = BTreeMap::new();
        for layout in self.layouts() {
            prefixes.entry(layout.prefix()).or_insert(layout);
        }
        prefixes
    }

    /// Reads a capture's key by the first layout that it fits; returns the number of that layout, too. If its shape has no
    /// date, the name of the file tells the day; a name that does not fits no layout.
    pub fn read_key(&self, key: &str) -> Option<(usize, KeyParts)> {
        self.layouts().enumerate().find_map(|(at, layout)| {
            let FormerKeyParts { camera, date, file } = layout.split(key)?;
            let named = || Some(capture::read_stored(&camera, &file, &self.config).taken?.date_naive());
            let date = date.or_else(named)?;
            Some((at, KeyParts { camera, date, file }))
        })
    }

    /// Returns whether an object is a capture, a bundle or an index by one of the layouts.
    pub fn reads(&self, key: &str) -> bool {
        self.read_key(key).is_some() || self.layouts().any(|layout| layout.parse_archive(key).is_some())
    }

    /// Returns what a file of the drop folder is, and its object key.
    ///
    /// Reads the file only if its path does not tell when it was taken.
    ///
    /// # Errors
    /// The error of the file system if the file cannot be read.
    pub fn classify(
        &self,
        path: &Path,
        file: &mut dyn Readable,
        modified: SystemTime,
    ) -> io::Result<(Capture, ObjectKey)> {
        let stored_as = self.folder.stored_as(path);
        let sighting = capture::sight(&stored_as.path, &self.config);
        let content = sighting.ask(file)?;
        let capture =
            sighting.settle(content, Arrival { at: capture::arrival(modified), now: (self.clock)().wall.into() });
        let key = self.layout.render(&capture.fields());
        Ok((capture, key))
    }

    /// Returns why the drop folder may soon have no room for new captures; `None` while there is enough.
    pub fn shortage(&self) -> Option<String> {
        Room::at(self.folder.path())?.shortage(self.config.keep.min_free)
    }

    /// Compresses files of the ledger that are older than `keep.days`.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn compress_ledger(&self, now: Now) -> io::Result<usize> {
        let today = DateTime::<Utc>::from(now.wall).with_timezone(&self.config.timezone).date_naive();
        ledger::compress_old(&self.ledger(), self.config.keep.days, today)
    }

    /// Returns the path of the ledger's folder.
    pub fn ledger(&self) -> PathBuf {
        ledger::folder(&self.config.state_dir)
    }
}
