//! What can be set.

use std::time::Duration;

use envmill_core::{AdmissionOptions, Deadlines, SessionReuse};
use envmill_protocol::Phase;

/// How a pool's sessions are handed out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a request may wait for a server with room. Default 30 s.
    pub wait_max: Duration,
    /// How many episodes a server's session plays, for whichever clients. Default 32.
    pub reuse: SessionReuse,
    /// How long servers may take; of these, connection, resets and steps count.
    pub deadlines: Deadlines,
    /// How servers are admitted to.
    pub admission: AdmissionOptions,
    /// What the environments do is real: sessions are for one client, and nothing is sent twice.
    pub production: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wait_max: Duration::from_secs(30),
            reuse: SessionReuse::default(),
            deadlines: Deadlines::default(),
            admission: AdmissionOptions::default(),
            production: false,
        }
    }
}

impl Options {
    /// How long a server may take for what.
    pub(super) const fn limit(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::Connect => self.deadlines.connect,
            Phase::FirstReset => self.deadlines.first_reset,
            Phase::Reset => self.deadlines.reset,
            Phase::Step => self.deadlines.step,
            Phase::Policy | Phase::Scoring | Phase::Episode | Phase::Job => None,
        }
    }

    pub(super) const fn reuse(&self) -> SessionReuse {
        if self.production { SessionReuse::Never } else { self.reuse }
    }
}
