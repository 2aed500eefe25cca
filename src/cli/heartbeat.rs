//! `heartbeat`: whether what watches the box from outside gets its heartbeats.

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::out::Out;
use crate::heartbeat::Heartbeat;
use crate::site::Site;
use crate::status::Snapshot;

#[derive(Debug, Args)]
pub(super) struct HeartbeatArgs {
    /// Send one to the bucket and one to heartbeat.url, whatever the daemon does
    #[arg(long, required = true)]
    test: bool,
}

/// What became of a heartbeat.
#[derive(Debug, Serialize)]
struct HeartbeatLine<'a> {
    to: &'a str,
    key: Option<&'a str>,
    status: Option<u16>,
    answer: Option<&'a str>,
    error: Option<&'a str>,
}

impl HeartbeatArgs {
    pub(super) async fn run(self, out: &Out, site: &Site) -> anyhow::Result<()> {
        let Some(settings) = &site.config.heartbeat else {
            bail!("{}: heartbeat is not set; write heartbeat: {{every: 5m}}", site.config.source.display());
        };
        let snapshot = Snapshot::read(&site.config.runtime_dir).ok();
        let mut beat = Heartbeat::new(settings, snapshot.as_ref(), (site.clock)().wall.into());
        let nothing = HeartbeatLine { to: "bucket", key: None, status: None, answer: None, error: None };
        let put = beat.put(site).await;
        let place = site.bucket.describe();
        match &put {
            Ok(key) => {
                let line = HeartbeatLine { key: Some(key.as_str()), ..nothing };
                out.item(&line, format_args!("{place}: stored as {key}"))?;
            }
            Err(why) => out.item(&HeartbeatLine { error: Some(why), ..nothing }, format_args!("{place}: {why}"))?,
        }
        let mut failed = put.is_err();
        if let Some(url) = &settings.url {
            let failure = put.as_ref().err().map(String::as_str);
            match beat.ping(url, failure).await {
                Ok(reply) => {
                    let (status, answer) = (reply.status, reply.text.as_str());
                    let line = HeartbeatLine {
                        to: "heartbeat.url",
                        key: None,
                        status: Some(status),
                        answer: Some(answer),
                        error: None,
                    };
                    out.item(&line, format_args!("heartbeat.url: answers {status} {answer}"))?;
                }
                Err(why) => {
                    failed = true;
                    let line = HeartbeatLine { to: "heartbeat.url", error: Some(&why), ..nothing };
                    out.item(&line, format_args!("heartbeat.url: {why}"))?;
                }
            }
        }
        if failed {
            bail!("a heartbeat did not arrive");
        }
        Ok(())
    }
}
