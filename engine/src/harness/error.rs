//! Why a harness cannot play, and what of that can be known before it does.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{HarnessOptions, Players};
use crate::model::CaptureSetupError;

/// A harness cannot be started. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// Its model, or the endpoint in front of it.
    #[error("{}", of_a_table(.0))]
    Capture(#[from] CaptureSetupError),
    /// The address cannot be had.
    #[error("listen: cannot listen on {address}: {source}; choose another one")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such program.
    #[error("command: there is no program `{0}`: write its path, or install it")]
    NoProgram(String),
    /// Its working directory is none.
    #[error("directory: {} is no directory", .0.display())]
    NoDirectory(PathBuf),
    /// The system refused something.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// An error of `envmill capture`, which has flags where this has keys.
fn of_a_table(error: &CaptureSetupError) -> String {
    let text = error.to_string();
    let text = text.replace("say `model = \"FOLDER\"` in --agent", "say `model = \"FOLDER\"`");
    text.strip_prefix("--").map(ToOwned::to_owned).unwrap_or(text)
}

impl HarnessOptions {
    /// Looks at what can be looked at without starting anything.
    ///
    /// # Errors
    ///
    /// What is to be started is not there.
    pub(crate) fn check(&self) -> Result<(), HarnessError> {
        let Players::Started(launch) = &self.players else { return Ok(()) };
        if !launch.directory.is_dir() {
            return Err(HarnessError::NoDirectory(launch.directory.clone()));
        }
        let program = launch.command.first().map_or("", String::as_str);
        let is_there = if program.contains('/') {
            Path::new(program).is_file()
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|it| it.join(program).is_file())
        };
        if is_there { Ok(()) } else { Err(HarnessError::NoProgram(program.to_owned())) }
    }
}
