//! The rotation: what becomes of old captures, by the settings under `rotate` and `keep`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::daemon;
use crate::ingest::Context;
use crate::schedule::Ended;

/// Runs the rotation once, when no other command is at work.
pub async fn job(context: Arc<Context>, stop: CancellationToken) -> Ended {
    let giving = tokio::task::spawn_blocking(move || {
        let _lock = daemon::lock_commands(&context.config.runtime_dir)?;
        anyhow::Ok(context.kept.give_way((context.clock)(), 0))
    });
    tokio::select! {
        () = stop.cancelled() => Ended::Interrupted,
        given = giving => match given {
            Ok(Ok(given)) => Ended::Done(format!("local copies: {} given up", given.copies)),
            Ok(Err(error)) => Ended::NeedsOperator(format!("{error:#}")),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Ended::Interrupted,
        },
    }
}
