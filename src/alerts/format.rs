//! The forms in which services take messages, by the documentation of each.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::words::{Message, Phase, Urgency};
use crate::config::{AlertFormat, AlertsSettings};
use crate::post::{Address, Letter};

/// Returns where a message goes, and what is sent there.
pub(super) fn write(settings: &AlertsSettings, to: &Address, message: &Message) -> (Address, Letter) {
    let format = settings.format.unwrap_or_else(|| of_address(to));
    let (to, mut letter) = write_as(format, to, message);
    if let Some(body) = &settings.body {
        letter.body = body.render(|name| message.value(name));
    }
    (to, letter)
}

/// Returns the form that an address suggests: by its host, or by a path that only one service has.
fn of_address(to: &Address) -> AlertFormat {
    let (host, path) = (to.host(), to.path());
    let is_at = |name: &str| host == name || host.ends_with(&format!(".{name}"));
    let begins = |name: &str| host.split('.').next() == Some(name);
    match () {
        () if is_at("ntfy.sh") || begins("ntfy") => AlertFormat::Ntfy,
        () if is_at("api.telegram.org") => AlertFormat::Telegram,
        () if is_at("api.pushover.net") => AlertFormat::Pushover,
        () if is_at("hooks.slack.com") => AlertFormat::Slack,
        () if is_at("discord.com") || is_at("discordapp.com") => AlertFormat::Discord,
        () if path.contains("/_matrix/client/") => AlertFormat::Matrix,
        () if begins("gotify") => AlertFormat::Gotify,
        () if begins("mattermost") => AlertFormat::Mattermost,
        () if begins("apprise") => AlertFormat::Apprise,
        () if path.starts_with("/api/webhook/") => AlertFormat::HomeAssistant,
        () => AlertFormat::Json,
    }
}

fn write_as(format: AlertFormat, to: &Address, message: &Message) -> (Address, Letter) {
    let (title, text) = (message.title.as_str(), message.text.as_str());
    let both = format!("{title}\n{text}");
    let path = to.path().split('?').next().unwrap_or("/");
    match format {
        // home-assistant.io, "Automation triggers", "Webhook trigger": JSON of any shape, which an automation has as
        // `trigger.json`.
        AlertFormat::Json | AlertFormat::HomeAssistant => {
            (to.clone(), Letter::json(&serde_json::to_value(message).unwrap_or_default()))
        }
        // docs.ntfy.sh, "Publish as JSON": to the root, with the topic in the message.
        AlertFormat::Ntfy => {
            let (root, topic) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", ""));
            let priority = by_urgency(message, [2, 3, 5]);
            let tag = match message.state {
                Phase::Entered | Phase::Reminder => "warning",
                Phase::Left => "white_check_mark",
                Phase::Digest | Phase::Test => "information_source",
            };
            let value = json!({"topic": topic, "title": title, "message": text, "priority": priority, "tags": [tag]});
            (to.at(&format!("{root}/")), Letter::json(&value))
        }
        // gotify.net/api-docs, POST /message.
        AlertFormat::Gotify => {
            let priority = by_urgency(message, [2, 5, 8]);
            (to.clone(), Letter::json(&json!({"title": title, "message": text, "priority": priority})))
        }
        // core.telegram.org/bots/api, sendMessage. Whatever stands in the query goes into the body: chat_id above all.
        AlertFormat::Telegram => (to.at(path), Letter::json(&with_query(to, json!({"text": both})))),
        // pushover.net/api, "Pushing Messages".
        AlertFormat::Pushover => {
            let priority = by_urgency(message, [-1, 0, 1]);
            let value = json!({"title": title, "message": text, "priority": priority});
            (to.at(path), Letter::json(&with_query(to, value)))
        }
        // docs.slack.dev, "Formatting message text": these three are to be escaped.
        AlertFormat::Slack => {
            let text = both.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            (to.clone(), Letter::json(&json!({"text": text})))
        }
        // developers.mattermost.com, "Incoming webhooks". An @ could call everybody.
        AlertFormat::Mattermost => (to.clone(), Letter::json(&json!({"text": both.replace('@', "@\u{200b}")}))),
        // discord.com/developers/docs, "Execute Webhook".
        AlertFormat::Discord => {
            let value = json!({"content": both, "allowed_mentions": {"parse": []}});
            (to.clone(), Letter::json(&value))
        }
        // spec.matrix.org, PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}: the same id is taken once.
        AlertFormat::Matrix => {
            let id = format!("{}-{}-{}", message.at.timestamp(), message.kind, message.state.name());
            let id = utf8_percent_encode(&id, NON_ALPHANUMERIC);
            let query = to.path().split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
            let letter = Letter::json(&json!({"msgtype": "m.text", "body": both}));
            let path = path.trim_end_matches('/');
            (to.at(&format!("{path}/{id}{query}")), Letter { method: http::Method::PUT, ..letter })
        }
        // github.com/caronc/apprise-api, POST /notify/{KEY}.
        AlertFormat::Apprise => {
            let kind = match message.state {
                Phase::Entered if message.urgency == Urgency::High => "failure",
                Phase::Entered | Phase::Reminder => "warning",
                Phase::Left => "success",
                Phase::Digest | Phase::Test => "info",
            };
            (to.clone(), Letter::json(&json!({"title": title, "body": text, "type": kind})))
        }
    }
}

fn by_urgency(message: &Message, [low, normal, high]: [i8; 3]) -> i8 {
    match message.urgency {
        Urgency::Low => low,
        Urgency::Normal => normal,
        Urgency::High => high,
    }
}

/// Adds the values of an address's query to a map.
fn with_query(to: &Address, value: Value) -> Value {
    let Value::Object(own) = value else { return value };
    let mut all: Map<String, Value> = to.query().into_iter().map(|(name, value)| (name, value.into())).collect();
    all.extend(own);
    all.into()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::config::SecretUrl;

    fn message() -> Message {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let lines = ["camera <!channel> \"@all\"\n & more".to_owned()];
        Message { urgency: Urgency::High, ..Message::new("porch", Phase::Entered, "a <b>", &lines, at) }
    }

    fn written(url: &str) -> (String, String, Value) {
        let to = Address::new(&SecretUrl::literal(url)).unwrap();
        let (to, letter) = write_as(of_address(&to), &to, &message());
        assert_eq!(letter.content_type, Some("application/json"));
        (letter.method.to_string(), to.path().to_owned(), serde_json::from_str(&letter.body).unwrap())
    }

    #[test]
    fn each_service_gets_what_it_documents() {
        let text = "camera <!channel> \"@all\"\\n & more";
        let both = format!("porch: a <b>\n{text}");
        let slack = both.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let ntfy =
            json!({"topic": "t0pic", "title": "porch: a <b>", "message": text, "priority": 5, "tags": ["warning"]});
        for (url, method, path, body) in [
            ("https://ntfy.sh/t0pic", "POST", "/", ntfy.clone()),
            ("https://ntfy.example.org/sub/t0pic", "POST", "/sub/", ntfy),
            (
                "https://gotify.example.org/message?token=a",
                "POST",
                "/message?token=a",
                json!({"title": "porch: a <b>", "message": text, "priority": 8}),
            ),
            (
                "https://api.telegram.org/bot1:A/sendMessage?chat_id=-100",
                "POST",
                "/bot1:A/sendMessage",
                json!({"chat_id": "-100", "text": both}),
            ),
            (
                "https://api.pushover.net/1/messages.json?token=t&user=u",
                "POST",
                "/1/messages.json",
                json!({"token": "t", "user": "u", "title": "porch: a <b>", "message": text, "priority": 1}),
            ),
            ("https://hooks.slack.com/services/T/B/X", "POST", "/services/T/B/X", json!({"text": slack})),
            (
                "https://mattermost.example.org/hooks/x",
                "POST",
                "/hooks/x",
                json!({"text": both.replace('@', "@\u{200b}")}),
            ),
            (
                "https://discord.com/api/webhooks/1/x",
                "POST",
                "/api/webhooks/1/x",
                json!({"content": both, "allowed_mentions": {"parse": []}}),
            ),
            (
                "https://:tok@m.example.org/_matrix/client/v3/rooms/!r/send/m.room.message",
                "PUT",
                "/_matrix/client/v3/rooms/!r/send/m.room.message/1700000000%2Dentered%2Dentered",
                json!({"msgtype": "m.text", "body": both}),
            ),
            (
                "https://apprise.example.org/notify/k",
                "POST",
                "/notify/k",
                json!({"title": "porch: a <b>", "body": text, "type": "failure"}),
            ),
            (
                "https://ha.example.org/api/webhook/id",
                "POST",
                "/api/webhook/id",
                serde_json::to_value(message()).unwrap(),
            ),
            ("https://example.org/x?y=z", "POST", "/x?y=z", serde_json::to_value(message()).unwrap()),
        ] {
            assert_eq!(written(url), (method.to_owned(), path.to_owned(), body), "{url}");
        }
    }
}
