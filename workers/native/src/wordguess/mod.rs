//! A game of guessing a word in six tries.

mod board;
mod edge;
mod environment;
mod words;

pub use environment::{WordGuess, WordGuessOptions};
