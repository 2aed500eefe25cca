//! What several tests share.

pub(crate) mod alarm;
pub(crate) mod clock;
pub(crate) mod line;
pub(crate) mod memory;
pub(crate) mod refused;
pub(crate) mod s3;
pub(crate) mod service;
pub(crate) mod settings;
pub(crate) mod site;
pub(crate) mod tls;
pub(crate) mod year;
