//! The checks, each a module that says what it proves, how, and why what is sound passes it.

mod capacity;
mod compare;
mod determinism;
mod done;
mod endpoints;
mod isolation;
mod learnability;
mod lengths;
mod memory;
mod mistakes;
mod modes;
mod protocol;
mod rewards;
mod schema;
mod slots;
mod wire;

use crate::{finding::Sheet, play::Halt, subject::Subject};

/// One check.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name, as `--only` takes it.
    pub name: &'static str,
    /// What it proves, in a sentence or two.
    pub about: &'static str,
    pub(crate) run: fn(&Subject<'_>, &mut Sheet) -> Result<(), Halt>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish()
    }
}

/// All checks, in the order in which they run: what later ones build on comes first, what may leave the
/// server worse than it was comes last.
pub const CHECKS: &[Check] = &[
    Check {
        name: "protocol",
        about: "Every kind of message is answered, in order and in OpenEnv's envelope; errors that must \
                keep a session do.",
        run: protocol::run,
    },
    Check {
        name: "endpoints",
        about: "/health, /schema and /metadata answer over HTTP, and what does not exist is said not to.",
        run: endpoints::run,
    },
    Check {
        name: "capacity",
        about: "How many sessions the server holds, and that one too many is refused in good order.",
        run: capacity::run,
    },
    Check {
        name: "schema",
        about: "Observations and states are what /schema says; drawn actions are accepted, and actions \
                without a required field are not.",
        run: schema::run,
    },
    Check {
        name: "determinism",
        about: "The same seed and actions give the same episode; another seed gives another one.",
        run: determinism::run,
    },
    Check {
        name: "isolation",
        about: "Sessions do not see each other, and an episode does not see the one before it in its \
                session.",
        run: isolation::run,
    },
    Check {
        name: "done",
        about: "Episodes end, a reset begins a new one, and steps after the end do nothing.",
        run: done::run,
    },
    Check {
        name: "rewards",
        about: "Rewards are numbers, vary, and cannot be had without end by doing the same again.",
        run: rewards::run,
    },
    Check {
        name: "lengths",
        about: "How long episodes are, and how many have no end.",
        run: lengths::run,
    },
    Check {
        name: "learnability",
        about: "How many groups of one seed have a reward that varies, and what a policy wins over \
                random actions.",
        run: learnability::run,
    },
    Check {
        name: "wire",
        about: "Slow, half-open and fragmented clients, large messages and pings are served, and disturb \
                nobody else.",
        run: wire::run,
    },
    Check {
        name: "memory",
        about: "A server on this machine does not grow with each episode or session.",
        run: memory::run,
    },
    Check {
        name: "slots",
        about: "Sessions that end without a goodbye give their slots back.",
        run: slots::run,
    },
    Check {
        name: "modes",
        about: "In production mode, /reset, /step and /state are gone and episodes are the same.",
        run: modes::run,
    },
];
