//! Sets up the log: to the journal, where each field can be searched for, or to stderr.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogTarget;
use crate::key;

/// Sends messages of this program from `level` up to `target`, and of other crates only errors.
///
/// The journal gets the fields without a prefix, so that `journalctl CAMERA=...` works.
pub fn init(target: LogTarget, level: &str) {
    let filter = EnvFilter::new(format!("error,hk_aws={level}"));
    let journald = match target {
        LogTarget::Journald => tracing_journald::layer().ok(),
        LogTarget::Auto if stderr_is_journal() => tracing_journald::layer().ok(),
        LogTarget::Auto | LogTarget::Stderr => None,
    };
    let stderr = journald.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
    });
    let journald = journald.map(|layer| layer.with_field_prefix(None));
    // It can be set only once in a process, and in tests another one may be set already.
    let _already_set = tracing_subscriber::registry().with(filter).with(journald).with(stderr).try_init();
}

/// Writes a field of a message, without anything that a terminal might obey: names out of the bucket may be in it. The
/// second line of a message is indented, so that nothing looks like a message of its own.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug) -> std::fmt::Result {
    match field.name() {
        "message" => {}
        // It is for the journal.
        "message_id" => return Ok(()),
        _ => write!(writer, "{}=", field.name())?,
    }
    for character in format!("{value:?}").chars() {
        match character {
            '\n' => writer.write_str("\n    ")?,
            trick if key::plays_tricks(trick) => write!(writer, "{}", trick.escape_default())?,
            other => writer.write_char(other)?,
        }
    }
    Ok(())
}

/// Returns whether systemd connected stderr to the journal: `$JOURNAL_STREAM` holds its device and inode
/// (systemd.exec(5)).
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr().as_fd()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}
