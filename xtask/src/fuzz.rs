//! Fuzzing: the programs of `fuzz/`, built with the coverage that libFuzzer steers by.
//!
//! The flags are those of `cargo fuzz build --sanitizer none`, on a stable compiler. `cargo fuzz` itself
//! works in `fuzz/` as well; nothing here needs it.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    cargo::{host, root, run_quietly_unless_it_fails},
    stage::say,
};

/// How long each target runs where nobody says otherwise.
const MINUTES: u64 = 30;

/// Memory of one target, in MiB: an allocation that only a wire has asked for is found by it.
const MEMORY_MIB: u32 = 1024;

/// What the compiler is told: counters at every edge, and comparisons shown to the fuzzer.
const FLAGS: &[&str] = &[
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

pub(crate) fn action(arguments: &[String]) -> Result<()> {
    let known = targets()?;
    let mut minutes = MINUTES;
    let mut chosen = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--minutes" {
            let number = words.next().and_then(|number| number.parse().ok());
            minutes = number.context("--minutes takes a number")?;
        } else if known.contains(word) {
            chosen.push(word.clone());
        } else {
            bail!("there is no target `{word}`; there are: {}", known.join(", "));
        }
    }
    let all = chosen.is_empty();
    for target in if all { &known } else { &chosen } {
        run(target, minutes)?;
    }
    Ok(())
}

/// The names of the programs.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    ensure!(!names.is_empty(), "no programs in fuzz/fuzz_targets");
    Ok(names)
}

/// Builds a target and runs it on its corpus, to which it adds what leads somewhere new. An input that
/// breaks a promise is left in `fuzz/artifacts`; with its fix it belongs in the corpus.
fn run(target: &str, minutes: u64) -> Result<()> {
    let fuzz = root().join("fuzz");
    let artifacts = fuzz.join("artifacts").join(target);
    fs::create_dir_all(&artifacts)?;
    let new = fuzz.join("target/corpus").join(target);
    fs::create_dir_all(&new)?;
    say(&format!("=== {target}, {minutes} minutes; new inputs go to {}", new.display()));
    // For the host only, so that build scripts and macros are not instrumented too.
    let host = host()?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(&fuzz)
        .env("CARGO_TARGET_DIR", fuzz.join("target"))
        .env("RUSTFLAGS", FLAGS.join(" "))
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["run", "--release", "--target", &host, "--bin", target]);
    // The heavy parts are built only for the targets that are in them.
    command.arg("--no-default-features");
    let feature = match target {
        "arrow" => Some("formats"),
        "config" => Some("engine"),
        "requests" => Some("service"),
        "websocket" => Some("worker"),
        _ => None,
    };
    command.args(feature.into_iter().flat_map(|feature| ["--features", feature]));
    command
        .arg("--")
        .arg(format!("-max_total_time={}", minutes * 60))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg("-timeout=10")
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(&new)
        .arg(fuzz.join("corpus").join(target));
    run_quietly_unless_it_fails(command, false)
}
