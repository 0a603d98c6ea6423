//! What a call asks for.

mod ask;
mod chat;
mod completion;
mod constraint;
mod fields;
mod sampling;
mod schema;

pub(crate) use ask::{Api, Ask, Calls, Prompt, Shape, Subject};
