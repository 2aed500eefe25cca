//! `check`: what is wrong with the configuration, and the settings in force.

use super::out::Out;
use crate::config::Config;
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
    out.item(config, config.effective().trim_end())
}
