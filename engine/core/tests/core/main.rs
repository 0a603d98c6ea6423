//! The core under test: its table, its decisions one by one, and whole worlds in virtual time.

#![allow(clippy::unwrap_used, clippy::panic)]

mod decisions;
mod groups;
mod metastability;
mod seeds;
mod table;
mod worlds;
