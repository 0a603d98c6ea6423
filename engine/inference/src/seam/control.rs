//! What can be told to an engine besides requests.

use std::{future::Future, path::PathBuf, pin::Pin};

use envmill_protocol::PolicyVersion;

use crate::Error;

impl PauseMode {
    /// vLLM's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Wait => "wait",
            Self::Abort => "abort",
        }
    }
}

/// An answer that takes a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A change of an engine's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Sample no more, until [`Resume`](Self::Resume).
    Pause(PauseMode),
    /// Go on.
    Resume,
    /// Load weights from a folder that the engine's machine sees, as `safetensors` files beside a
    /// `config.json`. The engine should be paused.
    LoadWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// What is sampled from now on was sampled by this version.
    SetVersion(PolicyVersion),
}

/// What a pause does to the generations under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PauseMode {
    /// They stay, and go on where they were.
    Keep,
    /// They end first; the pause begins when the last has.
    Wait,
    /// They end now, with what was sampled so far ([`Finish::Aborted`](crate::Finish::Aborted)).
    Abort,
}
