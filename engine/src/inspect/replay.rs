//! Recorded actions, played again.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use envmill_core::Round;
use envmill_inspect::{About, Cause, Comparison, Difference, likely_cause};
use envmill_protocol::{
    Ended, Trajectory,
    record::{End, Truncation, write_json_line},
};

use super::{Inputs, InspectError, Selection};
use crate::{
    config::{RunOptions, Settings},
    driver::{Control, Look},
    fleet::FleetWorker,
    replay::Recording,
    run,
    sink::{Records, SinkError},
};

/// The name of the job that plays again.
const JOB: &str = "replay";
/// So many differences are kept for [`Replay::found`]; all are counted.
const FOUND_MAX: usize = 10_000;

/// How a recording is played again.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// On what, and how its servers are reached. The keys that say what is played are set here.
    pub settings: Settings,
    /// How plays are compared.
    pub comparison: Comparison,
    /// What a worker process or an embedded server is started with; see
    /// [`RunOptions::program`].
    pub program: Vec<String>,
    /// The interpreter for Python environments where the settings name none.
    pub python: Option<std::path::PathBuf>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Replay {
    /// Episodes that came out as recorded.
    pub matched: u64,
    /// Episodes that came out otherwise.
    pub differed: u64,
    /// Episodes of which nothing is known, because the server or the way to it failed.
    pub not_played: u64,
    /// Records that were left out: episodes that failed or were cancelled when they were recorded.
    pub skipped: u64,
    /// The likely causes of the differences.
    pub causes: BTreeMap<Cause, u64>,
    /// The first 10,000 differences, in the order of the recording.
    pub found: Vec<Found>,
    /// What was read.
    pub about: About,
    /// Why not all of it is known.
    pub failure: Option<Arc<SinkError>>,
}

/// An episode that came out otherwise.
#[derive(Clone, Debug)]
pub struct Found {
    /// The recorded trajectory.
    pub trajectory_id: String,
    /// The first difference.
    pub difference: Difference,
    /// What it most likely comes from.
    pub cause: Cause,
    /// How the replay failed, if it did.
    pub failure: String,
}

/// Plays the actions of the selected records again, each after a reset with its own recorded parameters,
/// and compares. Whether they were one job's or several's makes no difference. The records go through files in the
/// temporary directory: in memory are those that are played, and of the others the ids and the reset parameters.
///
/// # Errors
///
/// The records cannot be read, there is nothing to play, or the run cannot begin.
pub fn replay(
    inputs: &Inputs,
    selection: &Selection,
    options: Options,
    control: &Control,
    look: impl FnMut(&Look<'_, FleetWorker>),
) -> Result<Replay, InspectError> {
    let directory = tempfile::tempdir().map_err(InspectError::Temporary)?;
    let (recorded, tasks) =
        (directory.path().join("recorded.jsonl"), directory.path().join("tasks.jsonl"));
    let mut replay = Replay::default();
    let mut script = Script::default();
    let mut ids = Vec::new();
    let out = File::create(&recorded).map_err(InspectError::Temporary)?;
    let mut out = BufWriter::new(out);
    let is_interrupted = || control.interrupts() > 0;
    replay.about = selection.each(inputs, &is_interrupted, |record| {
        match script.add(record) {
            None => replay.skipped += 1,
            Some((id, line)) => {
                ids.push(id);
                out.write_all(line).map_err(InspectError::Temporary)?;
            }
        }
        Ok(true)
    })?;
    out.flush().map_err(InspectError::Temporary)?;
    if ids.is_empty() && !is_interrupted() {
        return Err(InspectError::NothingToPlay { skipped: replay.skipped });
    }
    if is_interrupted() {
        replay.about.is_interrupted = true;
        return Ok(replay);
    }
    script.write_tasks(&tasks).map_err(InspectError::Temporary)?;
    let played = directory.path().join("played");
    let mut run_options = RunOptions::prepare(Settings {
        policy: Some(format!("replay:{}", recorded.display())),
        tasks: Some(tasks),
        episodes: Some(ids.len() as u64),
        no_seed: true,
        out: Some(played),
        name: Some(JOB.into()),
        on_fingerprint_change: Some("mark".into()),
        ..options.settings
    })?;
    run_options.program = options.program;
    run_options.python = run_options.python.or(options.python);
    let outcome = run::run(&run_options, control, look)?;
    replay.failure = outcome.sink_failure.map(Arc::new);
    let recording = Recording::read(&recorded).map_err(run::RunError::from)?;
    let records = run_options.out.join(run_options.format.final_file());
    replay.compare(&options.comparison, &recording, &ids, &records)?;
    Ok(replay)
}

impl Replay {
    fn compare(
        &mut self,
        comparison: &Comparison,
        recording: &Recording,
        ids: &[String],
        records: &Path,
    ) -> Result<(), InspectError> {
        let mut found = BTreeMap::new();
        let mut seen = 0;
        for played in Records::open(records)? {
            let played = played?;
            let Some(index) = envmill_core::episode_of(JOB, &played.trajectory_id) else {
                continue;
            };
            let (Some(recorded), Some(id)) = (recording.episode(index)?, ids.get(index.0 as usize))
            else {
                continue;
            };
            seen += 1;
            let Some(difference) = comparison.first_difference(&recorded, &played) else {
                self.matched += 1;
                continue;
            };
            let cause = likely_cause(comparison, &recorded, &played, &difference);
            *self.causes.entry(cause).or_default() += 1;
            if cause == Cause::NotPlayed {
                self.not_played += 1;
            } else {
                self.differed += 1;
            }
            let failure = match &played.end {
                End::Failed(failure) => format!("{}: {}", failure.kind.name(), failure.message),
                End::Cancelled(why) => format!("cancelled: {}", why.name()),
                _ => String::new(),
            };
            found.insert(index.0, Found { trajectory_id: id.clone(), difference, cause, failure });
            if found.len() > FOUND_MAX {
                found.pop_last();
            }
        }
        // What has no record of its replay, because that could not be kept.
        let lost = (ids.len() as u64).saturating_sub(seen);
        if lost > 0 {
            self.not_played += lost;
            *self.causes.entry(Cause::NotPlayed).or_default() += lost;
        }
        self.found = found.into_values().collect();
        Ok(())
    }
}

/// A recording on its way to become a job: its episodes as those of one job, and what each is reset with.
#[derive(Default)]
struct Script {
    parameters: Vec<Bytes>,
    line: Vec<u8>,
}

impl Script {
    /// Takes a record, if it can be played again, and gives its id and its line in the recording.
    fn add(&mut self, mut record: Trajectory) -> Option<(String, &[u8])> {
        let last = record.steps.last().map(|step| &step.observed).or(record.reset.as_ref());
        let ended = last.and_then(|last| last.ended);
        match record.end {
            End::Completed { .. } | End::Truncated(_) => {}
            // Played to an end of their own, and judged after that.
            End::Stale | End::Filtered(_) => {
                record.end = match ended {
                    Some(Ended::Terminated) => End::Completed { mapped: true },
                    Some(Ended::TerminatedUnmapped) => End::Completed { mapped: false },
                    Some(Ended::Truncated) => End::Truncated(Truncation::Environment),
                    None => End::Truncated(Truncation::MaxSteps),
                };
            }
            End::Failed(_) | End::Cancelled(_) => return None,
        }
        // What was collected elsewhere has no first observation, and may have actions of other kinds.
        record.reset.as_ref()?;
        let index = self.parameters.len();
        // A copy, which does not hold on to the rest of the record.
        self.parameters.push(Bytes::copy_from_slice(&record.reset_parameters));
        let id = std::mem::replace(&mut record.trajectory_id, format!("{JOB}-{index:08}"));
        JOB.clone_into(&mut record.job_id);
        self.line.clear();
        write_json_line(&mut self.line, &record);
        Some((id, &self.line))
    }

    /// Writes the tasks so that the core, which draws them in an order of its own, gives each episode the
    /// parameters that it was recorded with.
    fn write_tasks(&self, path: &Path) -> std::io::Result<()> {
        let all = u32::try_from(self.parameters.len()).unwrap_or(u32::MAX);
        let round = Round { number: 0, start: 0, tasks: (0..all).collect() };
        let mut placed = vec![&b"{}"[..]; self.parameters.len()];
        for (episode, parameters) in self.parameters.iter().enumerate() {
            let place =
                round.task(0, episode as u64).and_then(|place| placed.get_mut(place as usize));
            if let Some(place) = place.filter(|_| !parameters.is_empty()) {
                *place = parameters;
            }
        }
        let mut out = BufWriter::new(File::create(path)?);
        for parameters in placed {
            let line = |&byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
            out.write_all(&parameters.iter().map(line).collect::<Vec<_>>())?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }
}
