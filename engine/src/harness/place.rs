//! An episode's own directory: where its program finds the task, and leaves its result.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use envmill_protocol::Turn;
use serde::Serialize;
use serde_json::value::RawValue;
use tempfile::TempDir;

/// The task in the directory.
const TASK: &str = "task.json";
/// The result.
const RESULT: &str = "result.json";

/// An episode's task, as programs get it.
#[derive(Serialize)]
struct Task<'a> {
    /// The job, as records call it.
    job: &'a str,
    /// The episode's number in it.
    episode: u64,
    /// The task's name; empty where there is none.
    task_id: &'a str,
    /// The job's and the task's parameters, with the seed.
    reset_parameters: Option<&'a RawValue>,
}

/// The text of an episode's task.
pub(super) fn task(job: &str, turn: &Turn) -> String {
    let start = turn.start.as_deref();
    let parameters = start.map_or(&[][..], |it| &it.reset_parameters[..]);
    let task = Task {
        job,
        episode: turn.episode.0,
        task_id: start.map_or("", |it| it.task_id.as_str()),
        // Whoever submitted the job has checked them.
        reset_parameters: serde_json::from_slice(parameters).ok(),
    };
    serde_json::to_string(&task).unwrap_or_default()
}

/// A directory that is there for as long as an episode.
pub(super) struct Place(TempDir);

impl Place {
    /// One among those in `directory`, which is made if need be, with this task in it.
    pub(super) fn new(directory: &Path, task: &str) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let place = Self(tempfile::Builder::new().prefix("episode-").tempdir_in(directory)?);
        fs::write(place.task(), task)?;
        Ok(place)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn task(&self) -> PathBuf {
        self.path().join(TASK)
    }

    pub(super) fn result(&self) -> PathBuf {
        self.path().join(RESULT)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use envmill_protocol::{EpisodeIndex, EpisodeStart, Generation, JobId, Observed, Slot};

    use super::*;

    #[test]
    fn a_task_is_one_object_with_its_parameters_as_they_are() {
        let start = EpisodeStart {
            task_id: "a\"b".into(),
            reset_parameters: "{\"seed\": 7, \"z\":1.50}".into(),
        };
        let turn = Turn {
            slot: Slot(0),
            generation: Generation(1),
            job: JobId(0),
            episode: EpisodeIndex(3),
            seed: 0,
            step: 0,
            environment: 0,
            observed: Observed::default(),
            start: Some(Arc::new(start)),
        };
        assert_eq!(
            task("j.1", &turn),
            r#"{"job":"j.1","episode":3,"task_id":"a\"b","reset_parameters":{"seed": 7, "z":1.50}}"#
        );
        let bare = Turn { start: None, ..turn };
        assert!(task("j", &bare).ends_with("\"task_id\":\"\",\"reset_parameters\":null}"));
    }
}
