//! `alerts`: whether what is told arrives.

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::out::Out;
use crate::alerts::{self, Message, Service};
use crate::config::Config;
use crate::daemon;

#[derive(Debug, Args)]
pub(super) struct AlertsArgs {
    /// What to do
    #[arg(value_enum)]
    what: AlertsCommand,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AlertsCommand {
    /// Send a test to alerts.webhook and to alerts.command, and show the answers
    Test,
}

/// What became of a test.
#[derive(Debug, Serialize)]
struct TestLine<'a> {
    to: &'a str,
    answer: Option<&'a str>,
    error: Option<&'a str>,
}

impl AlertsArgs {
    pub(super) async fn run(self, out: &Out, config: &Config) -> anyhow::Result<()> {
        let AlertsCommand::Test = self.what;
        let services: Vec<Service> =
            Service::ALL.into_iter().filter(|service| service.is_set(&config.alerts)).collect();
        if services.is_empty() {
            bail!("{}: nobody is told: set alerts.webhook or alerts.command", config.source.display());
        }
        let message = Message::test(&alerts::host(config), daemon::now().wall.into());
        let mut failed = 0;
        for service in services {
            let to = service.key();
            match alerts::deliver(&config.alerts, service, &message).await {
                Ok(answer) => {
                    let line = TestLine { to, answer: Some(&answer), error: None };
                    out.item(&line, format_args!("{to}: taken: {answer}"))?;
                }
                Err(not_taken) => {
                    failed += 1;
                    let why = &not_taken.why;
                    out.item(&TestLine { to, answer: None, error: Some(why) }, format_args!("{to}: {why}"))?;
                }
            }
        }
        if failed > 0 {
            bail!("a test was not taken");
        }
        Ok(())
    }
}
