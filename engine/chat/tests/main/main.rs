//! Templates and ids as transformers has them, and conversations that are exact to the token.

#![expect(clippy::unwrap_used, reason = "tests")]

mod actions;
mod conversations;
mod goldens;
mod messages;
mod properties;
