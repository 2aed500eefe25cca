//! Templates of what a configuration needs in AWS: a bucket, a user with the daemon's rights and no others, rules for
//! old captures, and a lock. AWS's own tools apply them.
//!
//! Nothing is asked of AWS, so a template can be written, read and reviewed before there is an account or a key. If the
//! box may read and delete, it rotates its captures itself, and no rule of the bucket moves or deletes them by age:
//! after a theft nobody bundles them any more, and such a rule would delete the burglary. The bucket has such rules
//! only if the box may neither read nor delete, and never for captures that still wait for a bundle.
//!
//! Making the bucket from here with the SDK was rejected: keys with that power do not belong on a box that can be
//! stolen.

use clap::ValueEnum;
use serde::Serialize;

use crate::config::{Config, LockMode, Problems};

mod cloudformation;
mod lifecycle;
mod policy;
mod terraform;

/// The tool that a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TemplateFormat {
    /// YAML for `aws cloudformation`
    Cloudformation,
    /// HCL for `terraform`
    Terraform,
    /// The user's IAM policy alone, in JSON
    Policy,
}

/// Returns the template for `config`; it ends with a line break.
///
/// # Errors
/// [`Problems`] with the settings that AWS would refuse, or that would delete captures which still wait for a bundle.
pub fn render(config: &Config, format: TemplateFormat) -> Result<String, Problems> {
    let rules = || lifecycle::rules(config).map_err(|problems| Problems::new(&config.source, problems));
    Ok(match format {
        TemplateFormat::Policy => format!("{}\n", policy::of_user(config).to_json()),
        TemplateFormat::Terraform => terraform::render(config, &rules()?),
        TemplateFormat::Cloudformation => cloudformation::render(config, &rules()?),
    })
}

/// The first lines of every template that has comments.
const INTRO: &str = "\
# A bucket for captures, and a user with only the rights that hk-aws needs there. Made by `hk-aws aws-template`:
# make it again after a change of s3 or rotate in the configuration. Apply it with:
";

/// Returns AWS's name of a lock's mode.
fn lock_mode(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    }
}

/// Returns a text with each line moved to the right, except empty ones.
fn indent(text: &str, columns: usize) -> String {
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("{:columns$}{line}", "") };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns a text in quotes, as JSON, YAML and HCL read it.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
