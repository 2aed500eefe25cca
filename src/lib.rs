//! `hk-aws` sends what IP cameras push into a drop folder to Amazon S3 within a second, and keeps it there.
//!
//! **The drop folder is the queue, the scan is the truth, inotify only makes it prompt; the bucket is the record.**
//! Nothing durable lives in memory or in a database: work that waits, waits on disk. A restart is a scan.
//!
//! ```text
//!  FTP server -> drop folder --inotify: "look here"--.    (overflow, lost watch, restart: all just "look everywhere")
//!                             every `rescan` --------+--> DropFolder::scan -> Queue::observe -> due, newest first
//!                                                              ^ outcome                         | at most `concurrency`
//!    keep or delete locally <- ledger line <- confirmed <- Bucket::put_new <- classify: camera, taken, event
//!
//!  schedule (cron | CLI) -> list -> retention::plan_day, pure -> bundle | transition | expire -> confirm -> delete members
//!  schedule (cron) --> rotate
//! ```
//!
//! # Invariants
//! Each has tests that carry its name. What the user is promised, sentence by sentence with the test that holds it, stands
//! in packaging/doc/promises.md; how each part keeps its promise is said where it is kept: crashes in
//! [`ingest::ingest_one`] and [`drop_folder`], outages in [`bucket`] and [`ingest`], full disks in [`kept`] and [`ledger`].
//!
//! * **I1** A local file is removed only after the same bytes were confirmed in the bucket, and only if it is unchanged
//!   since it was opened.
//! * **I2** An object is never overwritten with different bytes.
//! * **I3** Every file in the drop folder is settling, queued, uploading, backing off, ignored, left alone or set aside,
//!   and `status` says which and why.
//! * **I4** Members of a bundle are deleted only after bundle and index are confirmed.
//! * **I5** A kill at any instruction leaves a state that the next scan completes.
//! * **I6** Memory is bounded, whatever waits in the folder.
//! * **I7** A capture just taken never waits behind a backlog; the backlog always makes some progress.
//! * **I8** The hot path is one request to S3 for a capture of ordinary size, and needs only `s3:PutObject`; but for the
//!   trial of a store other than AWS at the start, and where such a store must be looked at before a put.
//!
//! # Map
//! In reading order; what is printed is printed by [`cli`], real time is read in [`daemon`] and [`cli`] alone.

pub mod config;

pub mod capture;
pub mod key;

pub mod disk;
pub mod drop_folder;
pub mod queue;
pub mod watch;

pub mod bucket;
pub mod ingest;
pub mod kept;
pub mod ledger;

pub mod archive;
pub mod retention;
pub mod rotate;
pub mod schedule;

pub mod arrange;
pub mod verify;

pub mod daemon;
pub mod journal;
pub mod status;

pub mod aws_template;
pub mod doctor;

pub mod cli;
