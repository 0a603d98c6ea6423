//! The flight recorder of a run.

use std::{fs::OpenOptions, path::Path};

use envmill_core::Core;
use envmill_recorder::{Recorded, Recorder};

use crate::{config::RunOptions, run::RunError, sink::Claim};

/// The recorder that the options ask for, of a core that has its servers and its job. An existing file
/// is replaced only where `--overwrite` says so.
pub(crate) fn recorder(options: &RunOptions, core: &Core) -> Result<Option<Recorder>, RunError> {
    let Some(path) = &options.flight_recorder else { return Ok(None) };
    let mut open = OpenOptions::new();
    open.write(true);
    if options.claim == Claim::Overwrite {
        open.create(true).truncate(true);
    } else {
        open.create_new(true);
    }
    open.open(path)
        .and_then(|file| {
            let program = env!("CARGO_PKG_VERSION");
            Recorder::start(Box::new(file), options.flight_recorder_bytes_max, program, core)
        })
        .map(Some)
        .map_err(|source| RunError::FlightRecorder { path: path.clone(), source })
}

/// What there is to say about a recording, line by line.
pub(crate) fn told(recorded: &Recorded, path: &Path) -> Vec<String> {
    let Recorded { calls, bytes, is_full, failure } = recorded;
    let path = path.display();
    let mut lines = vec![format!("flight     {calls} calls of the core in {bytes} bytes: {path}")];
    if *is_full {
        lines.push(format!(
            "flight     the recording reached its maximum and holds the beginning of the run only; \
             --flight-recorder-bytes-max sets another, above {bytes}"
        ));
    }
    if let Some(failure) = failure {
        lines.push(format!("error: the flight recording ends early: {failure}"));
    }
    lines
}
