//! The Python environments that tests use, one for each version of OpenEnv.
//!
//! They are made by `cargo xtask venv`, never by a test: a test that downloads packages fails for
//! reasons of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

/// The versions of the OpenEnv package that Envmill is tested against, oldest first.
pub const VERSIONS: [&str; 5] = ["0.2.3", "0.3.1", "0.4.2", "0.7.0", "0.10.0"];

/// The oldest of [`VERSIONS`].
pub const OLDEST: &str = VERSIONS[0];

/// The newest of [`VERSIONS`], used wherever no version is named.
pub const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

/// Set to `all` by `cargo xtask versions`.
const VERSIONS_VARIABLE: &str = "ENVMILL_TEST_OPENENV";

/// The versions that a test which runs over versions covers now: the oldest and the newest, or all of
/// them under `cargo xtask versions`.
#[must_use]
pub fn versions_under_test() -> Vec<&'static str> {
    if env::var_os(VERSIONS_VARIABLE).is_some_and(|value| value == "all") {
        VERSIONS.to_vec()
    } else {
        vec![OLDEST, NEWEST]
    }
}

/// The Python interpreter with the newest OpenEnv.
///
/// # Errors
///
/// As [`python_of`].
pub fn python() -> Result<PathBuf> {
    python_of(NEWEST)
}

/// The Python interpreter whose packages are pinned for this version of OpenEnv.
///
/// # Errors
///
/// When it is missing, or made from other pins than those of this checkout; the message names the
/// command that makes it.
pub fn python_of(version: &str) -> Result<PathBuf> {
    let requirements = directory().join(if version == NEWEST {
        "requirements.txt".to_owned()
    } else {
        format!("requirements-{version}.txt")
    });
    let venv = workspace().join(if version == NEWEST {
        ".venv".to_owned()
    } else {
        format!(".venvs/{version}")
    });
    let python = venv.join("bin/python");
    // The stamp that `cargo xtask venv` leaves when it is done: a copy of the pins.
    let stamp = fs::read(venv.join("envmill-requirements.txt")).unwrap_or_default();
    if !python.exists() || stamp != fs::read(&requirements)? {
        bail!(
            "no Python environment for OpenEnv {version} in {}, or one made from older pins: \
             make it with `cargo xtask venv --version {version}`",
            venv.display()
        );
    }
    Ok(python)
}

/// The path of one of the Python files of this crate, such as `stock_client_flow.py`.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    directory().join(name)
}

/// Where the Python files of this crate are.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_its_pins() {
        for version in VERSIONS {
            let name = if version == NEWEST {
                "requirements.txt".to_owned()
            } else {
                format!("requirements-{version}.txt")
            };
            let pins = fs::read_to_string(script(&name)).unwrap();
            assert!(pins.lines().any(|line| line == format!("openenv=={version}")), "{name}");
            let loose: Vec<_> =
                pins.lines().filter(|l| !l.starts_with('#') && !l.contains("==")).collect();
            assert!(loose.is_empty(), "{name} does not pin {loose:?}");
        }
    }

    #[test]
    fn a_missing_environment_names_its_remedy() {
        fs::metadata(script("requirements.txt")).unwrap();
        let error = python_of("0.0.0").unwrap_err().to_string();
        assert!(error.contains("0.0.0") || error.contains("No such file"), "{error}");
    }
}
