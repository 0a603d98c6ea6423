//! An engine for tests.
