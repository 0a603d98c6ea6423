//! A language model as a policy: the channels to its inference engine, and the agent that plays with it.

mod bearer;
mod capture;
mod code;
mod default_agent;
mod engines;
mod policy;
mod spec;
mod start;
mod traces;

pub use bearer::Bearer;
pub use capture::{CaptureSetup, CaptureSetupError};
pub(crate) use capture::{Captures, captures, refuse};
pub use code::CodeSetup;
pub(crate) use engines::Engines;
pub use policy::{LanguageModel, ModelPolicy};
pub use spec::{Channel, ModelSpec, ModelSpecError};
pub use start::{ModelError, ModelSetup};
