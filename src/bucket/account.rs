//! The account that must own the bucket, named in every request.
//!
//! Once a bucket is deleted, anybody can make one of its name. S3 refuses a request that names another account than the
//! bucket's owner (S3 User Guide, "Verifying bucket ownership with bucket owner condition"), so such a bucket gets
//! nothing. The header is set below all operations, so that none can be forgotten.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// The header of a request that names the account.
pub(super) const HEADER: &str = "x-amz-expected-bucket-owner";

/// Adds the account to each request.
#[derive(Debug)]
pub(super) struct ExpectedOwner(pub(super) String);

impl Intercept for ExpectedOwner {
    fn name(&self) -> &'static str {
        "ExpectedOwner"
    }

    // S3 wants the header signed.
    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().try_insert(HEADER, self.0.clone())?;
        Ok(())
    }
}
