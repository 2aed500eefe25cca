//! The tests that need no more than this machine: an S3 server in memory, real folders, the real SDK.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::case_sensitive_file_extension_comparisons, reason = "keys end as they were written")]
#![expect(clippy::disallowed_methods, reason = "tests remove what they made and read the clock")]

mod alerting;
mod alerts;
mod altered;
mod answers;
mod archive;
mod archive_kill;
mod clock_offset;
mod commands;
mod condition;
mod config;
mod corpus;
mod disk;
mod docs;
mod flood;
mod folder;
mod ftp_logins;
mod hashed_names;
mod health;
mod heartbeat;
mod hostile;
mod invariants;
mod kill;
mod metrics;
mod model;
mod mqtt;
mod names;
mod outage;
mod own_folders;
mod pace;
mod poison;
mod process;
mod reported;
mod restart;
mod rooms;
mod schedule;
mod state_files;
mod stopping;
mod strangers;
mod support;
mod support_s3;
mod thief;
mod time;
mod too_large;
mod trouble;
mod two_rotations;
mod unit_file;
mod webhooks;
mod writers;
mod year;
