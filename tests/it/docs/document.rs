//! Markdown, as far as the documents use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use regex::Regex;

/// The folder of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Markdown file.
#[derive(Debug)]
pub(super) struct Document {
    /// Its path in the repository.
    pub(super) path: String,
    pub(super) text: String,
}

/// A block of code between fences.
#[derive(Debug)]
pub(super) struct Block {
    /// The word after the opening fence.
    pub(super) language: String,
    /// The number of the line of the opening fence.
    pub(super) line: usize,
    pub(super) text: String,
}

impl Document {
    pub(super) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// Every document that users and contributors read.
    pub(super) fn all() -> Vec<Self> {
        let mut installed: Vec<String> = fs::read_dir(root().join("packaging/doc"))
            .unwrap()
            .map(|entry| format!("packaging/doc/{}", entry.unwrap().file_name().into_string().unwrap()))
            .filter(|path| path.ends_with(".md"))
            .collect();
        installed.sort();
        let others = ["README.md", "packaging/CHANGELOG.md", ".github/CONTRIBUTING.md"];
        others.into_iter().map(str::to_owned).chain(installed).map(|path| Self::read(&path)).collect()
    }

    /// The blocks of code, and the lines between them.
    fn split(&self) -> (Vec<Block>, Vec<&str>) {
        let (mut blocks, mut prose) = (Vec::new(), Vec::new());
        // With the columns that a block in a list is indented by.
        let mut open: Option<(Block, usize)> = None;
        for (number, line) in self.text.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            match (&mut open, fence) {
                (None, Some(language)) => {
                    let block = Block { language: language.to_owned(), line: number + 1, text: String::new() };
                    open = Some((block, line.len() - line.trim_start().len()));
                }
                (None, None) => prose.push(line),
                (Some((block, indent)), None) => {
                    block.text += line.get(*indent..).unwrap_or_default();
                    block.text.push('\n');
                }
                (Some(_), Some(_)) => blocks.extend(open.take().map(|(block, _)| block)),
            }
        }
        assert!(open.is_none(), "{}: a block of code has no end", self.path);
        (blocks, prose)
    }

    pub(super) fn blocks(&self) -> Vec<Block> {
        self.split().0
    }

    /// The text without its blocks of code.
    pub(super) fn prose(&self) -> String {
        self.split().1.join("\n")
    }

    /// All code: the lines of the blocks, and the spans in the text.
    pub(super) fn code(&self) -> Vec<String> {
        let mut code: Vec<String> = super::spans(&self.prose()).map(str::to_owned).collect();
        code.extend(self.blocks().iter().flat_map(|block| block.text.lines()).map(str::to_owned));
        code
    }

    /// The targets of the links.
    pub(super) fn links(&self) -> Vec<String> {
        let text: String = self.prose().split('`').step_by(2).collect();
        let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
        link.captures_iter(&text).map(|captures| captures[1].to_owned()).collect()
    }

    /// What a link can name after `#`: the headings, spelled as GitHub does.
    pub(super) fn fragments(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        let spell = |heading: &str| -> String {
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect()
        };
        headings
            .map(|heading| {
                let fragment = spell(heading).replace(' ', "-");
                let times = seen.entry(fragment.clone()).or_default();
                *times += 1;
                if *times == 1 { fragment } else { format!("{fragment}-{}", *times - 1) }
            })
            .collect()
    }
}
