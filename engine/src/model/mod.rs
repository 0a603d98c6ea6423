//! A language model as a policy: the channels to its inference engine, and the agent that plays with it.

mod capture;
mod code;
mod default_agent;
mod policy;
mod spec;
mod start;

pub use capture::{CaptureSetup, CaptureSetupError};
pub use code::CodeSetup;
pub use policy::LanguageModel;
pub use spec::{Channel, ModelSpec, ModelSpecError};
pub use start::{ModelError, ModelSetup};
