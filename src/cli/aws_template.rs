//! `aws-template`: what AWS needs for the configuration in force.

use serde_json::{Value, json};

use super::out::Out;
use crate::aws_template::{TemplateFormat, render};
use crate::config::Config;

/// Needs no bucket: it is there to make one.
pub(super) fn aws_template(out: &Out, config: &Config, format: TemplateFormat) -> anyhow::Result<()> {
    let template = render(config, format)?;
    if let Some(url) = config.s3.endpoint_url.as_ref().filter(|url| !url.contains(".amazonaws.com")) {
        let file = config.source.display();
        out.remark(format_args!(
            "{file}: s3.endpoint_url is {url}, but the template is for AWS; other stores may not read it"
        ));
    }
    let object = match format {
        TemplateFormat::Policy => serde_json::from_str::<Value>(&template)?,
        TemplateFormat::Cloudformation | TemplateFormat::Terraform => json!({"format": format, "template": template}),
    };
    out.item(&object, template.trim_end())
}
