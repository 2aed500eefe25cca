//! The site: one configuration, and the parts that it names, wired together. Everything below works with it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::bucket::{Bucket, Credentials, Pace};
use crate::capture::{self, Arrival, Capture};
use crate::clock::Now;
use crate::config::Config;
use crate::disk::Room;
use crate::drop_folder::{self, DropFolder};
use crate::kept::Kept;
use crate::key::{Layout, ObjectKey};
use crate::ledger;

/// What an upload needs to know; one value a configuration, replaced as a whole by a reload.
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
    /// The shape of keys.
    pub layout: Layout,
    /// Reads the clocks.
    pub clock: fn() -> Now,
}

impl Site {
    /// Wires the parts that a configuration names.
    ///
    /// `pace` takes on the limit of this configuration, also for uploads under way by another.
    pub async fn new(config: Arc<Config>, credentials: Option<Credentials>, pace: Pace, clock: fn() -> Now) -> Self {
        pace.set(config.upload.bandwidth.clone());
        let layout = Layout::new(&config.s3.prefix, config.s3.key.clone());
        let bucket = Bucket::connect(&config.s3, credentials, pace).await;
        let kept = Arc::new(Kept::new(&config));
        Self { folder: DropFolder::new(&config.drop_folder), bucket, kept, layout, config, clock }
    }

    /// The same settings with credentials, and all else that the AWS files say, as they are now.
    pub async fn renewed(&self) -> Self {
        let (config, folder, layout) = (Arc::clone(&self.config), self.folder.clone(), self.layout.clone());
        Self {
            config,
            folder,
            layout,
            kept: Arc::clone(&self.kept),
            bucket: self.bucket.renewed().await,
            clock: self.clock,
        }
    }

    /// Classifies a file of the folder, with a look into it where the path does not tell the time, and gives it its key.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn classify(&self, path: &Path, file: &mut File, modified: SystemTime) -> io::Result<(Capture, ObjectKey)> {
        let sent_as = drop_folder::sent_as(path);
        let sighting = capture::sight(&sent_as, &self.config);
        let content = sighting.ask(file)?;
        let capture =
            sighting.settle(content, Arrival { at: capture::arrival(modified), now: (self.clock)().wall.into() });
        let key = self.layout.render(&capture.fields());
        Ok((capture, key))
    }

    /// Why the drop folder may soon have no room for new captures, if so.
    pub fn shortage(&self) -> Option<String> {
        Room::at(self.folder.path())?.shortage(self.config.keep.min_free)
    }

    /// Where the ledger lies.
    pub fn ledger(&self) -> PathBuf {
        ledger::folder(&self.config.state_dir)
    }
}
