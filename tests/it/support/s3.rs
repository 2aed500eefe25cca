//! An S3 server in memory, for the tests, the demo and the figures.
//!
//! It answers real HTTP/1.1 on 127.0.0.1 and behaves as AWS does in all that the project depends on: conditional
//! writes, checksums, storage classes, signatures. Signatures, XML and routing are s3s's; the [`store`] is ours. Every
//! request is recorded, and [`wire`] carries out scripted [`Fault`]s round the store, down to a reset connection.
//!
//! A mock of the client was rejected: it can't lose a reply, cut a body or answer 412 to the retry of its own success.
#![expect(clippy::disallowed_methods, reason = "a server stamps what it receives with the real time")]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use s3s::dto::{Checksum, ObjectLockMode, ServerSideEncryption, Timestamp};
use sha2::{Digest, Sha256};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[path = "s3/client.rs"]
mod client;
#[path = "s3/store.rs"]
mod store;
#[path = "s3/versions.rs"]
mod versions;
#[path = "s3/wire.rs"]
mod wire;

pub(crate) use client::plain_http;
pub(crate) use versions::Older;
pub(crate) use wire::Fault;

/// The access key of the box.
pub(crate) const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
/// The access key of the bucket's owner, for whom no policy counts.
pub(crate) const OWNERS_ACCESS_KEY: &str = "AKIAIOSFODNN7OWNERKEY";
/// The secret that belongs to both access keys.
pub(crate) const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// The region clients are expected to sign for; others are accepted too.
pub(crate) const REGION: &str = "eu-central-1";

/// A running server with one bucket. Dropping it stops everything.
pub(crate) struct MemoryS3 {
    bucket: String,
    address: SocketAddr,
    wire: Arc<wire::Wire>,
    listening: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
    /// Bound but never listening: it keeps the port ours while the server refuses connections.
    _reserved: TcpSocket,
}

/// What the server does with `If-None-Match: *`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Conditions {
    /// As AWS does.
    #[default]
    Honoured,
    /// Accepts it and overwrites, as Garage does.
    Ignored,
    /// Honours it for a PUT, and overwrites where an upload in parts is completed.
    IgnoredInParts,
    /// Answers 501 to whatever carries it.
    Refused,
    /// Answers 400 to whatever carries it.
    CalledInvalid,
}

impl Conditions {
    fn are_refused(self) -> bool {
        matches!(self, Self::Refused | Self::CalledInvalid)
    }
}

/// What the bucket says of versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Versions {
    /// There are none.
    #[default]
    None,
    /// It keeps them.
    Kept,
    /// It keeps them, and can lock them.
    Locked,
}

/// What a request asked for and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The name of the S3 operation, such as `PutObject`.
    pub(crate) operation: &'static str,
    /// The object key, decoded; the prefix for `ListMultipartUploads`; empty for other operations on the bucket.
    pub(crate) key: String,
    /// The status answered; `None` while there is no answer, and for ever if a fault took it.
    pub(crate) status: Option<u16>,
    /// When the head of the request had been read.
    pub(crate) received: Instant,
    /// When the answer was ready to be sent.
    pub(crate) answered: Option<Instant>,
    /// Bytes of the body read so far, as they came over the wire.
    pub(crate) bytes: u64,
    /// Bytes of the body of the answer.
    pub(crate) sent: u64,
    /// The account that the bucket must belong to, as `x-amz-expected-bucket-owner` says.
    pub(crate) expected_owner: Option<String>,
}

impl Request {
    /// Whether it only tries what the server does with conditions.
    pub(crate) fn is_probe(&self) -> bool {
        self.key.ends_with(hk_aws::bucket::PROBE)
    }
}

/// A stored object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// The content, unless the server keeps digests only.
    pub(crate) bytes: Option<Bytes>,
    /// Length of the content in bytes.
    pub(crate) len: u64,
    /// SHA-256 of the content in hex, for multipart objects too.
    pub(crate) sha256: String,
    /// MD5 of the content in hex, as S3 answers it; of the parts' MD5s and their number for multipart objects.
    pub(crate) etag: String,
    /// What `HeadObject` answers in checksum mode.
    pub(crate) checksum: Checksum,
    /// The class it was stored in; `STANDARD` unless told otherwise.
    pub(crate) storage_class: String,
    /// The MIME type sent with it.
    pub(crate) content_type: Option<String>,
    /// The `x-amz-meta-*` headers, without their prefix.
    pub(crate) metadata: BTreeMap<String, String>,
    /// The tags of `x-amz-tagging`.
    pub(crate) tags: BTreeMap<String, String>,
    /// Server-side encryption as asked for.
    pub(crate) sse: Option<ServerSideEncryption>,
    /// The KMS key as asked for.
    pub(crate) kms_key: Option<String>,
    /// The Object Lock mode; stored, not enforced.
    pub(crate) lock_mode: Option<ObjectLockMode>,
    /// The end of the lock.
    pub(crate) locked_until: Option<Timestamp>,
    /// When it was stored.
    pub(crate) last_modified: SystemTime,
    /// `x-amz-restore` as S3 answers it once a restore was asked for.
    pub(crate) restore: Option<String>,
    /// Its version; [`versions::NULL`] for what was stored while the bucket kept none.
    pub(crate) version_id: String,
}

impl Object {
    fn with_bytes(bytes: Bytes) -> Self {
        Self {
            len: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(&bytes)),
            etag: store::md5_hex(&bytes),
            bytes: Some(bytes),
            checksum: Checksum::default(),
            storage_class: "STANDARD".to_owned(),
            content_type: None,
            metadata: BTreeMap::new(),
            tags: BTreeMap::new(),
            sse: None,
            kms_key: None,
            lock_mode: None,
            locked_until: None,
            last_modified: SystemTime::now(),
            restore: None,
            version_id: versions::NULL.to_owned(),
        }
    }
}

/// What the server does with the checksum of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Checksums {
    /// As AWS does.
    #[default]
    Checked,
    /// It computes its own and accepts a body with another.
    Trusted,
    /// It knows nothing of them.
    Ignored,
}

/// What a store does otherwise than most.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own")]
pub(crate) struct Ways {
    checksums: Checksums,
    /// It stores every object in the standard class, whatever was asked for.
    without_classes: bool,
    /// It keeps classes as labels: whatever the class, an object can be read, and there is no restore.
    classes_are_labels: bool,
    /// Its bucket is that of `aws-template`: the box's keys have no right on versions, and a policy denies them to
    /// overwrite.
    denies_overwriting: bool,
    /// Its answers name no request.
    without_request_ids: bool,
}

/// Everything the server knows, as [`MemoryS3::wait_for`] shows it.
#[derive(Default)]
pub(crate) struct State {
    bucket: String,
    keep_bytes: bool,
    conditions: Conditions,
    /// What it does otherwise than most stores.
    ways: Ways,
    /// What the clock of the answers is ahead, in seconds.
    ahead_seconds: i64,
    objects: BTreeMap<String, Object>,
    /// What is under the objects and in front of hidden ones, where the bucket keeps versions.
    older: BTreeMap<String, Vec<Older>>,
    /// How many versions were stored so far.
    last_version: u64,
    uploads: BTreeMap<String, store::Upload>,
    requests: Vec<Request>,
    faults: Vec<Fault>,
    /// How often something else has answered in the server's place.
    strangers_answers: u64,
    /// How often faults were cleared: what hangs waits for the next time.
    cleared: u64,
    /// The number in the next upload id.
    next_upload: u64,
    /// What the bucket says of versions; it keeps none.
    versions: Versions,
    /// The account that owns the bucket.
    owner: String,
    /// By how many seconds the server's clock is ahead of this machine's.
    clock_ahead: i64,
    /// By how many seconds what is stored is dated ahead.
    stored_ahead: i64,
    /// Whether a cache lies before the server that answers each HEAD as it did before.
    caches_looks: bool,
    /// What that cache has.
    cached_looks: HashMap<String, (StatusCode, HeaderMap)>,
}

impl State {
    /// Returns the object under `key`.
    pub(crate) fn object(&self, key: &str) -> Option<&Object> {
        self.objects.get(key)
    }

    /// Returns what is under the objects and in front of hidden ones, for each key oldest first.
    pub(crate) fn older(&self) -> &BTreeMap<String, Vec<Older>> {
        &self.older
    }

    /// Returns every object by key.
    pub(crate) fn objects(&self) -> &BTreeMap<String, Object> {
        &self.objects
    }

    /// Counts the requests received so far for `operation`, but for the probe's.
    pub(crate) fn count(&self, operation: &str) -> usize {
        self.requests.iter().filter(|request| request.operation == operation && !request.is_probe()).count()
    }

    /// Returns every request received so far, the probe's too, oldest first.
    pub(crate) fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Returns how often something else has answered in the server's place.
    pub(crate) fn strangers_answers(&self) -> u64 {
        self.strangers_answers
    }

    /// Puts other bytes in the place of an object.
    pub(crate) fn replace(&mut self, key: &str, bytes: &'static [u8]) {
        let there = self.objects.get_mut(key).expect("the object to replace exists");
        *there = Object { last_modified: there.last_modified, ..Object::with_bytes(Bytes::from_static(bytes)) };
    }

    /// Returns the time that what is stored now is dated by.
    fn stored_now(&self) -> SystemTime {
        let by = Duration::from_secs(self.stored_ahead.unsigned_abs());
        if self.stored_ahead < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }

    /// Stores an object as the store does; returns its version.
    fn store(&mut self, key: String, object: Object) -> Option<String> {
        let mut object = Object { last_modified: self.stored_now(), ..object };
        if self.ways.without_classes {
            "STANDARD".clone_into(&mut object.storage_class);
        }
        self.place(key, object)
    }
}

/// The state, and the news that it changed.
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not hide behind a poisoned lock: the state itself is always whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.send_replace(());
        result
    }
}

impl MemoryS3 {
    /// Starts a server that holds `bucket` and keeps what is stored there.
    pub(crate) async fn start(bucket: &str) -> Self {
        Self::start_with(State { bucket: bucket.to_owned(), keep_bytes: true, ..State::default() }).await
    }

    /// Starts a server that keeps lengths and digests, not bytes: for floods, and where memory is measured.
    ///
    /// Such objects can't be read; parts are kept until their upload is completed.
    pub(crate) async fn start_without_bytes(bucket: &str) -> Self {
        Self::start_with(State { bucket: bucket.to_owned(), ..State::default() }).await
    }

    async fn start_with(state: State) -> Self {
        let bucket = state.bucket.clone();
        let reserved = bind(([127, 0, 0, 1], 0).into());
        let address = reserved.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: watch::Sender::new(()) });
        let wire = Arc::new(wire::Wire::new(shared));
        let server = Self { bucket, address, wire, listening: Mutex::new(None), _reserved: reserved };
        server.accept().await;
        server
    }

    /// Listens (again) on the server's port.
    pub(crate) async fn accept(&self) {
        self.refuse().await;
        let listener = bind(self.address).listen(1024).expect("the port is reserved for this server");
        let stop = CancellationToken::new();
        let task = tokio::spawn(wire::listen(listener, Arc::clone(&self.wire), stop.clone()));
        *self.listening() = Some((stop, task));
    }

    /// Stops listening and resets every connection: from now on connections are refused.
    pub(crate) async fn refuse(&self) {
        let listening = self.listening().take();
        if let Some((stop, task)) = listening {
            stop.cancel();
            task.await.expect("the listener does not panic");
        }
    }

    fn listening(&self) -> MutexGuard<'_, Option<(CancellationToken, JoinHandle<()>)>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the URL for `endpoint_url`; the bucket goes into the path.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the SDK's client for this server, with the right keys and without retries.
    pub(crate) fn client(&self) -> aws_sdk_s3::Client {
        self.client_signing_with(ACCESS_KEY, SECRET_KEY)
    }

    /// Returns a client that signs with other keys.
    pub(crate) fn client_signing_with(&self, access_key: &str, secret_key: &str) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(plain_http())
            .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
            .endpoint_url(self.endpoint())
            .force_path_style(true)
            .region(Region::from_static(REGION))
            .retry_config(RetryConfig::disabled());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Returns a copy of the object under `key`.
    pub(crate) fn object(&self, key: &str) -> Option<Object> {
        self.wire.shared.state().objects.get(key).cloned()
    }

    /// Returns the keys of all objects, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.wire.shared.state().objects.keys().cloned().collect()
    }

    /// Stores an object behind the clients' backs: a bucket that was there before.
    pub(crate) fn insert(&self, key: &str, bytes: impl Into<Bytes>) {
        let object = Object::with_bytes(bytes.into());
        self.wire.shared.change(|state| state.place(key.to_owned(), object));
    }

    /// Stores an object behind the clients' backs, altered as [`Self::edit`] does.
    pub(crate) fn insert_with(&self, key: &str, bytes: impl Into<Bytes>, edit: impl FnOnce(&mut Object)) {
        let mut object = Object::with_bytes(bytes.into());
        edit(&mut object);
        self.wire.shared.change(|state| state.place(key.to_owned(), object));
    }

    /// Alters the object under `key` behind the clients' backs: its age, its bytes, a restore that is done.
    pub(crate) fn edit(&self, key: &str, edit: impl FnOnce(&mut Object)) {
        self.wire.shared.change(|state| edit(state.objects.get_mut(key).expect("the object to edit exists")));
    }

    /// Deletes the object under `key` behind the clients' backs.
    pub(crate) fn remove(&self, key: &str) {
        self.wire.shared.change(|state| state.objects.remove(key).expect("the object to delete exists"));
    }

    /// Restores the bucket from a snapshot of its objects, and returns what was there: what came since is gone, and so is
    /// every upload in parts.
    pub(crate) fn roll_back(&self, objects: BTreeMap<String, Object>) -> BTreeMap<String, Object> {
        self.wire.shared.change(|state| {
            state.uploads.clear();
            std::mem::replace(&mut state.objects, objects)
        })
    }

    /// Deletes the object under `key` behind the clients' backs, by a marker where the bucket keeps versions.
    pub(crate) fn hide(&self, key: &str) {
        self.wire.shared.change(|state| drop(state.delete(key, None)));
    }

    /// Takes what is under the objects and in front of hidden ones out of the bucket, as a lifecycle rule does in time.
    pub(crate) fn take_older(&self) -> BTreeMap<String, Vec<Older>> {
        self.wire.shared.change(|state| std::mem::take(&mut state.older))
    }

    /// Returns key and id of every multipart upload that was neither completed nor aborted.
    pub(crate) fn uploads(&self) -> Vec<(String, String)> {
        self.wire.shared.state().uploads.iter().map(|(id, upload)| (upload.key.clone(), id.clone())).collect()
    }

    /// Dates the begin of all uploads in parts back.
    pub(crate) fn age_uploads(&self, by: Duration) {
        self.wire.shared.change(|state| state.uploads.values_mut().for_each(|upload| upload.initiated -= by));
    }

    /// Returns every request received so far but for the probe's, oldest first.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.look(|state| state.requests.iter().filter(|request| !request.is_probe()).cloned().collect())
    }

    /// Returns the requests that try what the server does with conditions, oldest first.
    pub(crate) fn probes(&self) -> Vec<Request> {
        self.look(|state| state.requests.iter().filter(|request| request.is_probe()).cloned().collect())
    }

    /// Says what to do with `If-None-Match: *` from now on.
    pub(crate) fn take_conditions(&self, conditions: Conditions) {
        self.wire.shared.change(|state| state.conditions = conditions);
    }

    /// Accepts bodies with wrong checksums from now on.
    pub(crate) fn trust(&self) {
        self.wire.shared.change(|state| state.ways.checksums = Checksums::Trusted);
    }

    /// Names no request in its answers from now on.
    pub(crate) fn give_no_request_ids(&self) {
        self.wire.shared.change(|state| state.ways.without_request_ids = true);
    }

    /// Lies behind a cache from now on that answers each HEAD as it did before.
    pub(crate) fn cache_looks(&self) {
        self.wire.shared.change(|state| state.caches_looks = true);
    }

    /// Knows nothing of checksums from now on: they are neither checked nor answered.
    pub(crate) fn ignore_checksums(&self) {
        self.wire.shared.change(|state| state.ways.checksums = Checksums::Ignored);
    }

    /// Stores everything in the standard class from now on, whatever is asked for.
    pub(crate) fn ignore_classes(&self) {
        self.wire.shared.change(|state| state.ways.without_classes = true);
    }

    /// Keeps classes as mere labels from now on, and knows no restore, as SeaweedFS does.
    pub(crate) fn keep_classes_as_labels(&self) {
        self.wire.shared.change(|state| state.ways.classes_are_labels = true);
    }

    /// Says this of versions from now on. A bucket that is to keep none becomes one that never kept any.
    pub(crate) fn keep_versions(&self, versions: Versions) {
        self.wire.shared.change(|state| state.keep_versions(versions));
    }

    /// Gives the bucket to an account: requests that expect another owner are refused.
    pub(crate) fn give_to(&self, account: &str) {
        self.wire.shared.change(|state| account.clone_into(&mut state.owner));
    }

    /// Gives the bucket the policy of `aws-template` and the versions that go with it. To the box's keys, whatever creates
    /// an object without `If-None-Match` is denied, and so is every copy and all that concerns versions.
    pub(crate) fn deny_overwriting(&self) {
        self.wire.shared.change(|state| {
            state.ways.denies_overwriting = true;
            state.keep_versions(Versions::Kept);
        });
    }

    /// Dates answers by a clock that is so many seconds ahead.
    pub(crate) fn date_answers_ahead(&self, seconds: i64) {
        self.wire.shared.change(|state| state.ahead_seconds = seconds);
    }

    /// Counts the requests received so far for `operation`, but for the probe's.
    pub(crate) fn count(&self, operation: &str) -> usize {
        self.wire.shared.state().count(operation)
    }

    /// Arms a fault. Of several that match a request, the one armed first strikes.
    pub(crate) fn fault(&self, fault: Fault) {
        self.wire.shared.change(|state| state.faults.push(fault));
    }

    /// Disarms every fault and lets go of what hangs.
    pub(crate) fn clear_faults(&self) {
        self.wire.shared.change(|state| {
            state.faults.clear();
            state.cleared += 1;
        });
    }

    /// Sets the server's clock against this machine's: requests by a clock that is 15 minutes off are refused.
    pub(crate) fn set_clock_ahead(&self, seconds: i64) {
        self.wire.shared.change(|state| state.clock_ahead = seconds);
    }

    /// Dates what is stored from now on by a clock that is so many seconds ahead; requests are judged by the real one.
    pub(crate) fn date_stored_ahead(&self, seconds: i64) {
        self.wire.shared.change(|state| state.stored_ahead = seconds);
    }

    /// Returns a receiver that is told of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.wire.shared.changed.subscribe()
    }

    /// Looks at the state under its lock.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.wire.shared.state())
    }

    /// Waits until `reached` holds, looking after every change; panics with what there is when `deadline` has passed.
    pub(crate) async fn wait_for(&self, reached: impl Fn(&State) -> bool, deadline: Duration) {
        let mut changes = self.changes();
        let wait = async {
            while !self.look(&reached) {
                changes.changed().await.expect("the sender lives in self");
            }
        };
        if tokio::time::timeout(deadline, wait).await.is_err() {
            let (keys, requests) = (self.keys(), self.requests());
            let last = &requests[requests.len().saturating_sub(10)..];
            panic!("not reached within {deadline:?}; bucket {} holds {keys:?}; last requests {last:#?}", self.bucket);
        }
    }
}

impl Drop for MemoryS3 {
    fn drop(&mut self) {
        if let Some((stop, _)) = self.listening().take() {
            stop.cancel();
        }
    }
}

/// Binds a socket that shares its port with the server's other sockets.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket.set_reuseport(true).expect("Linux knows SO_REUSEPORT");
    socket.bind(address).expect("a loopback port can be bound");
    socket
}
