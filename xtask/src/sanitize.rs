//! AddressSanitizer over the tests of `workers/ring`, the crate that maps memory.

use anyhow::Result;

use crate::cargo::{cargo, host, root, run};

pub(crate) fn action(filter: &[String]) -> Result<()> {
    // For the host only, so that build scripts and macros are not instrumented too.
    let mut command = cargo(&["test", "-p", "envmill-ring", "--locked", "--target", &host()?]);
    command
        .args(filter)
        // Sanitizers are there in a stable compiler, which has to be told that one means it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // Documentation is tested elsewhere, and would be linked without the sanitizer.
        .args(["--lib", "--tests"])
        .env("CARGO_TARGET_DIR", root().join("target/sanitize"));
    run(command)
}
