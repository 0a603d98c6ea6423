//! The tasks of a job: rows of a file, or a split of the server's own.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use bytes::Bytes;
use envmill_core::{OptionsError, Task, Tasks, Weight, WeightError};
use envmill_formats::{FormatError, parquet_rows};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// The first bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";
/// The most tasks of a job: all of them are held in memory.
pub const TASKS_MAX: u64 = 1 << 24;

/// Tasks cannot be had. Nothing was played.
#[derive(Debug, thiserror::Error)]
pub enum TasksError {
    /// The file cannot be read.
    #[error("--tasks: cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A Parquet file cannot be read.
    #[error("--tasks: {}: {source}", .path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FormatError,
    },
    /// A row is no object.
    #[error(
        "--tasks: {} row {row}: {problem}; each row must be one JSON object of reset parameters",
        .path.display()
    )]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file that begins with `[` is no array.
    #[error("--tasks: {}: it begins with `[` and is no JSON array of objects: {source}", .path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// What a task says is no weight.
    #[error("the task `{task}`: {problem}")]
    Weight {
        /// The task.
        task: String,
        /// What is wrong.
        problem: String,
    },
    /// A weight is for a task that is not there.
    #[error("weights: there is no task `{0}`")]
    NoTask(String),
    /// Every task has the weight 0.
    #[error("all of the tasks have the weight 0: nothing is left to play")]
    NoWeight,
    /// No rounds can be drawn of them.
    #[error(transparent)]
    Rounds(OptionsError),
    /// There are none, or more than can be held.
    #[error("{from}: there are {found} tasks; there must be between 1 and {TASKS_MAX}")]
    Count {
        /// Where they come from.
        from: String,
        /// How many there are.
        found: u64,
    },
}

/// The rows of a file, each one task: JSON lines, a JSON array, or Parquet, told apart by how it begins. A task is named by its row's
/// `task_id` or `id`, or by the row's number from 0.
///
/// # Errors
///
/// The file cannot be read, has no rows, or a row is no JSON object.
pub fn read(path: &std::path::Path) -> Result<Vec<Task>, TasksError> {
    let path = path.to_owned();
    let bytes =
        fs::read(&path).map_err(|source| TasksError::Unreadable { path: path.clone(), source })?;
    let rows: Vec<String> = if bytes.starts_with(PARQUET) {
        fs::File::open(&path)
            .map_err(FormatError::Io)
            .and_then(parquet_rows)
            .map_err(|source| TasksError::Parquet { path: path.clone(), source })?
    } else {
        let text = String::from_utf8(bytes).map_err(|error| TasksError::Row {
            path: path.clone(),
            row: 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count(),
            problem: "it is no UTF-8".into(),
        })?;
        if text.trim_start().starts_with('[') {
            let rows: Vec<&RawValue> = serde_json::from_str(&text)
                .map_err(|source| TasksError::Array { path: path.clone(), source })?;
            rows.into_iter().map(|row| row.get().to_owned()).collect()
        } else {
            text.lines().filter(|line| !line.trim().is_empty()).map(String::from).collect()
        }
    };
    let found = rows.len() as u64;
    if found == 0 || found > TASKS_MAX {
        return Err(TasksError::Count { from: path.display().to_string(), found });
    }
    rows.into_iter()
        .enumerate()
        .map(|(index, row)| {
            task(index, &row).map_err(|problem| TasksError::Row {
                path: path.clone(),
                row: index + 1,
                problem,
            })
        })
        .collect()
}

fn task(index: usize, row: &str) -> Result<Task, String> {
    #[derive(Deserialize)]
    struct Names<'a> {
        #[serde(borrow)]
        task_id: Option<&'a RawValue>,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let row = row.trim();
    if !row.starts_with('{') {
        return Err("it is no object".into());
    }
    let Names { task_id, id } = serde_json::from_str(row).map_err(|error| error.to_string())?;
    let id = match task_id.or(id) {
        None => index.to_string(),
        Some(raw) => match serde_json::from_str(raw.get()) {
            Ok(Value::String(name)) => name,
            _ => raw.get().to_owned(),
        },
    };
    let parameters = Bytes::from(row.replace(['\n', '\r'], " "));
    Ok(Task { id, parameters, ..Task::default() })
}

/// The tasks of a split of the server's: `count` of them, named `SPLIT/0` and so on. OpenEnv
/// environments are told which one to play by `split` and `index` at reset.
///
/// # Errors
///
/// There are none, or too many.
pub fn of_split(split: &str, count: u64) -> Result<Vec<Task>, TasksError> {
    if count == 0 || count > TASKS_MAX {
        return Err(TasksError::Count { from: format!("--split {split}"), found: count });
    }
    let task = |index| Task {
        id: format!("{split}/{index}"),
        parameters: Bytes::from(json!({"split": split, "index": index}).to_string()),
        ..Task::default()
    };
    Ok((0..count).map(task).collect())
}

/// What tasks weigh, where they are not all played once a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// The key of a row, or the column, that holds its weight. A row without it has the weight 1.
    pub key: Option<String>,
    /// The weights of single tasks, by their names; they win over those in rows.
    pub of: BTreeMap<String, f64>,
}

impl Weights {
    /// Tasks as a set, without those of weight 0.
    ///
    /// # Errors
    ///
    /// Something is no weight, is for no task, or leaves nothing to play.
    pub fn apply(&self, mut tasks: Vec<Task>) -> Result<Tasks, TasksError> {
        let mut unused: BTreeMap<&str, f64> =
            self.of.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
        for task in &mut tasks {
            let weight = match self.of.get(&task.id) {
                Some(&weight) => {
                    unused.remove(task.id.as_str());
                    Ok(Some(weight))
                }
                None => self.in_row(&task.parameters),
            };
            let weight = weight.and_then(|weight| {
                weight
                    .map_or(Ok(Weight::ONE), Weight::new)
                    .map_err(|error: WeightError| error.to_string())
            });
            task.weight =
                weight.map_err(|problem| TasksError::Weight { task: task.id.clone(), problem })?;
        }
        if let Some((name, _)) = unused.pop_first() {
            return Err(TasksError::NoTask(name.to_owned()));
        }
        let tasks = Tasks::new(tasks);
        if tasks.is_empty() {
            return Err(TasksError::NoWeight);
        }
        tasks.check().map_err(TasksError::Rounds)?;
        Ok(tasks)
    }

    fn in_row(&self, row: &[u8]) -> Result<Option<f64>, String> {
        let Some(key) = &self.key else { return Ok(None) };
        let row: BTreeMap<&str, &RawValue> =
            serde_json::from_slice(row).map_err(|error| error.to_string())?;
        let Some(value) = row.get(key.as_str()).map(|value| value.get()) else { return Ok(None) };
        serde_json::from_str(value).map_err(|_| format!("`{key}` is {value}, which is no number"))
    }
}

/// What tells these tasks from others, for `job.json`: 32 hexadecimal digits of BLAKE3.
#[must_use]
pub fn digest(tasks: &[Task]) -> String {
    let mut hasher = blake3::Hasher::new();
    for task in tasks {
        for part in [task.id.as_bytes(), &task.parameters] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    let mut digits = hasher.finalize().to_hex().to_string();
    digits.truncate(32);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(text: &str) -> Result<Vec<Task>, TasksError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks.jsonl");
        fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn rows_are_named_by_themselves_or_their_number() {
        let rows = "{\"task_id\":\"a\",\"id\":1}\n\n{\"id\": 7}\r\n{\"x\":\"\\ud800\"}";
        let tasks = tasks(rows).unwrap();
        let ids: Vec<_> = tasks.iter().map(|task| task.id.as_str()).collect();
        assert_eq!(ids, ["a", "7", "2"]);
        assert_eq!(tasks[1].parameters, "{\"id\": 7}");
        assert_ne!(digest(&tasks), digest(&tasks[..2]));
    }

    #[test]
    fn what_is_no_task_is_named() {
        for (text, expected) in [
            ("", "0 tasks"),
            ("{}\n[1]", "row 2"),
            ("{\"a\":}", "row 1"),
            ("[1]", "row 1"),
            ("[{}", "no JSON array"),
        ] {
            let error = tasks(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_array_has_rows_like_lines() {
        let tasks = tasks(" [\n {\"id\": \"a\",\n \"x\": {\"y\": [1]}}, {}]\n").unwrap();
        let ids: Vec<_> = tasks.iter().map(|task| task.id.as_str()).collect();
        assert_eq!(ids, ["a", "1"]);
        assert_eq!(tasks[0].parameters, "{\"id\": \"a\",  \"x\": {\"y\": [1]}}");
    }

    #[test]
    fn weights_are_in_rows_or_given_by_name() {
        let rows = "{\"id\":\"a\",\"w\":2}\n{\"id\":\"b\",\"w\":0}\n{\"id\":\"c\"}\n\
                    {\"id\":\"d\",\"w\":null}";
        let of = BTreeMap::from([("c".into(), 0.5)]);
        let weights = Weights { key: Some("w".into()), of };
        let set = weights.apply(tasks(rows).unwrap()).unwrap();
        let found: Vec<_> =
            set.as_slice().iter().map(|it| (it.id.as_str(), it.weight.as_f64())).collect();
        assert_eq!(found, [("a", 2.0), ("c", 0.5), ("d", 1.0)]);
        for (rows, expected) in [
            ("{\"w\":-1}\n{\"id\":\"c\"}", "the task `0`: a weight of -1"),
            ("{\"w\":\"x\"}\n{\"id\":\"c\"}", "no number"),
            ("{\"w\":1}", "no task `c`"),
            ("{\"id\":\"c\",\"w\":0}", ""),
        ] {
            match weights.apply(tasks(rows).unwrap()) {
                Ok(set) => assert_eq!((set.len(), expected), (1, "")),
                Err(error) => assert!(error.to_string().contains(expected), "{error}"),
            }
        }
        let none = Weights { key: Some("w".into()), ..Weights::default() };
        let error = none.apply(tasks("{\"w\":0}").unwrap()).unwrap_err();
        assert!(matches!(error, TasksError::NoWeight), "{error}");
    }
}
