//! `envmill audit`.

use std::{
    fs::File,
    io::{BufReader, Write},
    path::PathBuf,
};

use crate::serve::JOURNAL;

/// Promises were not kept.
const FINDINGS: u8 = 1;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The directory that `envmill serve` had as its store, and has no more. Without it the log is held
    /// against itself.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,

    /// What a trainer has written down: lines of JSON, as docs/service.md describes them.
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, String> {
    let Arguments { store, log } = arguments;
    let file =
        File::open(log).map_err(|error| format!("cannot read {}: {error}", log.display()))?;
    let journal = store.as_ref().map(|store| store.join(JOURNAL));
    let audit = envmill_service::audit(journal.as_deref(), BufReader::new(file))
        .map_err(|error| error.to_string())?;
    let mut out = std::io::stdout();
    for finding in &audit.findings {
        let _ = writeln!(out, "{finding}");
    }
    let (jobs, records, findings) = (audit.jobs, audit.records, audit.findings.len());
    let _ = writeln!(out, "{jobs} jobs, {records} records, {findings} findings");
    Ok(if findings == 0 { 0 } else { FINDINGS })
}
