//! The report's page in a real browser.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "main/hostile.rs"]
mod hostile;
#[path = "main/page.rs"]
mod page;
