//! `envmill run`.

use std::{io::Write, path::PathBuf, time::SystemTime};

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

pub(super) fn run(arguments: Arguments) -> Result<u8, String> {
    let mut settings = arguments.settings;
    if let Some(path) = arguments.config {
        settings = settings.over(config::read(&path).map_err(|error| error.to_string())?);
    }
    settings.name = config::resumed_name(&settings).or(settings.name);
    let (json, quiet) = (settings.json, settings.quiet);
    let options = RunOptions::resolve(settings, &stamp(), |name| std::env::var(name).ok())
        .map_err(|error| error.to_string())?;
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

/// Now, as `20261124-093015` (UTC): names a run where nothing else does.
fn stamp() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// The date `days` after 1970-01-01, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_from_1970() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(59), (1970, 3, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_781), (2026, 11, 24));
    }
}
