//! The globs and regular expressions of the configuration, compiled. All of them match names that are not UTF-8 too.

use std::path::{Component, Path};

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use serde::{Serialize, Serializer};

/// A glob for whole paths below the drop folder; `*` stays within one folder, `**` crosses folders.
#[derive(Debug, Clone)]
pub struct FolderGlob(GlobMatcher);

impl FolderGlob {
    /// Compiles `glob`.
    ///
    /// # Errors
    /// The text is not a glob.
    pub fn new(glob: &str) -> Result<Self, globset::Error> {
        Ok(Self(path_glob(glob)?.compile_matcher()))
    }

    /// Returns whether a path below the drop folder matches.
    pub fn is_match(&self, relative: &Path) -> bool {
        self.0.is_match(relative)
    }

    /// Returns how many folders of a matching path the glob spells out before its first wildcard.
    pub fn literal_folders(&self, relative: &Path) -> usize {
        let folders = relative.iter().count().saturating_sub(1);
        self.as_str().split('/').take(folders).take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).count()
    }

    /// Returns the glob as it was written.
    pub fn as_str(&self) -> &str {
        self.0.glob().glob()
    }
}

impl PartialEq for FolderGlob {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

fn path_glob(glob: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(glob).literal_separator(true).build()
}

/// The globs of files in the drop folder that are not captures.
///
/// A glob without `/` is matched against the name of each folder and file of a path, one with `/` against the whole path
/// below the drop folder.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    patterns: Vec<String>,
    names: GlobSet,
    /// The index in `patterns` of each glob in `names`.
    name_places: Vec<usize>,
    paths: GlobSet,
    /// The index in `patterns` of each glob in `paths`.
    path_places: Vec<usize>,
}

impl Ignore {
    /// Compiles `patterns`.
    ///
    /// # Errors
    /// One of them is not a glob, or all of them together are too large to compile.
    pub fn new(patterns: Vec<String>) -> Result<Self, globset::Error> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let (mut name_places, mut path_places) = (Vec::new(), Vec::new());
        for (place, pattern) in patterns.iter().enumerate() {
            let (set, places) =
                if pattern.contains('/') { (&mut paths, &mut path_places) } else { (&mut names, &mut name_places) };
            set.add(path_glob(pattern)?);
            places.push(place);
        }
        Ok(Self { patterns, names: names.build()?, name_places, paths: paths.build()?, path_places })
    }

    /// Returns the first pattern, in the order of the file, that matches a path below the drop folder.
    pub fn matches(&self, relative: &Path) -> Option<&str> {
        let by_name = relative.components().filter_map(|component| match component {
            Component::Normal(name) => self.names.matches(name).first().map(|&place| self.name_places[place]),
            _ => None,
        });
        let by_path = self.paths.matches(relative).first().map(|&place| self.path_places[place]);
        by_name.chain(by_path).min().map(|place| self.patterns[place].as_str())
    }

    /// Returns the patterns as they were written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

impl PartialEq for Ignore {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

/// An operator's pattern for paths below the drop folder, with at least one of the groups [`CapturePattern::GROUPS`].
#[derive(Debug, Clone)]
pub struct CapturePattern(regex::bytes::Regex);

impl CapturePattern {
    /// The groups that the pattern may have.
    pub const GROUPS: [&str; 4] = ["camera", "taken", "event", "channel"];

    /// Takes an expression that has at least one of these groups and no other.
    pub(super) fn new(regex: regex::bytes::Regex) -> Self {
        Self(regex)
    }

    /// Returns the compiled expression.
    pub fn regex(&self) -> &regex::bytes::Regex {
        &self.0
    }

    /// Returns the expression as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for CapturePattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Serialize for FolderGlob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for Ignore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.patterns.serialize(serializer)
    }
}

impl Serialize for CapturePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn the_first_pattern_that_matches_is_named() {
        let patterns = ["DVRWorkDirectory", "*.tmp", "*_", ".*", "CAM-1/raw/**", "CAM-*/x.jpg"];
        let ignore = Ignore::new(patterns.map(str::to_owned).into()).unwrap();
        for (path, pattern) in [
            ("CAM-1/a.jpg", None),
            ("CAM-1/DVRWorkDirectory/a.jpg", Some("DVRWorkDirectory")),
            ("CAM-1/.in/a.tmp", Some("*.tmp")),
            (".hidden", Some(".*")),
            ("./CAM-1/a.jpg", None),
            ("a_/b.jpg", Some("*_")),
            ("CAM-1/raw/b/c.jpg", Some("CAM-1/raw/**")),
            ("x/CAM-1/raw/c.jpg", None),
            ("CAM-9/x.jpg", Some("CAM-*/x.jpg")),
            ("CAM-9/y/x.jpg", None),
            ("tmp", None),
        ] {
            assert_eq!(ignore.matches(Path::new(path)), pattern, "{path}");
        }
    }

    #[test]
    fn names_that_are_not_utf_8_are_matched_too() {
        let ignore = Ignore::new(vec!["*.tmp".to_owned(), "CAM/*.part".to_owned()]).unwrap();
        let path = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes));
        assert_eq!(ignore.matches(path(b"CAM/\xff\xfe.tmp")), Some("*.tmp"));
        assert_eq!(ignore.matches(path(b"CAM/\xff.part")), Some("CAM/*.part"));
        assert_eq!(ignore.matches(path(b"CAM/\xff.jpg")), None);
        assert!(FolderGlob::new("CAM/**").unwrap().is_match(path(b"CAM/x/\xff.jpg")));
        assert!(
            CapturePattern::new(regex::bytes::Regex::new("^(?P<camera>[^/]+)/").unwrap()).regex().is_match(b"CAM/\xff")
        );
    }

    #[test]
    fn a_star_stays_within_its_folder() {
        let glob = FolderGlob::new("CAM*/**").unwrap();
        for (path, matches) in [("CAM1/a.jpg", true), ("CAM/x/a.jpg", true), ("x/CAM1/a.jpg", false), ("CAM1", false)] {
            assert_eq!(glob.is_match(Path::new(path)), matches, "{path}");
        }
    }
}
