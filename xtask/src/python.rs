//! The Python package: its wheel, and its tests.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cargo::{Counts, count, root, run},
    stage::Stages,
    system, venv,
};

/// `cargo xtask python`.
pub(crate) fn action(filter: &[String]) -> Result<()> {
    let mut stages = Stages::new();
    stages.essential("system", system::prepare)?;
    stages.essential("python", venv::make_newest)?;
    stages.essential("wheel", wheel)?;
    stages.tests("pytest", || tests(filter));
    stages.finish()
}

/// Builds the package as the tests are built, and installs it into their environment.
pub(crate) fn wheel() -> Result<()> {
    let wheels = root().join("target/python");
    if wheels.exists() {
        fs::remove_dir_all(&wheels)?;
    }
    let mut maturin = in_venv("maturin");
    maturin
        .args(["build", "--profile", "dev", "--locked", "--features", "tested"])
        .args(["--manifest-path", "python/Cargo.toml", "--compatibility", "linux"])
        .arg("--interpreter")
        .arg(venv::newest_python())
        .arg("--out")
        .arg(&wheels);
    run(maturin)?;
    let made: Vec<PathBuf> =
        fs::read_dir(&wheels)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    ensure!(made.len() == 1, "{} holds {} wheels and not one", wheels.display(), made.len());
    let mut pip = Command::new(venv::newest_python());
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-deps", "--no-index", "--force-reinstall"])
        .args(made);
    run(pip)
}

/// Runs the tests of the installed package whose name contains `filter`.
pub(crate) fn tests(filter: &[String]) -> Result<Counts> {
    let mut pytest = in_venv("pytest");
    pytest.args([
        "--quiet",
        "--color=no",
        "--rootdir=python",
        "--config-file=python/pyproject.toml",
    ]);
    for word in filter {
        pytest.args(["-k", word]);
    }
    pytest.arg("python/tests");
    count(pytest)
}

/// A call of a program of the environment, in the root of the workspace.
fn in_venv(program: &str) -> Command {
    let bin = venv::newest_python();
    let bin = bin.parent().map(PathBuf::from).unwrap_or_default();
    let paths = env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(bin.clone()).chain(env::split_paths(&paths));
    let mut command = Command::new(bin.join(program));
    command.current_dir(root()).stdin(Stdio::null());
    if let Ok(paths) = env::join_paths(paths).context("PATH") {
        command.env("PATH", paths);
    }
    command
}
