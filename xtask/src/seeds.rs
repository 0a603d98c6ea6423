//! `cargo xtask seeds`: many simulated worlds, and a note of those in which something went wrong.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};

use crate::{cargo, stage::say};

/// What `cargo test` plays again, below the root of the workspace.
const PINNED: &str = "engine/core/tests/core/pinned_seeds.txt";

/// No more failing seeds than this are pinned by one call: they mostly have one cause.
const PINS_MAX: usize = 20;

/// `cargo xtask seeds`.
pub(crate) fn action(arguments: &[String]) -> Result<()> {
    let mut count = 100_000_u64;
    // New worlds with each call; the number is printed, so that a call can be repeated.
    let mut from = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() * 1_000_000;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    for pair in words.chunks(2) {
        match pair {
            ["--count", value] => count = value.parse().context("--count wants a number")?,
            ["--from", value] => from = value.parse().context("--from wants a number")?,
            ["--seed", value] => {
                from = value.parse().context("--seed wants a number")?;
                count = 1;
            }
            _ => bail!("usage: cargo xtask seeds [--count N] [--from SEED | --seed SEED]"),
        }
    }
    cargo::run(cargo::cargo(&["build", "--locked", "-p", "envmill-world", "--bin", "seeds"]))?;
    say(&format!("worlds {from} to {}", from + count.saturating_sub(1)));
    let mut player = Command::new(cargo::root().join("target/debug/seeds"));
    player.args(["--from", &from.to_string(), "--count", &count.to_string()]);
    let mut player = player.stdout(Stdio::piped()).spawn().context("cannot start the seeds")?;
    let mut failed = Vec::new();
    if let Some(stdout) = player.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            say(&line);
            failed.push(line);
        }
    }
    let status = player.wait()?;
    if failed.is_empty() {
        anyhow::ensure!(status.success(), "the seeds ended with {status}");
        return Ok(());
    }
    for line in failed.iter().take(PINS_MAX) {
        pin(line)?;
    }
    bail!("{} worlds failed; the first {PINS_MAX} are pinned in {PINNED}", failed.len())
}

/// The file of pinned seeds.
pub(crate) fn pinned_file() -> PathBuf {
    cargo::root().join(PINNED)
}

/// Appends a line, `SEED  # WHY`, to the pinned seeds, unless its seed is there.
pub(crate) fn pin(line: &str) -> Result<()> {
    let path = pinned_file();
    let mut text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let seed = line.split_whitespace().next().unwrap_or_default();
    if text.lines().any(|pinned| pinned.split_whitespace().next() == Some(seed)) {
        return Ok(());
    }
    let short: String = line.chars().take(110).collect();
    text.push_str(&short);
    text.push('\n');
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
