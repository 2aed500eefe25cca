//! The bucket: new objects are put, existing ones are listed, read, copied, restored and deleted. The only room that
//! names the SDK.
//!
//! An object is never overwritten with other bytes. A put carries `If-None-Match: *`, and S3 answers 412 if the key is
//! taken; [`Condition`] is about stores that do not. A 412 alone does not tell whose object it is, because a put whose
//! reply was lost meets its own object when it is tried again: the checksums decide. An ordinary capture costs one
//! request and needs only `s3:PutObject`.
//!
//! Objects are put directly, see the module `direct`; everything else goes through the SDK's client. Its own retries are
//! off: a failure is judged here, as a [`Verdict`], and the queue tries again. Only the parts of an upload in parts are
//! sent again here, because a lost part must not cost the whole clip.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use tokio::sync::OnceCell;

use crate::clock::Now;
use crate::config::{self, Checksum, Sse};
use crate::trust::Trust;

mod account;
mod advice;
mod answer;
mod body;
mod condition;
mod connection;
mod direct;
mod download;
mod keys;
mod limit;
mod listing;
mod objects;
mod pace;
mod parts;
mod probe;
mod put;
mod reach;
mod requests;
mod sample;
mod stall;
mod thief;
mod trial;
mod turn;
mod uploads;
mod verdict;
mod wire;
mod words;

pub use aws_credential_types::Credentials;
pub use body::{Content, Reader, Source, read_through};
pub use condition::{Condition, Conditions};
pub use download::{Altered, Download};
pub use listing::{Entry, KeyVersions, Object, Version, VersionContent};
pub use objects::{
    Copied, CopyRequest, Head, MOST_COPIED, MOST_DELETED, RestoreAsked, RestoreState, Tier, is_cold, poll_interval,
};
pub use pace::{Pace, Precedence};
pub use parts::part_bytes;
pub use probe::PROBE;
pub use requests::RequestCounts;
pub use sample::{TriedClass, TriedPut};
pub use stall::Patience;
pub use thief::{Deleted, Erasing, May, OldVersions, SettingTrial, Touched};
pub use trial::{Right, WrongChecksum};
pub use verdict::{Refusal, RefusalKind, Verdict};

use account::ExpectedOwner;
use answer::{Marks, OwnAnswers};
use condition::KnownConditions;
use connection::Connector;
use direct::Endpoint;
use keys::{Keys, NoteKey};
use limit::RequestLimit;
use requests::{CountRequests, Requests};
use uploads::OwnUploads;

/// The size in bytes from which a file goes up in parts.
pub const MULTIPART_FROM: u64 = 16 * 1024 * 1024;

/// The time-out of a request without a file in its body; S3 answers it in fractions of a second.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// The result of putting an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is stored now.
    Stored,
    /// An object with the same bytes was there before.
    AlreadyThere,
    /// The key holds other bytes, or nothing may be put under it. Nothing was stored.
    Conflict,
    /// The key holds an object, and these credentials may not see which bytes it has. Nothing was stored.
    Unseen,
}

/// The circumstances of an upload.
#[derive(Debug, Clone, Copy)]
pub struct When {
    /// The time from which a lock counts.
    pub now: SystemTime,
    /// How long to wait for an answer.
    pub patience: Patience,
}

/// What is stored with the bytes of an object.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The media type.
    pub content_type: String,
    /// Names and values; characters other than printable ASCII are sent percent-encoded.
    pub metadata: Vec<(&'static str, String)>,
    /// Names and values; they are sent only if `s3.tags` is on.
    pub tags: Vec<(&'static str, String)>,
    /// A storage class other than `s3.storage_class`.
    pub class: Option<String>,
}

/// A bucket, and the settings with which objects are put into it.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    /// The connections of the client.
    http: Connector,
    config: config::S3Settings,
    pace: Pace,
    known: Arc<KnownConditions>,
    limit: Arc<RequestLimit>,
    /// Where objects are put, once that was asked.
    endpoint: Arc<OnceCell<Endpoint>>,
    marks: Arc<Marks>,
    requests: Arc<Requests>,
    /// The uploads in parts that this box has begun.
    uploads: OwnUploads,
    /// The credentials to sign with; `None` means those that `keys` find.
    credentials: Option<Credentials>,
    /// Where the credentials are looked for.
    keys: Arc<Keys>,
}

impl Bucket {
    /// Returns a bucket whose requests are signed with `credentials`, or with those that are found in the places where AWS
    /// programs look, or in the box's own file. It sends no request. Uploads go at `pace`.
    pub async fn connect(config: &config::S3Settings, credentials: Option<Credentials>, pace: Pace) -> Self {
        Self::connected(config, credentials, pace, Arc::default()).await
    }

    /// Returns a bucket as [`Bucket::connect`] does, whose requests are counted together with those of another one.
    async fn connected(
        config: &config::S3Settings,
        credentials: Option<Credentials>,
        pace: Pace,
        requests: Arc<Requests>,
    ) -> Self {
        let of_keys = connection::client_of_keys();
        let (retries, timeouts) =
            (RetryConfig::disabled(), TimeoutConfig::builder().operation_attempt_timeout(ANSWER_TIMEOUT).build());
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(of_keys.clone())
            .retry_config(retries.clone())
            .timeout_config(timeouts.clone())
            .no_credentials();
        if let Some(region) = &config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &config.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(endpoint) = &config.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        let provided = ProviderConfig::without_region()
            .with_http_client(of_keys)
            .with_retry_config(retries)
            .with_timeout_config(timeouts)
            .with_region(shared.region().cloned());
        let keys = Arc::new(Keys::new(config.profile.as_deref(), &provided, pace.clock()));
        let plain = config.endpoint_url.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let trust = if plain { Trust::Nothing } else { Trust::system(config.ca_bundle.as_deref()) };
        let http = connection::client(&trust);
        let mut settings = Builder::from(&shared)
            .http_client(http.for_sdk())
            // It would give up uploads that are well: see the module [`stall`].
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().upload_enabled(false).build())
            .force_path_style(config.path_style)
            // Every upload brings its own SHA-256. The SDK's CRC on top of it would break stores that know neither.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        settings = match credentials.clone() {
            Some(credentials) => settings.credentials_provider(credentials),
            None => settings.credentials_provider(SharedCredentialsProvider::from(
                Arc::clone(&keys) as Arc<dyn ProvideCredentials>
            )),
        };
        if let Some(account) = &config.account {
            settings = settings.interceptor(ExpectedOwner(account.clone()));
        }
        let marks = Arc::<Marks>::default();
        let settings = settings.interceptor(CountRequests { requests: Arc::clone(&requests), clock: pace.clock() });
        let settings = settings.interceptor(NoteKey(Arc::clone(&keys)));
        let settings = settings.interceptor(OwnAnswers::new(Arc::clone(&marks), pace.clock()));
        Self {
            client: Client::from_conf(settings.build()),
            http,
            config: config.clone(),
            pace,
            known: Arc::default(),
            limit: Arc::default(),
            endpoint: Arc::default(),
            marks,
            requests,
            uploads: OwnUploads::default(),
            credentials,
            keys,
        }
    }

    /// Returns the same bucket, which writes its uploads in parts down below the state folder until they are finished.
    #[must_use]
    pub fn with_state(self, state_dir: &Path) -> Self {
        Self { uploads: OwnUploads::below(state_dir), ..self }
    }

    /// Returns the same bucket with the AWS files read again; the SDK reads them only once. They may name another store,
    /// which is asked again what it does.
    pub async fn renewed(&self) -> Self {
        let (known, limit, uploads) = (Arc::clone(&self.known), Arc::clone(&self.limit), self.uploads.clone());
        known.forget();
        let (credentials, requests) = (self.credentials.clone(), Arc::clone(&self.requests));
        let again = Self::connected(&self.config, credentials, self.pace.clone(), requests).await;
        Self { known, limit, uploads, ..again }
    }

    /// Returns the name of the place where the credentials are found, such as a path.
    ///
    /// # Errors
    /// A [`Refusal`] that says what is missing or wrong.
    pub async fn find_key(&self) -> Result<String, Refusal> {
        let found = self.keys.find().await;
        found.map(|(place, _)| place.to_owned()).map_err(|error| Refusal::without_key("find the key", &error))
    }

    /// Asks the store again, before the next put, what it does: after an outage another one may answer.
    pub fn ask_again(&self) {
        self.known.forget();
        if !self.endpoint.get().is_some_and(|endpoint| endpoint.is_aws) {
            self.marks.forget();
        }
    }

    /// Returns whether requests go to AWS itself, by the endpoint that the client resolves from the configuration, the
    /// environment and the AWS files.
    ///
    /// # Errors
    /// A [`Refusal`] if no request can be made, such as without credentials.
    pub async fn is_aws(&self) -> Result<bool, Refusal> {
        let endpoint = self.endpoint().await;
        Ok(endpoint.map_err(|error| Refusal::of("sign request", &error))?.is_aws)
    }

    /// Returns the bucket's name for messages: `s3://bucket`, and the endpoint if one is configured.
    pub fn describe(&self) -> String {
        let at = self.config.endpoint_url.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        format!("s3://{}{at}", self.config.bucket)
    }

    fn now(&self) -> Now {
        self.pace.clock()()
    }

    fn wants_checksum(&self) -> bool {
        // Object Lock refuses an upload without one (S3 User Guide, "Object Lock considerations").
        self.config.checksum == Checksum::Always || self.config.object_lock.is_some()
    }

    fn storage_class(&self) -> StorageClass {
        StorageClass::from(self.config.storage_class.as_str())
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.config.sse {
            None => (None, None),
            Some(Sse::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Sse::Kms) => (Some(ServerSideEncryption::AwsKms), None),
            Some(Sse::KmsKey(key)) => (Some(ServerSideEncryption::AwsKms), Some(key.clone())),
        }
    }
}

/// Returns whether the host of a URL is one of AWS (AWS General Reference, "Amazon S3 endpoints and quotas").
fn is_host_of_aws(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', '?', ':']).next().unwrap_or_default();
    [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().any(|end| host.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_of_aws_are_taken_for_aws() {
        for (url, expected) in [
            ("https://captures.s3.eu-central-1.amazonaws.com/.hk-aws-probe?X-Amz-Date=1", true),
            ("https://s3.cn-north-1.amazonaws.com.cn/captures/.hk-aws-probe", true),
            ("https://captures.s3.dualstack.eu-central-1.amazonaws.com:443/.hk-aws-probe", true),
            ("http://127.0.0.1:9000/s3.amazonaws.com/.hk-aws-probe", false),
            ("https://amazonaws.com.example.org/.hk-aws-probe", false),
            ("https://notamazonaws.com/.hk-aws-probe", false),
        ] {
            assert_eq!(is_host_of_aws(url), expected, "{url}");
        }
    }
}
