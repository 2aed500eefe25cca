//! What watches the box from outside it: an event for each new object below a prefix, and an alarm if there are too few.
//!
//! The bucket tells a topic of Amazon SNS of each object, and Amazon `CloudWatch` counts those messages. Nothing runs in AWS,
//! and the box needs no right besides `s3:PutObject`. A function that looks for the last heartbeat was rejected: it
//! would itself have to be watched. So were the request metrics of the bucket: they are best effort, and cost more.

use super::policy;
use crate::config::{CameraSettings, Config};
use crate::key::{self, Layout};

/// How many periods without a heartbeat raise the alarm.
const PERIODS: u64 = 3;

/// Alarms count by minutes, and look back a week if a period is an hour or longer, otherwise a day (Amazon `CloudWatch` User
/// Guide, "Evaluating an alarm").
const MINUTE_SECONDS: u64 = 60;
const HOUR_SECONDS: u64 = 3600;
const DAY_SECONDS: u64 = 24 * HOUR_SECONDS;

/// The period in which the captures of a camera are counted that may be silent for a day at most.
const SHORT_PERIOD_SECONDS: u64 = 300;

/// After how many days a heartbeat goes.
pub(super) const HEARTBEAT_DAYS: u64 = 30;

/// One topic and its alarm.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Watch {
    /// What it is called in the template: letters and digits.
    pub(super) name: String,
    /// The prefix of the objects that are counted.
    pub(super) prefix: String,
    /// The length of a period.
    pub(super) period_seconds: u64,
    /// How many periods without an object raise the alarm.
    pub(super) periods: u64,
    /// What the alarm says.
    pub(super) description: String,
}

/// Returns what is watched: the heartbeat, and the cameras with a `silent_after` of their own. Nothing without a heartbeat.
pub(super) fn watches(config: &Config) -> Vec<Watch> {
    let Some(heartbeat) = &config.heartbeat else { return Vec::new() };
    let (prefix, bucket) = (&config.s3.prefix, &config.s3.bucket);
    let period_seconds = heartbeat.every.as_secs().max(1).div_ceil(MINUTE_SECONDS) * MINUTE_SECONDS;
    let place = format!("s3://{bucket}/{prefix}");
    let of_the_box = heartbeat.name.as_ref().map_or_else(String::new, |name| format!(" {}", plain(name)));
    let box_watch = Watch {
        name: "Heartbeat".to_owned(),
        prefix: key::heartbeat_prefix(prefix, heartbeat.name.as_deref()),
        period_seconds,
        periods: PERIODS,
        description: short(&format!(
            "No sign of life from the box{of_the_box} that stores in {place} for {}. It has no power or no line, it hangs, or \
             somebody took it. Look at the newest pictures there now, and call whoever is near. If the box was taken, make \
             its key useless: aws iam list-access-keys --user-name {bucket}, then aws iam update-access-key --user-name \
             {bucket} --status Inactive --access-key-id ID. What it stored stays: with its key nothing can be erased, and \
             what is hidden comes back with hk-aws recover.",
            span(period_seconds * PERIODS),
        )),
    };
    let layout = Layout::new(prefix, config.s3.key.clone());
    let of_cameras = config.cameras.iter().enumerate().filter_map(|(at, camera)| of_camera(at, camera, &layout));
    std::iter::once(box_watch).chain(of_cameras).collect()
}

fn of_camera(at: usize, camera: &CameraSettings, layout: &Layout) -> Option<Watch> {
    let silent = camera.silent_after?.as_secs().max(1);
    let (period_seconds, longest) =
        if silent <= DAY_SECONDS { (SHORT_PERIOD_SECONDS, DAY_SECONDS) } else { (HOUR_SECONDS, 7 * DAY_SECONDS) };
    let periods = silent.min(longest).div_ceil(period_seconds);
    let name = plain(&camera.name);
    Some(Watch {
        name: format!("Camera{}", at + 1),
        prefix: capture_prefix(layout, &key::camera_segment(camera.name.as_bytes())),
        period_seconds,
        periods,
        description: short(&format!(
            "No picture of camera {name} came for {}. Check its power, its network and its FTP settings; if the box is \
             silent too, look at that first.",
            span(period_seconds * periods),
        )),
    })
}

/// Returns what all captures of a camera begin with, and its bundles do not, as far as the shape of keys allows: the part of
/// the date that never changes.
fn capture_prefix(layout: &Layout, camera: &str) -> String {
    let day = |year| chrono::NaiveDate::from_ymd_opt(year, 1, 1).map(|day| layout.day_prefix(camera, day));
    let (Some(first), Some(last)) = (day(2000), day(2999)) else { return layout.camera_prefix(camera) };
    let common = first.chars().zip(last.chars()).take_while(|(one, other)| one == other);
    common.map(|(one, _)| one).collect()
}

/// Returns a description that is not longer than AWS takes (Amazon `CloudWatch` API Reference, `PutMetricAlarm`).
fn short(description: &str) -> String {
    description.chars().take(1024).collect()
}

/// Returns a name as a description takes it: AWS refuses control characters.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn span(seconds: u64) -> String {
    match (seconds / DAY_SECONDS, seconds / HOUR_SECONDS, seconds / MINUTE_SECONDS) {
        (days @ 2.., ..) if seconds.is_multiple_of(DAY_SECONDS) => format!("{days} days"),
        (_, hours @ 2.., _) if seconds.is_multiple_of(HOUR_SECONDS) => format!("{hours} hours"),
        (.., minutes) => format!("{minutes} minutes"),
    }
}

/// Returns the ARN of the bucket, whose messages the topics take.
pub(super) fn source(config: &Config) -> String {
    policy::bucket_arn(&config.s3)
}

/// Returns how the owner tries the watch, as the lines of a comment.
pub(super) fn comment(config: &Config, topic: &str) -> String {
    let several = match config.heartbeat.as_ref().and_then(|heartbeat| heartbeat.name.as_ref()) {
        Some(_) => "",
        None => {
            "\
# If several boxes share this bucket and prefix, one that lives keeps the alarm silent for all: set heartbeat.name on
# each, and make the template for each name.
"
        }
    };
    format!(
        "\
{several}# Try it in two minutes: run `hk-aws heartbeat --test` on the box twice, a minute apart, and look whether AWS counted
# it: the sum in the metric AWS/SNS, NumberOfMessagesPublished, of the topic {topic}. AWS does not say whether a topic
# that nobody subscribes to counts. If it does not, put a queue in its place (Amazon SQS, messages kept for 60 seconds,
# with the same policy for sqs:SendMessage): its metric is AWS/SQS, NumberOfMessagesSent, by QueueName.
# The alarm rings until the first heartbeats have come."
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(s3: &str, rest: &str) -> Vec<Watch> {
        let text = format!("drop_folder: {{path: /drop}}\ntimezone: UTC\ns3: {{bucket: captures{s3}}}\n{rest}\n");
        watches(&Config::parse(Path::new("config.yaml"), &text, &|_| None).unwrap())
    }

    #[test]
    fn the_heartbeat_is_missed_after_three_periods_and_a_camera_after_its_silence() {
        assert!(of("", "cameras: [{name: A, silent_after: 1h}]").is_empty(), "without a heartbeat nothing is made");
        let cameras = "cameras: [{name: A, silent_after: 1h}, {name: B}, {name: C, silent_after: 25h}, {name: D, silent_after: 30d}]";
        for (every, period) in [("1s", 60), ("5m", 300), ("61s", 120), ("1d", 86400)] {
            let found = of("", &format!("heartbeat: {{every: {every}}}\n{cameras}"));
            let figures: Vec<_> =
                found.iter().map(|watch| (&*watch.name, watch.period_seconds, watch.periods)).collect();
            let cameras = [("Camera1", 300, 12), ("Camera3", 3600, 25), ("Camera4", 3600, 168)];
            assert_eq!(figures, [&[("Heartbeat", period, 3)][..], &cameras].concat());
            for watch in found {
                // Amazon `CloudWatch` API Reference, PutMetricAlarm.
                let longest = if watch.period_seconds < HOUR_SECONDS { DAY_SECONDS } else { 7 * DAY_SECONDS };
                assert!(watch.period_seconds * watch.periods <= longest, "{watch:?}");
                assert!(watch.description.len() <= 1024 && watch.period_seconds % 60 == 0, "{watch:?}");
            }
        }
    }

    #[test]
    fn only_the_objects_that_are_meant_are_counted() {
        let prefixes =
            |s3: &str, rest: &str| -> Vec<String> { of(s3, rest).into_iter().map(|watch| watch.prefix).collect() };
        let camera = "cameras: [{name: 'A/B C'}, {name: CAM, silent_after: 1h}]".replace("A/B C", "A B");
        assert_eq!(prefixes("", &format!("heartbeat: {{}}\n{camera}")), ["heartbeat/", "CAM/2"]);
        let named = format!("heartbeat: {{name: porch}}\n{camera}");
        assert_eq!(prefixes(", prefix: home", &named), ["home/heartbeat/porch/", "home/CAM/2"]);
        let by_event = ", key: '{camera}/{event}/{date}/{file}'";
        assert_eq!(prefixes(by_event, &named)[1], "CAM/");
        assert_eq!(prefixes(", key: '{camera}/x/{year}/{month}/{day}/{file}'", &named)[1], "CAM/x/2");
    }
}
