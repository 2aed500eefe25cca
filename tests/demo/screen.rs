//! What the demo says: a line an arrival, in columns, in colour on a terminal only.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::camera::Arrived;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// An object that was stored.
pub(crate) struct Arrival {
    pub(crate) key: String,
    pub(crate) len: u64,
    pub(crate) sha256: String,
}

/// What the demo closes with.
pub(crate) struct Summary<'a> {
    /// From the close of a capture to its being stored.
    pub(crate) latencies: Vec<Duration>,
    /// The captures' size together.
    pub(crate) bytes: u64,
    /// How often each S3 operation was called.
    pub(crate) requests: BTreeMap<&'static str, usize>,
    /// Requests that tried at the start what the store does with conditions.
    pub(crate) probes: usize,
    /// What was written and did not arrive.
    pub(crate) missing: &'a [PathBuf],
    /// How many objects the bucket holds.
    pub(crate) objects: usize,
}

/// The standard output.
pub(crate) struct Screen {
    out: io::Stdout,
    colours: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { out, colours }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Says what is about to happen and what the user can do.
    pub(crate) fn open(
        &mut self,
        drop_folder: &Path,
        endpoint: &str,
        cameras: usize,
        end_after: Option<Duration>,
    ) -> io::Result<()> {
        let title = self.paint(BOLD, "hk-aws: what cameras drop is in S3 within a second, whole, and stays there");
        let folder = drop_folder.display();
        let end = end_after.map(|time| format!(", or by itself after {} s", time.as_secs())).unwrap_or_default();
        let columns = self.paint(DIM, "    at         size   stored after   object");
        writeln!(
            self.out,
            "{title}\n\
             \n  {cameras} simulated cameras write pictures, as an FTP server would, into   {folder}\
             \n  The real daemon sends each one to an S3 server in memory at         {endpoint}\
             \n  Drop pictures of your own:   cp PICTURE.jpg {folder}/CAM-EXT-001/\
             \n  End with Ctrl-C{end}. Nothing leaves this machine.\n\
             \n{columns}"
        )
    }

    /// Shows one arrival; `capture` is `None` for what the cameras did not write.
    pub(crate) fn arrival(&mut self, bucket: &str, arrival: &Arrival, capture: Option<&Arrived>) -> io::Result<()> {
        let at = chrono::Local::now().format("%H:%M:%S");
        let size = size(arrival.len);
        let (latency, note) = match capture {
            Some(capture) => (milliseconds(capture.latency), capture.note),
            None => ("-".to_owned(), "yours"),
        };
        let latency = self.paint(GREEN, &format!("{latency:>12}"));
        let note = if note.is_empty() { String::new() } else { self.paint(YELLOW, &format!("   <- {note}")) };
        writeln!(self.out, "  {at}  {size:>9}  {latency}   s3://{bucket}/{}{note}", arrival.key)
    }

    pub(crate) fn ending(&mut self) -> io::Result<()> {
        let text = self.paint(DIM, "  ... the cameras stop; the daemon finishes what is there");
        writeln!(self.out, "{text}")
    }

    /// Sums up; what did not arrive is named.
    pub(crate) fn close(&mut self, summary: &Summary<'_>) -> io::Result<()> {
        let mut latencies = summary.latencies.clone();
        latencies.sort_unstable();
        let captures = latencies.len();
        let bytes = size(summary.bytes);
        let verdict = if summary.missing.is_empty() {
            self.paint(GREEN, "every one arrived whole")
        } else {
            self.paint(RED, &format!("but {} DID NOT ARRIVE WHOLE:", summary.missing.len()))
        };
        writeln!(self.out, "\n  {captures} captures, {bytes} in the bucket: {verdict}")?;
        for path in summary.missing {
            writeln!(self.out, "    {}", path.display())?;
        }
        if let (Some(worst), Some(median)) = (latencies.last(), latencies.get(captures / 2)) {
            let (median, worst) = (milliseconds(*median), milliseconds(*worst));
            writeln!(self.out, "  from the camera's last byte to stored in S3: median {median}, worst {worst}")?;
        }
        let total: usize = summary.requests.values().sum();
        let by_operation: Vec<_> = summary.requests.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let (by_operation, objects, probes) = (by_operation.join(", "), summary.objects, summary.probes);
        #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
        let each = total as f64 / objects.max(1) as f64;
        writeln!(
            self.out,
            "  requests to S3: {each:.2} a capture ({by_operation}) for {objects} objects, and {probes} at the start"
        )
    }

    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "  {text}")
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

fn size(bytes: u64) -> String {
    if bytes < 10 << 20 { format!("{} KiB", bytes.div_ceil(1024)) } else { format!("{} MiB", bytes >> 20) }
}
