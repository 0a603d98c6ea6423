//! Answers, whole and in pieces.

pub(crate) mod chat;
pub(crate) mod completion;
mod head;
mod told;

pub(crate) use head::{DONE, Head, Usage, event};
pub(crate) use told::Told;
