//! The first contact with the bucket: until it has answered, nobody says that all is well.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::bucket::Refusal;
use crate::clock::backoff;
use crate::health::{self, Board};
use crate::message;
use crate::site::{Site, SiteInForce};
use crate::status::{Condition, ConditionKind, Snapshot};

/// How long the bucket may be silent after the start until that counts as an outage.
const SOON: Duration = Duration::from_secs(5);

/// The first and the longest wait before the bucket is asked again.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What the first contact raises and clears.
const KINDS: [ConditionKind; 3] =
    [ConditionKind::BucketUntried, ConditionKind::BucketUnreachable, ConditionKind::BucketRefuses];

/// Asks the bucket for an answer until it has given one, or until a capture has been stored, which says more.
///
/// While the loop knows of an outage it probes the bucket itself, and nothing is asked here.
pub(super) async fn reach(
    mut sites: watch::Receiver<SiteInForce>,
    mut snapshots: watch::Receiver<Snapshot>,
    board: Board,
) {
    let since = snapshots.borrow().started_at;
    let sentence = "the bucket has not answered yet";
    board.raise(Condition::new(ConditionKind::BucketUntried, since, sentence, ""));
    let mut asked = 0;
    loop {
        let site = Arc::clone(&sites.borrow_and_update().site);
        let answer = tokio::select! {
            () = stored(&mut snapshots) => break,
            answer = ask(&site, &board, asked == 0) => answer,
        };
        let Err(refusal) = answer else { break };
        if asked == 0 {
            tracing::warn!(
                message_id = message::BUCKET_UNTRIED,
                "{} cannot be tried yet: {refusal}",
                site.bucket.describe()
            );
        }
        asked += 1;
        say(&board, health::of_refusal(&refusal, since));
        // The owner may mend it in the AWS files, which a new client reads.
        let is_over = async {
            tokio::time::sleep(backoff(asked, FIRST_WAIT, LONGEST_WAIT, 0.0)).await;
            let _ended = snapshots.wait_for(|snapshot| !snapshot.link_down || snapshot.stored.captures > 0).await;
        };
        tokio::select! {
            () = is_over => {}
            Ok(()) = sites.changed() => {}
        }
    }
    for kind in KINDS {
        board.clear(kind, None);
    }
}

/// Returns the bucket's answer; says meanwhile that it does not answer, if it takes long.
async fn ask(site: &Site, board: &Board, is_first: bool) -> Result<(), Refusal> {
    let bucket = if is_first { site.bucket.clone() } else { site.bucket.renewed().await };
    let answer = bucket.reach();
    tokio::pin!(answer);
    if let Ok(answer) = tokio::time::timeout(SOON, &mut answer).await {
        return answer;
    }
    say(board, health::of_refusal(&Refusal::later("no answer yet"), (site.clock)().wall.into()));
    answer.await
}

/// Raises a condition in place of what was raised before it.
fn say(board: &Board, condition: Condition) {
    for kind in KINDS.into_iter().filter(|kind| *kind != condition.kind) {
        board.clear(kind, None);
    }
    board.raise(condition);
}

/// Returns once a capture has been stored.
async fn stored(snapshots: &mut watch::Receiver<Snapshot>) {
    if snapshots.wait_for(|snapshot| snapshot.stored.captures > 0).await.is_err() {
        std::future::pending::<()>().await;
    }
}
