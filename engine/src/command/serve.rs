//! `envmill serve`.

use std::{io::Write, path::PathBuf};

use super::{Host, signals};
use crate::serve::{self, Bound, Overrides, ServeError, ServeOptions, Stop};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration (TOML): tables [service], [environments.NAME], [harnesses.NAME],
    /// [task-sets.NAME] and [scorers.NAME].
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Look at the configuration and the files that it names, print what would be started, and start
    /// nothing.
    #[arg(long)]
    check: bool,

    /// Where trainers find the service, in place of the file's `listen`.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,

    /// The directory of the journal and of servers' logs, in place of the file's `store`.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments, host: &Host) -> Result<u8, String> {
    let Arguments { config, check, listen, store } = arguments;
    let overrides = Overrides { listen, store };
    let mut options = ServeOptions::read(&config, overrides, |name| std::env::var(name).ok())
        .map_err(|error| error.to_string())?;
    for environment in &mut options.environments {
        let run = &mut environment.run;
        run.program.clone_from(&host.program);
        run.python = run.python.take().or_else(|| host.python.clone());
    }
    if check {
        let checked = serve::check(&options).map_err(|error| error.to_string())?;
        // A reader that has gone away has seen enough.
        let _ = writeln!(std::io::stdout(), "{checked}");
        return Ok(0);
    }
    let stop = Stop::new();
    let told = "ending: what is unfinished goes on when the service is started again";
    signals::stop(stop.clone(), told).map_err(|error| error.to_string())?;
    let ready = |bound: &Bound| {
        let scheme = if bound.is_tls { "https" } else { "http" };
        let _ = writeln!(std::io::stdout(), "{scheme}://{}", bound.listen);
        if let Some(metrics) = bound.metrics {
            let _ = writeln!(std::io::stdout(), "http://{metrics}/metrics");
        }
        let _ = std::io::stdout().flush();
    };
    match serve::serve(&options, &stop, ready) {
        Ok(()) | Err(ServeError::Stopped) => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}
