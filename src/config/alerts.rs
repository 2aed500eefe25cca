//! Who is told what, and how the box shows that it lives.

use std::fmt;
use std::time::Duration;

use chrono::NaiveTime;
use serde::{Serialize, Serializer};

use super::notation;
use super::problem::{Fault, MASK, mask_user};

/// Who is told when something breaks or works again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertsSettings {
    /// A URL that gets each message by POST.
    pub webhook: Option<SecretUrl>,
    /// How messages to the webhook are written; `None`: as its host says.
    #[serde(serialize_with = "serialize_format")]
    pub format: Option<AlertFormat>,
    /// The body of a message in the owner's own form.
    pub body: Option<BodyTemplate>,
    /// A program with its arguments, which gets each message as JSON on stdin; at least one word.
    pub command: Option<Vec<String>>,
    /// Whom the alarm in AWS tells.
    pub email: Option<String>,
    /// How long a capture may be only on this box.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub exposure: Duration,
    /// The hours in which only what cannot wait is told.
    pub quiet: Option<Quiet>,
    /// When the daily digest is sent, in the box's time zone.
    #[serde(serialize_with = "serialize_time")]
    pub digest: Option<NaiveTime>,
    /// What is never told: a kind, a camera, or `CAMERA: KIND`.
    pub mute: Vec<String>,
}

/// The form in which a service takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertFormat {
    /// The message's own fields.
    Json,
    /// ntfy.
    Ntfy,
    /// Gotify.
    Gotify,
    /// A bot of Telegram.
    Telegram,
    /// Pushover.
    Pushover,
    /// Slack.
    Slack,
    /// Mattermost.
    Mattermost,
    /// Discord.
    Discord,
    /// A room of Matrix.
    Matrix,
    /// The API of Apprise.
    Apprise,
    /// A webhook of Home Assistant.
    HomeAssistant,
}

impl AlertFormat {
    /// Every format with its name in the file.
    pub const ALL: [(&str, Self); 11] = [
        ("json", Self::Json),
        ("ntfy", Self::Ntfy),
        ("gotify", Self::Gotify),
        ("telegram", Self::Telegram),
        ("pushover", Self::Pushover),
        ("slack", Self::Slack),
        ("mattermost", Self::Mattermost),
        ("discord", Self::Discord),
        ("matrix", Self::Matrix),
        ("apprise", Self::Apprise),
        ("home-assistant", Self::HomeAssistant),
    ];
}

/// The body of a message: a text whose `{name}` stand for values, which are escaped as JSON strings are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyTemplate(String);

impl BodyTemplate {
    /// The names that it may have.
    pub const NAMES: [&str; 9] = ["title", "text", "advice", "kind", "camera", "state", "box", "since", "at"];

    /// Returns the body with these values, which are not escaped yet.
    pub fn render(&self, value: impl Fn(&str) -> String) -> String {
        let (mut body, mut rest) = (String::new(), self.0.as_str());
        while let Some((before, after)) = rest.split_once('{') {
            body.push_str(before);
            let name = after.split_once('}').filter(|(name, _)| Self::NAMES.contains(name));
            rest = if let Some((name, after)) = name {
                let quoted = serde_json::Value::from(value(name)).to_string();
                body.push_str(&quoted[1..quoted.len() - 1]);
                after
            } else {
                body.push('{');
                after
            };
        }
        body + rest
    }

    pub(super) fn new(text: &str) -> Result<Self, Fault> {
        let template = Self(text.to_owned());
        let names = Self::NAMES.map(|name| format!("{{{name}}}")).join(", ");
        let sample = template.render(|_| "\"\n\\".to_owned());
        serde_json::from_str::<serde_json::Value>(&sample).map_err(|error| {
            let mend =
                format!("write JSON with {names} inside its quotes, such as {{\"text\": \"{{title}}: {{text}}\"}}");
            Fault::new(format!("no JSON once its values are filled in: {error}"), mend)
        })?;
        Ok(template)
    }
}

impl Serialize for BodyTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Hours of each day, in the box's time zone; they may go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// When they begin.
    pub from: NaiveTime,
    /// When they end.
    pub to: NaiveTime,
}

impl Quiet {
    /// Returns whether a time of day is within these hours.
    pub fn holds(self, time: NaiveTime) -> bool {
        if self.from <= self.to { self.from <= time && time < self.to } else { self.from <= time || time < self.to }
    }

    pub(super) fn new(text: &str) -> Result<Self, Fault> {
        let wrong =
            || Fault::new("no two times of day", "write when the quiet begins and ends, such as \"22:00-07:00\"");
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let [from, to] = [from, to].map(|time| NaiveTime::parse_from_str(time.trim(), TIME_OF_DAY));
        let quiet = Self { from: from.map_err(|_| wrong())?, to: to.map_err(|_| wrong())? };
        if quiet.from == quiet.to { Err(wrong()) } else { Ok(quiet) }
    }
}

impl Serialize for Quiet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}-{}", self.from.format(TIME_OF_DAY), self.to.format(TIME_OF_DAY)))
    }
}

/// A URL that is a secret: neither `Debug` nor the effective settings show more of it than its host.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl {
    url: String,
    shown: String,
}

impl SecretUrl {
    /// Takes a URL that is written out.
    pub fn literal(url: &str) -> Self {
        Self::new(url, url)
    }

    /// Takes a URL, and how the file has it.
    pub(super) fn new(url: &str, written: &str) -> Self {
        Self { url: url.to_owned(), shown: mask_url(written) }
    }

    /// Returns the URL to send to: never for a log.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL for people: with its `${ENV}` as written, and what else may be a secret masked.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({:?})", self.shown)
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}

/// An object that shows from outside that the box lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeartbeatSettings {
    /// The time between two of them.
    #[serde(serialize_with = "notation::serialize_duration")]
    pub every: Duration,
    /// A URL that is called as often.
    pub url: Option<SecretUrl>,
    /// The name of this box in the keys; `None`: the name of the host.
    pub name: Option<String>,
}

pub(super) const TIME_OF_DAY: &str = "%H:%M";

/// Returns a URL for people: a literal password is masked, and so is a path that is not one variable.
pub(super) fn mask_url(written: &str) -> String {
    let Some((scheme, rest)) = written.split_once("://") else { return mask_user(written) };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let is_variable = |path: &str| {
        path.strip_prefix("/${")
            .and_then(|rest| rest.strip_suffix('}'))
            .is_some_and(|name| !name.contains(['$', '}', '/']))
    };
    let path = if path.len() <= 1 || is_variable(path) { path.to_owned() } else { format!("{}{MASK}", &path[..1]) };
    format!("{scheme}://{}{path}", mask_user(authority))
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference to the field"
)]
fn serialize_format<S: Serializer>(format: &Option<AlertFormat>, serializer: S) -> Result<S::Ok, S::Error> {
    match format {
        None => serializer.serialize_str("auto"),
        Some(format) => format.serialize(serializer),
    }
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn serialize_time<S: Serializer>(time: &Option<NaiveTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        None => serializer.serialize_none(),
        Some(time) => serializer.collect_str(&time.format(TIME_OF_DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_go_over_midnight() {
        let time = |text| NaiveTime::parse_from_str(text, TIME_OF_DAY).unwrap();
        for (quiet, inside, outside) in [
            ("22:00-07:00", &["22:00", "23:59", "00:00", "06:59"][..], &["07:00", "21:59", "12:00"][..]),
            ("12:30 - 13:00", &["12:30", "12:59"], &["12:29", "13:00", "00:00"]),
        ] {
            let quiet = Quiet::new(quiet).unwrap();
            assert!(inside.iter().all(|at| quiet.holds(time(at))) && !outside.iter().any(|at| quiet.holds(time(at))));
        }
        for wrong in ["22:00", "22-7", "25:00-07:00", "07:00-07:00", ""] {
            assert!(Quiet::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_body_has_its_values_escaped_and_is_json() {
        let body = BodyTemplate::new(r#"{"text": "{title}: {text}", "n": {"x": [1, "{unknown}"]}}"#).unwrap();
        let rendered = body.render(|name| format!("{name} of \"the\nporch\" {{text}}"));
        let value: serde_json::Value = serde_json::from_str(&rendered).unwrap();
        assert_eq!(value["text"], "title of \"the\nporch\" {text}: text of \"the\nporch\" {text}");
        assert_eq!(value["n"]["x"][1], "{unknown}");
        for wrong in ["text={text}", "{\"text\": {text}}", "", "{\"a\": \"{text}\""] {
            assert!(BodyTemplate::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_shown_without_what_may_be_a_secret() {
        for (written, shown) in [
            ("https://ntfy.sh/topic", "https://ntfy.sh/***"),
            ("https://example.org/${HOOK}", "https://example.org/${HOOK}"),
            ("https://example.org/a${HOOK}", "https://example.org/***"),
            ("https://example.org/${A}b${C}", "https://example.org/***"),
            ("https://example.org?token=x", "https://example.org?***"),
            ("https://example.org/", "https://example.org/"),
            ("${HOOK}", "${HOOK}"),
            ("https://:tk_1@example.org", "https://:***@example.org"),
        ] {
            assert_eq!(mask_url(written), shown);
        }
    }
}
