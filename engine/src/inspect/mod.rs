//! Recordings on disk, and what is done with them: `envmill inspect`.
//!
//! Start at [`Inputs`], which finds files of records, and [`Selection`], which passes on those that were
//! asked for. What they come to, and how they look, is the crate `envmill-inspect`'s; here they are
//! [converted](convert::convert), [played again](replay::replay) and [compared](diff::diff).

pub mod convert;
pub mod diff;
mod error;
mod input;
pub mod replay;
mod select;
mod tokenizer;

pub use error::InspectError;
pub use input::{Inputs, Reader};
pub use select::{Selection, SortKey};
pub use tokenizer::Tokenizer;
