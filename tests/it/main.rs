//! The tests that need no more than this machine: an S3 server in memory, real folders, the real SDK.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests remove what they made and read the clock")]

mod commands;
mod config;
mod corpus;
mod docs;
mod folder;
mod hostile;
mod invariants;
mod names;
mod process;
mod support;
mod support_s3;
mod trouble;
mod unit_file;
