//! `envmill replay-core`.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
    fs::File,
    io::{BufReader, Write},
    path::PathBuf,
};

use envmill_recorder::{Ending, Entry, Replay, ReplayError};

/// Every decision was the recorded one.
const REPRODUCED: u8 = 0;
/// Some decision was another, or the file is damaged.
const DIFFERS: u8 = 1;

/// How much of an input `--dump` prints, in characters.
const DUMPED_CHARACTERS_MAX: usize = 1000;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A file that `envmill run --flight-recorder FILE` has written.
    file: PathBuf,

    /// Stop after this many calls of the core.
    #[arg(long, value_name = "N")]
    until: Option<u64>,

    /// Print each entry, one a line, cut to 1,000 characters.
    #[arg(long)]
    dump: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, String> {
    let named = |error: &dyn Display| format!("{}: {error}", arguments.file.display());
    let file = File::open(&arguments.file).map_err(|error| named(&error))?;
    let mut replay =
        Replay::new(BufReader::with_capacity(1 << 20, file)).map_err(|error| named(&error))?;
    let mut stdout = std::io::stdout().lock();
    let failure = loop {
        if arguments.until.is_some_and(|until| replay.tally().calls >= until) {
            break None;
        }
        match replay.step() {
            Ok(Some(entry)) if arguments.dump => {
                // A reader that has gone away has seen enough.
                if writeln!(stdout, "{}", dumped(replay.tally().calls, &entry)).is_err() {
                    break None;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let _ = writeln!(stdout, "{}", summary(&replay, failure.as_ref()));
    Ok(match failure {
        // What a killed run leaves.
        None | Some(ReplayError::Read(envmill_recorder::ReadError::Cut { .. })) => REPRODUCED,
        Some(_) => DIFFERS,
    })
}

fn dumped(call: u64, entry: &Entry) -> String {
    let what = match entry {
        Entry::Input { now, input } => format!("{call} at {now}: {input:?}"),
        Entry::Settle { now } => format!("{call} at {now}: Settle"),
        other => format!("{other:?}"),
    };
    match what.char_indices().nth(DUMPED_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &what[..end]),
        None => what,
    }
}

fn summary<R: std::io::Read>(replay: &Replay<R>, failure: Option<&ReplayError>) -> String {
    let tally = replay.tally();
    let mut text = format!(
        "recording  by envmill {}, {} calls of the core over {}\n",
        replay.program(),
        tally.calls,
        tally.now
    );
    let mut lines = |name: &str, counts: &BTreeMap<_, u64>| {
        if !counts.is_empty() {
            let _ = writeln!(text, "{name:<10} {}", listed(counts));
        }
    };
    lines("calls", &tally.by_kind.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect());
    lines("records", &tally.records);
    lines("notes", &tally.notes.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect());
    let counts = replay.counts();
    let _ = writeln!(
        text,
        "episodes   {} requested, {} recorded; {} attempts, {} retries, {} steps, {} sessions built",
        counts.requested,
        counts.recorded(),
        counts.attempts,
        counts.retries,
        counts.steps,
        counts.sessions_built
    );
    let _ = writeln!(
        text,
        "outputs    {} commands, {} turns; hash {}",
        tally.commands,
        tally.turns,
        replay.outputs_hash()
    );
    let verdict = match (failure, replay.ending()) {
        (Some(ReplayError::Read(error)), _) => {
            format!("{error}; every decision before is as it was recorded")
        }
        (Some(error), _) => format!("NOT reproduced: {error}"),
        (None, Ending::Whole) => "every decision is as it was recorded, to the run's end".into(),
        (None, Ending::Full) => {
            "every decision is as it was recorded, up to the file's maximum".into()
        }
        (None, Ending::Cut) => {
            "every decision is as it was recorded; the run was cut off after the last one".into()
        }
        (None, Ending::Open) => "every decision so far is as it was recorded".into(),
    };
    let _ = write!(text, "verdict    {verdict}");
    text
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{count} × {name}")).collect::<Vec<_>>().join(", ")
}
