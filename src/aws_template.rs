//! Templates of what a configuration needs in AWS: a bucket, a user with the daemon's rights and no others, rules for
//! old captures, and a lock. AWS's own tools apply them.
//!
//! Nothing is asked of AWS, so a template can be written, read and reviewed before there is an account or a key.
//!
//! The bucket keeps versions, the box's user has no right on versions, and the bucket's policy lets it overwrite nothing:
//! with the box's keys objects can at most be hidden, and the owner has `s3.undo` to notice.
//!
//! If the box may read and delete, it rotates its captures itself, and no rule of the bucket deletes them by age: after
//! a theft nobody bundles them any more, and such a rule would delete the burglary. The bucket has such a rule only if
//! the box may neither read nor delete, and never for captures that still wait for a bundle. Rules that move objects to
//! another class delete nothing; every bucket has them if `rotate.transition` is set, as the box can copy nothing.
//!
//! With a heartbeat, the template also has what watches for it.
//!
//! Making the bucket from here with the SDK was rejected: keys with that power do not belong on a box that can be
//! stolen.

use clap::ValueEnum;
use serde::Serialize;

use crate::config::{Config, LockMode, Problems, S3Settings};

mod cloudformation;
mod lifecycle;
mod policy;
mod terraform;
mod watch;

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

/// The most characters of a bucket's name (S3 User Guide, "General purpose bucket naming rules").
const MOST_NAME: usize = 63;

/// Returns whether the bucket's name ends as those do that only one account can use: `NAME-ACCOUNT-REGION-an` (S3 User
/// Guide, "Namespaces for general purpose buckets").
fn is_account_regional(s3: &S3Settings) -> bool {
    let Some(name) = s3.bucket.strip_suffix("-an") else { return false };
    let is_account = |word: &str| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_digit());
    let words: Vec<&str> = name.split('-').collect();
    // A region is three or four words after the account.
    [3, 4].into_iter().any(|region| {
        let account = words.len().checked_sub(region + 1).filter(|account| *account > 0);
        account.is_some_and(|account| {
            is_account(words[account]) && words[account + 1..].iter().all(|word| !word.is_empty())
        })
    })
}

/// Returns a comment that proposes a name which no stranger can take, with its final line break; nothing if the bucket
/// has such a name.
fn advise_name(s3: &S3Settings) -> String {
    if is_account_regional(s3) {
        return String::new();
    }
    let account = s3.account.as_deref().unwrap_or("ACCOUNT");
    let region = s3.region.as_deref().unwrap_or("REGION");
    // Room for the account's 12 digits and for the longest region.
    let end = format!("-{account}-{region}-an");
    let room = MOST_NAME - "-111122223333-ap-southeast-1-an".len().max(end.len());
    let start = s3.bucket.get(..room).unwrap_or(&s3.bucket).trim_end_matches(['-', '.']);
    format!(
        "\
# Once a bucket is deleted, a stranger can take its name, and would get the captures. A name of this form can only be
# used in your own account. Better write it in the configuration, and make the template again:
#   s3: {{bucket: {start}{end}, account: \"{account}\"}}
"
    )
}

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
