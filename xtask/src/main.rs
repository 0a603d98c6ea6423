//! Developer actions.
fn main() {}
