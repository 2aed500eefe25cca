//! The ids of the warnings and errors: each kind has one, which never changes, and the catalogue of the journal says for each
//! what it means and what to do (`journalctl -x`; systemd, "Journal Message Catalogs").
//!
//! The ids are the first 128 bits of the SHA-256 of `hk-aws message` and the name, so that nobody has to invent one.

/// The bucket refuses pictures.
pub const BUCKET_REFUSES: &str = "cc7b827e0467ccbe02438b4f1ff6ed6c";
/// There is no connection to the bucket.
pub const BUCKET_UNREACHABLE: &str = "4a0d626f450dccba1f30f1653361d67f";
/// There is still no connection to the bucket.
pub const STILL_DOWN: &str = "4c1498c3867b369adbd28187fd1a81f8";
/// The bucket could not be reached at the start.
pub const BUCKET_UNTRIED: &str = "949fb8157111f2a6aafd0aaf76e38e16";
/// The drop folder cannot be read.
pub const DROP_FOLDER_UNREADABLE: &str = "9e131964cda0a542a36e5266454bc76b";
/// Another folder is in the place of the drop folder.
pub const DROP_FOLDER_REPLACED: &str = "05af42a0a12baf448826350661adb65c";
/// hk-aws may not write in the drop folder.
pub const DROP_FOLDER_READ_ONLY: &str = "76c32a784c7d8f157563be10b7bdf349";
/// The disk of the drop folder is nearly full.
pub const DROP_FOLDER_SHORT: &str = "9006acb45f96af5b1651c6cca57fb44e";
/// A stored picture cannot be removed from the drop folder.
pub const CANNOT_REMOVE: &str = "0b27e83f5fbea497ea1887d5f2384b60";
/// The disk of the local copies is not mounted.
pub const COPIES_MISSING: &str = "817fb7b76ec968b09a350c386abb759f";
/// Local copies are not kept.
pub const COPIES_REFUSED: &str = "35e615a4a3f240828c03154f01993471";
/// Local copies stay although they are due to go.
pub const COPIES_STAY: &str = "1fc1f4903d634d9e78f1e199c2b7879d";
/// The clock of this box may be wrong: local copies stay.
pub const COPIES_CLOCK: &str = "319e87c4de118aa61c1e4371b7ca14f1";
/// Old local copies could not be deleted.
pub const GIVE_WAY_FAILED: &str = "4c06c46c08f30d54b9cfb0e11bc08fc6";
/// A file was moved away, because it can never be stored as it is.
pub const SET_ASIDE: &str = "ab51095d10efc78c6be9a7a791eb03bd";
/// A file could not be moved away.
pub const NOT_SET_ASIDE: &str = "a695d57eeddd0bbb9ff378aeeca27fb9";
/// Why a file was moved away could not be written down.
pub const SET_ASIDE_NOTE: &str = "7b00a3917b1da43fd1f7a78f0918a2a0";
/// A file in the drop folder cannot be read.
pub const UNREADABLE: &str = "e0bfafb55106b9e74a3fd380963b6a1a";
/// A file is larger than what the store takes.
pub const TOO_LARGE: &str = "5b197312f7871b9134b1d4c3b7f95640";
/// A file cannot be stored while others are.
pub const OWN_TROUBLE: &str = "02f851f34e38d82e96c27f0ef542dc32";
/// A part of hk-aws failed in a way that should not happen.
pub const PANIC: &str = "a766bd056b0095cc3a569bf37a311046";
/// The clock of a camera is wrong.
pub const CAMERA_CLOCK: &str = "61da854d0ecca36edaeb8b2eca31ff83";
/// The rotation failed.
pub const ROTATION_FAILED: &str = "fd8e356b1d2dc5123f91e23eeb562420";
/// The rotation has something to say.
pub const ROTATION_NOTE: &str = "87e7ef99e79fd9ad28128aa3e9c42e56";
/// The schedule of jobs cannot be read or written.
pub const SCHEDULE: &str = "2307e26519306ed8a071d53b666863b6";
/// The ledger could not be written as it should.
pub const LEDGER: &str = "e716eca3016083b903a289b808dd8051";
/// Two parts of a picture could not be joined.
pub const JOIN_FAILED: &str = "2af7bb91954360f213590371dd5e6ffc";
/// The drop folder cannot be watched in full.
pub const WATCH: &str = "da37a36f6312e49294b77bcb3458ff0a";
/// The store does not refuse to overwrite.
pub const STORE_OVERWRITES: &str = "bbf6aa4f561425fa611aa8493e2a6fb9";
/// Certificates cannot be used.
pub const CERTIFICATES: &str = "a2accf655c9f704bf9d97ce1d4e9701b";
/// A new configuration was refused.
pub const RELOAD_REFUSED: &str = "4f51dab2483130dcb0a4895bb1b8921b";
/// A setting changes with a restart only.
pub const RESTART_NEEDED: &str = "1750e47557dfba26c3b8d7ed25a459cf";
/// The metrics cannot be read.
pub const METRICS_PORT: &str = "3ca8fd76209429782e534e192da1e983";
/// The status cannot be written.
pub const STATUS_UNWRITABLE: &str = "2753c871aef65153089da937bc7e917f";
/// Another hk-aws, or another user, holds a lock.
pub const LOCK: &str = "c71f72b09944594732da1caa5b1f0613";
/// hk-aws was stopped before uploads were finished.
pub const STOPPED_EARLY: &str = "a1cce8f1a9d753625b659073d7465d4c";
/// Pictures had to be downloaded to be bundled.
pub const DOWNLOADED: &str = "b222a396b206e8566d4a00cb5e33434f";
/// The state folder cannot be written.
pub const STATE_UNWRITABLE: &str = "3601b66aef2e65c82d31ba908c18dd83";
/// The loop of the daemon hangs.
pub const LOOP_HANGS: &str = "019ed9b79aec7b94486b17abde5a7c53";
/// Heartbeats do not arrive.
pub const HEARTBEAT_FAILS: &str = "5a95532adea9c1bf67726238bc27987d";
/// Others on this box can read the AWS key.
pub const KEY_FILE: &str = "e99b0c8e023bc746ca424bb2cda585e5";
/// An alert was not taken.
pub const ALERTS_FAIL: &str = "643fac4828cac24a46fcc8c34c4457ad";
/// What was told before cannot be read.
pub const ALERTS_MEMORY: &str = "85e970d2bfb039714fdcdac3fc72697b";
/// Home Assistant cannot be told.
pub const MQTT_FAILS: &str = "b366cf728fb43227ad3a61d23019403a";
