//! Camera-days bundled into a cold class.
//!
//! A bundle is built from the local copies and goes up in one request, whose checksum the store holds against the bytes.
//!
//! # Crashes
//! The order is the promise (I4): the index, the bundle, both confirmed, and only then, as the day is listed again, the
//! members deleted that are in the bundle and unchanged. The index goes up first, because a bundle in a cold class cannot
//! be read any more: an index without its bundle is an intention, which the next run carries out or takes back. All state
//! is in the bucket, and each run begins by looking at it. A bundle that it finds deletes only what it is shown to hold:
//! whoever has the box's keys can put one that lies.
//!
//! # Two rotations
//! Another box may be at the same day. The index decides whose bundle it is: whoever cannot put it under a free key leaves
//! the day. An index without a bundle may be carried out by anybody, since only one bundle fits it, but it is taken back
//! only if it is older than a day. On a store that does not honour `If-None-Match` two indexes can replace each other, so
//! that only one box may rotate there.

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
