//! Bundles: the captures of a camera-day as one tar in a cold class, with an index beside it in the standard class.
//!
//! A bundle is built from the local copies and goes up in one request, whose checksum the store holds against the bytes:
//! the same members always give the same bytes, so they are read twice, once for the checksum and once to be sent, and
//! memory does not grow with the day. Each member carries in a header of its own what the index says of it, so that an
//! index can be made again from its bundle; any `tar` reads it.
//!
//! # Crashes
//! The order is the promise (I4): index, bundle, both confirmed, the day listed again, and only then the members deleted
//! that are in it and unchanged. The index goes up first, because a bundle in a cold class cannot be read any more: an
//! index without its bundle is an intention, which the next run carries out or takes back. All state is in the bucket,
//! and each run begins by looking at it.
//!
//! In the compressed formats each member is a frame of its own, so that one can be read alone as out of a plain tar.

pub mod bundle;
pub mod index;
mod local;
mod make;
mod read;

pub use index::{Index, Member, Note};
pub use local::{Fetched, clear_spools, spool};
pub use make::{Made, archive_day, list_day, store_index};
pub use read::{Held, Shelf, fetch_member, load_index, rebuild_index, shelf, shelves};
