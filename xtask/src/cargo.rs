//! Calls of Cargo. All of them share one profile and one set of features, so that what one stage
//! built the next does not build again.

use std::{
    env, fmt, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::stage::say;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
    /// Whether Cargo itself was content: a test binary may also fail to build, or crash.
    pub(crate) succeeded: bool,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

impl Counts {
    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            succeeded: self.succeeded && other.succeeded,
        }
    }

    /// Adds what a line of a test run reports, if it reports anything.
    fn add(&mut self, line: &str) {
        // test result: ok. 12 passed; 0 failed; 0 ignored; ...
        if let Some((_, result)) = line.split_once("test result: ")
            && let Some((_, counts)) = result.split_once(". ")
        {
            self.add_all(counts.split("; "));
        }
        // pytest: 1 failed, 12 passed, 1 error in 1.23s (0:00:01)
        if let Some((counts, time)) = line.trim_matches(['=', ' ']).rsplit_once(" in ")
            && time.split('s').next().is_some_and(|seconds| seconds.parse::<f64>().is_ok())
        {
            self.add_all(counts.split(", "));
        }
    }

    fn add_all<'a>(&mut self, counts: impl Iterator<Item = &'a str>) {
        for count in counts {
            match count.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed" | "error" | "errors")) => {
                    self.failed += number.parse().unwrap_or(0);
                }
                _ => {}
            }
        }
    }
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).unwrap_or(Path::new(".")).to_owned()
}

pub(crate) fn format_check() -> Result<()> {
    run(cargo(&["fmt", "--all", "--check"]))?;
    run(cargo(&["fmt", "--check", "--manifest-path", "examples/outside/Cargo.toml"]))
}

pub(crate) fn build() -> Result<()> {
    run(cargo(&["build", "--workspace", "--all-targets", "--locked"]))
}

pub(crate) fn clippy() -> Result<()> {
    run(cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

pub(crate) fn docs() -> Result<()> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run(command)
}

/// Runs all tests whose name contains a filter, all of them without one, and counts them.
pub(crate) fn tests(filter: &[String], environment: &[(&str, &str)]) -> Result<Counts> {
    let mut command = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    // `cargo xtask vllm` runs these.
    command.args(["--exclude", "envmill-vllm-tests"]);
    command.args(filter).envs(environment.iter().copied());
    count(command)
}

/// Runs the tests of the crate that is in no workspace, with the versions of this one.
pub(crate) fn outside() -> Result<Counts> {
    let directory = root().join("examples/outside");
    fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock"))?;
    let mut command = cargo(&["test", "--target-dir", "target"]);
    command.arg("--manifest-path").arg(directory.join("Cargo.toml"));
    count(command)
}

/// Runs a command that runs tests, shows what it prints, and counts them.
pub(crate) fn count(mut command: Command) -> Result<Counts> {
    let described = describe(&command);
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start `{described}`"))?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            counts.add(&line);
            say(&line);
        }
    }
    counts.succeeded = child.wait()?.success();
    Ok(counts)
}

/// A call of Cargo in the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a command to its end, and shows what it prints.
pub(crate) fn run(command: Command) -> Result<()> {
    run_quietly_unless_it_fails(command, false)
}

/// Runs a command to its end. Where `quiet`, its output is shown only if it fails.
pub(crate) fn run_quietly_unless_it_fails(mut command: Command, quiet: bool) -> Result<()> {
    let described = describe(&command);
    if quiet {
        let output = command.output().with_context(|| format!("cannot start `{described}`"))?;
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{described}` failed ({}):\n{text}", output.status);
    } else {
        let status = command.status().with_context(|| format!("cannot start `{described}`"))?;
        ensure!(status.success(), "`{described}` failed ({status})");
    }
    Ok(())
}

/// The triple of this machine, as the compiler names it.
pub(crate) fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_the_binaries() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; in 0.1s",
            "test a ... FAILED",
            "test result: FAILED. 41 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; in 1s",
        ] {
            counts.add(line);
        }
        assert_eq!(counts.to_string(), "44 passed, 2 failed");
    }

    #[test]
    fn those_of_pytest_are_counted_alike() {
        let mut counts = Counts::default();
        for line in [
            "12 passed in 3.21s",
            "a test that has failed in the kitchen",
            "FAILED python/tests/test_a.py::test_b - assert 3 passed in time",
            "1 failed, 30 passed, 2 errors in 61.23s (0:01:01)",
            "=== 1 passed, 1 warning in 0.01s ===",
        ] {
            counts.add(line);
        }
        assert_eq!(counts.to_string(), "43 passed, 3 failed");
        assert_eq!(counts.and(counts).to_string(), "86 passed, 6 failed");
    }
}
