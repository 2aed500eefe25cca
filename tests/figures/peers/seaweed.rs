//! A SeaweedFS that also takes requests without a signature, with one bucket.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::s3::{ACCESS_KEY, REGION, SECRET_KEY, plain_http};
use crate::seaweedfs::{SeaweedFs, signing_with};

pub(crate) const BUCKET: &str = "figures";

/// The server and a client that looks at it.
pub(crate) struct Seaweed {
    pub(crate) server: SeaweedFs,
    client: aws_sdk_s3::Client,
}

impl Seaweed {
    /// Starts it; a PUT has succeeded when this returns.
    pub(crate) fn start(runtime: &Runtime) -> Self {
        let anonymous = json!({"name": "anonymous", "actions": ["Admin", "Read", "Write", "List"]});
        let ready = |endpoint: &str| runtime.block_on(takes_a_put(&client(endpoint)));
        let server = SeaweedFs::start(&[signing_with(ACCESS_KEY, SECRET_KEY), anonymous], ready);
        let client = client(&server.endpoint());
        Self { server, client }
    }

    /// Fails unless there are `count` objects whose keys begin with `prefix`.
    ///
    /// # Errors
    /// There are more or fewer, or the server does not answer.
    pub(crate) async fn expect(&self, prefix: &str, count: usize) -> anyhow::Result<()> {
        let (mut found, mut token) = (0, None);
        loop {
            let list = self.client.list_objects_v2().bucket(BUCKET).prefix(prefix);
            let page = list.set_continuation_token(token).send().await.context("failed to list the bucket")?;
            found += page.contents().len();
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        ensure!(found == count, "{found} objects instead of {count} are below {prefix}");
        Ok(())
    }
}

fn client(endpoint: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(plain_http())
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "figures"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::from_static(REGION));
    aws_sdk_s3::Client::from_conf(config.build())
}

async fn takes_a_put(client: &aws_sdk_s3::Client) -> bool {
    let tried = async {
        client.create_bucket().bucket(BUCKET).send().await.ok();
        let put = client.put_object().bucket(BUCKET).key("ready").body(b"ready".to_vec().into());
        put.send().await.is_ok()
    };
    tokio::time::timeout(Duration::from_secs(5), tried).await.unwrap_or(false)
}
