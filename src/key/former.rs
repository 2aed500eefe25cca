//! The shapes that keys had before `s3.key` or `s3.prefix` changed: still read, never written.

use std::fmt;

use super::{Layout, Template};

/// Stands for `s3.prefix` at the start of a former shape.
const PREFIX: &str = "{prefix}";

/// The shape that whole keys had before, such as `{prefix}{camera}/{file}` or `old/{camera}/{date}/{file}`: everything
/// before `{camera}/` is the prefix that they had. Without a date in the shape, the name of a file tells its day.
#[derive(Debug, Clone, PartialEq)]
pub struct FormerKey {
    text: String,
    /// Whether the present prefix stands before `prefix`.
    after_present: bool,
    prefix: String,
    template: Template,
}

impl FormerKey {
    /// Reads and checks a shape.
    ///
    /// # Errors
    /// Says what to change.
    pub fn read(text: &str) -> Result<Self, String> {
        let Some(at) = text.find("{camera}/") else {
            return Err("it needs `{camera}/`: what comes before that is the prefix that keys had".into());
        };
        let (before, template) = text.split_at(at);
        let (after_present, prefix) = match before.strip_prefix(PREFIX) {
            Some(rest) => (true, rest),
            None => (false, before),
        };
        if prefix.contains(['{', '}']) {
            return Err("only `{prefix}` may stand before `{camera}/`, and only at the start".into());
        }
        if !(prefix.is_empty() || prefix.ends_with('/')) || prefix.starts_with('/') || prefix.contains("//") {
            return Err("the prefix before `{camera}/` must end with `/`, and have no empty folder".into());
        }
        let (prefix, template) = (prefix.to_owned(), Template::read_former(template)?);
        Ok(Self { text: text.to_owned(), after_present, prefix, template })
    }

    /// Returns the layout of keys of this shape; `present` is `s3.prefix`.
    pub fn layout(&self, present: &str) -> Layout {
        let before = if self.after_present { present } else { "" };
        Layout::new(&format!("{before}{}", self.prefix), self.template.clone())
    }
}

impl fmt::Display for FormerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_the_camera_is_the_prefix_that_keys_had() {
        for (text, prefix) in [
            ("{prefix}{camera}/{file}", "home/"),
            ("{prefix}old/{camera}/{date}/{file}", "home/old/"),
            ("{camera}/{date}/{file}", ""),
            ("old/site/{camera}/{year}/{month}/{day}/{file}", "old/site/"),
        ] {
            let former = FormerKey::read(text).unwrap();
            assert_eq!((former.layout("home/").prefix(), former.to_string().as_str()), (prefix, text));
        }
    }

    #[test]
    fn wrong_shapes_say_what_to_change() {
        for (text, hint) in [
            ("{date}/{file}", "needs `{camera}/`"),
            ("old{camera}/{date}/{file}", "must end with `/`"),
            ("/old/{camera}/{date}/{file}", "no empty folder"),
            ("{old}/{camera}/{date}/{file}", "only `{prefix}`"),
            ("{camera}/{dat}/{file}", "`{dat}` is no placeholder"),
            ("{camera}/{date}", "must end with `{file}`"),
        ] {
            let error = FormerKey::read(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
