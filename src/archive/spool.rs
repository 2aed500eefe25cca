//! Folders in the state folder for what has to be downloaded to be worked on.

use std::path::Path;

use tempfile::TempDir;

use crate::holdings::HoldingsError;
use crate::owner;

/// What the name of such a folder begins with.
const SPOOL: &str = "spool-";

/// Makes a folder for downloads, which is removed together with the value.
///
/// # Errors
/// [`HoldingsError::Local`] if it cannot be made.
pub fn spool(state_dir: &Path) -> Result<TempDir, HoldingsError> {
    owner::create_dir_all(state_dir)
        .map_err(|error| HoldingsError::local(format_args!("failed to create {}", state_dir.display()), &error))?;
    let made = tempfile::Builder::new().prefix(SPOOL).tempdir_in(state_dir);
    let made = made.and_then(|spool| owner::give_folder(spool.path()).map(|()| spool));
    made.map_err(|error| {
        HoldingsError::local(format_args!("failed to make a folder in {}", state_dir.display()), &error)
    })
}

/// Removes the downloads of runs that were killed.
#[expect(clippy::disallowed_methods, reason = "the home of removal of downloads, which are copies")]
pub fn clear_spools(state_dir: &Path) {
    for entry in std::fs::read_dir(state_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(SPOOL) {
            // No capture's name leads here. A folder that stays costs room, and is tried again.
            let _next_time = std::fs::remove_dir_all(entry.path());
        }
    }
}
