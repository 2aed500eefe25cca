//! The table of what two or three at a time may meet in one case: kinds of stores and folders, what writers do, and a
//! second process.
//!
//! A pair counts as met in a case if both of it struck there: a store of the kind stored something, a page answered, the
//! folder went away, a writer resumed what had been taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use proptest::prelude::*;

use super::operation::{self, Operation};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Circumstance {
    /// The store honours conditions and checks checksums.
    LikeAws,
    /// It takes `If-None-Match` and overwrites.
    Overwrites,
    /// It refuses `If-None-Match`.
    RefusesConditions,
    IgnoresChecksums,
    /// Something else answers in its place for a time.
    LoginPage,
    /// A cache before it answers each look as it did before.
    Cache,
    /// It is restored from an older snapshot.
    RollsBack,
    /// What is written is dated by the whole second.
    CoarseTimes,
    /// No rename keeps from replacing.
    NoCarefulRename,
    /// The drop folder is another one for a time.
    AnotherMount,
    /// It goes away for a moment.
    Unmounts,
    /// Other bytes of equal length come within the second.
    Rewrite,
    /// A file is dated or renamed just after it was written.
    Redate,
    /// The rest of a file comes after its first part was taken.
    Resume,
    /// Another name outside leads to each file.
    HardLink,
    /// `hk-aws upload` runs beside the daemon.
    TwoProcesses,
}

use Circumstance::{
    AnotherMount, Cache, CoarseTimes, HardLink, IgnoresChecksums, LikeAws, LoginPage, NoCarefulRename, Overwrites,
    Redate, RefusesConditions, Resume, Rewrite, RollsBack, TwoProcesses, Unmounts,
};

pub(super) const ALL: [Circumstance; 16] = [
    LikeAws,
    Overwrites,
    RefusesConditions,
    IgnoresChecksums,
    LoginPage,
    Cache,
    RollsBack,
    CoarseTimes,
    NoCarefulRename,
    AnotherMount,
    Unmounts,
    Rewrite,
    Redate,
    Resume,
    HardLink,
    TwoProcesses,
];

type Pair = (Circumstance, Circumstance);

/// How often each pair was met.
static MET: Mutex<BTreeMap<Pair, u32>> = Mutex::new(BTreeMap::new());

impl Circumstance {
    /// No store is two of these kinds.
    fn goes_with(self, other: Self) -> bool {
        let kinds = [LikeAws, Overwrites, RefusesConditions];
        let both_are = |kinds: &[Self]| kinds.contains(&self) && kinds.contains(&other);
        self == other || !both_are(&kinds) && !both_are(&[LikeAws, IgnoresChecksums])
    }

    /// What brings it about, if it is not there all the time.
    fn operation(self) -> Option<BoxedStrategy<Operation>> {
        Some(match self {
            LoginPage => operation::page().boxed(),
            RollsBack => prop_oneof![1 => Just(Operation::Snapshot), 2 => Just(Operation::RollBack)].boxed(),
            AnotherMount => Just(Operation::AnotherFolder).boxed(),
            Unmounts => (0_u64..60).prop_map(Operation::Unmount).boxed(),
            Cache => Just(Operation::Again).boxed(),
            Rewrite => operation::rewrite().boxed(),
            Redate => operation::redate().boxed(),
            Resume => operation::resume().boxed(),
            TwoProcesses => Just(Operation::Upload).boxed(),
            _ => return None,
        })
    }
}

/// Circumstances that can come together.
pub(super) type Circumstances = BTreeSet<Circumstance>;

fn pairs(of: &Circumstances) -> impl Iterator<Item = Pair> {
    of.iter().flat_map(|one| of.range(one..).skip(1).map(|other| (*one, *other)))
}

/// Every two and every three that can come together and have a pair that was met less often than `wanted`; every one if
/// there is no such pair.
pub(super) fn any_set(wanted: u32) -> impl Strategy<Value = Circumstances> {
    let mut sets = Vec::new();
    for (first, one) in ALL.iter().enumerate() {
        for (second, two) in ALL.iter().enumerate().skip(first + 1) {
            let more = ALL[second + 1..].iter().map(|three| Circumstances::from([*one, *two, *three]));
            sets.extend(more.chain([Circumstances::from([*one, *two])]));
        }
    }
    sets.retain(|set| pairs(set).all(|(one, other)| one.goes_with(other)));
    let met = met();
    let is_rare = |set: &Circumstances| pairs(set).any(|pair| met.get(&pair).copied().unwrap_or(0) < wanted);
    if sets.iter().any(is_rare) {
        sets.retain(is_rare);
    }
    proptest::sample::select(sets)
}

/// What happens in these circumstances: anything, and what brings them about.
pub(super) fn operations(set: &Circumstances) -> impl Strategy<Value = Vec<Operation>> + use<> {
    let own: Vec<_> = set.iter().filter_map(|one| one.operation()).collect();
    let own: Vec<_> = own.into_iter().map(|operation| proptest::collection::vec(operation, 1..4)).collect();
    let anything = prop_oneof![
        3 => proptest::collection::vec(operation::any(), 1..30),
        1 => proptest::collection::vec(operation::writing(), 1..15),
    ];
    let all = (anything, own).prop_map(|(anything, own)| [anything, own.concat()].concat());
    all.prop_shuffle()
}

/// Counts the pairs of what struck in a case.
pub(super) fn count(struck: &Circumstances) {
    let mut met = met();
    for pair in pairs(struck) {
        *met.entry(pair).or_default() += 1;
    }
}

/// Every pair that can be met, and how often it was.
pub(super) fn times_met() -> BTreeMap<Pair, u32> {
    let met = met();
    let all = pairs(&Circumstances::from(ALL)).filter(|(one, other)| one.goes_with(*other)).collect::<Vec<_>>();
    all.into_iter().map(|pair| (pair, met.get(&pair).copied().unwrap_or(0))).collect()
}

fn met() -> MutexGuard<'static, BTreeMap<Pair, u32>> {
    MET.lock().unwrap_or_else(PoisonError::into_inner)
}
