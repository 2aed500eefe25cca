//! Downloads: the bytes of an object, or a range of them, hashed as they come.

use std::ops::Range;

use aws_sdk_s3::types::ChecksumMode;
use aws_smithy_types::base64;
use md5::Md5;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::wire::{full_checksum, md5_of};
use super::{Bucket, Head, Refusal};

/// The result of a download: the bytes that came, and what they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The number of bytes that came.
    pub size: u64,
    /// The SHA-256 of the bytes that came, in hexadecimal.
    pub sha256: String,
    /// The SHA-256 of the whole object in hexadecimal, from the store's checksum, from the metadata, or both. Empty for
    /// a range.
    pub expected: Vec<String>,
    /// Whether the bytes have the MD5 that is the object's `ETag`. `None` if there is a SHA-256 to go by, for a range, and
    /// if the `ETag` is no MD5.
    pub fits_etag: Option<bool>,
}

impl Download {
    /// Checks that these are the `size` bytes that were stored.
    ///
    /// # Errors
    /// [`Altered`] if the length differs, a checksum that the bucket has, or, where it has none, the MD5: the file must not
    /// be used.
    pub fn hold_against(&self, size: u64) -> Result<(), Altered> {
        let whole = self.size == size && self.expected.iter().all(|expected| *expected == self.sha256);
        if whole && self.fits_etag != Some(false) {
            Ok(())
        } else {
            Err(Altered { came: self.size, size, sha256: self.sha256.clone() })
        }
    }
}

/// The error of a download that differs from the object that was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bytes that came are not the ones that were stored: {came} of {size}, SHA-256 {sha256}")]
pub struct Altered {
    came: u64,
    size: u64,
    sha256: String,
}

impl Bucket {
    /// Downloads an object, or a `range` of its bytes that is not empty, into `into`.
    ///
    /// # Errors
    /// A [`Refusal`], after which the bytes in `into` are worthless. Its kind is [`NoSuchKey`] if there is no such
    /// object, [`Cold`] if it must be restored before it can be read, [`Refused`] if the store gave another reason, and
    /// [`NoAnswer`] if the store did not answer, the connection broke, or `into` could not be written.
    ///
    /// [`NoSuchKey`]: super::RefusalKind::NoSuchKey
    /// [`Cold`]: super::RefusalKind::Cold
    /// [`Refused`]: super::RefusalKind::Refused
    /// [`NoAnswer`]: super::RefusalKind::NoAnswer
    pub async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        into: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Download, Refusal> {
        self.download(key, None, range, into).await
    }

    /// Downloads a version of an object, or the object itself, into `into`.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn get_version(
        &self,
        key: &str,
        version: Option<&str>,
        into: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Download, Refusal> {
        self.download(key, version, None, into).await
    }

    /// Returns the SHA-256 of an object's bytes, in hexadecimal: the one that the store computed, otherwise the object, or
    /// the given version of it, is read. The one in the metadata is no proof, because whoever stores an object chooses it.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn proven_sha256(&self, key: &str, version: Option<&str>, head: &Head) -> Result<String, Refusal> {
        match &head.checksum {
            Some(sha256) => Ok(sha256.clone()),
            None => Ok(self.get_version(key, version, &mut tokio::io::sink()).await?.sha256),
        }
    }

    pub(super) async fn download(
        &self,
        key: &str,
        version: Option<&str>,
        range: Option<Range<u64>>,
        into: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Download, Refusal> {
        let whole = range.is_none();
        let request = self
            .client
            .get_object()
            .bucket(&self.config.bucket)
            .key(key)
            .set_version_id(version.map(str::to_owned))
            .set_range(range.map(|range| format!("bytes={}-{}", range.start, range.end - 1)))
            .set_checksum_mode(whole.then_some(ChecksumMode::Enabled));
        let needed = if version.is_some() { "s3:GetObjectVersion" } else { "s3:GetObject" };
        let sent = request.send().await;
        let mut object = sent.map_err(|error| Refusal::of("get object", &error).needing(needed))?;
        let length = object.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        let checksum = full_checksum(object.checksum_sha256(), length).and_then(|sum| base64::decode(sum).ok());
        // Whoever replaces an object sends a checksum that fits the new bytes; the metadata may still be the old one's.
        let written = object.metadata().and_then(|metadata| metadata.get("sha256")).cloned();
        let expected: Vec<String> = checksum.map(hex::encode).into_iter().chain(written).filter(|_| whole).collect();
        let etag = md5_of(object.e_tag(), object.server_side_encryption(), object.sse_customer_algorithm());
        let etag = etag.filter(|_| whole && expected.is_empty());
        let mut md5 = etag.as_ref().map(|_| Md5::new());
        let (mut size, mut hash) = (0, Sha256::new());
        while let Some(chunk) = object.body.next().await {
            let chunk = chunk.map_err(|error| Refusal::later(format!("failed to read object: {error}")))?;
            hash.update(&chunk);
            if let Some(md5) = &mut md5 {
                md5.update(&chunk);
            }
            size += chunk.len() as u64;
            into.write_all(&chunk).await.map_err(|error| Refusal::later(format!("failed to write file: {error}")))?;
        }
        into.flush().await.map_err(|error| Refusal::later(format!("failed to write file: {error}")))?;
        let fits_etag = etag.zip(md5).map(|(etag, md5)| etag.eq_ignore_ascii_case(&hex::encode(md5.finalize())));
        Ok(Download { size, sha256: hex::encode(hash.finalize()), expected, fits_etag })
    }
}
