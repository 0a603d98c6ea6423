//! vLLM by its URL, over whichever of its channels measures fastest.

mod channel;
mod here;
mod search;
#[cfg(test)]
mod tests;

pub use channel::VllmNearest;
pub use search::Way;
