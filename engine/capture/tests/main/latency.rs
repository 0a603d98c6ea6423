//! What it adds.
