//! Reads who is told what, and how the box shows that it lives.

use std::time::Duration;

use chrono::NaiveTime;

use super::alerts::{
    AlertFormat, AlertsSettings, BodyTemplate, HeartbeatSettings, Quiet, SecretUrl, TIME_OF_DAY, mask_url,
};
use super::notation::{CENTURY, DAY, SECOND};
use super::problem::{Fault, MASK, quote};
use super::reader::{GivenValue, Leaf, Section};
use super::{check, notation};

const EXPOSURE: Duration = Duration::from_mins(15);
const HEARTBEAT: Duration = Duration::from_mins(5);

pub(super) fn alerts(section: &Section<'_>) -> AlertsSettings {
    let webhook = secret_url(section, "webhook");
    let formats = AlertFormat::ALL.map(|(name, format)| (name, Some(format)));
    let formats = [&[("auto", None)], &formats[..]].concat();
    let alerts = AlertsSettings {
        webhook,
        format: section.value("format", None, check::choice(&formats)),
        body: section.optional("body", None, BodyTemplate::new),
        command: command(section),
        email: section.optional("email", None, email),
        exposure: section.value("exposure", EXPOSURE, notation::duration_in(SECOND..=CENTURY)),
        quiet: section.optional("quiet", None, Quiet::new),
        digest: section.optional("digest", None, time_of_day),
        mute: mute(section),
    };
    if alerts.body.is_some() && alerts.webhook.is_none() {
        section.refuse(
            "body",
            None,
            Fault::new("stands without alerts.webhook", "set the webhook, or remove the body"),
        );
    }
    alerts
}

pub(super) fn heartbeat(section: &Section<'_>) -> HeartbeatSettings {
    let every = notation::duration_in(SECOND..=DAY);
    HeartbeatSettings {
        every: section.value("every", HEARTBEAT, every),
        url: secret_url(section, "url"),
        name: section.optional("name", None, check::camera_name),
    }
}

fn command(section: &Section<'_>) -> Option<Vec<String>> {
    let example = "a list such as [\"/usr/local/bin/notify\", \"--now\"], or null";
    match section.texts("command", example, check::command_word) {
        GivenValue::Here(words) if words.is_empty() => {
            section.refuse("command", None, Fault::new("an empty list", "write a program and its arguments, or null"));
            None
        }
        GivenValue::Here(words) => Some(words),
        GivenValue::Absent | GivenValue::Null | GivenValue::Wrong => None,
    }
}

fn mute(section: &Section<'_>) -> Vec<String> {
    let example = "a list such as [camera_clock, CAM-EXT-001, \"CAM-EXT-002: camera_silent\"], or [] for none";
    let word = |_: usize, text: &str| {
        let mend = format!("write {example}");
        if text.trim().is_empty() { Err(Fault::new("is empty", mend)) } else { Ok(text.trim().to_owned()) }
    };
    match section.texts("mute", example, word) {
        GivenValue::Here(words) => words,
        GivenValue::Absent | GivenValue::Null | GivenValue::Wrong => Vec::new(),
    }
}

fn time_of_day(text: &str) -> Result<NaiveTime, Fault> {
    let wrong = |_| Fault::new("no time of day", "write hours and minutes, such as \"08:00\"");
    NaiveTime::parse_from_str(text, TIME_OF_DAY).map_err(wrong)
}

/// Accepts an address that a template can have in quotes.
fn email(text: &str) -> Result<String, Fault> {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '$' | '%' | '<' | '>' | ',');
    match text.split_once('@') {
        Some((name, host)) if !name.is_empty() && host.contains('.') && text.chars().all(is_plain) => {
            Ok(text.to_owned())
        }
        _ => Err(Fault::new("no e-mail address", "write one address, such as owner@example.org")),
    }
}

/// Reads a URL that no message may show.
fn secret_url(section: &Section<'_>, key: &'static str) -> Option<SecretUrl> {
    let node = section.node(key)?;
    let place = section.place(key);
    let leaf = section.reader().leaf(&place, node)?;
    if leaf.is_null {
        return None;
    }
    let refuse = |fault| section.reader().refuse(&place, Some(quote(&mask_url(&leaf.written))), fault);
    read_secret_url(&leaf).map_err(refuse).ok()
}

fn read_secret_url(leaf: &Leaf) -> Result<SecretUrl, Fault> {
    check::web_address(&leaf.text)?;
    if leaf.text.contains(MASK) {
        let mend = "write it again, or write ${NAME} and set that variable for the service";
        return Err(Fault::new("a part of it was masked when these settings were shown", mend));
    }
    Ok(SecretUrl::new(&leaf.text, &leaf.written))
}
