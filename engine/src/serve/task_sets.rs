//! Tasks under a name: where they come from, and what they weigh.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    path::PathBuf,
};

use serde::Deserialize;

use crate::tasks::Weights;

/// Tasks under a name.
#[derive(Clone, Debug)]
pub struct TaskSet {
    /// Its name, as jobs give it.
    pub name: String,
    /// Where its tasks come from.
    pub source: TaskSource,
    /// What they weigh.
    pub weights: Weights,
}

/// Where tasks come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskSource {
    /// A file, as `envmill run --tasks` takes it.
    File(PathBuf),
    /// A split of an environment's own, which is asked for it once, when the service starts.
    Split {
        /// The environment, by its name in the configuration.
        environment: String,
        /// The split.
        split: String,
    },
}

impl Display for TaskSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Split { environment, split } => write!(f, "split {split} of {environment}"),
        }
    }
}

/// A task set as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Table {
    file: Option<PathBuf>,
    environment: Option<String>,
    split: Option<String>,
    weight_key: Option<String>,
    weights: BTreeMap<String, f64>,
}

/// Its keys.
pub(super) const KEYS: [&str; 5] = ["file", "environment", "split", "weight-key", "weights"];

/// What is wrong with a table: the key, and what to write instead.
type Problem = (&'static str, String);

impl Table {
    /// Completes and checks it. `beside` makes a path what the file means by it, and `is_environment` knows
    /// the environments.
    pub(super) fn resolve(
        self,
        name: &str,
        beside: impl Fn(&std::path::Path) -> PathBuf,
        is_environment: impl Fn(&str) -> bool,
    ) -> Result<TaskSet, Problem> {
        let source = match (self.file, self.environment, self.split) {
            (Some(file), None, None) => TaskSource::File(beside(&file)),
            (None, Some(environment), Some(split)) if is_environment(&environment) => {
                TaskSource::Split { environment, split }
            }
            (None, Some(environment), Some(_)) => {
                return Err(("environment", format!("there is no [environments.{environment}]")));
            }
            (Some(_), _, _) => {
                let problem = "either a file, or an `environment` and a `split` of its own";
                return Err(("file", problem.into()));
            }
            (None, Some(_), None) => {
                return Err(("split", "write which split of the environment's tasks".into()));
            }
            (None, None, Some(_)) => {
                return Err(("environment", "write whose split it is".into()));
            }
            (None, None, None) => {
                let problem = "write the file of its tasks, or an `environment` and a `split`";
                return Err(("file", problem.into()));
            }
        };
        if self.weight_key.is_some() && !matches!(source, TaskSource::File(_)) {
            let problem = "a split has no keys; give `weights` by the tasks' names";
            return Err(("weight-key", problem.into()));
        }
        let weights = Weights { key: self.weight_key, of: self.weights };
        Ok(TaskSet { name: name.into(), source, weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_a_file_or_a_split() {
        let resolve = |text: &str| {
            let table: Table = toml::from_str(text).unwrap();
            table.resolve("a", |path| path.to_owned(), |name| name == "maze")
        };
        let of = |text: &str| resolve(text).unwrap().source;
        assert_eq!(of("file = \"x\""), TaskSource::File("x".into()));
        let split = "environment = \"maze\"\nsplit = \"train\"\nweights = { \"train/0\" = 2 }";
        assert_eq!(of(split).to_string(), "split train of maze");
        for (text, key) in [
            ("", "file"),
            ("file = \"x\"\nsplit = \"y\"", "file"),
            ("environment = \"maze\"", "split"),
            ("split = \"x\"", "environment"),
            ("environment = \"bus\"\nsplit = \"x\"", "environment"),
            ("environment = \"maze\"\nsplit = \"x\"\nweight-key = \"w\"", "weight-key"),
        ] {
            assert_eq!(resolve(text).unwrap_err().0, key, "{text}");
        }
    }

    #[test]
    fn the_list_of_keys_is_whole() {
        for key in KEYS {
            let error = toml::from_str::<Table>(&format!("{key} = 1979-05-27")).unwrap_err();
            assert!(error.to_string().contains("invalid type"), "{key}: {error}");
        }
    }
}
