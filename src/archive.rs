//! Camera-days bundled into a cold class.
//!
//! A bundle is built from the local copies and goes up in one request, whose checksum the store holds against the bytes.
//!
//! # Crashes
//! The order is the promise (I4): the index, the bundle, both confirmed, the day listed again, and only then the members
//! deleted that are in the bundle and unchanged. The index goes up first, because a bundle in a cold class cannot be read
//! any more: an index without its bundle is an intention, which the next run carries out or takes back. All state is in
//! the bucket, and each run begins by looking at it.

mod copies;
mod make;
mod put;
mod reads;
mod spool;

pub use copies::Downloads;
pub use make::{Made, archive_day};
pub use put::store_index;
pub use reads::Reads;
pub use spool::{clear_spools, spool};
