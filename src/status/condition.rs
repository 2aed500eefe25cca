//! What is wrong with the box, in words for its owner.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Something that is wrong, from when it began until it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What it is. There is at most one condition of a kind and camera at a time.
    pub kind: ConditionKind,
    /// The camera that it is about; `None` if it is about the box.
    pub camera: Option<String>,
    /// When it began.
    pub since: DateTime<Utc>,
    /// What is wrong: one sentence without its full stop.
    pub sentence: String,
    /// What the owner can do; empty if there is nothing to do.
    pub advice: String,
    /// The error's own words, for whoever wants to know exactly.
    pub detail: Option<String>,
}

/// The kinds of conditions, the worst first. Their names are for programs, too: none is ever renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    /// The drop folder is missing or cannot be read, or another program watches it.
    DropFolderUnreadable,
    /// Another folder is in the place of the drop folder, because its disk is not mounted.
    DropFolderReplaced,
    /// Nothing can be written in the drop folder: neither can cameras push, nor can stored files be removed.
    DropFolderReadOnly,
    /// The bucket answers, and stores nothing until the owner has mended something.
    BucketRefuses,
    /// The bucket does not answer, or says that it cannot store now.
    BucketUnreachable,
    /// The bucket has not answered since the start, and may do so any moment.
    BucketUntried,
    /// The disk of the drop folder is short of room.
    DropFolderShort,
    /// A capture is only on this box for longer than `alerts.exposure`.
    Exposure,
    /// Files or folders in the drop folder cannot be read.
    Unreadable,
    /// Stored files cannot be removed from the drop folder.
    CannotRemove,
    /// Files are set aside that can never be stored as they are.
    SetAside,
    /// The disk of the state folder is short of room.
    StateShort,
    /// The state folder cannot be written: the state is in the run-time folder.
    StateUnwritable,
    /// There are no local copies, because their disk is not mounted.
    CopiesMissing,
    /// New local copies are not kept.
    CopiesRefused,
    /// The last rotation failed as a whole or in part.
    RotationFailed,
    /// The rotation is overdue.
    RotationOverdue,
    /// The clock of this box is wrong.
    BoxClock,
    /// A camera has sent nothing for too long.
    CameraSilent,
    /// The clock of a camera is wrong.
    CameraClock,
    /// Logins at the FTP server fail.
    FtpLogins,
    /// A configuration was refused by a reload: the old one is in force.
    ReloadRefused,
    /// The address of `metrics.listen` cannot be used.
    MetricsPort,
    /// Alerts cannot be sent.
    AlertsFail,
    /// Heartbeats cannot be sent.
    HeartbeatFails,
    /// Home Assistant cannot be told.
    MqttFails,
    /// The daemon ended without being told to, and has begun again.
    Restarted,
}

/// How bad a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It is told, and the daemon does what it should.
    Notice,
    /// Captures are stored, and something else is wrong.
    Warning,
    /// Captures are not stored, or may soon not be.
    Grave,
}

impl ConditionKind {
    /// Every kind, the worst first.
    pub const ALL: [Self; 27] = [
        Self::DropFolderUnreadable,
        Self::DropFolderReplaced,
        Self::DropFolderReadOnly,
        Self::BucketRefuses,
        Self::BucketUnreachable,
        Self::BucketUntried,
        Self::DropFolderShort,
        Self::Exposure,
        Self::Unreadable,
        Self::CannotRemove,
        Self::SetAside,
        Self::StateShort,
        Self::StateUnwritable,
        Self::CopiesMissing,
        Self::CopiesRefused,
        Self::RotationFailed,
        Self::RotationOverdue,
        Self::BoxClock,
        Self::CameraSilent,
        Self::CameraClock,
        Self::FtpLogins,
        Self::ReloadRefused,
        Self::MetricsPort,
        Self::AlertsFail,
        Self::HeartbeatFails,
        Self::MqttFails,
        Self::Restarted,
    ];

    /// Returns the name for programs, as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropFolderUnreadable => "drop_folder_unreadable",
            Self::DropFolderReplaced => "drop_folder_replaced",
            Self::DropFolderReadOnly => "drop_folder_read_only",
            Self::BucketRefuses => "bucket_refuses",
            Self::BucketUnreachable => "bucket_unreachable",
            Self::BucketUntried => "bucket_untried",
            Self::DropFolderShort => "drop_folder_short",
            Self::Exposure => "exposure",
            Self::Unreadable => "unreadable",
            Self::CannotRemove => "cannot_remove",
            Self::SetAside => "set_aside",
            Self::StateShort => "state_short",
            Self::StateUnwritable => "state_unwritable",
            Self::CopiesMissing => "copies_missing",
            Self::CopiesRefused => "copies_refused",
            Self::RotationFailed => "rotation_failed",
            Self::RotationOverdue => "rotation_overdue",
            Self::BoxClock => "box_clock",
            Self::CameraSilent => "camera_silent",
            Self::CameraClock => "camera_clock",
            Self::FtpLogins => "ftp_logins",
            Self::ReloadRefused => "reload_refused",
            Self::MetricsPort => "metrics_port",
            Self::AlertsFail => "alerts_fail",
            Self::HeartbeatFails => "heartbeat_fails",
            Self::MqttFails => "mqtt_fails",
            Self::Restarted => "restarted",
        }
    }

    /// Returns how bad it is.
    pub fn weight(self) -> Weight {
        match self {
            Self::DropFolderUnreadable
            | Self::DropFolderReplaced
            | Self::DropFolderReadOnly
            | Self::BucketRefuses
            | Self::BucketUnreachable
            | Self::DropFolderShort
            | Self::Exposure => Weight::Grave,
            Self::BucketUntried | Self::Restarted => Weight::Notice,
            _ => Weight::Warning,
        }
    }

    /// Returns whether no capture can be stored while it lasts.
    pub fn stops_storing(self) -> bool {
        matches!(
            self,
            Self::DropFolderUnreadable | Self::DropFolderReplaced | Self::BucketRefuses | Self::BucketUnreachable
        )
    }
}

impl Condition {
    /// Returns a condition of the box without details.
    pub fn new(
        kind: ConditionKind,
        since: DateTime<Utc>,
        sentence: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { kind, camera: None, since, sentence: sentence.into(), advice: advice.into(), detail: None }
    }

    /// Returns this condition of a camera.
    #[must_use]
    pub fn of_camera(self, camera: impl Into<String>) -> Self {
        Self { camera: Some(camera.into()), ..self }
    }

    /// Returns this condition with the error's own words.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Returns what is wrong with its details, in one line.
    pub fn in_full(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{} ({detail})", self.sentence),
            None => self.sentence.clone(),
        }
    }

    /// Returns what the condition is about: two conditions of one subject are the same one.
    pub fn subject(&self) -> (ConditionKind, Option<&str>) {
        (self.kind, self.camera.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_name_that_json_gives_it_and_the_worst_come_first() {
        for kind in ConditionKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert!(ConditionKind::ALL.is_sorted());
        let mut names: Vec<&str> = ConditionKind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ConditionKind::ALL.len());
    }
}
