//! What alerts remember from one start to the next, as a test wants it.

use std::path::Path;

use hk_aws::alerts;
use hk_aws::status::ConditionKind;

/// Leaves behind that these conditions were seen an hour ago and were not told yet. So nobody waits for ten minutes where the
/// clock cannot be set.
pub(crate) fn remember(state: &Path, kinds: &[(ConditionKind, Option<&str>)]) {
    let hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    let known = kinds.iter().map(|(kind, camera)| {
        serde_json::json!({
            "kind": kind.name(), "seen_at": hour_ago, "gone_at": null, "told_at": null, "reminders": 0,
            "told": {"camera": camera, "sentence": "s", "advice": "a", "since": hour_ago},
        })
    });
    let memory = serde_json::json!({"state": {"known": known.collect::<Vec<_>>(), "spoke": {}}});
    std::fs::create_dir_all(state).unwrap();
    std::fs::write(state.join(alerts::FILE), memory.to_string()).unwrap();
}
