//! The PUT of an object, signed and sent directly.
//!
//! A capture costs one. On its way through the SDK's client that took more of the processor than everything else that is
//! done with a capture: plugins, settings in layers and resolvers, all of them asked anew. So the SDK says once where the
//! bucket is, and its signer signs; the answer becomes the SDK's, so that one set of rules judges all of them.

use std::borrow::Cow;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat, SdkBody};
use aws_sdk_s3::types::{ObjectLockMode, ServerSideEncryption, StorageClass};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_xml::decode::{Document, XmlDecodeError, try_data};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;

use super::account;
use super::answer::{Sent, has_request_id};
use super::condition::IfNoneMatch;
use super::wire::{Failed, Receipt, md5_of, metadata, percent};
use super::{ANSWER_TIMEOUT, Bucket, is_host_of_aws};

/// The name of the operation, as the SDK spells it and requests are counted.
const PUT_OBJECT: &str = "PutObject";

/// The key of the URL from which an [`Endpoint`] is read.
const SOME_KEY: &str = "key";

const AGENT: &str = concat!("hk-aws/", env!("CARGO_PKG_VERSION"));

/// A header's name, in lower case, and its value.
type Header = (Cow<'static, str>, String);

const CHECKSUM: &str = "x-amz-checksum-sha256";
const CUSTOMER_KEY: &str = "x-amz-server-side-encryption-customer-algorithm";
const ENCRYPTION: &str = "x-amz-server-side-encryption";
const ENCRYPTION_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";

/// What an object is put with, besides what the configuration says of every object (S3 API Reference, `PutObject`).
#[derive(Debug)]
pub(super) struct ObjectTerms<'a> {
    pub(super) header: IfNoneMatch,
    /// The number of bytes.
    pub(super) size: u64,
    pub(super) content_type: &'a str,
    pub(super) class: StorageClass,
    /// The SHA-256, in base64, if it is sent.
    pub(super) sha256: Option<String>,
    pub(super) metadata: &'a [(&'static str, String)],
    pub(super) tagging: Option<String>,
    pub(super) lock_mode: Option<ObjectLockMode>,
    pub(super) lock_until: Option<DateTime>,
}

impl ObjectTerms<'_> {
    fn headers(self) -> impl Iterator<Item = Header> {
        let lock_until = self.lock_until.and_then(|until| until.fmt(DateTimeFormat::DateTime).ok());
        let given = [
            ("if-none-match", self.header.value()),
            ("content-length", Some(self.size.to_string())),
            ("content-type", Some(self.content_type.to_owned())),
            ("x-amz-storage-class", Some(self.class.as_str().to_owned())),
            (CHECKSUM, self.sha256),
            ("x-amz-tagging", self.tagging),
            ("x-amz-object-lock-mode", self.lock_mode.map(|mode| mode.as_str().to_owned())),
            ("x-amz-object-lock-retain-until-date", lock_until),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((Cow::Borrowed(name), value?)));
        given.chain(metadata(self.metadata).map(|(name, value)| (Cow::Owned(format!("x-amz-meta-{name}")), value)))
    }
}

/// What the store says of an object that it has stored.
#[derive(Debug)]
pub(super) struct PutAnswer {
    pub(super) etag: Option<String>,
    /// The SHA-256 that it computed, in base64.
    pub(super) sha256: Option<String>,
    /// The MD5 of what it received, in hexadecimal, if the `ETag` is one.
    pub(super) md5: Option<String>,
    pub(super) version: Option<String>,
    pub(super) has_request_id: bool,
}

impl PutAnswer {
    fn read(headers: &Headers) -> Self {
        let encryption = headers.get(ENCRYPTION).map(ServerSideEncryption::from);
        Self {
            etag: headers.get("etag").map(str::to_owned),
            sha256: headers.get(CHECKSUM).map(str::to_owned),
            md5: md5_of(headers.get("etag"), encryption.as_ref(), headers.get(CUSTOMER_KEY)),
            version: headers.get("x-amz-version-id").map(str::to_owned),
            has_request_id: has_request_id(headers),
        }
    }

    /// Returns what proves that the object was stored which was put with the SHA-256 `sent`.
    pub(super) fn receipt<'a>(&'a self, sent: Option<&'a str>) -> Receipt<'a> {
        Receipt {
            about: Sent::Object,
            etag: self.etag.as_deref(),
            sent,
            repeated: self.sha256.as_deref(),
            md5: self.md5.clone(),
            has_request_id: self.has_request_id,
        }
    }
}

/// Where the objects of the bucket are put, as the SDK resolves it from the configuration, the environment and the AWS
/// files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The URL of an object, without its key.
    above_keys: String,
    /// The region that is signed.
    region: String,
    /// The service that is signed.
    service: String,
    /// Whether its host is one of AWS's own.
    pub(super) is_aws: bool,
}

impl Endpoint {
    /// Reads where objects are put from the signed URL of one with the key [`SOME_KEY`].
    fn read(url: &str) -> Option<Self> {
        let (path, query) = url.split_once('?')?;
        let scope = query.split('&').find_map(|parameter| parameter.strip_prefix("X-Amz-Credential="))?;
        let scope = percent_decode_str(scope).decode_utf8().ok()?;
        // ACCESS-KEY/DATE/REGION/SERVICE/aws4_request (Amazon S3 API Reference, "Authenticating Requests").
        let mut scope = scope.rsplit('/').skip(1);
        let (service, region) = (scope.next()?.to_owned(), scope.next()?.to_owned());
        Some(Self {
            above_keys: path.strip_suffix(SOME_KEY)?.to_owned(),
            region,
            service,
            is_aws: is_host_of_aws(path),
        })
    }

    /// Returns the URL to put an object. It names the operation as the SDK's do, so that the log of a store or proxy does.
    fn url_to_put(&self, key: &str) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        format!("{}{}?x-id={PUT_OBJECT}", self.above_keys, percent(key.as_bytes(), plain))
    }
}

impl Bucket {
    /// Returns where objects are put; it sends no request.
    ///
    /// # Errors
    /// That of the SDK if no request can be made, such as without credentials.
    pub(super) async fn endpoint(&self) -> Result<&Endpoint, Failed<PutObjectError>> {
        let ask = async || {
            let soon = PresigningConfig::expires_in(ANSWER_TIMEOUT).map_err(SdkError::construction_failure)?;
            let head = self.client.head_object().bucket(&self.config.bucket).key(SOME_KEY);
            let signed =
                head.presigned(soon).await.map_err(|error| error.map_service_error(PutObjectError::unhandled))?;
            let endpoint = Endpoint::read(signed.uri());
            let endpoint = endpoint
                .ok_or_else(|| SdkError::construction_failure("a signed URL of the bucket is not understood"))?;
            if endpoint.is_aws {
                self.marks.learn_aws();
            }
            Ok(endpoint)
        };
        self.endpoint.get_or_try_init(|| Box::pin(ask())).await
    }

    /// Puts an object, and returns the answer if it is a success of the store itself.
    ///
    /// # Errors
    /// The same as the SDK's own call gives.
    pub(super) async fn send_put(
        &self,
        key: &str,
        terms: ObjectTerms<'_>,
        body: SdkBody,
    ) -> Result<PutAnswer, Failed<PutObjectError>> {
        let endpoint = self.endpoint().await?;
        let credentials = self.credentials_now().await.map_err(SdkError::construction_failure)?;
        let request = self.signed(endpoint, key, terms, body, credentials).map_err(SdkError::construction_failure)?;
        let answer = match self.http.send(request).await {
            Ok(answer) => self.judged(answer).await,
            Err(error) => Err(SdkError::dispatch_failure(error)),
        };
        let raw = answer.as_ref().ok().or_else(|| answer.as_ref().err().and_then(SdkError::raw_response));
        self.requests.count(PUT_OBJECT, answer.is_ok(), raw.map(HttpResponse::headers), self.pace.clock());
        answer.map(|answer| PutAnswer::read(answer.headers()))
    }

    /// Puts an object of few bytes, whose answer has to come soon.
    ///
    /// # Errors
    /// As of [`Self::send_put`].
    pub(super) async fn send_few(
        &self,
        key: &str,
        terms: ObjectTerms<'_>,
        bytes: &'static [u8],
    ) -> Result<PutAnswer, Failed<PutObjectError>> {
        let sending = self.send_put(key, terms, SdkBody::from(Bytes::from_static(bytes)));
        match tokio::time::timeout(ANSWER_TIMEOUT, sending).await {
            Ok(sent) => sent,
            Err(elapsed) => Err(SdkError::timeout_error(elapsed)),
        }
    }

    async fn credentials_now(&self) -> Result<Credentials, CredentialsError> {
        match &self.credentials {
            Some(credentials) => Ok(credentials.clone()),
            None => self.keys.remembered().await,
        }
    }

    fn signed(
        &self,
        endpoint: &Endpoint,
        key: &str,
        terms: ObjectTerms<'_>,
        body: SdkBody,
        credentials: Credentials,
    ) -> Result<http::Request<SdkBody>, Box<dyn std::error::Error + Send + Sync>> {
        let url = endpoint.url_to_put(key);
        let mut headers: Vec<Header> = terms.headers().collect();
        let (encryption, encryption_key) = self.encryption();
        headers.extend(encryption.map(|told| (Cow::Borrowed(ENCRYPTION), told.as_str().to_owned())));
        headers.extend(encryption_key.map(|key| (Cow::Borrowed(ENCRYPTION_KEY), key)));
        headers.extend(self.config.account.clone().map(|account| (Cow::Borrowed(account::HEADER), account)));
        let mut settings = SigningSettings::default();
        // As S3 wants it (S3 API Reference, "Signature Calculations for the Authorization Header"). The SHA-256 of the body
        // is signed as the checksum of the object instead, which is stored.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = Identity::from(credentials);
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&endpoint.region)
            .name(&endpoint.service)
            .time(signing_time())
            .settings(settings)
            .build()?
            .into();
        let told = headers.iter().map(|(name, value)| (&**name, value.as_str()));
        let signable = SignableRequest::new("PUT", url.as_str(), told, SignableBody::UnsignedPayload)?;
        let (signature, _) = sign(signable, &parameters)?.into_parts();
        let (signature, _) = signature.into_parts();
        let mut request = http::Request::put(url).header(http::header::USER_AGENT, AGENT).body(body)?;
        let into = request.headers_mut();
        into.reserve(headers.len() + signature.len());
        for (name, value) in headers {
            let name = match name {
                Cow::Borrowed(name) => HeaderName::from_static(name),
                Cow::Owned(name) => HeaderName::try_from(name)?,
            };
            into.insert(name, HeaderValue::try_from(value)?);
        }
        for header in signature {
            let mut value = HeaderValue::from_str(header.value())?;
            value.set_sensitive(header.sensitive());
            into.insert(header.name(), value);
        }
        Ok(request)
    }

    /// Reads an answer to its end; one that is no success of the store itself becomes an error.
    async fn judged(&self, mut answer: HttpResponse) -> Result<HttpResponse, Failed<PutObjectError>> {
        let body = match answer.take_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Err(SdkError::response_error(error, answer)),
        };
        *answer.body_mut() = SdkBody::from(body.clone());
        self.keys.note(answer.headers_mut());
        let status = answer.status().as_u16();
        if let Err(stranger) = self.marks.check("PUT", status, answer.headers()) {
            return Err(SdkError::response_error(stranger, answer));
        }
        if answer.status().is_success() {
            return Ok(answer);
        }
        let error = told(&body).map_or_else(PutObjectError::unhandled, PutObjectError::generic);
        Err(SdkError::service_error(error, answer))
    }
}

/// Returns the time of a signature, as the SDK takes it for its own requests: the store holds it against its own clock.
#[expect(clippy::disallowed_methods, reason = "whoever moves the daemon's clock moves no store's")]
fn signing_time() -> SystemTime {
    SystemTime::now()
}

/// Reads the error of an answer (S3 API Reference, "Error responses").
fn told(body: &[u8]) -> Result<ErrorMetadata, XmlDecodeError> {
    let mut document = Document::try_from(body)?;
    let mut root = document.root_element()?;
    let mut told = ErrorMetadata::builder();
    while let Some(mut tag) = root.next_tag() {
        match tag.start_el().local() {
            "Code" => told = told.code(try_data(&mut tag)?),
            "Message" => told = told.message(try_data(&mut tag)?),
            _ => {}
        }
    }
    Ok(told.build())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
    use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
    use aws_sdk_s3::error::BoxError;
    use aws_sdk_s3::primitives::ByteStream;

    use super::*;
    use crate::bucket::Pace;
    use crate::config::Config;
    use crate::daemon;

    /// Keeps the URL and the headers of a request of the SDK.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<(String, BTreeMap<String, String>)>>);

    impl Intercept for Kept {
        fn name(&self) -> &'static str {
            "Kept"
        }

        fn read_before_transmit(
            &self,
            context: &BeforeTransmitInterceptorContextRef<'_>,
            _: &RuntimeComponents,
            _: &mut ConfigBag,
        ) -> Result<(), BoxError> {
            let request = context.request();
            let headers = request.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            *self.0.lock().unwrap() = (request.uri().to_owned(), headers.collect());
            Ok(())
        }
    }

    /// Returns headers without those that name the program or the attempt, and without what depends on them or on the time.
    fn comparable(mut headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let own = |name: &str| name.starts_with("amz-sdk-") || name.ends_with("user-agent") || name == "x-amz-date";
        headers.retain(|name, _| !own(name));
        if let Some(authorization) = headers.get_mut("authorization") {
            let (told, _signature) = authorization.split_once(", Signature=").unwrap();
            let (scope, signed) = told.split_once("SignedHeaders=").unwrap();
            let signed: Vec<&str> = signed.split(';').filter(|name| *name == "x-amz-date" || !own(name)).collect();
            *authorization = format!("{scope}{}", signed.join(";"));
        }
        headers
    }

    #[tokio::test]
    async fn an_object_is_put_as_the_sdk_would_put_it() {
        let plain = "path_style: true";
        let full = "account: \"123456789012\", sse: {kms_key_id: alias/cctv}, object_lock: {mode: governance, days: 30}, path_style: false";
        let token = Some("a token/+=".to_owned());
        for (settings, token, key) in [(plain, None, "CAM/2026-02-24/a.jpg"), (full, token, "CAM/é/a b+c?d#e%2F~.jpg")]
        {
            let store = "bucket: cctv, region: eu-central-1, endpoint_url: \"http://127.0.0.1:1\"";
            let text = format!("drop_folder: {{path: /srv/cctv}}\ns3: {{{store}, {settings}}}\n");
            let settings = Config::parse(Path::new("config.yaml"), &text, &|_| None).unwrap().s3;
            let credentials = Credentials::new("AKIA", "secret", token, None, "test");
            let bucket = Bucket::connect(&settings, Some(credentials.clone()), Pace::new(daemon::now)).await;
            let (lock_mode, lock_until) = bucket.lock(SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000));
            let terms = || ObjectTerms {
                header: IfNoneMatch::Sent,
                size: 5,
                content_type: "image/jpeg",
                class: StorageClass::from("STANDARD_IA"),
                sha256: Some("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=".to_owned()),
                metadata: &[],
                tagging: Some("camera=CAM%20%C3%A9&event=motion".to_owned()),
                lock_mode: lock_mode.clone(),
                lock_until,
            };
            let sent = Kept::default();
            let ObjectTerms { content_type, class, sha256, tagging, .. } = terms();
            let (encryption, encryption_key) = bucket.encryption();
            let put = bucket.client.put_object().bucket(&settings.bucket).key(key).if_none_match("*");
            let put = put.content_type(content_type).storage_class(class).set_checksum_sha256(sha256).content_length(5);
            let put = put.metadata("camera", "CAM %C3%A9").set_tagging(tagging).set_ssekms_key_id(encryption_key);
            let put = put.set_object_lock_mode(lock_mode.clone()).set_object_lock_retain_until_date(lock_until);
            let put = put.set_server_side_encryption(encryption).body(ByteStream::from_static(b"hello"));
            let refused = put.customize().disable_payload_signing().interceptor(sent.clone()).send().await;
            assert!(refused.is_err(), "nobody listens there");
            let (url, headers) = std::mem::take(&mut *sent.0.lock().unwrap());

            let metadata = [("camera", "CAM é".to_owned())];
            let terms = ObjectTerms { metadata: &metadata, ..terms() };
            let endpoint = bucket.endpoint().await.unwrap();
            let ours = bucket.signed(endpoint, key, terms, SdkBody::from("hello"), credentials).unwrap();
            let our_headers = ours.headers().iter();
            let our_headers = our_headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
            assert_eq!(ours.uri().to_string(), url);
            assert_eq!(comparable(our_headers.collect()), comparable(headers), "{key}");
        }
    }

    #[test]
    fn the_place_of_objects_is_read_from_a_signed_url() {
        let scope = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=";
        for (url, above_keys, region, is_aws) in [
            (
                format!(
                    "https://cctv.s3.eu-central-1.amazonaws.com/key?{scope}AKIA%2F20260224%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Date=1"
                ),
                "https://cctv.s3.eu-central-1.amazonaws.com/",
                "eu-central-1",
                true,
            ),
            (
                format!("http://127.0.0.1:9000/cctv/key?{scope}a%2Fb%2F20260224%2Fmy%20region%2Fs3%2Faws4_request"),
                "http://127.0.0.1:9000/cctv/",
                "my region",
                false,
            ),
        ] {
            let region = region.to_owned();
            let expected = Endpoint { above_keys: above_keys.to_owned(), region, service: "s3".to_owned(), is_aws };
            assert_eq!(Endpoint::read(&url), Some(expected), "{url}");
        }
        assert_eq!(Endpoint::read("https://cctv.s3.eu-central-1.amazonaws.com/key"), None);
    }

    #[test]
    fn a_key_is_spelled_in_a_url_so_that_nothing_in_it_means_anything() {
        let endpoint = Endpoint {
            above_keys: "http://store/cctv/".to_owned(),
            region: String::new(),
            service: String::new(),
            is_aws: false,
        };
        let spelled = endpoint.url_to_put("CAM/2026-02-24/a b+c?d#e%2F~é.jpg");
        assert_eq!(spelled, "http://store/cctv/CAM/2026-02-24/a%20b%2Bc%3Fd%23e%252F~%C3%A9.jpg?x-id=PutObject");
    }
}
