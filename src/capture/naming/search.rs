//! Finds the rows of the table that match a path, and where their groups are.

use std::sync::LazyLock;

use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, PatternID, meta};

use super::stamp;
use super::table::{NAMINGS, Naming, expand};

/// The groups that a pattern may have.
pub(super) const GROUPS: [&str; 6] = ["device", "channel", "stamp", "date", "time", "event"];

/// The place of `stamp` in [`GROUPS`].
pub(super) const STAMP: usize = 2;

/// Where a pattern matches in a path.
#[derive(Debug, Default)]
pub(super) struct NamingMatch {
    /// The start of the whole match.
    pub(super) begins: usize,
    /// Its end.
    pub(super) ends: usize,
    /// The start and end of each of [`GROUPS`] that matches.
    pub(super) groups: [Option<(usize, usize)>; GROUPS.len()],
}

/// A row's pattern, ready to search.
///
/// The engine backtracks where a part of the pattern may have any characters. Without the device and the folders in between,
/// most patterns leave it no choice, and it reads a name in one pass.
pub(super) struct RowMatcher {
    /// The pattern of the folders before [`FOLDERS`], if the row has them.
    folders: Option<Piece>,
    /// The pattern, or the part of it behind [`FOLDERS`] or [`DEVICE`].
    piece: Piece,
    /// Where that may begin.
    place: Place,
}

/// Where a row's pattern may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the start of any folder or of the file's name.
    AnyName,
    /// At the start of the file's name.
    Name,
    /// Behind a device at the start of the file's name.
    Device,
}

/// A pattern without a part that may have any characters before it.
struct Piece {
    pattern: meta::Regex,
    /// The pattern's group for each of [`GROUPS`].
    places: [Option<usize>; GROUPS.len()],
}

/// The start of every row's pattern: the start of a folder's or the file's name.
pub(super) const BEGIN: &str = "(?:^|/)";

/// The start of a row whose device may have any characters.
const DEVICE: &str = "{name}{device}_";

/// Any folders between those that tell something and the file's name.
const FOLDERS: &str = "{folders}";

/// The most slots that a search fills: a start and an end, for the whole match and each group.
const MOST_SLOTS: usize = 2 * (GROUPS.len() + 1);

impl RowMatcher {
    /// Compiles the pattern of a row.
    fn new(row: &Naming) -> Option<Self> {
        let whole = |pattern: &str| Piece::new(expand(pattern).strip_prefix(BEGIN)?);
        if let Some(rest) = row.pattern.strip_prefix(DEVICE) {
            return Some(Self { folders: None, piece: Piece::new(&expand(rest))?, place: Place::Device });
        }
        if let Some((folders, name)) = row.pattern.split_once(FOLDERS) {
            return Some(Self {
                folders: Some(whole(folders)?),
                piece: Piece::new(&expand(name))?,
                place: Place::Name,
            });
        }
        let place = if row.pattern.starts_with("{name}") { Place::Name } else { Place::AnyName };
        Some(Self { folders: None, piece: whole(row.pattern)?, place })
    }

    /// Finds the match that begins first; `name_at` is the start of the file's name.
    pub(super) fn find(&self, path: &[u8], name_at: usize) -> Option<NamingMatch> {
        let is_begin = |at: &usize| *at == 0 || path[at - 1] == b'/';
        let mut begins = (0..=name_at).filter(is_begin);
        match self.place {
            Place::AnyName => begins.find_map(|at| self.piece.find_at(path, at)),
            Place::Device => self.find_behind_device(path, name_at),
            Place::Name => {
                let name = self.piece.find_at(path, name_at)?;
                let Some(folders) = &self.folders else { return Some(name) };
                // No folder has an empty name.
                let are_folders =
                    |between: &[u8]| !between.starts_with(b"/") && !between.windows(2).any(|two| two == b"//");
                let find = |at: usize| folders.find_at(&path[..name_at], at);
                let found = begins.find_map(|at| find(at).filter(|found| are_folders(&path[found.ends..name_at])))?;
                let groups = std::array::from_fn(|group| found.groups[group].or(name.groups[group]));
                Some(NamingMatch { begins: found.begins, groups, ..name })
            }
        }
    }

    /// Finds the shortest device in front of a `_` behind which the rest matches.
    fn find_behind_device(&self, path: &[u8], name_at: usize) -> Option<NamingMatch> {
        let mut ends = (name_at + 1..path.len()).filter(|at| path[*at] == b'_');
        ends.find_map(|end| {
            let mut found = self.piece.find_at(path, end + 1)?;
            found.begins = name_at;
            found.groups[0] = Some((name_at, end));
            Some(found)
        })
    }
}

impl Piece {
    /// Compiles a pattern without fragments.
    fn new(pattern: &str) -> Option<Self> {
        // A DFA finds whether a pattern matches, but not its groups, which are always wanted here.
        let pattern = build(meta::Config::new().hybrid(false).dfa(false), &[pattern])?;
        let info = pattern.group_info();
        let places = GROUPS.map(|group| info.to_index(PatternID::ZERO, group));
        (info.slot_len() <= MOST_SLOTS).then(|| Self { pattern, places })
    }

    /// Finds the match that begins at `begins`.
    fn find_at(&self, path: &[u8], begins: usize) -> Option<NamingMatch> {
        let input = Input::new(path).range(begins..).anchored(Anchored::Yes);
        let mut slots = [None; MOST_SLOTS];
        self.pattern.search_slots(&input, &mut slots)?;
        let place = |group: usize| Some((slots[2 * group]?.get(), slots[2 * group + 1]?.get()));
        let ends = slots[1]?.get();
        Some(NamingMatch { begins, ends, groups: self.places.map(|group| place(group?)) })
    }
}

/// All rows, compiled.
pub(super) struct Table {
    pub(super) matchers: Vec<RowMatcher>,
    /// All rows as alternatives from the start of the path; its DFA quickly finds the first row that matches.
    first: meta::Regex,
}

impl Table {
    /// Returns the index of the first row that matches, or the number of rows.
    pub(super) fn first(&self, path: &[u8]) -> usize {
        self.first.search_half(&Input::new(path)).map_or(NAMINGS.len(), |found| found.pattern().as_usize())
    }
}

pub(super) static TABLE: LazyLock<Option<Table>> = LazyLock::new(|| {
    // The test `every_row_compiles` makes sure that this is never `None`.
    let patterns: Vec<String> = NAMINGS.iter().map(|row| format!("^(?s:.)*?{}", expand(row.pattern))).collect();
    let first = build(meta::Config::new(), &patterns)?;
    Some(Table { matchers: NAMINGS.iter().map(RowMatcher::new).collect::<Option<_>>()?, first })
});

/// Compiles patterns that match bytes.
fn build(config: meta::Config, patterns: &[impl AsRef<str>]) -> Option<meta::Regex> {
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    meta::Builder::new().configure(config.utf8_empty(false)).syntax(syntax).build_many(patterns).ok()
}

impl NamingMatch {
    /// Returns the start and end of each part of the stamp.
    pub(super) fn clock(&self) -> impl Iterator<Item = (usize, usize)> + Clone {
        let [_, _, stamp, date, time, _] = self.groups;
        [stamp, date, time].into_iter().flatten()
    }

    /// Returns whether the name has a whole stamp before the row's: that one is the begin, and the row's is the end.
    pub(super) fn is_end(&self, path: &[u8], name_at: usize) -> bool {
        let Some(before) = self.groups[STAMP].and_then(|(from, _)| path.get(name_at..from)) else { return false };
        before.len() >= stamp::FEWEST_DIGITS && stamp::first(before).is_some()
    }
}

/// Returns where the file's name begins in a path.
pub(super) fn name_at(path: &[u8]) -> usize {
    path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)
}
