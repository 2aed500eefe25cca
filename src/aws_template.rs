//! What AWS needs for a configuration: a bucket, a user that may do there what the daemon needs and no more, rules for
//! old captures and a lock, as text that AWS's own tools apply.
//!
//! Nothing is asked of AWS, so that it can be written, read and reviewed before there is an account or a key. A box that
//! may read and delete rotates its captures itself, and then no rule of the bucket deletes or moves them by age: after a
//! theft nobody bundles any more, and such a rule would delete the burglary. Only where the box may neither read nor
//! delete does the bucket do it, and never where captures still wait for a bundle.
//!
//! Making the bucket from here, with the SDK, was rejected: the keys that can do that do not belong on a box that can be
//! stolen.

use clap::ValueEnum;
use serde::Serialize;

use crate::config::{Config, Problems};

mod cloudformation;
mod lifecycle;
mod policy;
mod terraform;

/// What reads the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// YAML for `aws cloudformation`
    Cloudformation,
    /// HCL for `terraform`
    Terraform,
    /// The user's IAM policy alone, in JSON
    Policy,
}

/// Writes the template for `config`; it ends with a line break.
///
/// # Errors
/// What AWS would refuse, and what would let captures be deleted that still wait for a bundle.
pub fn render(config: &Config, format: Format) -> Result<String, Problems> {
    if format == Format::Policy {
        return Ok(format!("{}\n", policy::of_user(config).to_json()));
    }
    let rules = lifecycle::rules(config).map_err(|problems| Problems::new(&config.source, problems))?;
    Ok(match format {
        Format::Terraform => terraform::render(config, &rules),
        Format::Cloudformation | Format::Policy => cloudformation::render(config, &rules),
    })
}

/// Sets every line that is not empty farther to the right.
fn indent(text: &str, columns: usize) -> String {
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("{:columns$}{line}", "") };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Quotes a text as JSON does, which YAML and HCL read the same way.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
