//! The bucket: what the S3 operations do to the objects.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use aws_smithy_types::base64;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hk_aws::bucket::PROBE;
use percent_encoding::percent_decode_str;
use s3s::auth::{S3Auth, SecretKey};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, BucketVersioningStatus, Checksum, ChecksumType,
    CommonPrefix, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, CopyObjectInput,
    CopyObjectOutput, CopyObjectResult, CopySource, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition,
    GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectInput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetObjectOutput, GetObjectTaggingInput, GetObjectTaggingOutput, HeadBucketInput,
    HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput,
    ListPartsOutput, MetadataDirective, MultipartUpload, ObjectLockConfiguration, ObjectLockEnabled, Part,
    PutObjectInput, PutObjectOutput, RestoreObjectInput, RestoreObjectOutput, StreamingBlob, Tag, TaggingDirective,
    UploadPartInput, UploadPartOutput,
};
use s3s::header::CONTENT_MD5;
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, TrailingHeaders, s3_error};

use super::versions::Deletion;
use super::{ACCESS_KEY, Checksums, Conditions, OWNERS_ACCESS_KEY, Object, SECRET_KEY, Shared, State, Versions, Ways};

/// The checksum algorithms of S3, as header names end; <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>.
const ALGORITHMS: [&str; 5] = ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"];
/// The least size of a part that is not the last, in bytes ("Amazon S3 multipart upload limits").
const MIN_PART: u64 = 5 << 20;
/// The most entries a listing answers ("`ListObjectsV2`").
const MAX_KEYS: i32 = 1000;

/// Knows the keys of the box and of the owner, and answers as AWS does to others.
pub(super) struct Keys;

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if [ACCESS_KEY, OWNERS_ACCESS_KEY].contains(&access_key) {
            Ok(SECRET_KEY.into())
        } else {
            Err(s3_error!(InvalidAccessKeyId))
        }
    }
}

/// A multipart upload under way.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) initiated: SystemTime,
    algorithm: Option<String>,
    /// What the object will be but for its content.
    object: Object,
    parts: BTreeMap<i32, Object>,
}

/// Takes from an operation's input what describes the object to be; macro, because the inputs share names, not a type.
macro_rules! describe {
    ($input:expr) => {
        Object {
            storage_class: $input
                .storage_class
                .map_or_else(|| "STANDARD".to_owned(), |class| class.as_str().to_owned()),
            content_type: $input.content_type,
            metadata: $input.metadata.unwrap_or_default().into_iter().collect(),
            tags: $input.tagging.map(|tags| read_tags(&tags)).unwrap_or_default(),
            sse: $input.server_side_encryption,
            kms_key: $input.ssekms_key_id,
            lock_mode: $input.object_lock_mode,
            locked_until: $input.object_lock_retain_until_date,
            ..Object::with_bytes(Bytes::new())
        }
    };
}

/// Fills the headers that `HeadObject` and `GetObject` share.
macro_rules! answer {
    ($output:ident, $object:expr, $checksum:expr) => {{
        let (object, checksum): (&Object, Checksum) = ($object, $checksum);
        $output {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(signed(object.len)),
            content_type: Some(object.content_type.clone().unwrap_or_else(|| "binary/octet-stream".to_owned())),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(object.last_modified.into()),
            metadata: Some(object.metadata.clone().into_iter().collect()),
            // S3 leaves the header out for the standard class.
            storage_class: Some(object.storage_class.clone()).filter(|class| class != "STANDARD").map(Into::into),
            version_id: Some(object.version_id.clone()).filter(|id| id != super::versions::NULL),
            server_side_encryption: object.sse.clone(),
            ssekms_key_id: object.kms_key.clone(),
            object_lock_mode: object.lock_mode.clone(),
            object_lock_retain_until_date: object.locked_until.clone(),
            restore: object.restore.clone(),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            checksum_type: checksum.checksum_type,
            ..Default::default()
        }
    }};
}

/// Sets the checksum fields of an output from a [`Checksum`].
macro_rules! with_checksum {
    ($output:ident { $($field:ident: $value:expr),* $(,)? }, $checksum:expr) => {{
        let checksum: Checksum = $checksum;
        $output {
            $($field: $value,)*
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..Default::default()
        }
    }};
}

/// Implements the operations on the shared state.
pub(super) struct Store(pub(super) Arc<Shared>);

impl Store {
    /// Runs `operation` on the state, if its bucket exists.
    fn within<T>(&self, bucket: &str, operation: impl FnOnce(&mut State) -> S3Result<T>) -> S3Result<S3Response<T>> {
        self.0.change(|state| {
            if state.bucket != bucket {
                return Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"));
            }
            operation(state).map(S3Response::new)
        })
    }

    /// Reads a body to its end and holds it against every checksum that came with it, in headers or in the trailer.
    async fn receive<T>(
        &self,
        request: &mut S3Request<T>,
        body: Option<StreamingBlob>,
        keep: bool,
    ) -> S3Result<Object> {
        let headers = &request.headers;
        let announced = |algorithm: &&str| {
            let name = format!("x-amz-checksum-{algorithm}");
            headers.contains_key(&name) || headers.get("x-amz-trailer").is_some_and(|trailer| *trailer == name)
        };
        let declared: Vec<&str> = ALGORITHMS.into_iter().filter(announced).collect();
        let wants = |algorithm: &str| declared.contains(&algorithm);
        let mut hasher = hasher(wants);
        hasher.sha256 = Some(Sha256::new());
        if declared.is_empty() {
            // S3 computes it by itself where the client sends none.
            hasher.crc64nvme = Some(Crc64Nvme::new());
        }
        let (mut md5, mut kept, mut len) = (Md5::new(), BytesMut::new(), 0);
        let mut chunks = body.unwrap_or_else(|| Body::empty().into());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| unread(&*error))?;
            hasher.update(&chunk);
            md5.update(&chunk);
            len += chunk.len() as u64;
            if keep {
                kept.extend_from_slice(&chunk);
            }
        }
        let (mut computed, md5) = (hasher.finalize(), md5.finalize());
        let trailer = request.trailing_headers.as_ref().and_then(TrailingHeaders::take).unwrap_or_default();
        let ways = self.0.state().ways.checksums;
        for algorithm in &declared {
            let name = format!("x-amz-checksum-{algorithm}");
            let given = headers.get(&name).or_else(|| trailer.get(&name)).and_then(|value| value.to_str().ok());
            if given != slot(&mut computed, algorithm).as_deref() && ways == Checksums::Checked {
                let message =
                    format!("The {} you specified did not match the calculated checksum.", algorithm.to_uppercase());
                return Err(S3Error::with_message(S3ErrorCode::BadDigest, message));
            }
        }
        if headers.get(CONTENT_MD5).is_some_and(|given| *given != *base64::encode(md5)) {
            return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."));
        }
        let sha256 = computed.checksum_sha256.clone().map(|sum| hex::encode(decode(&sum))).unwrap_or_default();
        if !wants("sha256") {
            computed.checksum_sha256 = None;
        }
        computed.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
        if ways == Checksums::Ignored {
            computed = Checksum::default();
        }
        let bytes = keep.then(|| kept.freeze());
        Ok(Object {
            bytes,
            len,
            sha256,
            etag: hex::encode(md5),
            checksum: computed,
            ..Object::with_bytes(Bytes::new())
        })
    }
}

#[async_trait::async_trait]
impl S3 for Store {
    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let body = req.input.body.take();
        let keep = self.0.state().keep_bytes;
        let content = self.receive(&mut req, body, keep).await?;
        let by_client = req.headers.keys().any(|name| name.as_str().starts_with("x-amz-checksum-"))
            || req.headers.contains_key("x-amz-trailer")
            || req.headers.contains_key(CONTENT_MD5);
        let input = req.input;
        self.within(&input.bucket, |state| {
            if input.object_lock_mode.is_some() && !by_client {
                let message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
                return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
            }
            refuse_existing(state, &input.key, input.if_none_match.as_ref())?;
            let object = with_content(describe!(input), content);
            let checksum = object.checksum.clone();
            let e_tag = Some(ETag::Strong(object.etag.clone()));
            let version_id = state.store(input.key, object);
            Ok(with_checksum!(PutObjectOutput { e_tag: e_tag, version_id: version_id }, checksum))
        })
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        self.within(&input.bucket, |state| {
            let object = state.find(&input.key, input.version_id.as_deref())?;
            let checksum = input.checksum_mode.map(|_| object.checksum.clone()).unwrap_or_default();
            Ok(answer!(HeadObjectOutput, object, checksum))
        })
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        self.within(&input.bucket, |state| {
            let object = state.find(&input.key, input.version_id.as_deref())?;
            readable(object, state.ways)?;
            let bytes = object.bytes.clone().ok_or_else(|| s3_error!(InternalError, "the bytes were not kept"))?;
            let Some(range) = input.range else {
                let checksum = input.checksum_mode.map(|_| object.checksum.clone()).unwrap_or_default();
                let tag_count = i32::try_from(object.tags.len()).ok().filter(|count| *count > 0);
                let body = Some(Body::from(bytes).into());
                return Ok(GetObjectOutput { body, tag_count, ..answer!(GetObjectOutput, object, checksum) });
            };
            let range = range.check(object.len)?;
            let part = bytes.slice(usize(range.start)..usize(range.end));
            Ok(GetObjectOutput {
                content_range: Some(format!("bytes {}-{}/{}", range.start, range.end - 1, object.len)),
                content_length: Some(signed(part.len() as u64)),
                body: Some(Body::from(part).into()),
                ..answer!(GetObjectOutput, object, Checksum::default())
            })
        })
    }

    async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        self.within(&req.input.bucket, |state| {
            let object = state.find(&req.input.key, req.input.version_id.as_deref())?;
            let tag = |(key, value): (&String, &String)| Tag { key: Some(key.clone()), value: Some(value.clone()) };
            Ok(GetObjectTaggingOutput { tag_set: object.tags.iter().map(tag).collect(), version_id: None })
        })
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let CopySource::Bucket { bucket, key: source_key, version_id: source_version } = &input.copy_source else {
            return Err(s3_error!(NotImplemented, "access points"));
        };
        self.within(bucket, |_| Ok(()))?;
        let source_key = source_key.to_string();
        let replaces = |directive: Option<&str>| directive == Some("REPLACE");
        let (new_metadata, new_tags) = (
            replaces(input.metadata_directive.as_ref().map(MetadataDirective::as_str)),
            replaces(input.tagging_directive.as_ref().map(TaggingDirective::as_str)),
        );
        self.within(&input.bucket, |state| {
            let source = state.find(&source_key, source_version.as_deref())?.clone();
            readable(&source, state.ways)?;
            if input.copy_source_if_match.as_ref().is_some_and(|etag| !is_etag(etag, &source)) {
                return Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"));
            }
            let mut object = with_content(describe!(input), source.clone());
            object.last_modified = state.stored_now();
            let changes = new_metadata || object.storage_class != source.storage_class || object.sse != source.sse;
            if source_key == input.key && source_version.is_none() && !changes {
                let message = "This copy request is illegal because it is trying to copy an object to itself without changing \
                               the object's metadata, storage class, website redirect location or encryption attributes.";
                return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
            }
            if !new_metadata {
                (object.metadata, object.content_type) = (source.metadata, source.content_type);
            }
            if !new_tags {
                object.tags = source.tags;
            }
            let result = CopyObjectResult {
                last_modified: Some(object.last_modified.into()),
                ..with_checksum!(
                    CopyObjectResult { e_tag: Some(ETag::Strong(object.etag.clone())) },
                    object.checksum.clone()
                )
            };
            let version_id = state.place(input.key, object);
            Ok(CopyObjectOutput { copy_object_result: Some(result), version_id, ..Default::default() })
        })
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let DeleteObjectInput { bucket, key, version_id, .. } = req.input;
        self.within(&bucket, |state| {
            let Deletion { version, marker } = state.delete(&key, version_id.as_deref());
            Ok(DeleteObjectOutput { delete_marker: marker.then_some(true), version_id: version, ..Default::default() })
        })
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let delete = req.input.delete;
        if delete.objects.len() > 1000 {
            return Err(s3_error!(MalformedXML));
        }
        self.within(&req.input.bucket, |state| {
            let is_conditional = delete.objects.iter().any(|object| object.e_tag.is_some());
            if is_conditional && state.conditions.are_refused() {
                return Err(s3_error!(NotImplemented, "conditional deletes"));
            }
            if let [only] = &*delete.objects
                && only.key.ends_with(PROBE)
                && let Some(request) = state.requests.iter_mut().rfind(|request| request.operation == "DeleteObjects")
            {
                request.key.clone_from(&only.key);
            }
            let (mut deleted, mut errors) = (Vec::new(), Vec::new());
            for object in delete.objects {
                let there = state.objects.get(&object.key).map(|there| there.etag.as_str());
                let expected =
                    object.e_tag.as_ref().map(ETag::value).filter(|_| state.conditions == Conditions::Honoured);
                let key = Some(object.key.clone());
                if expected.is_some_and(|expected| there.is_some_and(|there| there != expected)) {
                    let code = Some("PreconditionFailed".to_owned());
                    errors.push(s3s::dto::Error { code, key, ..Default::default() });
                } else {
                    let Deletion { version, marker } = state.delete(&object.key, object.version_id.as_deref());
                    deleted.push(DeletedObject {
                        key,
                        delete_marker: marker.then_some(true),
                        delete_marker_version_id: version.filter(|_| marker),
                        version_id: object.version_id,
                    });
                }
            }
            let quiet = delete.quiet == Some(true);
            let (deleted, errors) = ((!quiet).then_some(deleted), Some(errors));
            Ok(DeleteObjectsOutput { deleted, errors, ..Default::default() })
        })
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.within(&req.input.bucket, |state| {
            let enabled = BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED);
            Ok(GetBucketVersioningOutput {
                status: (state.versions != Versions::None).then_some(enabled),
                ..Default::default()
            })
        })
    }

    async fn get_object_lock_configuration(
        &self,
        req: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        self.within(&req.input.bucket, |state| {
            if state.versions != Versions::Locked {
                let mut absent = S3Error::new(S3ErrorCode::Custom("ObjectLockConfigurationNotFoundError".into()));
                absent.set_status_code(hyper::StatusCode::NOT_FOUND);
                return Err(absent);
            }
            let enabled = ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED);
            let configuration = ObjectLockConfiguration { object_lock_enabled: Some(enabled), rule: None };
            Ok(GetObjectLockConfigurationOutput { object_lock_configuration: Some(configuration) })
        })
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.within(&req.input.bucket, |_| {
            Ok(HeadBucketOutput { bucket_region: Some(super::REGION.to_owned()), ..Default::default() })
        })
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        self.within(&input.bucket, |state| {
            let prefix = input.prefix.clone().unwrap_or_default();
            let after = [input.start_after.as_deref(), input.continuation_token.as_deref()];
            // Nothing before it can be listed, and all with the prefix lie together.
            let first = after.into_iter().flatten().fold(&*prefix, Ord::max);
            let limit = input.max_keys.unwrap_or(MAX_KEYS).clamp(0, MAX_KEYS);
            let (mut contents, mut common_prefixes, mut last, mut is_truncated) = (vec![], vec![], None, false);
            for (key, object) in state.objects.range::<str, _>((Bound::Included(first), Bound::Unbounded)) {
                if input.start_after.as_deref() == Some(key) {
                    continue;
                }
                let Some(rest) = key.strip_prefix(&*prefix) else { break };
                let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
                let common = delimiter.and_then(|d| rest.find(d).map(|at| &key[..prefix.len() + at + d.len()]));
                let entry = common.unwrap_or(key);
                let done = input.continuation_token.as_deref().is_some_and(|token| entry <= token);
                if done || last.as_deref() == Some(entry) {
                    continue;
                }
                if contents.len() + common_prefixes.len() == usize(u64::try_from(limit).unwrap_or_default()) {
                    is_truncated = true;
                    break;
                }
                last = Some(entry.to_owned());
                if common.is_some() {
                    common_prefixes.push(CommonPrefix { prefix: last.clone() });
                } else {
                    contents.push(list_entry(key, object));
                }
            }
            Ok(ListObjectsV2Output {
                key_count: i32::try_from(contents.len() + common_prefixes.len()).ok(),
                contents: Some(contents),
                common_prefixes: Some(common_prefixes),
                next_continuation_token: last.filter(|_| is_truncated),
                is_truncated: Some(is_truncated),
                name: Some(input.bucket.clone()),
                prefix: input.prefix,
                delimiter: input.delimiter,
                max_keys: Some(limit),
                continuation_token: input.continuation_token,
                start_after: input.start_after,
                ..Default::default()
            })
        })
    }

    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = req.input;
        self.within(&input.bucket.clone(), |state| Ok(state.list_versions(input, MAX_KEYS)))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        self.within(&input.bucket, |state| {
            state.next_upload += 1;
            let id = format!("upload-{}", state.next_upload);
            let output = CreateMultipartUploadOutput {
                bucket: Some(input.bucket.clone()),
                key: Some(input.key.clone()),
                upload_id: Some(id.clone()),
                checksum_algorithm: input.checksum_algorithm.clone(),
                ..Default::default()
            };
            let algorithm = input.checksum_algorithm.filter(|_| state.ways.checksums != Checksums::Ignored);
            let algorithm = algorithm.map(|algorithm| algorithm.as_str().to_lowercase());
            let object = describe!(input);
            let initiated = object.last_modified;
            state.uploads.insert(id, Upload { key: input.key, initiated, algorithm, object, parts: BTreeMap::new() });
            Ok(output)
        })
    }

    async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let body = req.input.body.take();
        let mut part = self.receive(&mut req, body, true).await?;
        let input = req.input;
        self.within(&input.bucket, |state| {
            let upload = upload(state, &input.upload_id, &input.key)?;
            if upload.algorithm.as_ref().is_some_and(|algorithm| slot(&mut part.checksum, algorithm).is_none()) {
                return Err(s3_error!(
                    InvalidRequest,
                    "Checksum Type mismatch occurred, expected {:?}",
                    upload.algorithm
                ));
            }
            let e_tag = Some(ETag::Strong(part.etag.clone()));
            let output = with_checksum!(UploadPartOutput { e_tag: e_tag }, part.checksum.clone());
            upload.parts.insert(input.part_number, part);
            Ok(output)
        })
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let sha256 = input.checksum_sha256;
        self.within(&input.bucket, |state| {
            let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
            let object = assemble(upload(state, &input.upload_id, &input.key)?, &listed)?;
            if sha256.is_some() && sha256 != object.checksum.checksum_sha256 {
                return Err(s3_error!(BadDigest, "The sha256 you specified did not match the calculated checksum."));
            }
            if state.conditions != Conditions::IgnoredInParts {
                refuse_existing(state, &input.key, input.if_none_match.as_ref())?;
            }
            state.uploads.remove(&input.upload_id);
            let (checksum, e_tag) = (object.checksum.clone(), Some(ETag::Strong(object.etag.clone())));
            let object = Object { bytes: object.bytes.filter(|_| state.keep_bytes), ..object };
            let version_id = state.store(input.key.clone(), object);
            let (bucket, key) = (Some(input.bucket.clone()), Some(input.key));
            Ok(with_checksum!(
                CompleteMultipartUploadOutput { bucket: bucket, key: key, e_tag: e_tag, version_id: version_id },
                checksum
            ))
        })
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.within(&req.input.bucket, |state| {
            upload(state, &req.input.upload_id, &req.input.key)?;
            state.uploads.remove(&req.input.upload_id);
            Ok(AbortMultipartUploadOutput::default())
        })
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        self.within(&input.bucket, |state| {
            let prefix = input.prefix.clone().unwrap_or_default();
            let found = state.uploads.iter().filter(|(_, upload)| upload.key.starts_with(&prefix));
            let uploads = found.map(|(id, upload)| MultipartUpload {
                key: Some(upload.key.clone()),
                upload_id: Some(id.clone()),
                initiated: Some(upload.initiated.into()),
                storage_class: Some(upload.object.storage_class.clone().into()),
                ..Default::default()
            });
            let (uploads, prefix) = (Some(uploads.collect()), input.prefix);
            Ok(ListMultipartUploadsOutput { uploads, prefix, is_truncated: Some(false), ..Default::default() })
        })
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        self.within(&input.bucket, |state| {
            let upload = upload(state, &input.upload_id, &input.key)?;
            let parts = upload.parts.iter().map(|(number, part)| Part {
                part_number: Some(*number),
                size: Some(signed(part.len)),
                last_modified: Some(part.last_modified.into()),
                ..with_checksum!(Part { e_tag: Some(ETag::Strong(part.etag.clone())) }, part.checksum.clone())
            });
            Ok(ListPartsOutput { parts: Some(parts.collect()), is_truncated: Some(false), ..Default::default() })
        })
    }

    async fn restore_object(&self, req: S3Request<RestoreObjectInput>) -> S3Result<S3Response<RestoreObjectOutput>> {
        self.within(&req.input.bucket, |state| {
            if state.ways.classes_are_labels {
                return Err(s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource."));
            }
            let object = state.objects.get_mut(&req.input.key).ok_or_else(no_such_key)?;
            if !is_cold(object) {
                return Err(s3_error!(
                    InvalidObjectState,
                    "Restore is not allowed for the object's current storage class"
                ));
            }
            if object.restore.is_some() {
                return Err(s3_error!(RestoreAlreadyInProgress));
            }
            object.restore = Some("ongoing-request=\"true\"".to_owned());
            Ok(RestoreObjectOutput::default())
        })
        .map(|response| S3Response::with_status(response.output, hyper::StatusCode::ACCEPTED))
    }
}

/// Puts the parts a client lists together, as "`CompleteMultipartUpload`" says, with a checksum of checksums.
fn assemble(upload: &mut Upload, listed: &[CompletedPart]) -> S3Result<Object> {
    let (mut bytes, mut md5s, mut sums) = (BytesMut::new(), Md5::new(), Vec::new());
    let mut previous = 0;
    for (index, given) in listed.iter().enumerate() {
        let number = given.part_number.unwrap_or_default();
        if number <= previous {
            return Err(s3_error!(InvalidPartOrder));
        }
        previous = number;
        let part = upload.parts.get_mut(&number).ok_or_else(|| s3_error!(InvalidPart))?;
        if given.e_tag.as_ref().map(ETag::value) != Some(&part.etag) {
            return Err(s3_error!(InvalidPart, "the ETag does not match the part's"));
        }
        if index + 1 < listed.len() && part.len < MIN_PART {
            return Err(s3_error!(EntityTooSmall));
        }
        if let Some(algorithm) = &upload.algorithm {
            match given_sum(given, algorithm) {
                None => return Err(s3_error!(InvalidRequest, "The checksum of part {number} was missing")),
                given if given != slot(&mut part.checksum, algorithm).as_ref() => {
                    return Err(s3_error!(InvalidPart, "the checksum does not match the part's"));
                }
                Some(sum) => sums.extend(decode(sum)),
            }
        }
        md5s.update(&hex::decode(&part.etag).unwrap_or_default());
        bytes.extend_from_slice(part.bytes.as_deref().unwrap_or_default());
    }
    if listed.is_empty() {
        return Err(s3_error!(MalformedXML));
    }
    let mut checksum = Checksum::default();
    if let Some(algorithm) = &upload.algorithm {
        let mut hasher = hasher(|name| name == algorithm);
        hasher.update(&sums);
        let sum = slot(&mut hasher.finalize(), algorithm).take().unwrap_or_default();
        *slot(&mut checksum, algorithm) = Some(format!("{sum}-{}", listed.len()));
        checksum.checksum_type = Some(ChecksumType::from_static(ChecksumType::COMPOSITE));
    }
    let etag = format!("{}-{}", hex::encode(md5s.finalize()), listed.len());
    let content = Object { etag, checksum, ..Object::with_bytes(bytes.freeze()) };
    Ok(with_content(upload.object.clone(), content))
}

/// Returns `described` with the content, and what is computed from it, of `content`.
fn with_content(described: Object, content: Object) -> Object {
    let Object { bytes, len, sha256, etag, checksum, .. } = content;
    Object { bytes, len, sha256, etag, checksum, ..described }
}

fn hasher(wants: impl Fn(&str) -> bool) -> ChecksumHasher {
    ChecksumHasher {
        crc32: wants("crc32").then(Crc32::new),
        crc32c: wants("crc32c").then(Crc32c::new),
        crc64nvme: wants("crc64nvme").then(Crc64Nvme::new),
        sha1: wants("sha1").then(Sha1::new),
        sha256: wants("sha256").then(Sha256::new),
    }
}

fn slot<'a>(checksum: &'a mut Checksum, algorithm: &str) -> &'a mut Option<String> {
    match algorithm {
        "crc32" => &mut checksum.checksum_crc32,
        "crc32c" => &mut checksum.checksum_crc32c,
        "crc64nvme" => &mut checksum.checksum_crc64nvme,
        "sha1" => &mut checksum.checksum_sha1,
        _ => &mut checksum.checksum_sha256,
    }
}

fn given_sum<'a>(part: &'a CompletedPart, algorithm: &str) -> Option<&'a String> {
    match algorithm {
        "crc32" => part.checksum_crc32.as_ref(),
        "crc32c" => part.checksum_crc32c.as_ref(),
        "crc64nvme" => part.checksum_crc64nvme.as_ref(),
        "sha1" => part.checksum_sha1.as_ref(),
        _ => part.checksum_sha256.as_ref(),
    }
}

fn upload<'a>(state: &'a mut State, id: &str, key: &str) -> S3Result<&'a mut Upload> {
    let upload = state.uploads.get_mut(id).filter(|upload| upload.key == key);
    upload.ok_or_else(|| s3_error!(NoSuchUpload, "The specified multipart upload does not exist."))
}

fn refuse_existing(state: &State, key: &str, if_none_match: Option<&ETagCondition>) -> S3Result<()> {
    match if_none_match {
        None => Ok(()),
        Some(_) if state.conditions == Conditions::Refused => {
            Err(s3_error!(NotImplemented, "A header you provided implies functionality that is not implemented"))
        }
        Some(_) if state.conditions == Conditions::CalledInvalid => {
            Err(s3_error!(InvalidArgument, "If-None-Match is not valid here"))
        }
        Some(ETagCondition::Any) if state.conditions == Conditions::Ignored => Ok(()),
        Some(ETagCondition::ETag(_)) => Err(s3_error!(NotImplemented, "If-None-Match takes * only")),
        Some(ETagCondition::Any) if !state.objects.contains_key(key) => Ok(()),
        Some(ETagCondition::Any) => {
            Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"))
        }
    }
}

fn is_etag(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

fn is_cold(object: &Object) -> bool {
    matches!(&*object.storage_class, "GLACIER" | "DEEP_ARCHIVE")
}

fn readable(object: &Object, ways: Ways) -> S3Result<()> {
    let restored = object.restore.as_ref().is_some_and(|restore| restore.contains("ongoing-request=\"false\""));
    if is_cold(object) && !restored && !ways.classes_are_labels {
        let message = "The operation is not valid for the object's storage class";
        return Err(S3Error::with_message(S3ErrorCode::InvalidObjectState, message));
    }
    Ok(())
}

pub(super) fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}

/// Tells a body that is not what `x-amz-content-sha256` promised from one that ended early.
fn unread(error: &(dyn std::error::Error + 'static)) -> S3Error {
    if error.to_string().contains("Sha256Mismatch") {
        let mut mismatch = S3Error::new(S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()));
        mismatch.set_status_code(hyper::StatusCode::BAD_REQUEST);
        return mismatch;
    }
    s3_error!(IncompleteBody)
}

fn list_entry(key: &str, object: &Object) -> s3s::dto::Object {
    s3s::dto::Object {
        key: Some(key.to_owned()),
        size: Some(signed(object.len)),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        last_modified: Some(object.last_modified.into()),
        storage_class: Some(object.storage_class.clone().into()),
        ..Default::default()
    }
}

/// Reads the URL query that `x-amz-tagging` is.
fn read_tags(header: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = header.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (decode(key), decode(value))).collect()
}

pub(super) fn md5_hex(bytes: &[u8]) -> String {
    let mut md5 = Md5::new();
    md5.update(bytes);
    hex::encode(md5.finalize())
}

fn decode(sum: &str) -> Vec<u8> {
    base64::decode(sum).unwrap_or_default()
}

pub(super) fn signed(len: u64) -> i64 {
    len.try_into().expect("no object is that long")
}

fn usize(number: u64) -> usize {
    number.try_into().expect("what is in memory can be counted")
}
