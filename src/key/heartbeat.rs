//! The keys of heartbeats, which are in no camera's folder.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use super::{ObjectKey, camera_segment};

/// The folder of all heartbeats below the prefix. No camera has this name: see [`camera_segment`].
pub const HEARTBEATS: &str = "heartbeat";

/// Returns the key of a heartbeat: `{prefix}heartbeat/{host}/{date}/{HHMMSS}.json`, in UTC.
pub fn heartbeat_key(prefix: &str, host: &str, at: DateTime<Utc>) -> ObjectKey {
    ObjectKey::verbatim(format!("{}{}.json", heartbeat_prefix(prefix, Some(host)), at.format("%Y-%m-%d/%H%M%S")))
}

/// Returns the prefix of the heartbeats of one host, or of all.
pub fn heartbeat_prefix(prefix: &str, host: Option<&str>) -> String {
    let host = host.map(|host| format!("{}/", camera_segment(host.as_bytes()))).unwrap_or_default();
    format!("{prefix}{HEARTBEATS}/{host}")
}

/// Returns whether this is the key of a heartbeat, below any prefix.
pub fn is_heartbeat(key: &str) -> bool {
    let mut parts = key.rsplit('/');
    let (file, date, _host, folder) = (parts.next(), parts.next(), parts.next(), parts.next());
    let is_time =
        |file: &str| file.strip_suffix(".json").is_some_and(|time| NaiveTime::parse_from_str(time, "%H%M%S").is_ok());
    folder == Some(HEARTBEATS)
        && file.is_some_and(is_time)
        && date.is_some_and(|date| date.parse::<NaiveDate>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{CameraName, unescape};

    #[test]
    fn a_heartbeat_is_known_by_its_key_and_its_folder_is_no_camera() {
        let at = DateTime::parse_from_rfc3339("2026-02-24T03:04:05Z").unwrap().to_utc();
        for (prefix, host, key) in [
            ("", "porch", "heartbeat/porch/2026-02-24/030405.json"),
            ("home/", "a/b\n", "home/heartbeat/a%2Fb%0A/2026-02-24/030405.json"),
        ] {
            assert_eq!(heartbeat_key(prefix, host, at).as_str(), key);
            assert!(is_heartbeat(key), "{key}");
        }
        for other in ["heartbeat/2026-02-24/030405.json", "CAM/2026-02-24/a.jpg", "heartbeat/x/2026-02-24/a.jpg"] {
            assert!(!is_heartbeat(other), "{other}");
        }
        assert_eq!(CameraName::read(HEARTBEATS), None);
        let spelled = CameraName::spell(HEARTBEATS);
        assert_eq!((&*spelled, unescape(spelled.as_bytes()).as_slice()), ("%68eartbeat", HEARTBEATS.as_bytes()));
        assert_ne!(CameraName::spell("%68eartbeat"), spelled);
    }
}
