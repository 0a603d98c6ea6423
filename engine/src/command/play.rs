//! `envmill run`.

use std::{io::Write, path::PathBuf};

use super::Host;
use crate::{
    config::{self, RunOptions, Settings},
    driver::Control,
    flight,
    progress::{Progress, say},
    run,
};

/// Every episode recorded and none failed.
const ALL_WELL: u8 = 0;
/// All recorded, some failed.
const SOME_FAILED: u8 = 3;
/// Not all recorded.
const NOT_RECORDED: u8 = 4;
/// Cut by a second Ctrl-C.
const CUT: u8 = 130;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A file of settings (TOML): the names below without the dashes in front. Flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(arguments: Arguments, host: &Host) -> Result<u8, String> {
    let mut settings = arguments.settings;
    if let Some(path) = arguments.config {
        settings = settings.over(config::read(&path).map_err(|error| error.to_string())?);
    }
    let (json, quiet) = (settings.json, settings.quiet);
    let mut options = RunOptions::prepare(settings).map_err(|error| error.to_string())?;
    options.program.clone_from(&host.program);
    options.python = options.python.or_else(|| host.python.clone());
    let control = Control::new();
    super::signals::pass_on(control.clone()).map_err(|error| error.to_string())?;
    let mut progress = Progress::new(options.episodes, quiet);
    let outcome = run::run(&options, &control, |look| progress.show(look))
        .map_err(|error| error.to_string())?;
    progress.finish();
    let summary = &outcome.summary;
    if let Some(failure) = &outcome.sink_failure {
        say(&format!("error: {failure}"));
    }
    if let (Some(recorded), Some(path)) = (&outcome.recorded, &options.flight_recorder) {
        for line in flight::told(recorded, path) {
            say(&line);
        }
    }
    let text = if json {
        serde_json::to_string(summary).map_err(|error| error.to_string())?
    } else {
        format!("{summary}\nrecords    {}", options.out.join(options.format.final_file()).display())
    };
    // A reader that has gone away does not change what was played.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(if control.interrupts() > 1 {
        CUT
    } else if !summary.is_complete() || outcome.sink_failure.is_some() {
        NOT_RECORDED
    } else if summary.episodes.failed > 0 {
        SOME_FAILED
    } else {
        ALL_WELL
    })
}
