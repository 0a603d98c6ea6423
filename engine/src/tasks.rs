//! The tasks of a job: rows of a file, or a split of the server's own.

use std::{collections::BTreeMap, fs, io, ops::Range, path::PathBuf};

use bytes::Bytes;
use envmill_core::{OptionsError, Task, Tasks, Weight, WeightError};
use envmill_formats::{FormatError, parquet_rows};
use envmill_protocol::ResetParameters;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// The first bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";
/// The most tasks of a job: all of them are held in memory.
pub const TASKS_MAX: u64 = 1 << 24;
/// An environment is asked what it says of the tasks of a split that has so many at most: it is made anew for
/// each answer.
pub const ASKED_MAX: u64 = 1 << 16;
/// So many tasks of a split are asked for at one time, unless they are too large.
const AT_ONCE: u64 = 256;

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
    /// An environment tells of other tasks than it was asked for.
    #[error(
        "--split {split}: asked for {asked} tasks from number {start} on, the environment gave {found}; \
         its `get_task_range` has to give as many as its `num_tasks` says that there are"
    )]
    Range {
        /// The split.
        split: String,
        /// The first that was asked for.
        start: u64,
        /// How many were.
        asked: u64,
        /// How many came.
        found: u64,
    },
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

/// What an environment says of the tasks from one index up to another.
#[derive(Debug)]
pub enum Told<E> {
    /// Of each of them what it is.
    Bodies(Vec<Box<RawValue>>),
    /// It says nothing of its tasks.
    Nothing,
    /// So much that it does not fit one answer; the error that this is, where it is one task alone.
    TooLarge(E),
}

/// The tasks of a split of the server's: `count` of them. OpenEnv environments are told which one to play by
/// `split` and `index` at reset. `ask` gives what the environment says of those from one index up to another,
/// and is asked for fewer at one time where that is too large: of its [`Bodies`](Told::Bodies) a task has its name (`task_id`, else `id`, a text or a number) and
/// `reset_parameters` of its own, beside which `split` and `index` stand. Without a name it is called `SPLIT/0`
/// and so on. Of a split of more than [`ASKED_MAX`] nothing is asked.
///
/// # Errors
///
/// There are none, or too many; something that is asked cannot be had, which is told at once, or is not what
/// was asked for.
pub fn of_split<E: From<TasksError>>(
    split: &str,
    count: u64,
    mut ask: impl FnMut(Range<u64>) -> Result<Told<E>, E>,
) -> Result<Vec<Task>, E> {
    if count == 0 || count > TASKS_MAX {
        return Err(TasksError::Count { from: format!("--split {split}"), found: count }.into());
    }
    let mut tasks = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
    let mut is_asked = count <= ASKED_MAX;
    let mut at_once = AT_ONCE;
    while (tasks.len() as u64) < count {
        let start = tasks.len() as u64;
        let range = start..count.min(start + at_once);
        let asked = range.end - range.start;
        let told = if is_asked { ask(range.clone())? } else { Told::Nothing };
        let bodies = match told {
            Told::Bodies(bodies) => bodies,
            Told::Nothing => {
                is_asked = false;
                tasks.extend(range.map(|index| of_body(split, index, None)));
                continue;
            }
            // It comes in several answers.
            Told::TooLarge(_) if asked > 1 => {
                at_once = asked / 2;
                continue;
            }
            Told::TooLarge(error) => return Err(error),
        };
        if bodies.len() as u64 != asked {
            let (split, found) = (split.to_owned(), bodies.len() as u64);
            return Err(TasksError::Range { split, start, asked, found }.into());
        }
        let bodies = range.zip(&bodies);
        tasks.extend(bodies.map(|(index, body)| of_body(split, index, Some(&**body))));
    }
    Ok(tasks)
}

/// A task of a split, and what the environment says of it.
fn of_body(split: &str, index: u64, body: Option<&RawValue>) -> Task {
    #[derive(Default, Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        task_id: Option<&'a RawValue>,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        reset_parameters: Option<&'a RawValue>,
    }
    // It may be anything: a text, a list, or an object.
    let body = body.map(|body| serde_json::from_str::<Body<'_>>(body.get()).unwrap_or_default());
    let Body { task_id, id, reset_parameters } = body.unwrap_or_default();
    let name = |raw: &RawValue| match serde_json::from_str(raw.get()) {
        Ok(Value::String(name)) if !name.is_empty() => Some(name),
        Ok(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let id = task_id.and_then(name).or_else(|| id.and_then(name));
    let own = reset_parameters.map(RawValue::get).filter(|text| text.starts_with('{'));
    let place = json!({"split": split, "index": index}).to_string();
    let objects = [own.unwrap_or_default().as_bytes(), place.as_bytes()];
    Task {
        id: id.unwrap_or_else(|| format!("{split}/{index}")),
        parameters: ResetParameters::joined(None, objects).text,
        ..Task::default()
    }
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
        if task.weight != Weight::ONE {
            hasher.update(&task.weight.millionths().to_le_bytes());
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
    fn a_split_is_named_as_its_environment_names_it() {
        let bodies = [
            r#"{"id":"the first","x":1}"#,
            r#"{"task_id":7,"id":"b","reset_parameters":{"seed":3,"index":9}}"#,
            r#""text""#,
            r#"{"id":[1],"reset_parameters":[1]}"#,
            r#"{"id":""}"#,
        ];
        let asked = std::cell::RefCell::new(Vec::new());
        let of = |largest: u64, given: usize| {
            of_split::<TasksError>("s", 5, |range| {
                asked.borrow_mut().push((range.start, range.end));
                if range.end - range.start > largest {
                    return Ok(Told::TooLarge(TasksError::NoWeight));
                }
                let all = bodies.iter().take(given);
                let some = all.skip(range.start as usize).take((range.end - range.start) as usize);
                let some = some.map(|it| RawValue::from_string((*it).into()).unwrap());
                Ok(Told::Bodies(some.collect()))
            })
        };
        let tasks = of(5, 5).unwrap();
        let ids: Vec<_> = tasks.iter().map(|task| task.id.as_str()).collect();
        assert_eq!(ids, ["the first", "7", "s/2", "s/3", "s/4"]);
        assert_eq!(tasks[0].parameters, r#"{"index":0,"split":"s"}"#);
        assert_eq!(tasks[1].parameters, r#"{"seed":3,"index":1,"split":"s"}"#);
        assert_eq!(asked.take(), [(0, 5)]);
        assert_eq!(of(2, 5).unwrap(), tasks);
        assert_eq!(asked.take(), [(0, 5), (0, 2), (2, 4), (4, 5)]);
        assert!(matches!(of(0, 5), Err(TasksError::NoWeight)));
        assert_eq!(asked.take(), [(0, 5), (0, 2), (0, 1)]);
        let fails = of_split::<TasksError>("s", 5, |range| {
            asked.borrow_mut().push((range.start, range.end));
            Err(TasksError::NoTask("no answer".into()))
        });
        assert!(matches!(fails, Err(TasksError::NoTask(_))), "{fails:?}");
        assert_eq!(asked.take(), [(0, 5)], "what is not too large is told at once");
        let error = of(5, 3).unwrap_err().to_string();
        assert!(
            error.contains("asked for 5 tasks from number 0 on, the environment gave 3"),
            "{error}"
        );
        let numbered = of_split::<TasksError>("s", 5, |_| Ok(Told::Nothing)).unwrap();
        assert_eq!(numbered[4].id, "s/4");
        assert_eq!(numbered[4].parameters, r#"{"index":4,"split":"s"}"#);
        let never = |_| -> Result<_, TasksError> { panic!("it is not asked") };
        assert_eq!(of_split("s", ASKED_MAX + 1, never).unwrap().len() as u64, ASKED_MAX + 1);
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
