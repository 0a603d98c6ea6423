//! Harnesses that speak OpenAI's API, captured: an endpoint whose every call is recorded by token ids.
//!
//! Start at [`Capture`]. [`Capture::open`] gives an episode a [`Key`]; a harness that uses it as its API
//! key, and [`Capture::serve`]'s address as its base URL, talks to the engine's model without knowing it.
//! [`Capture::close`] gives what it did as [`Captured`]: `Generated`s as a record wants them, and the calls
//! themselves, also as OpenEnv's [`TrainingTrace`](Captured::write_training_trace). `docs/capture.md` says which
//! calls continue which.
//!
//! Deliberately absent: playing episodes. Who starts a harness, and what it is worth in the end, is
//! somebody else's.

mod answer;
mod begin;
mod call;
mod capture;
mod captured;
mod chats;
mod decoder;
mod ends;
mod episode;
mod held;
mod key;
mod kinds;
mod markers;
mod options;
mod prepare;
mod refusal;
mod request;
mod routes;
mod server;
mod sieve;
mod stream;
mod texts;
mod tools;
mod trace;
mod trail;
mod whole;

pub use capture::{Capture, CaptureError, OpenError};
pub use captured::{Begun, Call, Captured, End, Kept, Timings};
pub use key::Key;
pub use options::{CaptureOptions, Limits};
pub use trace::TraceError;
