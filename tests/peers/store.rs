//! A real S3 server with one bucket, looked at with the SDK itself: never through the daemon, nor through the proxy.

use std::collections::HashMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, NoncurrentVersionExpiration, ObjectLockConfiguration, ObjectLockEnabled,
    VersioningConfiguration,
};
use tokio::runtime::Runtime;

use crate::memory_s3::plain_http;
use crate::moto::Moto;
use crate::seaweedfs::{self, SeaweedFs};

pub(crate) const ACCESS_KEY: &str = "peers-access-key";
pub(crate) const SECRET_KEY: &str = "peers-secret-key";
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const BUCKET: &str = "captures";

/// Which server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    SeaweedFs,
    Moto,
}

#[derive(Debug)]
enum Peer {
    SeaweedFs(SeaweedFs),
    Moto(Moto),
}

#[derive(Debug)]
pub(crate) struct Store {
    runtime: Runtime,
    client: Client,
    peer: Peer,
}

/// An object as the bucket gives it back.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: String,
    pub(crate) metadata: HashMap<String, String>,
}

impl Store {
    /// Starts the server and makes the bucket; a PUT has succeeded when this returns.
    pub(crate) fn start(kind: Kind) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let ready = |endpoint: &str| runtime.block_on(takes_a_put(&client(endpoint)));
        let peer = match kind {
            Kind::SeaweedFs => {
                Peer::SeaweedFs(SeaweedFs::start(&[seaweedfs::signing_with(ACCESS_KEY, SECRET_KEY)], ready))
            }
            Kind::Moto => Peer::Moto(Moto::start(ready)),
        };
        let client = client(&peer.endpoint());
        Self { runtime, client, peer }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.peer.endpoint()
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.peer {
            Peer::SeaweedFs(peer) => peer.pid(),
            Peer::Moto(peer) => peer.pid(),
        }
    }

    /// Makes a user who may only do `actions`, and has policies enforced from now on; gives back the user's keys.
    pub(crate) fn restrict(&mut self, actions: &[&str]) -> (String, String) {
        let Peer::Moto(moto) = &self.peer else { panic!("moto alone has users") };
        let (keys, ours) = self.runtime.block_on(async {
            let keys = moto.make_user("box", actions).await;
            let ours = moto.make_user("operator", &["*"]).await;
            moto.enforce().await;
            (keys, ours)
        });
        self.client = client_of(&self.peer.endpoint(), &ours.0, &ours.1);
        keys
    }

    /// Lets every key do everything again: moto finds a wrong signature in a listing of versions below a folder.
    pub(crate) fn trust(&self) {
        let Peer::Moto(moto) = &self.peer else { panic!("moto alone has users") };
        self.runtime.block_on(moto.trust());
    }

    /// Hides an object with these keys, and puts other bytes in its place if there are any.
    pub(crate) fn hide_with(
        &self,
        (access_key, secret_key): &(String, String),
        key: &str,
        junk: Option<&'static [u8]>,
    ) {
        let client = client_of(&self.peer.endpoint(), access_key, secret_key);
        self.runtime.block_on(async {
            client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
            if let Some(junk) = junk {
                let put = client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(junk));
                put.send().await.unwrap();
            }
        });
    }

    /// What the store answers to these keys when they ask for more than putting: the statuses of GET, HEAD, a listing and
    /// DELETE.
    pub(crate) fn answers_to_reading(&self, (access_key, secret_key): &(String, String), key: &str) -> [u16; 4] {
        let client = client_of(&self.peer.endpoint(), access_key, secret_key);
        self.runtime.block_on(async {
            [
                status_of(client.get_object().bucket(BUCKET).key(key).send().await),
                status_of(client.head_object().bucket(BUCKET).key(key).send().await),
                status_of(client.list_objects_v2().bucket(BUCKET).send().await),
                status_of(client.delete_object().bucket(BUCKET).key(key).send().await),
            ]
        })
    }

    /// What the store answers to these keys where they read, hide, erase, or change the rules of the bucket: the status of
    /// each operation. The object is asked for before it is hidden.
    pub(crate) fn answers_to_a_thief(
        &self,
        (access_key, secret_key): &(String, String),
        key: &str,
        version: &str,
    ) -> Vec<(&'static str, u16)> {
        let client = client_of(&self.peer.endpoint(), access_key, secret_key);
        let suspended = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
        let everything = LifecycleRuleFilter::builder().prefix("").build();
        let tomorrow = LifecycleExpiration::builder().days(1).build();
        let rule = LifecycleRule::builder().filter(everything).expiration(tomorrow).status(ExpirationStatus::Enabled);
        let rules = BucketLifecycleConfiguration::builder().rules(rule.build().unwrap()).build().unwrap();
        let locks = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).build();
        let policy = "{\"Version\": \"2012-10-17\", \"Statement\": []}";
        self.runtime.block_on(async {
            vec![
                ("GetObject", status_of(client.get_object().bucket(BUCKET).key(key).send().await)),
                ("ListObjectsV2", status_of(client.list_objects_v2().bucket(BUCKET).send().await)),
                ("ListObjectVersions", status_of(client.list_object_versions().bucket(BUCKET).send().await)),
                (
                    "GetObject of a version",
                    status_of(client.get_object().bucket(BUCKET).key(key).version_id(version).send().await),
                ),
                (
                    "DeleteObject of a version",
                    status_of(client.delete_object().bucket(BUCKET).key(key).version_id(version).send().await),
                ),
                (
                    "PutBucketVersioning",
                    status_of(
                        client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(suspended).send().await,
                    ),
                ),
                (
                    "PutBucketLifecycleConfiguration",
                    status_of(
                        client
                            .put_bucket_lifecycle_configuration()
                            .bucket(BUCKET)
                            .lifecycle_configuration(rules)
                            .send()
                            .await,
                    ),
                ),
                ("DeleteBucketLifecycle", status_of(client.delete_bucket_lifecycle().bucket(BUCKET).send().await)),
                ("PutBucketPolicy", status_of(client.put_bucket_policy().bucket(BUCKET).policy(policy).send().await)),
                ("DeleteBucketPolicy", status_of(client.delete_bucket_policy().bucket(BUCKET).send().await)),
                (
                    "PutObjectLockConfiguration",
                    status_of(
                        client
                            .put_object_lock_configuration()
                            .bucket(BUCKET)
                            .object_lock_configuration(locks)
                            .send()
                            .await,
                    ),
                ),
                ("DeleteBucket", status_of(client.delete_bucket().bucket(BUCKET).send().await)),
                ("DeleteObject", status_of(client.delete_object().bucket(BUCKET).key(key).send().await)),
            ]
        })
    }

    /// Stores an object; gives back its version.
    pub(crate) fn put_version(&self, key: &str, bytes: &'static [u8]) -> String {
        let put = self.client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(bytes));
        self.runtime.block_on(put.send()).unwrap().version_id.unwrap()
    }

    /// The bytes of a version, hidden or not.
    pub(crate) fn get_version(&self, key: &str, version: &str) -> Vec<u8> {
        self.runtime.block_on(async {
            let answer = self.client.get_object().bucket(BUCKET).key(key).version_id(version).send().await.unwrap();
            answer.body.collect().await.unwrap().into_bytes().to_vec()
        })
    }

    /// Every key in the bucket, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let mut pages = self.client.list_objects_v2().bucket(BUCKET).into_paginator().send();
            let mut keys = Vec::new();
            while let Some(page) = pages.next().await {
                keys.extend(page.unwrap().contents().iter().map(|object| object.key().unwrap().to_owned()));
            }
            keys.sort();
            keys
        })
    }

    pub(crate) fn get(&self, key: &str) -> Object {
        self.runtime.block_on(async {
            let answer = self.client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
            Object {
                content_type: answer.content_type().unwrap_or_default().to_owned(),
                metadata: answer.metadata().cloned().unwrap_or_default(),
                bytes: answer.body.collect().await.unwrap().into_bytes().to_vec(),
            }
        })
    }

    /// What the store answers to a GET of an object: 403 while it lies in a cold class.
    pub(crate) fn status_of_get(&self, key: &str) -> u16 {
        self.runtime.block_on(async { status_of(self.client.get_object().bucket(BUCKET).key(key).send().await) })
    }

    /// The storage class of an object.
    pub(crate) fn class(&self, key: &str) -> String {
        let head = self.runtime.block_on(self.client.head_object().bucket(BUCKET).key(key).send()).unwrap();
        head.storage_class().map_or("STANDARD", |class| class.as_str()).to_owned()
    }

    /// Makes another bucket, whose objects can be locked.
    pub(crate) fn make_bucket_with_lock(&self, bucket: &str) {
        let make = self.client.create_bucket().bucket(bucket).object_lock_enabled_for_bucket(true);
        self.runtime.block_on(make.send()).unwrap();
    }

    /// Makes the bucket keep versions.
    pub(crate) fn keep_versions(&self) {
        let status = BucketVersioningStatus::Enabled;
        let versioning = VersioningConfiguration::builder().status(status).build();
        let put = self.client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versioning);
        self.runtime.block_on(put.send()).unwrap();
    }

    /// Gives the bucket versions, a lifecycle and a policy; moto does not know conditions, so the policy is not the template's.
    pub(crate) fn furnish(&self) {
        self.keep_versions();
        let all = LifecycleRuleFilter::builder().prefix("").build();
        let old = NoncurrentVersionExpiration::builder().noncurrent_days(30).build();
        let rule = LifecycleRule::builder().id("old-versions").filter(all).status(ExpirationStatus::Enabled);
        let rule = rule.noncurrent_version_expiration(old).build().unwrap();
        let rules = BucketLifecycleConfiguration::builder().rules(rule).build().unwrap();
        let policy = format!(
            "{{\"Version\": \"2012-10-17\", \"Statement\": [{{\"Sid\": \"Kept\", \"Effect\": \"Deny\", \"Principal\": \"*\", \
             \"Action\": \"s3:DeleteBucket\", \"Resource\": \"arn:aws:s3:::{BUCKET}\"}}]}}"
        );
        let put = self.client.put_bucket_lifecycle_configuration().bucket(BUCKET).lifecycle_configuration(rules);
        self.runtime.block_on(put.send()).unwrap();
        self.runtime.block_on(self.client.put_bucket_policy().bucket(BUCKET).policy(policy).send()).unwrap();
    }

    /// The settings of a furnished bucket: versions, lifecycle and policy, as the server says them.
    pub(crate) fn settings(&self) -> [String; 3] {
        self.runtime.block_on(async {
            // The SDK does not read moto's answer.
            let versioning = match self.client.get_bucket_versioning().bucket(BUCKET).send().await {
                Ok(answer) => format!("{:?}", answer.status()),
                Err(error) => {
                    let body = error.raw_response().and_then(|answer| answer.body().bytes()).unwrap_or_default();
                    String::from_utf8_lossy(body).into_owned()
                }
            };
            assert!(versioning.contains("Enabled"), "{versioning}");
            let lifecycle = self.client.get_bucket_lifecycle_configuration().bucket(BUCKET).send().await.unwrap();
            let policy = self.client.get_bucket_policy().bucket(BUCKET).send().await.unwrap();
            [versioning, format!("{:?}", lifecycle.rules()), policy.policy().unwrap().to_owned()]
        })
    }

    /// How many versions and delete markers the bucket holds.
    pub(crate) fn versions(&self) -> usize {
        let listed = self.runtime.block_on(self.client.list_object_versions().bucket(BUCKET).send()).unwrap();
        listed.versions().len() + listed.delete_markers().len()
    }

    /// How many multipart uploads are neither completed nor aborted.
    pub(crate) fn uploads(&self) -> usize {
        let listed = self.runtime.block_on(self.client.list_multipart_uploads().bucket(BUCKET).send()).unwrap();
        listed.uploads().len()
    }

    /// Takes the bucket away, with all that is in it.
    pub(crate) fn delete_bucket(&self) {
        let keys = self.keys();
        self.runtime.block_on(async {
            for key in keys {
                self.client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
            }
            self.client.delete_bucket().bucket(BUCKET).send().await.unwrap();
        });
    }

    /// Makes the bucket that is missing.
    pub(crate) fn make_bucket(&self) {
        self.runtime.block_on(self.client.create_bucket().bucket(BUCKET).send()).unwrap();
    }

    /// Puts through any endpoint, such as a proxy before this store.
    pub(crate) fn put_through(&self, endpoint: &str, key: &str, bytes: Vec<u8>) {
        let put = client(endpoint).put_object().bucket(BUCKET).key(key).body(ByteStream::from(bytes));
        self.runtime.block_on(put.send()).unwrap();
    }
}

impl Peer {
    fn endpoint(&self) -> String {
        match self {
            Self::SeaweedFs(peer) => peer.endpoint(),
            Self::Moto(peer) => peer.endpoint(),
        }
    }
}

fn status_of<T, E>(answer: Result<T, SdkError<E>>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(error) => error.raw_response().map_or(0, |response| response.status().as_u16()),
    }
}

fn client(endpoint: &str) -> Client {
    client_of(endpoint, ACCESS_KEY, SECRET_KEY)
}

fn client_of(endpoint: &str, access_key: &str, secret_key: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "peers"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .http_client(plain_http())
        .build();
    Client::from_conf(config)
}

/// Makes the bucket where it is missing, then stores a key and takes it away again.
async fn takes_a_put(client: &Client) -> bool {
    let key = "ready";
    if client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(b"ready")).send().await.is_err() {
        client.create_bucket().bucket(BUCKET).send().await.ok();
        return false;
    }
    client.delete_object().bucket(BUCKET).key(key).send().await.is_ok()
}
