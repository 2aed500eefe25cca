//! When a request is given up: not after a total time, which depends on the line, but when it makes no progress.
//!
//! Whether sent bytes are acknowledged is the kernel's to watch, for each connection. This module watches for what the
//! kernel cannot see: a request that gets no connection, and a peer that takes bytes and never answers. Waiting for
//! `upload.bandwidth` counts as progress.
//!
//! The SDK's stalled stream protection is off for uploads. It gives up a body that is not polled for 20 s
//! (`aws-smithy-runtime`, `UploadThroughputCheckFuture`), but `hyper` polls only after it has flushed what it holds,
//! some 400 KiB: on a line of 10 kB/s that takes 40 s, so a healthy upload would be given up.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use super::Refusal;

/// The bytes of a body that are read and handed over together: most pictures are one chunk.
pub(super) const CHUNK_BYTES: u64 = 256 * 1024;

/// The time for name lookup, connection and TLS together; an address that does not answer is given up sooner.
const START: Duration = Duration::from_secs(30);

/// The most bytes of a body that the kernel holds unacknowledged (the last value of `tcp_wmem`, see tcp(7)).
const MOST_UNSENT_BYTES: u64 = 4 * 1024 * 1024;

/// How long to wait for the store's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Long enough for the slowest store on the slowest line.
    Ordinary,
    /// Short, for a probe while nothing can be stored: the sooner it fails, the sooner the next one can succeed.
    Probe,
}

impl Patience {
    /// Returns the answer's time-out and the slowest line assumed, in bytes per second.
    ///
    /// When the answer is awaited, the end of the body may still be on its way. The line has 10 kB/s at least; an
    /// ordinary upload may share it with nineteen others, a probe has it alone.
    fn limits(self) -> (Duration, u64) {
        match self {
            Self::Ordinary => (Duration::from_mins(1), 512),
            Self::Probe => (Duration::from_secs(10), 8192),
        }
    }
}

/// How far a request body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is no connection yet: nobody has asked for a piece.
    Start,
    /// A piece was handed over and is being sent.
    Sending,
    /// The next piece waits for `upload.bandwidth`.
    Paused,
    /// All pieces were handed over.
    Sent,
}

impl Phase {
    /// Returns how long a request with a body of `size` bytes may stay in this phase; `None` means no limit.
    fn limit(self, size: u64, patience: Patience) -> Option<Duration> {
        let (answer, slowest) = patience.limits();
        let line = |bytes: u64| Duration::from_secs(bytes / slowest);
        match self {
            Self::Start => Some(START),
            Self::Sending => Some(answer + line(2 * CHUNK_BYTES)),
            Self::Paused => None,
            Self::Sent => Some(answer + line(size.min(MOST_UNSENT_BYTES))),
        }
    }
}

/// Waits for the answer to a request with a body of `size` bytes, for as long as the body makes progress.
///
/// # Errors
/// A [`Refusal`] to try later if the request is given up; `what` is a verb and a noun. The object may be stored all the
/// same.
pub(super) async fn watched<T>(
    what: &str,
    size: u64,
    patience: Patience,
    phase: &watch::Sender<Phase>,
    sent: impl Future<Output = T>,
) -> Result<T, Refusal> {
    let mut sent = std::pin::pin!(sent);
    let mut phase = phase.subscribe();
    loop {
        let now = *phase.borrow_and_update();
        let limit = now.limit(size, patience);
        tokio::select! {
            done = &mut sent => return Ok(done),
            Ok(()) = phase.changed() => {}
            () = tokio::time::sleep(limit.unwrap_or_default()), if limit.is_some() => {
                let seconds = limit.unwrap_or_default().as_secs();
                let missing = match now {
                    Phase::Start => "no connection",
                    Phase::Sent => "no answer",
                    Phase::Sending | Phase::Paused => "no bytes were taken",
                };
                return Err(Refusal::later(format!("failed to {what}: {missing} for {seconds} s")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const PICTURE: u64 = 200_000;

    /// Returns after how many seconds a request is given up whose body goes through `phases`, each after a wait in
    /// seconds; the answer would come after `answer` seconds.
    async fn given_up(patience: Patience, phases: &[(u64, Phase)], answer: u64) -> Option<u64> {
        #[expect(clippy::disallowed_methods, reason = "the time is tokio's, and stands still")]
        let begin = tokio::time::Instant::now();
        let sender = watch::Sender::new(Phase::Start);
        let body = async {
            for (wait, phase) in phases {
                sleep(Duration::from_secs(*wait)).await;
                sender.send_replace(*phase);
            }
            std::future::pending::<()>().await;
        };
        let request = watched("put object", PICTURE, patience, &sender, sleep(Duration::from_secs(answer)));
        let done = tokio::select! { done = request => done, () = body => Ok(()) };
        done.is_err().then(|| begin.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_is_waited_for_however_long_and_what_does_not_is_given_up() {
        use Patience::{Ordinary, Probe};
        use Phase::{Paused, Sending, Sent};
        // A piece of the body goes every four minutes; then the answer comes.
        let slow: Vec<(u64, Phase)> =
            [(1, Sending)].into_iter().chain([(240, Sending)].repeat(500)).chain([(1, Sent)]).collect();
        for (patience, phases, answer, expected) in [
            (Ordinary, &slow[..], 120_100, None),
            (Ordinary, &[], 9_999, Some(30)),
            (Probe, &[], 9_999, Some(30)),
            (Ordinary, &[(1, Sending), (1, Sent)], 9_999, Some(2 + 60 + 390)),
            (Probe, &[(1, Sending), (1, Sent)], 9_999, Some(2 + 10 + 24)),
            (Ordinary, &[(1, Sending)], 9_999, Some(1 + 60 + 1024)),
            // Waiting for our own limit may take a day.
            (Probe, &[(1, Sending), (1, Paused), (86_400, Sending), (1, Sent)], 86_404, None),
        ] {
            assert_eq!(given_up(patience, phases, answer).await, expected, "{patience:?}, {} phases", phases.len());
        }
    }
}
