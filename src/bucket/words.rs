//! What a refusal means, for somebody who owns cameras.

use super::{Refusal, Verdict};

/// What an error's own words show, and the sentence for it, the first that fits. These are the words of the resolver, of
/// the TLS library and of the SDK.
const BY_WORDS: &[(&[&str], &str)] = &[
    (
        &["dns error", "failed to lookup address", "Name or service not known"],
        "this box cannot find the address of S3: there is no internet, or no DNS",
    ),
    (&["UnknownIssuer", "invalid peer certificate"], "this box does not trust the certificate of the store"),
    (&["the answer is not the store's own", "they were changed on the way"], "something answers in place of S3"),
    (&["credentials", "no key", "AWS key"], "no AWS key found"),
    (&["region must be set"], "the region of the bucket is not known"),
];

/// What a code of S3 means.
const BY_CODE: &[(&[&str], &str)] = &[
    (&["AccessDenied"], "the AWS key may not store pictures in this bucket"),
    (&["InvalidAccessKeyId"], "AWS does not know this AWS key"),
    (&["SignatureDoesNotMatch"], "the two halves of the AWS key do not fit each other"),
    (&["ExpiredToken", "TokenRefreshRequired", "InvalidToken"], "the AWS key has expired"),
    (&["NoSuchBucket"], "the bucket does not exist"),
    (
        &["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"],
        "the bucket is in another region",
    ),
    (&["RequestTimeTooSkewed"], "the clock of this box is wrong, and S3 refuses what it sends"),
    (&["InvalidStorageClass"], "the store does not know the storage class"),
];

impl Refusal {
    /// Returns what is wrong in one sentence, without the error's own words.
    pub fn sentence(&self) -> &'static str {
        let fits = |words: &&[&str]| words.iter().any(|word| self.reason.contains(word));
        match &self.code {
            Some(code) => match BY_CODE.iter().find(|(codes, _)| codes.contains(&code.as_str())) {
                Some((_, sentence)) => sentence,
                None if self.verdict == Verdict::NeedsOperator => "the bucket refuses pictures",
                None => "S3 cannot store pictures at the moment",
            },
            None => match BY_WORDS.iter().find(|(words, _)| fits(words)) {
                Some((_, sentence)) => sentence,
                None if self.verdict == Verdict::NeedsOperator => "the bucket cannot be used with these settings",
                None => "no connection to S3",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_means_is_said_without_its_own_words() {
        for (code, verdict, reason, sentence) in [
            (
                None,
                Verdict::TryLater,
                "failed to put object: io error: client error (SendRequest): connection error: Connection reset by peer",
                "no connection to S3",
            ),
            (
                None,
                Verdict::TryLater,
                "client error (Connect): dns error: failed to lookup address information",
                "this box cannot find the address of S3: there is no internet, or no DNS",
            ),
            (
                None,
                Verdict::NeedsOperator,
                "other: an error occurred while loading credentials: the credential provider was not enabled",
                "no AWS key found",
            ),
            (
                Some("AccessDenied"),
                Verdict::NeedsOperator,
                "HTTP 403",
                "the AWS key may not store pictures in this bucket",
            ),
            (Some("SlowDown"), Verdict::TryLater, "HTTP 503", "S3 cannot store pictures at the moment"),
            (Some("Strange"), Verdict::NeedsOperator, "HTTP 400", "the bucket refuses pictures"),
        ] {
            let code = code.map(str::to_owned);
            let refusal = Refusal { verdict, code, reason: reason.to_owned(), advice: String::new() };
            assert_eq!(refusal.sentence(), sentence, "{reason}");
        }
    }
}
