//! What several tests share.

pub(crate) mod s3;
pub(crate) mod site;
