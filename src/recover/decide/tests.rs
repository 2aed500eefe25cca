use proptest::prelude::*;

use super::*;

/// Versions oldest first, one a second: a letter for each content, `0` for one without bytes, `-` for a marker.
fn versions(text: &str) -> Vec<Version> {
    let version = |(at, letter): (usize, char)| Version {
        id: at.to_string(),
        stored_at: DateTime::from_timestamp(i64::try_from(at).unwrap(), 0).unwrap(),
        is_latest: at + 1 == text.len(),
        content: (letter != '-').then(|| VersionContent {
            size: u64::from(letter != '0'),
            etag: letter.to_string(),
            storage_class: "STANDARD".to_owned(),
        }),
    };
    text.char_indices().rev().map(version).collect()
}

/// The steps as a text: `uncover a`, `b beside`, `a front`.
fn steps(versions: &[Version], decision: &Decision) -> String {
    let letter = |at: usize| versions[at].content.as_ref().unwrap().etag.clone();
    let step = |step: &Step| match step {
        Step::Uncover { version } => format!("uncover {}", letter(*version)),
        Step::Copy { version, to: Place::Front } => format!("{} front", letter(*version)),
        Step::Copy { version, to: Place::Beside } => format!("{} beside", letter(*version)),
    };
    decision.steps.iter().map(step).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_content_that_was_hidden_comes_back_and_nothing_that_is_there() {
    for (chain, expected) in [
        ("", ""),
        ("a", ""),
        ("-", ""),
        ("--", ""),
        ("a-", "uncover a"),
        ("a---", "uncover a"),
        ("ab", "a beside"),
        ("a-b", "a beside"),
        ("a-b-", "a beside, uncover b"),
        ("abc", "b beside, a beside"),
        ("a-b-c--", "b beside, a beside, uncover c"),
        // The same bytes again.
        ("aa", ""),
        ("a-a", ""),
        ("a-a-", "uncover a"),
        ("aba", "b beside"),
        ("abab-", "a beside, uncover b"),
        // Nothing but a name.
        ("a0", "a beside"),
        ("0-", ""),
        ("0a", ""),
        ("a-0-", "a front"),
        ("ab-0-", "a beside, b front"),
    ] {
        let versions = versions(chain);
        let decision = decide(&versions, Window::default(), None, |_| false);
        assert_eq!(steps(&versions, &decision), expected, "{chain}");
        assert_eq!(decision.left, 0);
    }
}

#[test]
fn a_version_that_is_named_comes_to_the_front_and_what_is_there_gets_a_copy_first() {
    for (chain, named, expected) in [
        ("a-b", 0, "b beside, a front"),
        ("a-b", 2, "a beside"),
        ("ab", 0, "b beside, a front"),
        ("a-b-", 0, "b beside, a front"),
        ("a-b-", 2, "a beside, uncover b"),
        ("a-b-a-", 0, "b beside, uncover a"),
        ("aba", 0, "b beside"),
        ("a0", 0, "a front"),
        ("a-", 0, "uncover a"),
    ] {
        let versions = versions(chain);
        let decision = decide(&versions, Window::default(), Some(&named.to_string()), |_| false);
        assert_eq!(steps(&versions, &decision), expected, "{chain} {named}");
    }
}

#[test]
fn only_what_was_hidden_in_the_time_in_question_comes_back() {
    let second = |second| DateTime::from_timestamp(second, 0);
    for (chain, since, until, expected) in [
        ("a-b-c", Some(3), None, "b beside"),
        ("a-b-c", None, Some(3), "a beside"),
        ("a-b-c", Some(1), Some(2), "a beside"),
        ("a-b-c", Some(5), None, ""),
        // Somebody else had hidden it before; another marker changes nothing.
        ("a--", Some(2), None, ""),
        ("a-b-", Some(3), None, "uncover b"),
        // What is under the marker was hidden at another time.
        ("a-b-", None, Some(3), "a front"),
    ] {
        let versions = versions(chain);
        let window = Window { since: since.and_then(second), until: until.and_then(second) };
        let decision = decide(&versions, window, None, |_| false);
        assert_eq!(steps(&versions, &decision), expected, "{chain} {since:?} {until:?}");
    }
}

#[test]
fn what_the_rotation_deleted_stays_hidden_and_is_counted() {
    for (chain, left, expected, count) in [
        ("a-", "a", "", 1),
        ("a-b", "a", "", 1),
        ("a-b-", "a", "uncover b", 1),
        ("a-b-", "b", "a front", 1),
        ("ab-", "ab", "", 2),
    ] {
        let versions = versions(chain);
        let is_left = |at: usize| left.contains(&versions[at].content.as_ref().unwrap().etag);
        let decision = decide(&versions, Window::default(), None, is_left);
        assert_eq!((steps(&versions, &decision), decision.left), (expected.to_owned(), count), "{chain} {left}");
        let named = decide(&versions, Window::default(), Some("0"), is_left);
        assert_eq!(named, decision, "{chain} {left}: what stays hidden comes to no front");
    }
}

/// Does what was decided, as the bucket would: copies beside are the letters that are returned.
fn carry_out(chain: &str, decision: &Decision, beside: &mut HashSet<String>) -> String {
    let before = versions(chain);
    let mut after: String = chain.to_owned();
    for step in &decision.steps {
        let letter = |at: usize| before[at].content.as_ref().unwrap().etag.clone();
        match step {
            Step::Uncover { version } => after.truncate(after.len() - version),
            Step::Copy { version, to: Place::Front } => after.push_str(&letter(*version)),
            Step::Copy { version, to: Place::Beside } => drop(beside.insert(letter(*version))),
        }
    }
    after
}

proptest! {
    #[test]
    fn whatever_the_chain_every_content_is_there_afterwards_and_nothing_is_done_twice(
        chain in "[abc0-]{0,9}",
        named in 0..9_usize,
        names in any::<bool>(),
    ) {
        let before = versions(&chain);
        let named = chain.chars().nth(named).filter(|letter| names && !"0-".contains(*letter)).map(|_| named.to_string());
        let mut beside = HashSet::new();
        let decision = decide(&before, Window::default(), named.as_deref(), |_| false);
        let after = carry_out(&chain, &decision, &mut beside);
        let front = after.chars().last().filter(|letter| *letter != '-').map(String::from);
        for letter in chain.chars().filter(|letter| !"0-".contains(*letter)).map(String::from) {
            prop_assert!(beside.contains(&letter) || front.as_ref() == Some(&letter), "{letter} of {chain}: {after}");
        }
        // A second run finds each copy where the first one put it.
        let again = decide(&versions(&after), Window::default(), named.as_deref(), |_| false);
        let mut more = beside.clone();
        let settled = carry_out(&after, &again, &mut more);
        prop_assert_eq!(&more, &beside);
        prop_assert_eq!(settled, after);
    }
}
