//! `check`: what is wrong with the configuration, and the settings in force.

use std::path::Path;

use super::out::Out;
use crate::capture;
use crate::config::{CameraSettings, Config};
use crate::key::{Layout, escape_path};
use crate::rotate;

/// Prints the settings in force, and remarks on those that have no effect or cost more than they need to. A wrong file never comes here.
pub(super) fn check(out: &Out, config: &Config) -> anyhow::Result<()> {
    for key in config.not_in_effect() {
        out.remark(format_args!("{}: {key} has no effect in this version", config.source.display()));
    }
    for (key, warning) in rotate::forewarnings(config) {
        let line = config.line_of(key).map(|line| format!(":{line}")).unwrap_or_default();
        out.remark(format_args!("{}{line}: warning: {key}: {warning}", config.source.display()));
    }
    for camera in &config.cameras {
        for example in &camera.example {
            out.remark(format_args!("{}: {}", config.source.display(), describe_example(camera, example, config)));
        }
    }
    out.item(config, config.effective().trim_end())
}

/// Says what an example path of a camera gives.
fn describe_example(camera: &CameraSettings, example: &str, config: &Config) -> String {
    let (path, name) = (Path::new(example), &camera.name);
    let shown = escape_path(path);
    match capture::configured(path, config) {
        Some(found) if found.name == *name => {}
        other => {
            let whose = other.map_or("no camera of this file".to_owned(), |other| format!("camera {}", other.name));
            let glob = camera.matches.as_str();
            return format!("warning: example of {name}: {shown} belongs to {whose}; its match is {glob}");
        }
    }
    let sighting = capture::sight(path, config);
    let word = |word: Option<&String>| word.map_or("none".to_owned(), Clone::clone);
    let (event, channel) = (word(sighting.reading.event.as_ref()), word(sighting.reading.channel.as_ref()));
    match sighting.settle_by_path() {
        Some(capture) => {
            let key = Layout::new(&config.s3.prefix, config.s3.key.clone()).render(&capture.fields());
            let (taken, from) = (capture.taken.to_rfc3339(), capture.taken_from.as_str());
            format!(
                "example of {name}: {shown} was taken {taken} (from the {from}), event {event}, channel {channel}, key {key}"
            )
        }
        None => format!(
            "warning: example of {name}: {shown} does not tell when it was taken; event {event}, channel {channel}"
        ),
    }
}
