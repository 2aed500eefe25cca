//! What can happen to a bucket.

use proptest::prelude::*;

/// One of the two boxes.
pub(super) type Host = usize;

/// The cameras of each box: one of its own, and one that both have.
pub(super) const CAMERAS: [[&str; 2]; 2] = [["CAM-A", "CAM-BOTH"], ["CAM-B", "CAM-BOTH"]];

/// What another program keeps in the bucket.
pub(super) const FOREIGN: [&str; 5] = [
    "backups/2026-03-01/db.dump",
    "archive/2026-03-01.tar.gz",
    "notes.txt",
    "CAM-A/archive/2026-03-01.tar.gz",
    "CAM-BOTH/thumbnails/1.jpg",
];

#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// A camera sends a capture that was taken so many days ago, and its box stores it.
    Capture {
        host: Host,
        camera: usize,
        ago: u64,
        content: Content,
    },
    Pass {
        days: u64,
    },
    /// These boxes rotate, together; each is killed when the store has got so many more requests.
    Rotate(Vec<(Host, Option<usize>)>),
    /// A box verifies its cameras, makes indexes again and sends again what is missing.
    Repair(Host),
    /// A box loses its local copies, and the first one its ledger too.
    Forget(Host),
    /// Another program writes, or deletes.
    Foreign(usize, bool),
    /// After some requests of a kind, some fail.
    Fault {
        effect: Effect,
        asked: &'static str,
        after: usize,
        times: usize,
    },
    ClearFaults,
    /// The owner brings back what was hidden.
    Recover {
        all: bool,
    },
    /// Somebody with the box's keys deletes an object of a camera.
    Delete(usize),
    /// He puts something under a key of a camera that is free, or was.
    Put(usize, Junk),
    /// He makes a bundle of a day that claims to hold what lies loose there.
    Forge(usize, Lie),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    New,
    /// The same file as an earlier one.
    Again(usize),
    /// Another picture under the name of an earlier one.
    Other(usize),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    Unavailable,
    Denied,
    LoseReply,
    Reset,
    Delay,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Junk {
    Empty,
    Json,
    Text,
    /// As many bytes as were there, with a copy of their metadata.
    SameSize,
    /// The same, in parts, so that its `ETag` is no MD5.
    SameSizeInParts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The bundle is not the one that the index describes.
    AnotherBundle,
    /// The bundle has other members than the index says.
    FalseMembers,
    /// Bundle and index agree, and hold something else than what lies loose.
    InventedCaptures,
}

/// The bucket and the settings of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It keeps no versions.
    Plain,
    /// It is the one that `aws-template` makes.
    Template,
    /// It ignores storage classes.
    WithoutClasses,
}

impl Operation {
    pub(super) fn is_fault(&self) -> bool {
        match self {
            Self::Fault { .. } | Self::Forget(_) => true,
            Self::Rotate(rotations) => rotations.iter().any(|(_, killed)| killed.is_some()),
            _ => self.is_theft(),
        }
    }

    pub(super) fn is_theft(&self) -> bool {
        matches!(self, Self::Delete(_) | Self::Put(..) | Self::Forge(..))
    }
}

fn host() -> impl Strategy<Value = Host> {
    0_usize..2
}

/// What happens to two boxes where nobody means harm, in so many days at a time.
pub(super) fn honest(days: u64) -> impl Strategy<Value = Operation> {
    let content = prop_oneof![
        6 => Just(Content::New),
        2 => any::<usize>().prop_map(Content::Again),
        1 => any::<usize>().prop_map(Content::Other),
    ];
    let capture = (host(), 0_usize..2, 0_u64..3, content).prop_map(|(host, camera, ago, content)| Operation::Capture {
        host,
        camera,
        ago,
        content,
    });
    let killed = || prop_oneof![2 => Just(None), 1 => (0_usize..40).prop_map(Some)];
    let rotate = prop_oneof![
        (host(), killed()).prop_map(|one| Operation::Rotate(vec![one])),
        (killed(), killed()).prop_map(|(first, second)| Operation::Rotate(vec![(0, first), (1, second)])),
    ];
    let effect = proptest::sample::select(vec![
        Effect::Unavailable,
        Effect::Denied,
        Effect::LoseReply,
        Effect::LoseReply,
        Effect::Reset,
        Effect::Delay,
    ]);
    let asked = proptest::sample::select(vec![
        "PutObject",
        "PutObject",
        "DeleteObjects",
        "HeadObject",
        "GetObject",
        "ListObjectsV2",
    ]);
    let fault = (effect, asked, 0_usize..10, 1_usize..3).prop_map(|(effect, asked, after, times)| Operation::Fault {
        effect,
        asked,
        after,
        times,
    });
    prop_oneof![
        8 => capture,
        5 => rotate,
        4 => (1..days).prop_map(|days| Operation::Pass { days }),
        1 => host().prop_map(Operation::Repair),
        1 => host().prop_map(Operation::Forget),
        2 => (0..FOREIGN.len(), any::<bool>()).prop_map(|(at, there)| Operation::Foreign(at, there)),
        2 => fault,
        2 => Just(Operation::ClearFaults),
    ]
}

/// What happens while a thief has the keys.
pub(super) fn with_a_thief() -> impl Strategy<Value = Operation> {
    let junk =
        proptest::sample::select(vec![Junk::Empty, Junk::Json, Junk::Text, Junk::SameSize, Junk::SameSizeInParts]);
    let lie = proptest::sample::select(vec![Lie::AnotherBundle, Lie::FalseMembers, Lie::InventedCaptures]);
    prop_oneof![
        6 => honest(2),
        3 => any::<usize>().prop_map(Operation::Delete),
        3 => (any::<usize>(), junk).prop_map(|(key, junk)| Operation::Put(key, junk)),
        2 => (any::<usize>(), lie).prop_map(|(day, lie)| Operation::Forge(day, lie)),
        1 => any::<bool>().prop_map(|all| Operation::Recover { all }),
    ]
}

pub(super) fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![2 => Just(Kind::Plain), 3 => Just(Kind::Template), 1 => Just(Kind::WithoutClasses)]
}
