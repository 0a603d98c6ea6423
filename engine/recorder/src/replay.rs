//! Playing a recording again.

use std::{collections::BTreeMap, io::Read};

use envmill_core::{Core, Counts, Input, Note, OptionsError, Outputs, Time};

use crate::{
    digest::Digest,
    entry::Entry,
    file::{ReadError, Reader},
};

/// A replay cannot go on, or went another way.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file does not begin with a core's options, or they come again.
    #[error("the recording is not in order: {0}")]
    Order(&'static str),
    /// A job is refused that was taken on when it was recorded.
    #[error("the core refuses a job of the recording: {0}")]
    Job(#[from] OptionsError),
    /// A decision was not the recorded one.
    #[error(transparent)]
    Diverged(#[from] Divergence),
}

/// Where a replay left the recorded way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("call {call} ({what} at {now}) has other outputs than recorded")]
pub struct Divergence {
    /// The number of the call, from 1.
    pub call: u64,
    /// What it was.
    pub what: &'static str,
    /// When it was.
    pub now: Time,
}

/// How a recording ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Not yet.
    #[default]
    Open,
    /// With the run.
    Whole,
    /// At the file's maximum.
    Full,
    /// The file ends after a whole frame, without a word: the run was killed. The outputs of its last
    /// call are not compared.
    Cut,
}

/// What a replay has seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Calls of [`Core::handle`] and [`Core::settle`].
    pub calls: u64,
    /// The same, by kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Commands given.
    pub commands: u64,
    /// Turns given.
    pub turns: u64,
    /// Records by how they ended: kind and cause.
    pub records: BTreeMap<String, u64>,
    /// News, by kind.
    pub notes: BTreeMap<&'static str, u64>,
    /// The core's time at the last call.
    pub now: Time,
}

/// Plays a recording call by call and compares what comes out.
#[derive(Debug)]
pub struct Replay<R> {
    reader: Reader<R>,
    program: String,
    core: Core,
    digest: Digest,
    last: Option<Divergence>,
    outputs: Outputs,
    scratch: Vec<u8>,
    tally: Tally,
    ending: Ending,
}

impl<R: Read> Replay<R> {
    /// Begins to replay. `from` should be buffered.
    ///
    /// # Errors
    ///
    /// It is no recording that this version can replay.
    pub fn new(from: R) -> Result<Self, ReplayError> {
        let mut reader = Reader::new(from)?;
        let Some(Entry::Start { program, options }) = reader.next_entry()? else {
            return Err(ReplayError::Order("it does not begin with the core's options"));
        };
        Ok(Self {
            reader,
            program,
            core: Core::new(options),
            digest: Digest::default(),
            last: None,
            outputs: Outputs::default(),
            scratch: Vec::new(),
            tally: Tally::default(),
            ending: Ending::Open,
        })
    }

    /// Takes the next entry, makes the call that it records, and returns it; `None` once there is none.
    ///
    /// # Errors
    ///
    /// The file cannot be read further, or the call before had other outputs than it had when it was
    /// recorded.
    pub fn step(&mut self) -> Result<Option<Entry>, ReplayError> {
        let Some((before, entry)) = self.reader.next_with_digest()? else {
            if self.ending == Ending::Open {
                self.ending = Ending::Cut;
            }
            return Ok(None);
        };
        if before != self.digest {
            return Err(self.last.take().map_or(
                ReplayError::Order("it begins with outputs that nothing led to"),
                ReplayError::Diverged,
            ));
        }
        match &entry {
            Entry::Start { .. } => return Err(ReplayError::Order("a second core begins")),
            Entry::Server(options) => {
                self.core.add_server(options.clone());
            }
            Entry::Job { now, options } => {
                self.core.submit(*now, (**options).clone())?;
            }
            Entry::Input { now, input } => {
                self.core.handle(*now, input.clone(), &mut self.outputs);
                self.called(name(input), *now);
            }
            Entry::Settle { now } => {
                self.core.settle(*now, &mut self.outputs);
                self.called("settle", *now);
            }
            Entry::Full => self.ending = Ending::Full,
            Entry::End => self.ending = Ending::Whole,
        }
        Ok(Some(entry))
    }

    fn called(&mut self, what: &'static str, now: Time) {
        let tally = &mut self.tally;
        tally.calls += 1;
        tally.now = now;
        *tally.by_kind.entry(what).or_default() += 1;
        self.last = Some(Divergence { call: tally.calls, what, now });
        self.digest = self.digest.with(&self.outputs, &mut self.scratch);
        let Outputs {
            commands,
            turns,
            cancelled_turns,
            handed,
            records,
            groups,
            to_score,
            latencies,
            notes,
        } = &mut self.outputs;
        tally.commands += commands.len() as u64;
        tally.turns += turns.len() as u64;
        for record in records.iter() {
            let ended = format!("{}: {}", record.end.name(), record.end.cause());
            *tally.records.entry(ended).or_default() += 1;
        }
        for note in notes.iter() {
            *tally.notes.entry(note_name(note)).or_default() += 1;
        }
        commands.clear();
        turns.clear();
        cancelled_turns.clear();
        handed.clear();
        records.clear();
        groups.clear();
        to_score.clear();
        latencies.clear();
        notes.clear();
    }

    /// What came by so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The core's own counts.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        self.core.counts()
    }

    /// The hash over all outputs so far, as 16 hexadecimal digits.
    #[must_use]
    pub fn outputs_hash(&self) -> String {
        self.digest.to_string()
    }

    /// The version of the program that recorded.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// How the recording ends, as far as it was read.
    #[must_use]
    pub const fn ending(&self) -> Ending {
        self.ending
    }
}

/// The name of an input, for counts.
const fn name(input: &Input) -> &'static str {
    match input {
        Input::Event(_) => "event",
        Input::Decision(_) => "decision",
        Input::External(_) => "external",
        Input::Fingerprint { .. } => "fingerprint",
        Input::ServerReady(_) => "server_ready",
        Input::PolicyVersion { .. } => "policy_version",
        Input::Drain(_) => "drain",
        Input::Cancel(_) => "cancel",
        Input::Scored(_) => "scored",
        Input::Pause(_) => "pause",
        Input::Hold(_) => "hold",
        Input::Resume(_) => "resume",
        Input::Slow(_) => "slow",
        Input::Round { .. } => "round",
    }
}

const fn note_name(note: &Note) -> &'static str {
    match note {
        Note::LimitLearned { .. } => "limit_learned",
        Note::ServerDown { .. } => "server_down",
        Note::ServerRecovered(_) => "server_recovered",
        Note::FingerprintChanged { .. } => "fingerprint_changed",
        Note::AttemptFailed { .. } => "attempt_failed",
        Note::JobBudgetSpent(_) => "job_budget_spent",
        Note::ServerBudgetSpent(_) => "server_budget_spent",
        Note::FirstObservationsDiffer { .. } => "first_observations_differ",
        Note::ServerEjected { .. } => "server_ejected",
        Note::ServerReturned(_) => "server_returned",
        Note::Quarantined(_) => "quarantined",
        Note::VersionCurrent { .. } => "version_current",
        Note::JobEnded(_) => "job_ended",
        Note::RoundWanted(_) => "round_wanted",
    }
}
