//! The key that requests are signed with: where it is looked for, and in which order.
//!
//! What the caller brings goes before what the box has: the environment, the AWS files of the user, a token or a container
//! that the environment names; then the box's own file; the metadata of an EC2 instance last, because asking for it takes
//! seconds where there is none. The SDK's own chain has no place for a file between these, so it is put together here from
//! the SDK's parts.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as ProvidedCredentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::http::Headers;
use tokio::sync::Mutex;

use crate::clock::Now;
use crate::credentials::{self, Exposure};
use crate::message;

/// How long a key of the file is used before the file is read again. The SDK asks for a new one ten seconds before.
const READ_AGAIN: Duration = Duration::from_secs(15);

/// How long before it expires a key is not used any more.
const BEFORE_EXPIRY: Duration = Duration::from_secs(10);

/// How long a key is used that does not say when it expires.
const WITHOUT_EXPIRY: Duration = Duration::from_mins(15);

/// How long all places may take together.
const FIND_TIMEOUT: Duration = Duration::from_secs(5);

/// The header of an answer that says where the key of its request was found. It is this program's own.
pub(super) const FOUND_IN: &str = "x-hk-aws-key-found-in";

/// The places where a key is looked for, in their order, each with its name for people.
#[derive(Debug)]
pub(super) struct Keys {
    places: Vec<(String, SharedCredentialsProvider)>,
    /// The place of the key that requests are signed with: where the first one was found.
    found: OnceLock<usize>,
    /// The last key, and until when it is used.
    last: Mutex<Option<(Credentials, Instant)>>,
    clock: fn() -> Now,
}

impl Keys {
    /// Returns the places for a profile of the configuration.
    pub(super) fn new(profile: Option<&str>, provided: &ProviderConfig, clock: fn() -> Now) -> Self {
        let mut files = ProfileFileCredentialsProvider::builder().configure(provided);
        let shared = std::env::var("AWS_SHARED_CREDENTIALS_FILE").unwrap_or_else(|_| "~/.aws/credentials".to_owned());
        if let Some(profile) = profile {
            files = files.profile_name(profile);
        }
        let file = KeyFile::new(profile, clock);
        let own = file.path.display().to_string();
        let token = WebIdentityTokenCredentialsProvider::builder().configure(provided).build();
        let container = EcsCredentialsProvider::builder().configure(provided).build();
        let instance = ImdsCredentialsProvider::builder().configure(provided).build();
        let place = |name: &str, provider: SharedCredentialsProvider| (name.to_owned(), provider);
        Self {
            places: vec![
                place("the environment", SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new())),
                place(&format!("the AWS files ({shared})"), SharedCredentialsProvider::new(files.build())),
                place("the token that the environment names", SharedCredentialsProvider::new(token)),
                place("the container", SharedCredentialsProvider::new(container)),
                place(&own, SharedCredentialsProvider::new(file)),
                place("the metadata of this EC2 instance", SharedCredentialsProvider::new(instance)),
            ],
            found: OnceLock::new(),
            last: Mutex::default(),
            clock,
        }
    }

    /// Returns the key that was found last, or looks for it again, as the SDK does for its own requests: ten seconds before
    /// the key expires, and after a quarter of an hour if it does not say when.
    pub(super) async fn remembered(&self) -> Result<Credentials, CredentialsError> {
        let now = (self.clock)();
        let mut last = self.last.lock().await;
        if let Some((key, _)) = last.as_ref().filter(|(_, until)| now.steady < *until) {
            return Ok(key.clone());
        }
        let found = tokio::time::timeout(FIND_TIMEOUT, self.find()).await;
        let (_, key) = found.map_err(|_| CredentialsError::provider_timed_out(FIND_TIMEOUT))??;
        let lasts = key.expiry().map_or(WITHOUT_EXPIRY, |expiry| {
            expiry.duration_since(now.wall).unwrap_or_default().saturating_sub(BEFORE_EXPIRY)
        });
        *last = Some((key.clone(), now.steady + lasts));
        Ok(key)
    }

    /// Returns the first key that is found, and the name of its place.
    pub(super) async fn find(&self) -> Result<(&str, Credentials), CredentialsError> {
        for (at, (name, provider)) in self.places.iter().enumerate() {
            match provider.provide_credentials().await {
                Ok(key) => {
                    self.found.get_or_init(|| at);
                    return Ok((name, key));
                }
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                // Nothing but the metadata of EC2 is left, which hardly any box has: its own error would hide that.
                Err(error) if at + 1 == self.places.len() => tracing::debug!("{name}: {error}"),
                Err(error) => return Err(error),
            }
        }
        let names: Vec<&str> = self.places.iter().map(|(name, _)| name.as_str()).collect();
        Err(CredentialsError::not_loaded(format!("no credentials in any of these places: {}", names.join(", "))))
    }

    /// Notes in the headers of an answer where the key of its request was found.
    pub(super) fn note(&self, headers: &mut Headers) {
        headers.remove(FOUND_IN);
        if let Some((place, _)) = self.found.get().and_then(|at| self.places.get(*at)) {
            // A path that a header cannot hold stays unnamed.
            let _is_noted = headers.try_insert(FOUND_IN, place.clone());
        }
    }
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> ProvidedCredentials<'a>
    where
        Self: 'a,
    {
        ProvidedCredentials::new(async { self.find().await.map(|(_, key)| key) })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.places.iter().find_map(|(_, provider)| provider.fallback_on_interrupt())
    }
}

/// Notes in each answer where the key of the request was found, so that a refusal of the key can name the place.
#[derive(Debug)]
pub(super) struct NoteKey(pub(super) Arc<Keys>);

impl Intercept for NoteKey {
    fn name(&self) -> &'static str {
        "NoteKey"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.note(context.response_mut().headers_mut());
        Ok(())
    }
}

/// The key in the box's own file.
#[derive(Debug)]
struct KeyFile {
    path: PathBuf,
    profile: Option<String>,
    clock: fn() -> Now,
    /// The last warning about who may read the file, so that it is logged once.
    warned: std::sync::Mutex<Option<Exposure>>,
}

impl KeyFile {
    fn new(profile: Option<&str>, clock: fn() -> Now) -> Self {
        let profile = profile.map(str::to_owned).or_else(|| std::env::var("AWS_PROFILE").ok());
        Self { path: credentials::path(), profile, clock, warned: std::sync::Mutex::default() }
    }

    fn read(&self) -> Result<Credentials, CredentialsError> {
        let found = credentials::read(&self.path, self.profile.as_deref());
        let Some(key) = found.map_err(CredentialsError::invalid_configuration)? else {
            return Err(CredentialsError::not_loaded(format!("no key in {}", self.path.display())));
        };
        self.warn();
        let again = (self.clock)().wall + READ_AGAIN;
        Ok(Credentials::new(key.access_key_id, key.secret_access_key, key.session_token, Some(again), "HkAwsFile"))
    }

    fn warn(&self) {
        let exposure = credentials::exposure(&self.path);
        let Ok(mut warned) = self.warned.lock() else { return };
        if let Some(told) = exposure.as_ref().filter(|told| warned.as_ref() != Some(told)) {
            tracing::warn!(message_id = message::KEY_FILE, "{told}");
        }
        *warned = exposure;
    }
}

impl ProvideCredentials for KeyFile {
    fn provide_credentials<'a>(&'a self) -> ProvidedCredentials<'a>
    where
        Self: 'a,
    {
        ProvidedCredentials::ready(self.read())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::SystemTime;

    use super::*;

    /// Gives a key that lasts for a minute, but not at the first call.
    #[derive(Debug, Default)]
    struct Place(AtomicU32);

    impl ProvideCredentials for Place {
        fn provide_credentials<'a>(&'a self) -> ProvidedCredentials<'a>
        where
            Self: 'a,
        {
            let calls = self.0.fetch_add(1, Ordering::Relaxed);
            let until = stopped_clock().wall + Duration::from_mins(1);
            let key = Credentials::new(calls.to_string(), "secret", None, Some(until), "test");
            ProvidedCredentials::ready(if calls > 0 { Ok(key) } else { Err(CredentialsError::unhandled("no network")) })
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the time is tokio's, and stands still")]
    fn stopped_clock() -> Now {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        let steady = tokio::time::Instant::now().into_std();
        Now { steady, wall: SystemTime::UNIX_EPOCH + (steady - *BEGIN.get_or_init(|| steady)) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_looked_for_again_before_it_expires_and_after_an_error_at_once() {
        let places = vec![("a place".to_owned(), SharedCredentialsProvider::new(Place::default()))];
        let keys = Keys { places, found: OnceLock::new(), last: Mutex::default(), clock: stopped_clock };
        let mut asked = Vec::new();
        // An only place that fails is the last one, whose own error hides nothing else.
        assert!(keys.remembered().await.is_err());
        for seconds in [0, 49, 2, 60] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            asked.push(keys.remembered().await.unwrap().access_key_id().to_owned());
        }
        assert_eq!(asked, ["1", "1", "2", "3"]);
    }
}
