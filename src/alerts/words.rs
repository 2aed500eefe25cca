//! A message to the owner, before a service's form is given to it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::health::in_words;
use crate::key::printable;
use crate::status::{ConditionKind, Weight};

/// The most characters of a title, and of a text; every service takes so much.
const MOST_TITLE: usize = 150;
const MOST_TEXT: usize = 900;

/// How many subjects a message names.
const MOST_NAMED: usize = 5;

/// Something to tell the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The name of the box.
    #[serde(rename = "box")]
    pub host: String,
    /// What it is about, as [`ConditionKind::name`] says; `digest` or `test` if it is about no condition.
    pub kind: String,
    /// What has happened.
    pub state: Phase,
    /// The camera, if it is about exactly one.
    pub camera: Option<String>,
    /// One line.
    pub title: String,
    /// The whole story.
    pub text: String,
    /// What the owner can do; empty if there is nothing to do.
    pub advice: String,
    /// When it began.
    pub since: Option<DateTime<Utc>>,
    /// When the message was made.
    pub at: DateTime<Utc>,
    /// How loud it may be.
    pub urgency: Urgency,
}

/// What a message says has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Something is wrong.
    Entered,
    /// It still is.
    Reminder,
    /// It is over.
    Left,
    /// A day has passed.
    Digest,
    /// Somebody tries whether messages arrive.
    Test,
}

impl Phase {
    /// Returns the name for programs, as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entered => "entered",
            Self::Reminder => "reminder",
            Self::Left => "left",
            Self::Digest => "digest",
            Self::Test => "test",
        }
    }
}

/// How loud a message may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    /// It can be read any time.
    Low,
    /// It should be read today.
    Normal,
    /// It wakes people.
    High,
}

/// One condition as a message tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) camera: Option<String>,
    pub(super) sentence: String,
    pub(super) advice: String,
    pub(super) since: DateTime<Utc>,
}

impl Message {
    /// Returns the message about conditions of one kind that share their fate; there is at least one.
    pub(super) fn about(host: &str, kind: ConditionKind, phase: Phase, of: &[&Told], at: DateTime<Utc>) -> Self {
        let since = of.iter().map(|told| told.since).min();
        let sentence = of.first().map(|told| told.sentence.as_str()).unwrap_or_default();
        let more = if of.len() > 1 { format!(", and {} more", of.len() - 1) } else { String::new() };
        let title = match phase {
            Phase::Left => format!("over: {sentence}{more}"),
            Phase::Reminder => format!("still: {sentence}{more}"),
            _ => format!("{sentence}{more}"),
        };
        let mut lines: Vec<String> = of.iter().take(MOST_NAMED).map(|told| line(phase, told, at)).collect();
        if of.len() > MOST_NAMED {
            lines.push(format!("and {} more; `hk-aws status` names them.", of.len() - MOST_NAMED));
        }
        let advice = of.first().map(|told| told.advice.clone()).filter(|_| phase != Phase::Left).unwrap_or_default();
        if !advice.is_empty() {
            lines.push(format!("What to do: {advice}."));
        }
        let urgency = match (phase, kind.weight()) {
            (Phase::Left, _) | (_, Weight::Notice) => Urgency::Low,
            (Phase::Entered, Weight::Grave) => Urgency::High,
            _ => Urgency::Normal,
        };
        let camera = match of {
            [only] => only.camera.clone(),
            _ => None,
        };
        Self { kind: kind.name().to_owned(), camera, since, urgency, ..Self::new(host, phase, &title, &lines, at) }
            .advising(advice)
    }

    /// Returns the message by which the owner tries whether messages arrive.
    pub fn test(host: &str, at: DateTime<Utc>) -> Self {
        let lines = ["This is a test of `hk-aws alerts test`: alerts of this box arrive here.".to_owned()];
        Self::new(host, Phase::Test, "alerts arrive", &lines, at)
    }

    pub(super) fn new(host: &str, phase: Phase, title: &str, lines: &[String], at: DateTime<Utc>) -> Self {
        Self {
            host: host.to_owned(),
            kind: phase.name().to_owned(),
            state: phase,
            camera: None,
            title: cut(&printable(&format!("{host}: {title}")), MOST_TITLE),
            text: cut(&lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n"), MOST_TEXT),
            advice: String::new(),
            since: None,
            at,
            urgency: Urgency::Low,
        }
    }

    fn advising(self, advice: String) -> Self {
        Self { advice, ..self }
    }

    /// Returns the value of one of the names that a body may have.
    pub(super) fn value(&self, name: &str) -> String {
        match name {
            "title" => self.title.clone(),
            "text" => self.text.clone(),
            "advice" => self.advice.clone(),
            "kind" => self.kind.clone(),
            "camera" => self.camera.clone().unwrap_or_default(),
            "state" => self.state.name().to_owned(),
            "box" => self.host.clone(),
            "since" => self.since.map(|since| since.to_rfc3339()).unwrap_or_default(),
            "at" => self.at.to_rfc3339(),
            _ => String::new(),
        }
    }
}

fn line(phase: Phase, told: &Told, at: DateTime<Utc>) -> String {
    let Told { sentence, since, .. } = told;
    let lasted = in_words((at - *since).max(TimeDelta::zero()));
    match phase {
        Phase::Left => format!("It is over that {sentence}. It lasted {lasted}."),
        Phase::Reminder => format!("For {lasted} now: {sentence}."),
        _ => format!("Since {}: {sentence}.", since.format("%F %H:%M UTC")),
    }
}

/// Returns a text that is not longer than this many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 3).chain("...".chars()).collect()
}
