//! When to stop waiting for a request: not after a total time, which no one knows of a slow line, but once nothing goes on.
//!
//! What was sent and is not acknowledged is the kernel's to judge, by the connection; here counts what the kernel cannot
//! see: a request that gets no connection, a peer that takes bytes and never answers. Waiting for our own limit is no
//! stall. The SDK's stalled stream protection takes a body that is not polled for 20 s for stalled (`aws-smithy-runtime`,
//! `UploadThroughputCheckFuture`), while `hyper` polls only when it has flushed all it holds, some 400 KiB: on a line of
//! 10 kB/s that is 40 s, so it would give up what goes well, and is off for uploads.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use super::Refusal;

/// The bytes of a body that are read and handed over at a time: most pictures in one piece.
pub(super) const CHUNK_BYTES: u64 = 256 * 1024;

/// Name lookup, connection and TLS together; a single address is given up sooner.
const START: Duration = Duration::from_secs(30);

/// The most that the kernel holds of a body that is not acknowledged (the last value of `tcp_wmem`, see tcp(7)).
const MOST_UNSENT_BYTES: u64 = 4 * 1024 * 1024;

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The slowest store on the slowest line.
    Ordinary,
    /// While nothing can be stored: the sooner a probe fails, the sooner the next one can succeed.
    Probe,
}

impl Patience {
    /// The time for the answer itself, and for the end of the body, which may still be on its way, the slowest line in
    /// bytes a second: one of 10 kB/s, which an ordinary upload may share with nineteen others, and a probe with nobody.
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
    /// Not asked for yet: there is no connection.
    Start,
    /// A piece is handed over.
    Sending,
    /// It waits for its turn by the limit.
    Paused,
    /// All of it is handed over.
    Sent,
}

impl Phase {
    /// How long nothing may happen to a body of `size` bytes; `None`: for ever.
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

/// Waits for the end of a request with a body of `size` bytes, or until nothing goes on any more.
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
                    Phase::Sending | Phase::Paused => "nothing was taken",
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

    /// The time that passes until a request is given up whose body goes through `phases`, each after a wait in seconds;
    /// it would be answered after so many seconds.
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
        // A body of which a piece goes every four minutes, then an answer.
        let slow: Vec<(u64, Phase)> =
            [(1, Sending)].into_iter().chain([(240, Sending)].repeat(500)).chain([(1, Sent)]).collect();
        for (patience, phases, answer, expected) in [
            (Ordinary, &slow[..], 120_100, None),
            (Ordinary, &[], 9_999, Some(30)),
            (Probe, &[], 9_999, Some(30)),
            (Ordinary, &[(1, Sending), (1, Sent)], 9_999, Some(2 + 60 + 390)),
            (Probe, &[(1, Sending), (1, Sent)], 9_999, Some(2 + 10 + 24)),
            (Ordinary, &[(1, Sending)], 9_999, Some(1 + 60 + 1024)),
            // Waiting for our own limit, be it for a day.
            (Probe, &[(1, Sending), (1, Paused), (86_400, Sending), (1, Sent)], 86_404, None),
        ] {
            assert_eq!(given_up(patience, phases, answer).await, expected, "{patience:?}, {} phases", phases.len());
        }
    }
}
