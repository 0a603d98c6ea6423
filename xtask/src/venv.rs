//! The Python environments of the tests, one for each version of OpenEnv, made from pins.
//!
//! An environment that is finished holds a copy of the pins it was made from. As long as that copy
//! and the pins of the checkout are the same there is nothing to do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo::{root, run_quietly_unless_it_fails},
    stage::say,
};

/// The copy of the pins in a finished environment.
const STAMP: &str = "envmill-requirements.txt";

/// Where the pins are, below the root of the workspace.
const PINS: &str = "testing/python";

/// How often an installation is tried: package servers have hiccups.
const ATTEMPTS_MAX: u32 = 3;

/// `cargo xtask venv`.
pub(crate) fn action(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => make(&newest()?),
        ["--all"] => all(),
        ["--version", version] => make(version),
        _ => bail!("usage: cargo xtask venv [--all | --version VERSION]"),
    }
}

/// Makes those that `cargo test` needs: the newest and the oldest.
pub(crate) fn for_tests() -> Result<()> {
    make(&newest()?)?;
    make(versions()?.first().context("no pins for any older version")?)
}

/// Makes the newest.
pub(crate) fn make_newest() -> Result<()> {
    make(&newest()?)
}

/// The interpreter of the newest.
pub(crate) fn newest_python() -> PathBuf {
    root().join(".venv/bin/python")
}

/// Makes all of them.
pub(crate) fn all() -> Result<()> {
    for version in versions()? {
        make(&version)?;
    }
    make(&newest()?)
}

fn make(version: &str) -> Result<()> {
    let newest = newest()?;
    let (pins, venv) = if version == newest {
        (root().join(PINS).join("requirements.txt"), root().join(".venv"))
    } else {
        let pins = root().join(PINS).join(format!("requirements-{version}.txt"));
        (pins, root().join(".venvs").join(version))
    };
    if !pins.exists() {
        let mut known = versions()?;
        known.push(newest);
        bail!("no pins for OpenEnv {version}; there are: {}", known.join(", "));
    }
    let wanted = fs::read(&pins)?;
    if fs::read(venv.join(STAMP)).is_ok_and(|stamp| stamp == wanted) && works(&venv) {
        say(&format!("OpenEnv {version} is ready in {}", venv.display()));
        return Ok(());
    }
    say(&format!("making {} with OpenEnv {version}", venv.display()));
    create(&venv)?;
    install(&venv, &pins)?;
    // Last, so that an environment cut short is made anew.
    fs::write(venv.join(STAMP), wanted)?;
    Ok(())
}

/// Whether the interpreter is still there: a venv links to the Python it was made with.
fn works(venv: &Path) -> bool {
    let mut probe = Command::new(venv.join("bin/python"));
    probe.args(["-c", "import openenv"]);
    run_quietly_unless_it_fails(probe, true).is_ok()
}

fn create(venv: &Path) -> Result<()> {
    let mut python = Command::new("python3");
    python.args(["-m", "venv", "--clear"]).arg(venv);
    run_quietly_unless_it_fails(python, true)
}

fn install(venv: &Path, pins: &Path) -> Result<()> {
    for attempt in 1.. {
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
            .arg("--requirement")
            .arg(pins);
        match run_quietly_unless_it_fails(pip, true) {
            Err(error) if attempt < ATTEMPTS_MAX => say(&format!("once more: {error:#}")),
            outcome => return outcome,
        }
    }
    Ok(())
}

/// The version in `requirements.txt`.
fn newest() -> Result<String> {
    let path = root().join(PINS).join("requirements.txt");
    let pins =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let version = pins.lines().find_map(|line| line.strip_prefix("openenv=="));
    Ok(version.with_context(|| format!("{} pins no openenv", path.display()))?.to_owned())
}

/// The versions that have a `requirements-VERSION.txt`, oldest first.
fn versions() -> Result<Vec<String>> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(root().join(PINS))? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = name.strip_prefix("requirements-").and_then(|n| n.strip_suffix(".txt"));
        versions.extend(version.map(str::to_owned));
    }
    versions.sort_by_key(|version| {
        version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>()
    });
    Ok(versions)
}
