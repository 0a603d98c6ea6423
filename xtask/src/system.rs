//! What must be on the machine before anything can be built and tested: a C compiler, a Python that can make
//! virtual environments, and a Chromium for the tests of pages. In CI, as root on Debian or a relative of it, what is missing is installed.

use std::{
    env,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use crate::{cargo::run_quietly_unless_it_fails, stage::say};

/// Something that the project needs, how to see that it is there, and what to install.
struct Need {
    what: &'static str,
    probe: &'static [&'static str],
    package: &'static str,
}

const NEEDS: &[Need] = &[
    Need { what: "a C compiler", probe: &["cc", "--version"], package: "build-essential" },
    Need { what: "Python 3.10 or newer", probe: &["python3", "-c", RECENT], package: "python3" },
    Need {
        what: "Python's venv module",
        probe: &["python3", "-c", "import ensurepip, venv"],
        package: "python3-venv",
    },
    Need {
        what: "Chromium, which tests look at pages with,",
        probe: &["sh", "-c", BROWSER],
        // Where there is no font, nothing is drawn.
        package: "chromium fonts-dejavu-core",
    },
];

/// What OpenEnv itself asks for.
const RECENT: &str = "import sys; sys.exit(sys.version_info < (3, 10))";

/// The names that `envmill_testing::Chromium` looks for.
const BROWSER: &str = "command -v chromium || command -v chromium-browser || \
                       command -v google-chrome || command -v google-chrome-stable";

/// Sees to it that everything is there.
pub(crate) fn prepare() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !is_there(need)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> =
        missing.iter().flat_map(|need| need.package.split_whitespace()).collect();
    if env::var_os("CI").is_some() {
        say(&format!("installing {}", packages.join(" ")));
        install(&packages)?;
    }
    for need in NEEDS {
        if !is_there(need) {
            bail!("{} is missing: on Debian, `apt-get install {}`", need.what, need.package);
        }
    }
    Ok(())
}

fn is_there(need: &Need) -> bool {
    let Some((program, arguments)) = need.probe.split_first() else { return true };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn install(packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        run_quietly_unless_it_fails(command, true)
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
}
