//! What can happen to a box.

use proptest::prelude::*;

/// A place in the drop folder, as an index into [`PATHS`].
pub(super) type Place = usize;

/// Few, so that they meet.
pub(super) const PATHS: [&str; 9] = [
    "CAM-A/192.168.1.64_01_20260224120000000_MOTION_DETECTION.jpg",
    "CAM-A/192.168.1.64_01_20260224120001000_MOTION_DETECTION.jpg",
    "CAM-A/2026-02-24/12/192.168.1.64_01_20260224120000000_MOTION_DETECTION.jpg",
    "CAM-B/192.168.1.64_01_20260224120000000_MOTION_DETECTION.jpg",
    "CAM-B/2026-02-24/192.168.1.65_01_20260224120002000_TIMING.jpg",
    "CAM-B/192.168.1.64_01_20260224120000000.mp4",
    "CAM-B/no time",
    "CAM-C/day/also no time.jpg",
    "CAM-C/upload.tmp",
];

#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// A file is written and closed, over what is there.
    Drop(Place, Content),
    /// A writer begins: half of it is there, and it stays open.
    Begin(Place, Content),
    /// It writes the rest and closes.
    Finish(Place),
    /// It goes without having written the rest.
    CutOff(Place),
    /// More is written behind what is there: a resumed transfer.
    Grow(Place),
    Truncate(Place),
    Rename(Place, Place),
    Touch(Place, Stamp),
    Delete(Place),
    MakeFolder(Place),
    /// The folder of a path goes, with all that is in it.
    RemoveFolder(Place),
    /// The wall clock is set forward or back by so many seconds.
    Step(i64),
    /// The wall clock is that of a box that has just booted without one.
    Boot1970,
    /// So many milliseconds pass.
    Tick(u64),
    Fault(Effect, &'static str, usize),
    ClearFaults,
    Refuse,
    Accept,
    Reload(usize),
    Look,
    Kill,
    Restart,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    /// A picture with its end.
    Whole,
    /// One without.
    Cut,
    /// Bytes that tell nothing of their end.
    Plain,
    /// As many as go up in parts.
    Clip,
    Empty,
}

/// A modification time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stamp {
    Present,
    Boot1970,
    Year2015,
    March2026,
    Year2100,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    Unavailable,
    SlowDown,
    Denied,
    Skewed,
    ErrorIn200,
    Hang,
    LoseReply,
    Reset,
    CutBody,
    Delay,
}

/// What the last resort is before all must be well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing: it must find back by itself.
    Alone,
    Reload,
    Restart,
    Kill,
}

impl Operation {
    pub(super) fn is_fault(&self) -> bool {
        matches!(self, Self::Fault(..) | Self::Refuse | Self::Kill | Self::Step(_) | Self::Boot1970)
    }
}

fn place() -> impl Strategy<Value = Place> {
    0..PATHS.len()
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        40 => Just(Content::Whole),
        15 => Just(Content::Cut),
        15 => Just(Content::Plain),
        5 => Just(Content::Empty),
        1 => Just(Content::Clip),
    ]
}

pub(super) fn any() -> impl Strategy<Value = Operation> {
    let stamp = proptest::sample::select(vec![
        Stamp::Present,
        Stamp::Boot1970,
        Stamp::Year2015,
        Stamp::March2026,
        Stamp::Year2100,
    ]);
    let effect = proptest::sample::select(vec![
        Effect::Unavailable,
        Effect::SlowDown,
        Effect::Denied,
        Effect::Skewed,
        Effect::ErrorIn200,
        Effect::Hang,
        Effect::LoseReply,
        Effect::LoseReply,
        Effect::Reset,
        Effect::CutBody,
        Effect::Delay,
    ]);
    let asked = proptest::sample::select(vec![
        "PutObject",
        "PutObject",
        "PutObject",
        "HeadObject",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "ListMultipartUploads",
        "*",
    ]);
    let (hour, day) = (3600, 86_400);
    let step = proptest::sample::select(vec![60, -60, 6 * hour, -6 * hour, 2 * day, -2 * day, 30 * 365 * day]);
    let writing = prop_oneof![
        8 => (place(), content()).prop_map(|(place, content)| Operation::Drop(place, content)),
        3 => (place(), content()).prop_map(|(place, content)| Operation::Begin(place, content)),
        2 => place().prop_map(Operation::Finish),
        1 => place().prop_map(Operation::CutOff),
        2 => place().prop_map(Operation::Grow),
        1 => place().prop_map(Operation::Truncate),
        3 => (place(), place()).prop_map(|(from, to)| Operation::Rename(from, to)),
        2 => (place(), stamp).prop_map(|(place, stamp)| Operation::Touch(place, stamp)),
        1 => place().prop_map(Operation::Delete),
        1 => place().prop_map(Operation::MakeFolder),
        1 => place().prop_map(Operation::RemoveFolder),
    ];
    let trouble = prop_oneof![
        6 => (effect, asked, 1_usize..4).prop_map(|(effect, asked, times)| Operation::Fault(effect, asked, times)),
        4 => Just(Operation::ClearFaults),
        1 => Just(Operation::Refuse),
        2 => Just(Operation::Accept),
        3 => (0..super::world::SETTINGS.len()).prop_map(Operation::Reload),
        1 => Just(Operation::Look),
        2 => Just(Operation::Kill),
        1 => Just(Operation::Restart),
        2 => step.prop_map(Operation::Step),
        1 => Just(Operation::Boot1970),
    ];
    let passing = prop_oneof![(0_u64..10).prop_map(Operation::Tick), (10_u64..150).prop_map(Operation::Tick)];
    prop_oneof![6 => writing, 3 => trouble, 2 => passing]
}

pub(super) fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![2 => Just(End::Alone), 4 => Just(End::Reload), 4 => Just(End::Restart), 4 => Just(End::Kill)]
}
