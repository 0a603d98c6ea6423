//! Records in another form.

use std::{
    fs,
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    str::FromStr,
};

use envmill_formats::{FormatError, StreamWriter, write_parquet};
use envmill_inspect::About;
use envmill_protocol::{Trajectory, record::write_json_line};

use super::{Inputs, InspectError, Selection};
use crate::sink::{training_trace, weight, write_episode_record};

/// A batch of columns has at most so many records.
const ROWS_MAX: usize = 256;
/// And about so many bytes, or one record.
const BYTES_MAX: usize = 4 << 20;

/// A form that records can be converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// JSON lines.
    JsonLines,
    /// An Arrow IPC stream.
    Arrow,
    /// Parquet.
    Parquet,
    /// OpenEnv's `EpisodeRecord`, one a line.
    EpisodeRecord,
    /// OpenEnv's `TrainingTrace`, one a line.
    TrainingTrace,
}

impl Target {
    /// What a form has no place for; empty where nothing is lost.
    #[must_use]
    pub const fn loses(self) -> &'static str {
        match self {
            Self::JsonLines | Self::Arrow | Self::Parquet => "",
            Self::EpisodeRecord => {
                "an EpisodeRecord has no place for tokens and log-probabilities, timings, attempts, groups, \
                 server and fingerprint, the reward and metadata of the reset, and blobs; a missing reward \
                 is 0 there, with extra.reward_missing"
            }
            Self::TrainingTrace => {
                "a TrainingTrace has no place for rewards, ends, actions, observations, messages, timings and \
                 what was no generation of the agent's"
            }
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "jsonl" => Ok(Self::JsonLines),
            "arrow" => Ok(Self::Arrow),
            "parquet" => Ok(Self::Parquet),
            "episode-record" => Ok(Self::EpisodeRecord),
            "training-trace" => Ok(Self::TrainingTrace),
            other => Err(format!(
                "write jsonl, arrow, parquet, episode-record or training-trace, not `{other}`"
            )),
        }
    }
}

/// What became of a conversion.
#[derive(Clone, Debug, Default)]
pub struct Converted {
    /// How many records were written.
    pub written: u64,
    /// Records that the form cannot hold, and why the first cannot.
    pub left_out: Option<(u64, String)>,
    /// What was read.
    pub about: About,
}

/// Writes the selected records to the file `out` in another form, which takes its name once it is whole;
/// with `force` in place of what is there. If the conversion is interrupted, nothing is written.
///
/// # Errors
///
/// A file cannot be read or written, `out` is there already, or no record has what the form needs.
pub fn convert(
    inputs: &Inputs,
    selection: &Selection,
    target: Target,
    out: &Path,
    force: bool,
    is_interrupted: &dyn Fn() -> bool,
) -> Result<Converted, InspectError> {
    let unwritable = || InspectError::unwritable(out);
    if let Ok(there) = fs::canonicalize(out) {
        if inputs.files().iter().any(|file| fs::canonicalize(file).is_ok_and(|it| it == there)) {
            return Err(InspectError::SameFile(out.to_owned()));
        }
        if !force || there.is_dir() {
            return Err(InspectError::Occupied(out.to_owned()));
        }
    }
    let directory = match out.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(".envmill-")
        .suffix(".partial")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(unwritable())?;
    let write = BufWriter::with_capacity(1 << 18, file.as_file());
    let converted = match target {
        Target::Parquet => parquet(inputs, selection, write, is_interrupted),
        _ => lines(inputs, selection, target, write, out, is_interrupted),
    };
    let converted = converted.map_err(|error| match error {
        InspectError::Format(error) => InspectError::unwritable(out)(error.into_io()),
        other => other,
    })?;
    if let (0, Some((records, why))) = (converted.written, &converted.left_out) {
        return Err(InspectError::NothingConverted { records: *records, why: why.clone() });
    }
    if converted.about.is_interrupted {
        return Ok(Converted { written: 0, ..converted });
    }
    file.as_file().sync_data().map_err(unwritable())?;
    let kept = if force { file.persist(out) } else { file.persist_noclobber(out) };
    match kept {
        Ok(_) => Ok(converted),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(InspectError::Occupied(out.to_owned()))
        }
        Err(error) => Err(unwritable()(error.error)),
    }
}

fn lines(
    inputs: &Inputs,
    selection: &Selection,
    target: Target,
    mut write: impl Write,
    out: &Path,
    is_interrupted: &dyn Fn() -> bool,
) -> Result<Converted, InspectError> {
    let unwritable = || InspectError::unwritable(out);
    let mut converted = Converted::default();
    let mut stream = match target {
        Target::Arrow => Some((StreamWriter::new(false)?, Batch::default())),
        _ => None,
    };
    let mut line = Vec::new();
    converted.about = selection.each(inputs, is_interrupted, |record| {
        line.clear();
        if let Some((stream, batch)) = &mut stream {
            converted.written += 1;
            if batch.add(record) {
                line = stream.batch(&batch.take())?;
            }
        } else {
            let why = match target {
                Target::EpisodeRecord => {
                    write_episode_record(&mut line, &record).map_err(unwritable())?;
                    None
                }
                Target::TrainingTrace => match training_trace(&record) {
                    Ok(trace) => {
                        line.extend_from_slice(trace.to_string().as_bytes());
                        line.push(b'\n');
                        None
                    }
                    Err(why) => Some(why.to_string()),
                },
                _ => {
                    write_json_line(&mut line, &record);
                    None
                }
            };
            match why {
                None => converted.written += 1,
                Some(why) => converted.left_out.get_or_insert((0, why)).0 += 1,
            }
        }
        write.write_all(&line).map_err(unwritable())?;
        Ok(true)
    })?;
    if let Some((mut stream, mut batch)) = stream {
        let rest = batch.take();
        if !rest.is_empty() {
            write.write_all(&stream.batch(&rest)?).map_err(unwritable())?;
        }
        write.write_all(&stream.end()?).map_err(unwritable())?;
    }
    write.flush().map_err(unwritable())?;
    Ok(converted)
}

/// Parquet's writer asks for batches, and a selection hands records out: a thread stands between them.
fn parquet(
    inputs: &Inputs,
    selection: &Selection,
    write: impl Write + Send,
    is_interrupted: &dyn Fn() -> bool,
) -> Result<Converted, InspectError> {
    let (give, take) = std::sync::mpsc::sync_channel::<Vec<Trajectory>>(1);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let (count, mut write) = write_parquet(write, take.into_iter().map(Ok))?;
            write.flush()?;
            Ok::<u64, FormatError>(count)
        });
        let mut batch = Batch::default();
        let about = selection.each(inputs, is_interrupted, |record| {
            // A writer that has gone says why below.
            Ok(!batch.add(record) || give.send(batch.take()).is_ok())
        });
        let rest = batch.take();
        if !rest.is_empty() {
            let _ = give.send(rest);
        }
        drop(give);
        let written = writer
            .join()
            .unwrap_or_else(|_| Err(FormatError::Damaged("the writer has panicked".into())))?;
        Ok(Converted { written, left_out: None, about: about? })
    })
}

/// Records that are written together.
#[derive(Default)]
struct Batch {
    records: Vec<Trajectory>,
    bytes: usize,
}

impl Batch {
    /// Adds a record, and says whether the batch is full.
    fn add(&mut self, record: Trajectory) -> bool {
        self.bytes += weight(&record);
        self.records.push(record);
        self.records.len() >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    fn take(&mut self) -> Vec<Trajectory> {
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }
}
