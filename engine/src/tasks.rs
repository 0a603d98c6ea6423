//! The tasks of a job: rows of a file, or a split of the server's own.

use std::{fs, io, path::PathBuf};

use bytes::Bytes;
use envmill_core::Task;
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
    /// There are none, or more than can be held.
    #[error("{from}: there are {found} tasks; there must be between 1 and {TASKS_MAX}")]
    Count {
        /// Where they come from.
        from: String,
        /// How many there are.
        found: u64,
    },
}

/// The rows of a file of JSON lines or Parquet, each one task. A task is named by its row's
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
        text.lines().filter(|line| !line.trim().is_empty()).map(String::from).collect()
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
    Ok(Task { id, parameters: Bytes::from(row.replace(['\n', '\r'], " ")) })
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
    };
    Ok((0..count).map(task).collect())
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
        for (text, expected) in [("", "0 tasks"), ("{}\n[1]", "row 2"), ("{\"a\":}", "row 1")] {
            let error = tasks(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
