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
use aws_sdk_s3::primitives::SdkBody;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_xml::decode::{Document, XmlDecodeError, try_data};
use http::header::{HeaderName, HeaderValue};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;

use super::account;
use super::wire::{Failed, percent};
use super::{ANSWER_TIMEOUT, Bucket, Refusal, is_host_of_aws};

/// The name of the operation, as the SDK spells it and requests are counted.
const PUT_OBJECT: &str = "PutObject";

/// The key of the URL from which an [`Endpoint`] is read.
const SOME_KEY: &str = "key";

const AGENT: &str = concat!("hk-aws/", env!("CARGO_PKG_VERSION"));

/// A header's name, in lower case, and its value.
pub(super) type Header = (Cow<'static, str>, String);

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
    /// A [`Refusal`] if no request can be made, such as without credentials.
    pub(super) async fn endpoint(&self) -> Result<&Endpoint, Refusal> {
        let ask = async || {
            let soon = PresigningConfig::expires_in(ANSWER_TIMEOUT);
            let soon = soon.map_err(|error| Refusal::later(format!("failed to sign request: {error}")))?;
            let put = self.client.put_object().bucket(&self.config.bucket).key(SOME_KEY);
            let signed = put.presigned(soon).await.map_err(|error| Refusal::of("sign request", &error))?;
            let endpoint = Endpoint::read(signed.uri());
            let endpoint =
                endpoint.ok_or_else(|| Refusal::later("failed to sign request: its URL is not understood"))?;
            if endpoint.is_aws {
                self.marks.learn_aws();
            }
            Ok(endpoint)
        };
        self.endpoint.get_or_try_init(|| Box::pin(ask())).await
    }

    /// Sends a PUT with these headers, and returns the answer if it is a success of the store itself.
    ///
    /// # Errors
    /// The same as the SDK's own call gives.
    pub(super) async fn send_put(
        &self,
        endpoint: &Endpoint,
        key: &str,
        headers: Vec<Header>,
        body: SdkBody,
    ) -> Result<HttpResponse, Failed<PutObjectError>> {
        let credentials = self.credentials_now().await.map_err(SdkError::construction_failure)?;
        let request = self.signed(endpoint, key, headers, body, credentials);
        let request = request.map_err(SdkError::construction_failure)?;
        let answer = match self.http.send(request).await {
            Ok(answer) => self.judged(answer).await,
            Err(error) => Err(SdkError::dispatch_failure(error)),
        };
        let raw = answer.as_ref().ok().or_else(|| answer.as_ref().err().and_then(SdkError::raw_response));
        self.requests.count(PUT_OBJECT, answer.is_ok(), raw.map(HttpResponse::headers), self.pace.clock());
        answer
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
        headers: Vec<Header>,
        body: SdkBody,
        credentials: Credentials,
    ) -> Result<http::Request<SdkBody>, Box<dyn std::error::Error + Send + Sync>> {
        let url = endpoint.url_to_put(key);
        let mut headers = headers;
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
            into.insert(HeaderName::try_from(&*name)?, HeaderValue::try_from(value)?);
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
    use super::*;

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
