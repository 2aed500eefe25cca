//! The daemon between real peers: an FTP client and three FTP servers before it, SeaweedFS and moto behind it.
//!
//! Run by name, as root: `cargo test --test peers`. A newcomer's machine has none of these servers, so plain `cargo
//! test` leaves this out; but once asked for, a peer that is missing is a failure that names what to install.
#![expect(clippy::disallowed_methods, reason = "tests measure real time, and take away their own files")]
#![expect(clippy::unwrap_used, reason = "a test ends where its ground gives way")]

#[path = "../it/support/alarm.rs"]
mod alarm;
mod alerting;
mod archive;
mod camera;
mod captures;
mod catalogue;
mod daemon;
mod disk;
mod doctor;
mod folder;
mod ftp_server;
mod habits;
mod hostile;
mod household;
mod installation;
#[path = "../it/support/memory.rs"]
mod memory;
#[path = "../it/support/s3.rs"]
#[expect(dead_code, reason = "the tests in memory need more of it")]
mod memory_s3;
mod mosquitto;
mod moto;
mod operator;
mod outage;
mod own_folders;
mod parts;
mod power;
mod prometheus;
mod proxy;
mod seaweedfs;
mod server;
mod service;
mod stolen;
mod store;
mod template;
mod thief;
mod uploads;
mod volume;
mod watching;
mod write_only;
