//! What to change if a store refuses what only a setting makes this program send.

use super::{Bucket, Refusal};
use crate::config::Checksum;

/// The advice if the store's answer names nothing that this program knows.
pub(super) const UNSUPPORTED: &str = "check the s3 section of the configuration against what the store supports";

/// A setting that asks the store for something that not every store knows.
struct Wish {
    /// The setting, with the value that asks for nothing.
    instead: &'static str,
    /// The right that it needs beside `s3:PutObject`, if any.
    right: Option<&'static str>,
    /// Words by which a store may name what it refuses.
    words: &'static [&'static str],
}

const CHECKSUM: Wish =
    Wish { instead: "s3.checksum: when_required", right: None, words: &["checksum", "trailer", "aws-chunked"] };
// Not "tag" alone, because "ETag" is another matter.
const TAGS: Wish = Wish {
    instead: "s3.tags: false",
    right: Some("s3:PutObjectTagging"),
    words: &["tagging", "tag-set", "tags", " tag"],
};
const LOCK: Wish = Wish {
    instead: "s3.object_lock: null",
    right: Some("s3:PutObjectRetention"),
    words: &["object lock", "object-lock", "objectlock", "retention", "retain"],
};
const SSE: Wish = Wish { instead: "s3.sse: null", right: None, words: &["encryption", "sse-", "kms"] };
const CLASS: Wish = Wish {
    instead: "s3.storage_class: STANDARD",
    right: None,
    words: &["storage class", "storage-class", "storageclass"],
};

impl Bucket {
    /// Returns this refusal of an object with the settings to change, if it may be about what only they ask for.
    pub(super) fn naming_settings(&self, refusal: Refusal) -> Refusal {
        let wishes = self.wishes();
        let said = refusal.reason.to_lowercase();
        let is_named = |wish: &&&Wish| wish.words.iter().any(|word| said.contains(word));
        if refusal.advice == UNSUPPORTED {
            let named: Vec<&str> = wishes.iter().filter(is_named).map(|wish| wish.instead).collect();
            let all: Vec<&str> = wishes.iter().map(|wish| wish.instead).collect();
            let advice = match (named.is_empty(), all.is_empty()) {
                (false, _) => format!("the store may not know what a setting asks for: set {}", named.join(" or ")),
                (true, false) => format!("{UNSUPPORTED}; to ask for less, set {}", all.join(" or ")),
                (true, true) => UNSUPPORTED.to_owned(),
            };
            return Refusal { advice, ..refusal };
        }
        let rights: Vec<String> = (wishes.iter())
            .filter_map(|wish| Some(format!("{} as well, or set {}", wish.right?, wish.instead)))
            .collect();
        // An answer that names the action says it better.
        if refusal.code.as_deref() != Some("AccessDenied") || rights.is_empty() || said.contains("to perform: ") {
            return refusal;
        }
        let advice = format!("{}; allow {}", refusal.advice, rights.join(", and "));
        Refusal { advice, ..refusal }
    }

    fn wishes(&self) -> Vec<&'static Wish> {
        let config = &self.config;
        let wishes = [
            // A lock needs the checksum.
            (config.checksum == Checksum::Always && config.object_lock.is_none(), &CHECKSUM),
            (config.tags, &TAGS),
            (config.object_lock.is_some(), &LOCK),
            (config.sse.is_some(), &SSE),
            (config.storage_class != "STANDARD", &CLASS),
        ];
        wishes.into_iter().filter_map(|(is_in_force, wish)| is_in_force.then_some(wish)).collect()
    }
}
