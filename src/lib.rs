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
//!  holdings: cameras -> days -> Day::look {loose, archive} -> Holding -> fetch | restore    (list, get, restore, verify, archive)
//!  schedule (cron | CLI) -> rotate::plan -> retention::plan_day, pure -> archive | transition | expire -> confirm -> delete
//! ```
//!
//! # Invariants
//! Each has tests that carry its name. What the user is promised, sentence by sentence with the test that holds it, stands
//! in `packaging/doc/promises.md`. How each part keeps its promise is said where it is kept: crashes in
//! [`ingest::ingest_one`] and [`drop_folder`], outages in [`bucket`] and [`ingest`], full disks in [`kept`] and [`ledger`].
//!
//! * **I1** A local file is removed only after the same bytes were confirmed in the bucket, and only if it is unchanged
//!   since it was opened.
//! * **I2** An object is never overwritten with different bytes.
//! * **I3** Every file in the drop folder is settling, queued, uploading, backing off, ignored, left alone or set aside,
//!   and `status` says which and why.
//! * **I4** Members of a bundle are deleted only after the bundle and its index are confirmed.
//! * **I5** A kill at any instruction leaves a state that the next scan completes.
//! * **I6** Memory is bounded, whatever waits in the folder.
//! * **I7** A capture just taken never waits behind a backlog; the backlog always makes some progress.
//! * **I8** The hot path is one request to S3 for a capture of ordinary size, and needs only `s3:PutObject`. Stores other
//!   than AWS are tried at the start, after each outage and once a day; at those that overwrite a look precedes each put.
//! * **I9** In the bucket that the template makes, whatever is done with the box's keys, every confirmed byte can be brought
//!   back for `s3.undo`.
//! * **I10** The rotation touches what is this box's and nothing else. Two hosts that rotate together leave what one would,
//!   on a store that honours `If-None-Match`.
//!
//! # Map
//! A line for each room, in reading order. No import goes in a circle. Only [`cli`] prints; only
//! [`daemon::now`] reads the clock.
//!
//! * [`config`]: the file, read and checked: every problem together, each with its line and a hint
//! * [`clock`]: the two clocks of a box, and the wait after a failure
//! * [`lock`]: the locks of the run-time folder
//! * [`persist`]: state files, written whole or not at all
//! * [`disk`]: how much room a file system has
//! * [`place`]: where a folder really is, whatever links and mounts lead to it
//! * [`service`]: what the installed unit of systemd opens, and the lines that it lacks
//! * [`owner`]: what root makes in the folders of the service belongs to the service
//! * [`trust`]: the certificates that a client trusts
//! * [`post`]: one request to a service of the owner's, such as a webhook
//! * [`credentials`]: the file with the box's AWS key
//! * [`key`]: object keys: the bucket's layout, rendered and parsed in one place
//! * [`capture`]: what a file is: its camera, its time, its event; how vendors name files; whether its content is whole
//! * [`drop_folder`]: scan, open, look again, set aside: the only room that removes or renames files there
//! * [`set_aside`]: files that can never be stored as they are: where they are, and why
//! * [`watch`]: inotify as bounded hints where to look
//! * [`queue`]: what is due now, newest first; bounded and pure
//! * [`bucket`]: put, confirm, list, get, copy, delete, restore: the only room that names the SDK
//! * [`site`]: one configuration and the parts that it names, wired together
//! * [`stored`], [`ledger`], [`kept`]: a capture that is in the bucket; the line about it; the local copy
//! * [`ingest`]: the loop, and one file's way through it
//! * [`bundle`]: the format of bundles and of their indexes; knows no bucket
//! * [`holdings`]: what the bucket holds: cameras, days, captures; fetched and restored
//! * [`retention`]: what is due to be bundled, moved or deleted, and what that costs; pure
//! * [`archive`], [`rotate`], [`arrange`], [`verify`], [`recover`]: act on the holdings
//! * [`schedule`]: when jobs run, one at a time, what was missed, how each run ended
//! * [`status`], [`health`], [`journal`]: what is told: one snapshot for many readers, what it says is wrong, and the log
//! * [`heartbeat`], [`alerts`]: the sign of life that others watch; what is wrong, told to the owner
//! * [`mqtt`]: Home Assistant, told through a broker
//! * [`ftp_logins`]: logins that fail at the FTP server, by the journal
//! * [`message`]: the id of each warning and error, by which the catalogue of the journal knows it
//! * [`metrics`]: figures for Prometheus, and whether all is well, over HTTP
//! * [`aws_template`], [`doctor`]: what is made and tried outside
//! * [`daemon`]: wires the tasks; owns signals, watchdog, reload and drain
//! * [`cli`]: parses, calls, prints

pub mod clock;
pub mod config;
pub mod credentials;
pub mod disk;
pub mod key;
pub mod lock;
pub mod owner;
pub mod persist;
pub mod place;
pub mod post;
pub mod service;
pub mod trust;

pub mod capture;
pub mod drop_folder;
pub mod queue;
pub mod set_aside;
pub mod watch;

pub mod bucket;
pub mod ingest;
pub mod kept;
pub mod ledger;
pub mod site;
pub mod stored;

pub mod bundle;
pub mod holdings;

pub mod archive;
pub mod arrange;
pub mod recover;
pub mod retention;
pub mod rotate;
pub mod verify;

pub mod alerts;
pub mod daemon;
pub mod ftp_logins;
pub mod health;
pub mod heartbeat;
pub mod journal;
pub mod message;
pub mod metrics;
pub mod mqtt;
pub mod schedule;
pub mod status;

pub mod aws_template;
pub mod doctor;

pub mod cli;
