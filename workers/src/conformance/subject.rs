//! What the suite must know about a worker.

use std::time::Duration;

use bytes::Bytes;

use crate::Worker;

/// A kind of worker under test.
pub trait Subject {
    /// A new worker whose server 0 is ready for [`sessions`](Self::sessions) sessions at once. What
    /// the worker needs to live (a server's process) lives in the box or in the subject.
    fn worker(&self) -> Box<dyn Worker>;

    /// Reset parameters; `seed` tells episodes apart.
    fn reset_parameters(&self, seed: u64) -> Bytes {
        Bytes::from(format!("{{\"seed\":{seed}}}"))
    }

    /// An action that is valid at any time, and whose step is quick.
    fn action(&self) -> Bytes;

    /// An action in JSON that the environment refuses.
    fn refused_action(&self) -> Bytes;

    /// An action whose step takes long enough (50 ms or more) for a `Close` to overtake it, if there
    /// is one.
    fn slow_action(&self) -> Option<Bytes> {
        None
    }

    /// After how many steps of [`action`](Self::action), at the most, an episode is over; `None` if
    /// it never is.
    fn steps_to_end(&self) -> Option<u32> {
        None
    }

    /// Whether sessions answer `State`.
    fn has_state(&self) -> bool {
        true
    }

    /// A tool call that gets a result, if tools are supported.
    fn tool_request(&self) -> Option<Bytes> {
        None
    }

    /// How many sessions the checks of many sessions use.
    fn sessions(&self) -> u32 {
        512
    }

    /// How long the suite waits for what must come. A generous bound: it is reached only when a
    /// check fails.
    fn watchdog(&self) -> Duration {
        Duration::from_secs(60)
    }
}
