//! Whether the bucket can be reached at all, before a capture shows it.

use aws_sdk_s3::error::SdkError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::answer::has_request_id;
use super::{Bucket, Refusal};

impl Bucket {
    /// Asks the bucket for an answer, which costs one request, or the trial of a store other than AWS.
    ///
    /// Credentials that may only put are refused by AWS in its own words: that is an answer, too.
    ///
    /// # Errors
    /// A [`Refusal`] if nothing answers, or if the answer says that nothing can be stored.
    pub async fn reach(&self) -> Result<(), Refusal> {
        if !self.is_aws().await? {
            return self.put_condition().await.map(drop);
        }
        // HeadObject could not tell a missing bucket from a missing object, as an answer to HEAD has no code.
        match self.client.head_bucket().bucket(&self.config.bucket).send().await {
            Ok(_) => Ok(()),
            Err(error) if is_denied_by_s3(&error) => Ok(()),
            Err(error) => Err(Refusal::of("head bucket", &error)),
        }
    }
}

/// Returns whether S3 itself says that these credentials may not ask.
fn is_denied_by_s3<E>(error: &SdkError<E, HttpResponse>) -> bool {
    let SdkError::ServiceError(service) = error else { return false };
    service.raw().status().as_u16() == 403 && has_request_id(service.raw().headers())
}
