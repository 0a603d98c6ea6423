//! Files of records, wherever they lie.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use envmill_inspect::{
    About, FileAbout, JobAbout, is_episode_record, is_training_trace, read_episode_record,
    read_training_trace,
};
use envmill_protocol::{Trajectory, record::read_group_line};
use serde_json::Value;

use super::InspectError;
use crate::sink::Records;

/// So deep directories are looked through.
const DEPTH_MAX: usize = 4;
/// How a line of ours begins.
const LINE_BEGINS: &[u8] = b"{\"schema_version\":";

/// Files of records, and the directories around them.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    files: Vec<PathBuf>,
    /// Those with a `job.json` or a `groups.jsonl`.
    directories: Vec<PathBuf>,
}

impl Inputs {
    /// Finds what is at `paths`: files of records, output directories of runs, or directories with
    /// several of those, four levels deep.
    ///
    /// # Errors
    ///
    /// A path cannot be read, or has no recording.
    pub fn find(paths: &[PathBuf]) -> Result<Self, InspectError> {
        let mut inputs = Self::default();
        for path in paths {
            let about = fs::metadata(path).map_err(InspectError::unreadable(path))?;
            if !about.is_dir() {
                inputs.files.push(path.clone());
                continue;
            }
            let before = inputs.files.len();
            inputs.look_into(path, 0)?;
            if inputs.files.len() == before {
                return Err(InspectError::NoRecording(path.clone()));
            }
        }
        Ok(inputs)
    }

    /// The files, in the order in which they are read.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn look_into(&mut self, directory: &Path, depth: usize) -> Result<(), InspectError> {
        let is_filled = |name: &str| {
            let path = directory.join(name);
            fs::metadata(&path).ok().filter(|it| it.is_file() && it.len() > 0).map(|_| path)
        };
        // A stream that lies beside a Parquet file is what it is being made from.
        let names = [
            "trajectories.parquet",
            "trajectories.arrows",
            "trajectories.jsonl",
            "results.jsonl",
            "traces.jsonl",
        ];
        let found = names
            .iter()
            .find_map(|name| is_filled(name))
            .or_else(|| Some(directory.join("trajectories.jsonl")).filter(|empty| empty.is_file()));
        if let Some(file) = found {
            self.files.push(file);
            self.directories.push(directory.to_owned());
            return Ok(());
        }
        if depth >= DEPTH_MAX {
            return Ok(());
        }
        let entries = fs::read_dir(directory).map_err(InspectError::unreadable(directory))?;
        let mut below: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()))
            .map(|entry| entry.path())
            .collect();
        below.sort_unstable();
        below.into_iter().try_for_each(|path| self.look_into(&path, depth + 1))
    }

    /// What lies beside the records, damage left out: it is told of there, not here.
    pub(crate) fn surroundings(&self, about: &mut About) {
        for directory in &self.directories {
            if let Some(job) = job(&directory.join("job.json")) {
                about.jobs.push(job);
            }
            let Ok(file) = File::open(directory.join("groups.jsonl")) else { continue };
            for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
                if let Ok(group) = read_group_line(&line) {
                    about.group_lines.add(&group);
                }
            }
        }
    }

    /// What the `job.json` of the only directory says under `key`.
    pub(crate) fn setting(&self, key: &str) -> Option<Value> {
        let [directory] = &self.directories[..] else { return None };
        let text = fs::read(directory.join("job.json")).ok()?;
        let mut job: Value = serde_json::from_slice(&text).ok()?;
        job.get_mut(key).map(Value::take).filter(|value| !value.is_null())
    }
}

fn job(path: &Path) -> Option<JobAbout> {
    let job: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let word = |key: &str| job.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let environments = job.get("env").and_then(Value::as_array);
    let words = environments.into_iter().flatten().filter_map(Value::as_str);
    Some(JobAbout {
        name: word("name"),
        environments: words.map(str::to_owned).collect(),
        policy: word("policy"),
        episodes: job.get("episodes").and_then(Value::as_u64),
    })
}

/// Reads all records of [`Inputs`], file by file, one at a time.
pub struct Reader<'a> {
    inputs: &'a Inputs,
    /// Whether somebody wants an end.
    is_interrupted: &'a dyn Fn() -> bool,
    next_file: usize,
    source: Option<Source>,
    about: About,
}

enum Source {
    Records(Box<Records>),
    /// One a line, in a form of somebody else's.
    Lines(BufReader<File>, Form),
}

#[derive(Clone, Copy)]
enum Form {
    EpisodeRecord,
    TrainingTrace,
}

impl Form {
    /// The form of a file that begins with this line, if it is one of these.
    fn of(line: &[u8]) -> Option<Self> {
        if is_episode_record(line) {
            Some(Self::EpisodeRecord)
        } else {
            is_training_trace(line).then_some(Self::TrainingTrace)
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::EpisodeRecord => "episode-record",
            Self::TrainingTrace => "training-trace",
        }
    }

    fn read(self, line: &[u8]) -> Result<Trajectory, String> {
        match self {
            Self::EpisodeRecord => read_episode_record(line)
                .map_err(|error| format!("the line is no EpisodeRecord: {error}")),
            Self::TrainingTrace => read_training_trace(line)
                .map_err(|error| format!("the line is no TrainingTrace: {error}")),
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads `inputs` until their end, or until `is_interrupted` says so.
    pub fn new(inputs: &'a Inputs, is_interrupted: &'a dyn Fn() -> bool) -> Self {
        Self { inputs, is_interrupted, next_file: 0, source: None, about: About::default() }
    }

    /// The next record. What is damaged ends its file: the records before it are good, and
    /// [`about`](Self::about) tells of it.
    ///
    /// # Errors
    ///
    /// A file cannot be read, is of a newer version, or has no records though there is something in it.
    pub fn read(&mut self) -> Result<Option<Trajectory>, InspectError> {
        loop {
            if (self.is_interrupted)() {
                self.about.is_interrupted = true;
                return Ok(None);
            }
            let Some(source) = &mut self.source else {
                let Some(path) = self.inputs.files.get(self.next_file) else { return Ok(None) };
                self.next_file += 1;
                let (source, file) = open(path)?;
                self.source = Some(source);
                self.about.files.push(file);
                continue;
            };
            let Some(file) = self.about.files.last_mut() else { return Ok(None) };
            let problem = match source.read(Path::new(&file.path))? {
                Read::Record(record) => {
                    file.records += 1;
                    self.about.read += 1;
                    return Ok(Some(*record));
                }
                Read::End => None,
                Read::Damage { problem, is_torn } => Some((problem, is_torn)),
            };
            self.source = None;
            if let Some((problem, is_torn)) = problem {
                if file.records == 0 && !(is_torn && begins_like_records(Path::new(&file.path))) {
                    let error = format!("cannot read the records of {}: {problem}", file.path);
                    return Err(InspectError::NoRecords { error });
                }
                file.problem = Some(problem);
                file.is_torn = is_torn;
            }
        }
    }

    /// What was read so far, and what is wrong with it.
    #[must_use]
    pub fn about(self) -> About {
        self.about
    }
}

enum Read {
    Record(Box<Trajectory>),
    End,
    Damage { problem: String, is_torn: bool },
}

impl Source {
    fn read(&mut self, path: &Path) -> Result<Read, InspectError> {
        let damage = |problem: String, is_torn| Ok(Read::Damage { problem, is_torn });
        match self {
            Self::Records(records) => match records.next() {
                None => Ok(Read::End),
                Some(Ok(record)) => Ok(Read::Record(Box::new(record))),
                Some(Err(error)) if error.why.is_damage() || error.why.is_torn() => {
                    damage(error.why.to_string(), error.why.is_torn())
                }
                Some(Err(error)) => Err(error.into()),
            },
            Self::Lines(lines, form) => {
                let mut line = Vec::new();
                lines.read_until(b'\n', &mut line).map_err(InspectError::unreadable(path))?;
                if line.is_empty() {
                    return Ok(Read::End);
                }
                match form.read(&line) {
                    Ok(record) => Ok(Read::Record(Box::new(record))),
                    Err(_) if !line.ends_with(b"\n") => {
                        damage("the last line is not whole".into(), true)
                    }
                    Err(problem) => damage(problem, false),
                }
            }
        }
    }
}

fn open(path: &Path) -> Result<(Source, FileAbout), InspectError> {
    let unreadable = || InspectError::unreadable(path);
    let mut file = BufReader::new(File::open(path).map_err(unreadable())?);
    let mut about = FileAbout {
        path: path.display().to_string(),
        bytes: fs::metadata(path).map_err(unreadable())?.len(),
        ..FileAbout::default()
    };
    let start = file.fill_buf().map_err(unreadable())?;
    about.form = match start {
        [b'P', b'A', b'R', b'1', ..] => "parquet",
        [0xFF, ..] => "arrow",
        _ => "jsonl",
    };
    if about.form == "jsonl" && start.starts_with(b"{") {
        let mut line = Vec::new();
        file.read_until(b'\n', &mut line).map_err(unreadable())?;
        if let Some(form) = Form::of(&line) {
            about.form = form.name();
            let file = File::open(path).map_err(unreadable())?;
            return Ok((Source::Lines(BufReader::new(file), form), about));
        }
    }
    Ok((Source::Records(Box::new(Records::open(path)?)), about))
}

/// Whether a file without a whole record may be one of records that had just begun.
fn begins_like_records(path: &Path) -> bool {
    let start = File::open(path).map(BufReader::new).and_then(|mut file| {
        let start = file.fill_buf()?;
        let length = start.len().min(LINE_BEGINS.len());
        Ok(start.starts_with(&[0xFF; 4]) || start[..length] == LINE_BEGINS[..length])
    });
    start.unwrap_or(false)
}
