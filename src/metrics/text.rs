//! The figures as Prometheus and others read them: one table in two formats.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use chrono::{DateTime, Utc};

use crate::bucket::RequestCounts;
use crate::status::{CameraStatus, ConditionKind, DaemonState, Delays, MOST_CAMERAS, OTHER, Snapshot};

/// How the figures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4 (Prometheus, "Exposition formats").
    Prometheus,
    /// OpenMetrics 1.0.0 ("OpenMetrics, a cloud-native, highly scalable metrics protocol").
    OpenMetrics,
}

impl Format {
    /// Returns the format that a header `Accept` asks for; the older one if it asks for neither.
    ///
    /// The ranges of RFC 9110, section 12.5.1, are read as far as there are two formats to choose from: OpenMetrics needs
    /// to be named, in a version that is written here, and not to be wanted less than plain text.
    pub fn accepted(accept: &str) -> Self {
        let (mut open, mut plain) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut is_ours) = (1.0_f32, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => is_ours = value.trim().trim_matches('"') == "1.0.0",
                    _ => {}
                }
            }
            match media.as_str() {
                "application/openmetrics-text" if is_ours => open = quality.max(open),
                "text/plain" => plain = quality.max(plain),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the content type of the text.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Returns the figures of a snapshot.
///
/// What happens is told by its time and not by its age, except what INTERFACE promises as an age; units are bytes and
/// seconds. At most 200 cameras are told by name, and all others together as `other`.
pub fn render(format: Format, snapshot: &Snapshot, requests: &RequestCounts) -> String {
    let mut text = Text { format, text: String::with_capacity(16 << 10) };
    captures(&mut text, snapshot);
    waiting(&mut text, snapshot);
    work(&mut text, snapshot, requests);
    box_itself(&mut text, snapshot);
    if format == Format::OpenMetrics {
        text.text.push_str("# EOF\n");
    }
    text.text
}

fn captures(text: &mut Text, snapshot: &Snapshot) {
    let counters = &snapshot.counters;
    text.family("hk_aws_captures_stored_total", "counter", "Captures stored in the bucket since the start.");
    for ((camera, event), count) in &counters.captures {
        text.sample("hk_aws_captures_stored_total", &[("camera", camera), ("event", event)], count);
    }
    text.family("hk_aws_stored_bytes_total", "counter", "Bytes of the captures stored since the start.");
    for (camera, bytes) in &counters.bytes {
        text.sample("hk_aws_stored_bytes_total", &[("camera", camera)], bytes);
    }
    let name = "hk_aws_capture_to_stored_seconds";
    text.family(name, "histogram", "Time from the arrival of a capture until the bucket had it.");
    for (bound, count) in counters.delays.cumulated() {
        // With a point, as OpenMetrics wants it: the label must not change with the format.
        text.sample(&format!("{name}_bucket"), &[("le", &format!("{bound:?}"))], count);
    }
    let Delays { count, sum_seconds, .. } = &counters.delays;
    text.sample(&format!("{name}_bucket"), &[("le", "+Inf")], count);
    text.sample(&format!("{name}_sum"), &[], sum_seconds);
    text.sample(&format!("{name}_count"), &[], count);
    let name = "hk_aws_camera_last_capture_timestamp_seconds";
    text.family(name, "gauge", "When the last capture of a camera was stored.");
    for (camera, at) in last_captures(&snapshot.cameras) {
        text.sample(name, &[("camera", camera)], seconds(at));
    }
}

/// Returns when the last capture of each camera was stored: of those that sent last, and of all others together.
fn last_captures(cameras: &BTreeMap<String, CameraStatus>) -> BTreeMap<&str, DateTime<Utc>> {
    let mut last: Vec<(DateTime<Utc>, &str)> =
        cameras.iter().map(|(name, camera)| (camera.last_stored_at, name.as_str())).collect();
    last.sort_unstable_by(|one, other| other.cmp(one));
    let mut told = BTreeMap::new();
    for (number, (at, name)) in last.into_iter().enumerate() {
        let name = if number < MOST_CAMERAS { name } else { OTHER };
        told.entry(name).or_insert(at);
    }
    told
}

fn waiting(text: &mut Text, snapshot: &Snapshot) {
    let gauges: [(&str, &str, u64); 2] = [
        ("hk_aws_waiting_captures", "Files in the drop folder that have yet to be stored.", snapshot.waiting.files()),
        ("hk_aws_waiting_bytes", "Bytes of these files.", snapshot.waiting.bytes),
    ];
    for (name, help, value) in gauges {
        text.one(name, "gauge", help, value);
    }
    let since = snapshot.oldest_only_here.as_ref().map(|oldest| oldest.since);
    let exposure = since.map_or(0, |since| (snapshot.at - since).num_seconds().max(0));
    text.one("hk_aws_exposure_seconds", "gauge", "Age of the oldest capture that is only on this box.", exposure);
    if let Some(since) = since {
        let help = "When the oldest capture arrived that is only on this box.";
        text.one("hk_aws_oldest_only_here_timestamp_seconds", "gauge", help, seconds(since));
    }
}

fn work(text: &mut Text, snapshot: &Snapshot, requests: &RequestCounts) {
    let counters = &snapshot.counters;
    let name = "hk_aws_s3_requests_total";
    text.family(name, "counter", "Requests to the store by what came of them.");
    for ((operation, outcome), count) in requests {
        text.sample(name, &[("operation", operation), ("outcome", outcome)], count);
    }
    let name = "hk_aws_upload_failures_total";
    text.family(name, "counter", "Uploads that the store refused or did not answer, by what is done about it.");
    for (verdict, count) in &counters.failures {
        text.sample(name, &[("verdict", verdict)], count);
    }
    let name = "hk_aws_set_aside_total";
    text.family(name, "counter", "Files set aside since the start, because they can never be stored as they are.");
    for (reason, count) in &counters.set_aside {
        text.sample(name, &[("reason", reason)], count);
    }
    let name = "hk_aws_job_last_success_timestamp_seconds";
    text.family(name, "gauge", "When a job last ended without a failure.");
    for (job, status) in &snapshot.jobs {
        if let Some(at) = status.last_success_at {
            text.sample(name, &[("job", job)], seconds(at));
        }
    }
}

fn box_itself(text: &mut Text, snapshot: &Snapshot) {
    if let Some(bytes) = snapshot.kept_bytes {
        text.one("hk_aws_kept_bytes", "gauge", "Bytes of all local copies.", bytes);
    }
    let name = "hk_aws_disk_free_bytes";
    text.family(name, "gauge", "Free bytes on the disks of the drop folder and of the state folder.");
    for (folder, free) in [("drop_folder", snapshot.drop_folder_free_bytes), ("state", snapshot.state_free_bytes)] {
        if let Some(free) = free {
            text.sample(name, &[("folder", folder)], free);
        }
    }
    let name = "hk_aws_conditions";
    text.family(name, "gauge", "What is wrong now, by its kind: how many cameras have it, or 1 for the box.");
    for kind in ConditionKind::ALL {
        let count = snapshot.conditions.iter().filter(|condition| condition.kind == kind).count();
        text.sample(name, &[("kind", kind.name())], count);
    }
    let is_ok = u8::from(snapshot.state == DaemonState::Ok);
    text.one("hk_aws_healthy", "gauge", "Whether nothing is wrong as far as the daemon knows: 1, otherwise 0.", is_ok);
    let help = "When the figures were made.";
    text.one("hk_aws_snapshot_timestamp_seconds", "gauge", help, seconds(snapshot.at));
    let help = "When the daemon was started.";
    text.one("hk_aws_start_timestamp_seconds", "gauge", help, seconds(snapshot.started_at));
    text.family("hk_aws_build_info", "info", "The version of the program.");
    text.sample("hk_aws_build_info", &[("version", &snapshot.version)], 1);
}

fn seconds(at: DateTime<Utc>) -> i64 {
    at.timestamp()
}

/// A text that grows line by line; writing to it never fails.
struct Text {
    format: Format,
    text: String,
}

impl Text {
    /// Begins a family of samples; `name` is that of its samples, `kind` a type of OpenMetrics.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let (family, kind) = match (self.format, kind) {
            // An older format has no such type.
            (Format::Prometheus, "info") => (name, "gauge"),
            // There the ending belongs to the sample alone.
            (Format::OpenMetrics, "counter") => (name.trim_end_matches("_total"), kind),
            (Format::OpenMetrics, "info") => (name.trim_end_matches("_info"), kind),
            _ => (name, kind),
        };
        let _infallible = writeln!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}");
        let unit = ["seconds", "bytes"].into_iter().find(|unit| family.ends_with(unit));
        if let Some(unit) = unit.filter(|_| self.format == Format::OpenMetrics) {
            let _infallible = writeln!(self.text, "# UNIT {family} {unit}");
        }
    }

    /// Adds a family of a single sample.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (number, (label, text)) in labels.iter().enumerate() {
            self.text.push(if number == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            // The format's escapes; a name may hold anything else.
            for character in text.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _infallible = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn snapshot(cameras: usize) -> Snapshot {
        let at = "2026-11-28T00:00:00Z";
        let camera = |number: usize| {
            let stored = format!("2026-11-27T{:02}:{:02}:00Z", number / 60 % 24, number % 60);
            (
                format!("CAM-{number}"),
                serde_json::json!({"captures": 1, "last_taken_at": stored, "last_stored_at": stored, "wrong_clock": null}),
            )
        };
        let mut snapshot: Snapshot = serde_json::from_value(serde_json::json!({
            "version": "1.2.3", "pid": 1, "at": at, "started_at": at, "state": "ok", "bucket": "s3://b", "trouble": null,
            "waiting": {"settling": 1, "queued": 2, "uploading": 0, "backing_off": 0, "on_disk": 0, "bytes": 3, "ignored": 0, "left_alone": 0, "set_aside": 0},
            "oldest_only_here": {"path": "a", "since": "2026-11-27T23:59:00Z"}, "files": [], "not_uploaded": [],
            "stored": {"captures": 0, "bytes": 0}, "cameras": (0..cameras).map(camera).collect::<serde_json::Map<_, _>>(),
            "last_errors": [], "drop_folder_free_bytes": 5, "state_free_bytes": null, "kept_bytes": 7,
        }))
        .unwrap();
        let counters = Arc::make_mut(&mut snapshot.counters);
        for number in 0..cameras {
            counters.stored(&format!("CAM-{number}"), Some("MOTION"), 10, Duration::from_millis(300));
        }
        snapshot
    }

    fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        text.lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")))
            .collect()
    }

    #[test]
    fn the_figures_are_those_of_the_snapshot() {
        let requests = RequestCounts::from([(("PutObject".to_owned(), "ok"), 4)]);
        let text = render(Format::Prometheus, &snapshot(1), &requests);
        for line in [
            "hk_aws_captures_stored_total{camera=\"CAM-0\",event=\"MOTION\"} 1",
            "hk_aws_stored_bytes_total{camera=\"CAM-0\"} 10",
            "hk_aws_waiting_captures 3",
            "hk_aws_waiting_bytes 3",
            "hk_aws_exposure_seconds 60",
            "hk_aws_capture_to_stored_seconds_bucket{le=\"0.25\"} 0",
            "hk_aws_capture_to_stored_seconds_bucket{le=\"0.5\"} 1",
            "hk_aws_capture_to_stored_seconds_count 1",
            "hk_aws_s3_requests_total{operation=\"PutObject\",outcome=\"ok\"} 4",
            "hk_aws_camera_last_capture_timestamp_seconds{camera=\"CAM-0\"} 1795737600",
            "hk_aws_kept_bytes 7",
            "hk_aws_disk_free_bytes{folder=\"drop_folder\"} 5",
            "hk_aws_healthy 1",
            "hk_aws_build_info{version=\"1.2.3\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn however_many_cameras_there_are_at_most_200_are_told_by_name() {
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let text = render(format, &snapshot(1000), &RequestCounts::new());
            let mut cameras: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for line in text.lines() {
                if let Some((name, labels)) = line.split_once('{')
                    && let Some((_, camera)) = labels.split_once("camera=\"")
                {
                    cameras.entry(name).or_default().insert(camera.split('"').next().unwrap());
                }
            }
            let names: Vec<&str> = cameras.keys().copied().collect();
            let expected = [
                "hk_aws_camera_last_capture_timestamp_seconds",
                "hk_aws_captures_stored_total",
                "hk_aws_stored_bytes_total",
            ];
            assert_eq!(names, expected, "no other metric has the label");
            for (name, told) in cameras {
                assert_eq!(told.len(), MOST_CAMERAS + 1, "{name}");
                assert!(told.contains(OTHER), "{name}");
            }
            assert!(text.len() < 64 << 10, "{} bytes", text.len());
        }
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let requests = RequestCounts::from([(("PutObject".to_owned(), "ok"), 4)]);
        let [old, new] =
            [Format::Prometheus, Format::OpenMetrics].map(|format| render(format, &snapshot(3), &requests));
        let samples = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(samples(&old), samples(&new));
        assert!(!old.contains("# EOF") && !old.contains("# UNIT") && new.ends_with("\n# EOF\n"), "{new}");
        for line in [
            "# TYPE hk_aws_captures_stored counter",
            "# TYPE hk_aws_stored_bytes counter",
            "# UNIT hk_aws_stored_bytes bytes",
            "# TYPE hk_aws_capture_to_stored_seconds histogram",
            "# UNIT hk_aws_capture_to_stored_seconds seconds",
            "# TYPE hk_aws_build info",
            "hk_aws_capture_to_stored_seconds_bucket{le=\"1.0\"} 3",
        ] {
            assert!(new.lines().any(|found| found == line), "{line}\n{new}");
        }
        assert!(old.contains("# TYPE hk_aws_captures_stored_total counter\n"), "{old}");
        assert!(old.contains("# TYPE hk_aws_build_info gauge\n"), "{old}");
    }

    #[test]
    fn openmetrics_is_for_whoever_asks_for_it() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [
            prometheus_2,
            prometheus_3,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8",
            "text/plain;q=0.5, application/openmetrics-text;q=0.5",
        ] {
            assert_eq!(Format::accepted(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "application/*",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=nonsense",
            "application/openmetrics-text;q=0.4,text/plain;q=0.5",
            ";;,=,;q,\u{7f}",
        ] {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn a_name_that_plays_tricks_stays_in_its_label() {
        let mut snapshot = snapshot(0);
        let name = "a\"} 1\nhk_aws_healthy 0 \\";
        Arc::make_mut(&mut snapshot.counters).stored(name, None, 1, Duration::ZERO);
        let text = render(Format::OpenMetrics, &snapshot, &RequestCounts::new());
        assert_eq!(lines(&text, "hk_aws_healthy"), ["hk_aws_healthy 1"]);
        assert!(text.contains("camera=\"a\\\"} 1\\nhk_aws_healthy 0 \\\\\""), "{text}");
    }
}
