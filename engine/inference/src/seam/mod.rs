//! What every channel to an inference engine offers.

mod chunk;
mod control;
mod error;
mod generation;
mod inference;
mod outcome;
mod request;

pub use chunk::{Chunk, Finish, Finished};
pub use control::{Answer, Control, PauseMode};
pub use error::{Error, ErrorKind};
pub use generation::{Feed, Generation};
pub use inference::{Capabilities, Inference, Load};
pub use outcome::Outcome;
pub use request::{Deliver, Request, RequestId, Sampling};
