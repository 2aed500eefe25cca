//! Bundles: the captures of a camera-day as one tar, and the index beside it that says what lies where in it.
//!
//! This room knows the format and no bucket. The same members always give the same bytes, so a bundle is read twice,
//! once for its checksum and once to be sent, and memory does not grow with the day. Each member carries in a header of
//! its own what the index says of it, so that a lost index can be made again; any `tar` reads a bundle. In the compressed
//! formats each member is a frame of its own, so that one capture can be read alone, as out of a plain tar.

mod index;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use index::{Bundle, Index, Member, Note, VERSION};
pub use read::{BundleFile, PackedMember, copy_hashed, is_member_name, rebuild_index, unpack, walk};
pub use write::{Input, lay_out, open};

/// The name of the header that carries a member's [`Note`]: an extended attribute, as GNU and BSD tar know them, which
/// they leave alone unless they are asked for it.
const NOTE: &str = "SCHILY.xattr.user.hk-aws";
