//! The key that requests are signed with: where it is looked for, and in which order.
//!
//! What the caller brings goes before what the box has: the environment, the AWS files of the user, a token or a container
//! that the environment names; then the box's own file; the metadata of an EC2 instance last, because asking for it takes
//! seconds where there is none. The SDK's own chain has no place for a file between these, so it is put together here from
//! the SDK's parts.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

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

use crate::clock::Now;
use crate::credentials::{self, Exposure};
use crate::message;

/// How long a key of the file is used before the file is read again. The SDK asks for a new one ten seconds before.
const READ_AGAIN: Duration = Duration::from_secs(15);

/// The places where a key is looked for, in their order, each with its name for people.
#[derive(Debug)]
pub(super) struct Keys {
    places: Vec<(String, SharedCredentialsProvider)>,
}

impl Keys {
    /// Returns the places for a profile of the configuration.
    pub(super) fn new(profile: Option<&str>, provided: &ProviderConfig, clock: fn() -> Now) -> Self {
        let mut files = ProfileFileCredentialsProvider::builder().configure(provided);
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
                place("the AWS files of this user", SharedCredentialsProvider::new(files.build())),
                place("the token that the environment names", SharedCredentialsProvider::new(token)),
                place("the container", SharedCredentialsProvider::new(container)),
                place(&own, SharedCredentialsProvider::new(file)),
                place("the metadata of this EC2 instance", SharedCredentialsProvider::new(instance)),
            ],
        }
    }

    /// Returns the first key that is found, and the name of its place.
    pub(super) async fn find(&self) -> Result<(&str, Credentials), CredentialsError> {
        for (name, provider) in &self.places {
            match provider.provide_credentials().await {
                Ok(key) => return Ok((name, key)),
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let names: Vec<&str> = self.places.iter().map(|(name, _)| name.as_str()).collect();
        Err(CredentialsError::not_loaded(format!("no credentials in any of these places: {}", names.join(", "))))
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

/// The key in the box's own file.
#[derive(Debug)]
struct KeyFile {
    path: PathBuf,
    profile: Option<String>,
    clock: fn() -> Now,
    /// The last warning about who may read the file, so that it is logged once.
    warned: Mutex<Option<Exposure>>,
}

impl KeyFile {
    fn new(profile: Option<&str>, clock: fn() -> Now) -> Self {
        let profile = profile.map(str::to_owned).or_else(|| std::env::var("AWS_PROFILE").ok());
        Self { path: credentials::path(), profile, clock, warned: Mutex::default() }
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
