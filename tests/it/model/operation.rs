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
    /// The next requests, so many, are answered by something else, which answers each as the entry of [`PAGES`] says.
    Page(usize, usize),
    /// A file is written whose name is taken: where the store is believed, only that leads to a look.
    Again,
    /// The bucket is as it was at the last snapshot, or at the start.
    RollBack,
    Snapshot,
    /// Another drop folder is in the place of this one: an empty one, or the one that was there before.
    AnotherFolder,
    /// For so many milliseconds there is nothing under the drop folder's mount point.
    Unmount(u64),
    /// A file is written, and so many milliseconds later others bytes of the same length and date in its place.
    Rewrite(Place, u64),
    /// A file is written, and so many milliseconds later it gets a date.
    Redate(Place, u64, Stamp),
    /// A file is written, and so many milliseconds later it gets another name.
    Move(Place, u64, Place),
    /// The beginning of a file is written; once it is taken the rest comes, behind a hole or alone.
    Resume(Place, Rest),
    /// `hk-aws upload` begins while files come and the store is slow.
    Upload,
}

/// How a server goes on with a file that it does not have any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It was told where: by FTP's REST.
    BehindAHole,
    /// It was told to append: by APPE.
    Alone,
}

/// An answer: status, headers, body.
pub(super) type Page = (u16, &'static [(&'static str, &'static str)], &'static str);

/// What something other than the store may answer.
pub(super) const PAGES: [Page; 7] = [
    (200, &[("content-type", "text/html")], "<html>log in</html>"),
    (200, &[("content-type", "text/html"), ("etag", "\"page\"")], "<html>log in</html>"),
    (200, &[("etag", "\"d41d8cd98f00b204e9800998ecf8427e\"")], ""),
    (200, &[], ""),
    (204, &[], ""),
    (404, &[("content-type", "text/html")], "<html>not found</html>"),
    (412, &[("content-type", "text/html")], "<html>not now</html>"),
];

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
    /// Nearly the last that disks with inodes of 128 bytes can tell.
    Year2037,
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
    /// Whether something fails, ends or is set otherwise by it.
    pub(super) fn disturbs(&self) -> bool {
        self.is_fault() || matches!(self, Self::Restart | Self::Reload(_) | Self::Upload)
    }

    pub(super) fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Fault(..)
                | Self::Refuse
                | Self::Kill
                | Self::Step(_)
                | Self::Boot1970
                | Self::Page(..)
                | Self::RollBack
                | Self::AnotherFolder
                | Self::Unmount(_)
        )
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

fn stamp() -> impl Strategy<Value = Stamp> {
    proptest::sample::select(vec![Stamp::Present, Stamp::Boot1970, Stamp::Year2015, Stamp::March2026, Stamp::Year2037])
}

/// So many milliseconds after a file was written it is seen, sent, or gone.
fn just_after() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1_u64..10, 10_u64..100]
}

pub(super) fn page() -> impl Strategy<Value = Operation> {
    (0..PAGES.len(), 1_usize..8).prop_map(|(page, times)| Operation::Page(page, times))
}

pub(super) fn rewrite() -> impl Strategy<Value = Operation> {
    (place(), just_after()).prop_map(|(place, after)| Operation::Rewrite(place, after))
}

pub(super) fn redate() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (place(), just_after(), stamp()).prop_map(|(place, after, stamp)| Operation::Redate(place, after, stamp)),
        (place(), just_after(), place()).prop_map(|(place, after, to)| Operation::Move(place, after, to)),
    ]
}

pub(super) fn resume() -> impl Strategy<Value = Operation> {
    (place(), prop_oneof![Just(Rest::BehindAHole), Just(Rest::Alone)])
        .prop_map(|(place, rest)| Operation::Resume(place, rest))
}

/// What writers do.
pub(super) fn writing() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (place(), content()).prop_map(|(place, content)| Operation::Drop(place, content)),
        3 => (place(), content()).prop_map(|(place, content)| Operation::Begin(place, content)),
        2 => place().prop_map(Operation::Finish),
        1 => place().prop_map(Operation::CutOff),
        2 => place().prop_map(Operation::Grow),
        1 => place().prop_map(Operation::Truncate),
        3 => (place(), place()).prop_map(|(from, to)| Operation::Rename(from, to)),
        2 => (place(), stamp()).prop_map(|(place, stamp)| Operation::Touch(place, stamp)),
        1 => place().prop_map(Operation::Delete),
        1 => place().prop_map(Operation::MakeFolder),
        1 => place().prop_map(Operation::RemoveFolder),
    ]
}

pub(super) fn any() -> impl Strategy<Value = Operation> {
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
    prop_oneof![6 => writing(), 3 => trouble, 2 => passing]
}

pub(super) fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![2 => Just(End::Alone), 4 => Just(End::Reload), 4 => Just(End::Restart), 4 => Just(End::Kill)]
}
