//! Why something cannot be done with what the bucket holds.

use std::fmt::Display;
use std::io;

use crate::bucket::{Refusal, RefusalKind, Verdict};
use crate::key::CameraName;

/// Why a capture, a bundle or a day cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldingsError {
    /// The bucket refuses or does not answer; its verdict says what helps. Nothing is known of the object.
    #[error("{says}")]
    Refused {
        /// What was to be done and what the bucket answered.
        says: String,
        /// The answer.
        refusal: Refusal,
    },
    /// This box cannot: a disk or a folder fails. Nothing is wrong in the bucket.
    #[error("{0}")]
    Local(String),
    /// The object is not as it should be: altered, damaged, gone, or in the wrong class. Other objects are not concerned.
    #[error("{0}")]
    Object(String),
    /// The bucket has no such camera: the name is probably mistyped.
    #[error("the bucket holds no camera {camera}{}; `hk-aws cameras` lists those it has", did_you_mean(nearest.as_ref()))]
    NoCamera {
        /// The name that was asked for.
        camera: String,
        /// The camera of the bucket whose name is most like it, if one is similar.
        nearest: Option<CameraName>,
    },
}

fn did_you_mean(nearest: Option<&CameraName>) -> String {
    nearest.map(|nearest| format!(" (did you mean {nearest}?)")).unwrap_or_default()
}

impl From<Refusal> for HoldingsError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { says: refusal.to_string(), refusal }
    }
}

impl HoldingsError {
    /// Returns a failure of this box: `what` could not be done because of `error`.
    pub fn local(what: impl Display, error: &io::Error) -> Self {
        Self::Local(format!("{what}: {error}"))
    }

    /// Returns the error with `what` in front of its text: the object or the day that it is about.
    #[must_use]
    pub fn about(self, what: impl Display) -> Self {
        match self {
            Self::Refused { says, refusal } => Self::Refused { says: format!("{what}: {says}"), refusal },
            Self::Local(says) => Self::Local(format!("{what}: {says}")),
            Self::Object(says) => Self::Object(format!("{what}: {says}")),
            Self::NoCamera { .. } => self,
        }
    }

    /// Returns the bucket's verdict, if the bucket is the cause.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.verdict),
            Self::Local(_) | Self::Object(_) | Self::NoCamera { .. } => None,
        }
    }

    /// Returns whether the object is to blame, so that the work can go on without it; any other failure passes by itself
    /// or would meet the next object too.
    pub fn is_about_object(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => refusal.kind() == RefusalKind::NoSuchKey,
            Self::Local(_) | Self::NoCamera { .. } => false,
            Self::Object(_) => true,
        }
    }
}

/// Why an index cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The bucket refuses or does not answer: that says nothing of the index, unless the kind is `NoSuchKey` (it is gone)
    /// or `Cold` (it must be restored).
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The index is damaged: it is of no use, and `verify --rebuild` makes it again.
    #[error("index {key} is damaged: {why}")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

impl IndexError {
    /// Returns what the bucket answered, if the bucket is the cause.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Damaged { .. } => None,
        }
    }
}

impl From<IndexError> for HoldingsError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Refused(refusal) => refusal.into(),
            IndexError::Damaged { .. } => Self::Object(error.to_string()),
        }
    }
}
