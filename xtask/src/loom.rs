//! Loom: the lock-free protocol of `workers/ring`, in all interleavings of its threads and with all
//! values that a weak memory may show them.
//!
//! By hand: `RUSTFLAGS="--cfg loom" cargo test -p envmill-ring --release --lib loom`.

use anyhow::Result;

use crate::cargo::{cargo, root, run};

pub(crate) fn action(_: &[String]) -> Result<()> {
    // Quick code matters here, and a folder of its own keeps what other actions have built.
    let mut command = cargo(&["test", "-p", "envmill-ring", "--release", "--lib", "--locked"]);
    command
        .arg("loom")
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", root().join("target/loom"));
    run(command)
}
