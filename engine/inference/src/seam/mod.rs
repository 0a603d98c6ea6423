//! What every channel to an inference engine offers.

mod chunk;
mod constraint;
mod control;
mod error;
mod generation;
mod inference;
mod outcome;
mod request;
mod sampling;
mod top;

pub use chunk::{Chunk, Finish, Finished};
pub use constraint::{Constraint, JsonSchema};
pub use control::{Answer, Control, PauseMode};
pub use error::{Error, ErrorKind};
pub use generation::{Feed, Generation};
pub use inference::{Capabilities, Inference, Load};
pub use outcome::Outcome;
pub use request::{Deliver, Request, RequestId};
pub use sampling::{Sampling, TOP_LOGPROBS_MAX};
pub use top::TopLogprobs;
