//! Whether the objects in the bucket fit a layout of keys.

use super::Check;
use crate::config::Access;
use crate::holdings::{self, HoldingsError, misfits};
use crate::site::Site;

/// Looks for objects that fit no layout of keys, as those do whose keys were made by other settings.
pub(super) async fn examine(site: &Site) -> Option<Check> {
    if site.config.s3.access == Access::WriteOnly {
        return None;
    }
    let look = async {
        let cameras = holdings::cameras(site).await?;
        let mut misfits = misfits::beside_cameras(site, &cameras).await?;
        for camera in cameras {
            misfits.add(misfits::of_camera(site, &camera).await?);
        }
        Ok::<_, HoldingsError>(misfits)
    };
    Some(match look.await {
        Ok(misfits) => match misfits.line() {
            Some(line) => Check::warn("keys", line),
            None => Check::ok("keys", "every object that was looked at fits a layout of keys"),
        },
        Err(error) => Check::warn("keys", format!("not looked at: {error}")),
    })
}
