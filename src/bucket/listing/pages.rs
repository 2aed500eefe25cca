//! The pages of a listing, one after the other, until the store says that there are no more.
//!
//! A page that ends proves nothing about the rest. So a listing is whole only if each page says whether there are more and
//! how to go on, brings what was asked for and comes after the page before, and if each answer is XML to its end. Anything
//! else is an error, because whoever works on a part of a listing bundles, deletes or downloads a part of a day.
//!
//! The SDK's paginators were rejected: they take the first page without a token, or with the token of the page before, for
//! the last one. The SDK's parser takes an answer that is cut off for a short one.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt::Display;

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_xml::decode::Document;
use futures_util::stream::{self, Stream};

use crate::bucket::Refusal;

/// The most pages without a name that follow each other. S3 may pass over hidden objects for a while.
const MOST_EMPTY: usize = 10_000;

/// Where a listing goes on, as the store says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::bucket) struct Marker {
    /// A token, or the last key of the page.
    pub(in crate::bucket) at: String,
    /// The id of the last upload or version of that key, where a key has several.
    pub(in crate::bucket) id: Option<String>,
}

/// What a page says of itself.
#[derive(Debug, Clone, Default)]
pub(in crate::bucket) struct PageFacts<'a> {
    /// The keys and folders in it: one list, or several that are each in order.
    pub(in crate::bucket) names: Vec<Vec<&'a str>>,
    /// Whether there are more pages, if it says so.
    pub(in crate::bucket) truncated: Option<bool>,
    /// Where the next page begins, if it says so.
    pub(in crate::bucket) next: Option<Marker>,
}

/// What is listed.
#[derive(Debug, Clone)]
pub(in crate::bucket) struct Listed {
    /// A verb and a noun, such as "list objects".
    pub(in crate::bucket) what: &'static str,
    /// What every name begins with.
    pub(in crate::bucket) prefix: String,
    /// Whether one key may come several times, with different ids.
    pub(in crate::bucket) repeats: bool,
}

/// Streams the pages of a listing; `ask` requests the page at a marker.
///
/// # Errors
/// The stream ends with the [`Refusal`] of `ask`, or with one of its own if the pages do not make a whole listing.
pub(in crate::bucket) fn pages<P, A>(
    listed: Listed,
    ask: impl Fn(Option<Marker>) -> A,
    facts: fn(&P) -> PageFacts<'_>,
) -> impl Stream<Item = Result<P, Refusal>>
where
    A: Future<Output = Result<P, Refusal>>,
{
    let begin = Some((Course::new(listed), None));
    stream::try_unfold((begin, ask), move |(course, ask)| async move {
        let Some((mut course, marker)) = course else { return Ok(None) };
        let page = ask(marker).await?;
        let next = course.check(&facts(&page))?;
        Ok(Some((page, (next.map(|marker| (course, Some(marker))), ask))))
    })
}

/// Compares two names.
type Order = fn(&str, &str) -> Ordering;

/// How far a listing has come.
#[derive(Debug)]
struct Course {
    listed: Listed,
    /// The orders that the names have been in so far, each with the last name by it.
    orders: Vec<(Order, Option<String>)>,
    /// The markers since the last page with names.
    markers: HashSet<Marker>,
    /// How many names came.
    came: usize,
}

impl Course {
    fn new(listed: Listed) -> Self {
        Self { listed, orders: vec![(by_bytes, None), (by_segments, None)], markers: HashSet::new(), came: 0 }
    }

    /// Checks the next page, and returns where the listing goes on; `None` if the page is the last one.
    fn check(&mut self, page: &PageFacts<'_>) -> Result<Option<Marker>, Refusal> {
        let Listed { ref prefix, repeats, .. } = self.listed;
        let names = || page.names.iter().flatten();
        if let Some(stranger) = names().find(|name| !name.starts_with(prefix)) {
            return Err(self.fault(format_args!("{stranger:?} is listed below {prefix:?}")));
        }
        let is_empty = names().next().is_none();
        if !is_empty {
            let first = names().min().copied().unwrap_or_default();
            let last = self.orders.first().and_then(|(_, last)| last.clone()).unwrap_or_default();
            self.orders.retain_mut(|(order, last)| is_in_order(*order, last, &page.names, repeats));
            if self.orders.is_empty() {
                return Err(self.fault(format_args!("{first:?} is listed where what comes after {last:?} is due")));
            }
            self.markers.clear();
        }
        self.came += names().count();
        let next = page.next.as_ref().filter(|next| !next.at.is_empty());
        match (page.truncated, next) {
            (None, _) => Err(self.fault("it does not say whether there is more (IsTruncated)")),
            (Some(true), None) => {
                Err(self.fault("it says that there is more, and not where (IsTruncated without a token)"))
            }
            // Some stores name a place in any case.
            (Some(false), next) if next.is_none() || is_empty => Ok(None),
            (_, Some(next)) if !self.markers.insert(next.clone()) => {
                Err(self.fault("it goes on at a place where it was before (the same token again)"))
            }
            (_, _) if self.markers.len() > MOST_EMPTY => {
                Err(self.fault(format_args!("{MOST_EMPTY} pages without a name follow each other")))
            }
            (_, next) => Ok(next.cloned()),
        }
    }

    fn fault(&self, what: impl Display) -> Refusal {
        let reason =
            format!("failed to {}: the listing is not whole after {} names: {what}", self.listed.what, self.came);
        let advice =
            "the store, or something between this box and it, has a fault: nothing is taken from such a listing";
        Refusal { advice: advice.to_owned(), ..Refusal::later(reason) }
    }
}

/// Returns whether the lists of a page go on from `last` in this order, and takes its last name for `last`.
fn is_in_order(order: Order, last: &mut Option<String>, lists: &[Vec<&str>], repeats: bool) -> bool {
    let follows = |before: &str, after: &str| match order(before, after) {
        Ordering::Less => true,
        Ordering::Equal => repeats,
        Ordering::Greater => false,
    };
    let begins_after = |list: &Vec<&str>| match (last.as_deref(), list.first()) {
        (Some(last), Some(first)) => follows(last, first),
        _ => true,
    };
    let in_order = lists.iter().all(|list| list.is_sorted_by(|a, b| follows(a, b)) && begins_after(list));
    let greatest = lists.iter().filter_map(|list| list.last()).max_by(|a, b| order(a, b));
    if let Some(greatest) = greatest {
        *last = Some((*greatest).to_owned());
    }
    in_order
}

/// The order of S3: by the bytes of UTF-8 (S3 API Reference, "`ListObjectsV2`").
fn by_bytes(one: &str, other: &str) -> Ordering {
    one.cmp(other)
}

/// The order of stores that keep folders, such as SeaweedFS: `a/b` comes before `a.jpg`.
fn by_segments(one: &str, other: &str) -> Ordering {
    one.split('/').cmp(other.split('/'))
}

/// Refuses an answer whose XML breaks off.
#[derive(Debug)]
pub(in crate::bucket) struct WholeAnswer;

impl Intercept for WholeAnswer {
    fn name(&self) -> &'static str {
        "WholeAnswer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        if answer.status().is_success() { check_xml(answer.body().bytes().unwrap_or_default()) } else { Ok(()) }
    }
}

/// Checks that a text is XML, and one element from its beginning to its end.
fn check_xml(text: &[u8]) -> Result<(), BoxError> {
    let broken = "the store's answer is cut off, or is not XML to its end";
    let mut depth = 0;
    for token in Document::try_from(text).map_err(|_| broken)? {
        depth = token.map_err(|_| broken)?.1;
    }
    if depth == 0 { Ok(()) } else { Err(broken.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether one key may come several times.
    const OBJECTS: bool = false;
    const UPLOADS: bool = true;

    fn course(repeats: bool) -> Course {
        Course::new(Listed { what: "list objects", prefix: "CAM/".to_owned(), repeats })
    }

    fn marker(at: &str) -> Marker {
        let (at, id) = at.split_once('#').map_or((at, None), |(at, id)| (at, Some(id)));
        Marker { at: at.to_owned(), id: id.map(str::to_owned) }
    }

    fn page<'a>(lists: &[&[&'a str]], truncated: bool, next: Option<&str>) -> PageFacts<'a> {
        let names = lists.iter().map(|list| list.to_vec()).collect();
        PageFacts { names, truncated: Some(truncated), next: next.map(marker) }
    }

    /// Returns how many pages are taken, and why no more are if that is an error.
    fn taken(repeats: bool, pages: &[PageFacts<'_>]) -> (usize, Option<String>) {
        let mut course = course(repeats);
        for (number, page) in pages.iter().enumerate() {
            match course.check(page) {
                Ok(Some(_)) => {}
                Ok(None) => return (number + 1, None),
                Err(refusal) => return (number, Some(refusal.reason)),
            }
        }
        (pages.len(), Some("not ended".to_owned()))
    }

    #[test]
    fn pages_that_follow_each_other_make_a_whole_listing() {
        let more = |names| page(names, true, Some("token"));
        let last = |names| page(names, false, None);
        for (kind, pages) in [
            (OBJECTS, vec![last(&[])]),
            (OBJECTS, vec![more(&[&["CAM/a", "CAM/b"]]), last(&[&["CAM/c"]])]),
            // Objects and folders beside each other.
            (OBJECTS, vec![more(&[&["CAM/d"], &["CAM/a/", "CAM/b/"]]), last(&[&["CAM/f"], &["CAM/e/"]])]),
            // In the order of bytes, and in that of folders.
            (OBJECTS, vec![more(&[&["CAM/a", "CAM/a.jpg"]]), last(&[&["CAM/a/x"]])]),
            (OBJECTS, vec![more(&[&["CAM/a/x", "CAM/a/y"]]), last(&[&["CAM/a.jpg"]])]),
            (OBJECTS, vec![page(&[], true, Some("1")), page(&[], true, Some("2")), last(&[&["CAM/a"]])]),
            // Places that are named although there is no more.
            (OBJECTS, vec![page(&[&["CAM/a"]], false, Some(""))]),
            (OBJECTS, vec![page(&[&["CAM/a"]], false, Some("CAM/a")), page(&[], false, Some("CAM/a"))]),
            (UPLOADS, vec![page(&[&["CAM/a", "CAM/a"]], true, Some("CAM/a#2")), last(&[&["CAM/a", "CAM/b"]])]),
        ] {
            assert_eq!(taken(kind, &pages), (pages.len(), None), "{pages:?}");
        }
    }

    #[test]
    fn pages_that_break_off_turn_in_a_circle_go_back_or_stray_are_an_error() {
        let more = |names, token| page(names, true, Some(token));
        let last = |names| page(names, false, None);
        let (nowhere, again, order) = ("IsTruncated without", "the same token", "is due");
        let silent = PageFacts { truncated: None, ..more(&[&["CAM/a"]], "t") };
        for (kind, pages, good, why) in [
            (OBJECTS, vec![page(&[&["CAM/a"]], true, None)], 0, nowhere),
            (OBJECTS, vec![more(&[&["CAM/a"]], "t"), page(&[&["CAM/b"]], true, Some(""))], 1, nowhere),
            (UPLOADS, vec![page(&[], true, None)], 0, nowhere),
            (OBJECTS, vec![silent.clone()], 0, "IsTruncated"),
            (UPLOADS, vec![PageFacts { next: None, ..silent }], 0, "IsTruncated"),
            (OBJECTS, vec![more(&[], "t"), more(&[], "t")], 1, again),
            (OBJECTS, vec![more(&[], "1"), more(&[], "2"), more(&[], "1")], 2, again),
            (UPLOADS, vec![more(&[&["CAM/a"]], "CAM/a#1"), more(&[], "CAM/b"), more(&[], "CAM/b")], 2, again),
            (OBJECTS, vec![more(&[&["CAM/a"]], "t"), more(&[&["CAM/a"]], "t")], 1, order),
            (OBJECTS, vec![more(&[&["CAM/a", "CAM/b"]], "1"), last(&[&["CAM/b", "CAM/c"]])], 1, order),
            (OBJECTS, vec![more(&[&["CAM/b"]], "1"), more(&[&["CAM/c"]], "2"), last(&[&["CAM/a"]])], 2, order),
            (OBJECTS, vec![more(&[&[], &["CAM/b/"]], "1"), last(&[&["CAM/a"], &[]])], 1, order),
            (OBJECTS, vec![last(&[&["CAM/b", "CAM/a"]])], 0, order),
            // By bytes at first, then by folders: by neither.
            (OBJECTS, vec![more(&[&["CAM/a.jpg", "CAM/a/x"]], "1"), last(&[&["CAM/b/x", "CAM/b.jpg"]])], 1, order),
            (UPLOADS, vec![more(&[&["CAM/b"]], "CAM/b#1"), last(&[&["CAM/a"]])], 1, order),
            (OBJECTS, vec![last(&[&["CAM/a", "CAM2/b"]])], 0, "below"),
            (UPLOADS, vec![more(&[&["CAM/a"]], "CAM/a#1"), last(&[&["CBM/b"]])], 1, "below"),
            (OBJECTS, vec![last(&[&[], &["other/"]])], 0, "below"),
        ] {
            let (found, said) = taken(kind, &pages);
            assert!(found == good && said.as_ref().is_some_and(|said| said.contains(why)), "{said:?}: {pages:?}");
        }
    }

    #[test]
    fn a_listing_that_brings_nothing_for_ever_ends() {
        let mut course = course(OBJECTS);
        let endless = (0..).map(|number| course.check(&page(&[], true, Some(&number.to_string()))));
        assert_eq!(endless.take_while(Result::is_ok).count(), MOST_EMPTY);
    }

    #[test]
    fn an_answer_is_xml_from_its_beginning_to_its_end() {
        let whole = "<?xml version=\"1.0\"?>\n<List xmlns=\"s3\"><Key>a&#x1;</Key><Empty/></List>\n";
        assert!(check_xml(whole.as_bytes()).is_ok());
        for cut in 40..whole.len() - 1 {
            assert!(check_xml(&whole.as_bytes()[..cut]).is_err(), "{}", &whole[..cut]);
        }
        for broken in ["<List><Key>a\u{1}</Key></List>", "<List><Key>a</Key></List><"] {
            assert!(check_xml(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
