//! A run, called from Python.

use std::{
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use envmill::{
    command,
    config::{self, RunOptions, Settings},
    driver::{Control, Look},
    progress::Progress,
    run::{Outcome, RunError, run},
};
use pyo3::{exceptions::PyKeyboardInterrupt, prelude::*};

use crate::errors::{argument_error, engine_error, value_error};

/// How often Python's signals are looked for while the engine plays.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);
/// How often a callback is told of the progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The settings of a run, checked as far as each can be for itself.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Job(Settings);

#[pymethods]
impl Job {
    /// `settings` is the text of a JSON object; `config`, a file of settings below them.
    #[new]
    #[pyo3(signature = (settings, config=None))]
    fn new(settings: &str, config: Option<PathBuf>) -> PyResult<Self> {
        let settings = serde_json::from_str(settings).map_err(engine_error)?;
        let mut settings = config::from_json(settings, Path::new("run()"))
            .map_err(|error| argument_error(&error))?;
        if let Some(path) = config {
            settings = settings.over(config::read(&path).map_err(|error| value_error(&error))?);
        }
        Ok(Self(settings))
    }

    /// Where records go, if that was said.
    #[getter]
    fn out(&self) -> Option<PathBuf> {
        self.0.out.clone()
    }

    /// Plays. `program` is the command line that starts the `envmill` command. `on_progress` gets
    /// episodes, recorded and failed ones, steps, sessions, seconds and those that wait for their score about
    /// ten times a second.
    ///
    /// The engine has a thread of its own, which knows nothing of Python; this one waits for it,
    /// detached from the interpreter, and sees to signals and the callback.
    fn run(
        &self,
        py: Python<'_>,
        out: PathBuf,
        program: Vec<String>,
        quiet: bool,
        on_progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Played> {
        let mut settings = Settings { quiet, ..self.0.clone() };
        // To go on with a job takes a directory that somebody has named; the engine says so.
        if !settings.resume {
            settings.out = Some(out);
        }
        let mut options = RunOptions::prepare(settings).map_err(|error| value_error(&error))?;
        options.program = program;
        command::show_log();
        let out = options.out.clone();
        let records = out.join(options.format.final_file());
        let control = Control::new();
        let watch = Arc::new(Watch::default());
        let engine = {
            let (watch, control) = (Arc::clone(&watch), control.clone());
            let play = move || play(&options, &control, quiet, &watch);
            thread::Builder::new().name("envmill".into()).spawn(play).map_err(engine_error)?
        };
        let raised = attend(py, &watch, &control, quiet, on_progress.as_ref());
        let outcome = py.detach(|| engine.join()).unwrap_or_else(|panic| resume_unwind(panic));
        if let Some(error) = raised {
            return Err(error);
        }
        let outcome = outcome.map_err(engine_error)?;
        Ok(Played {
            summary: serde_json::to_string(&outcome.summary).map_err(engine_error)?,
            out,
            records,
            interrupts: control.interrupts(),
            failure: outcome.sink_failure.map(|failure| failure.to_string()),
        })
    }
}

/// What came of a run.
#[pyclass(frozen, get_all, module = "envmill._native")]
pub(crate) struct Played {
    /// The text of a JSON object.
    summary: String,
    /// The output directory.
    out: PathBuf,
    /// The file of records.
    records: PathBuf,
    /// How often it was interrupted.
    interrupts: u8,
    /// Why records were not kept, if some were not.
    failure: Option<String>,
}

/// What the engine's thread tells the one that waits for it.
#[derive(Default)]
struct Watch {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Clone, Copy, Default)]
struct State {
    has_ended: bool,
    /// Since the start of the run; zero before.
    elapsed: Duration,
    episodes: u64,
    recorded: u64,
    failed: u64,
    steps: u64,
    sessions: u32,
    scoring: u32,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<W>(&self, look: &Look<'_, W>) {
        let counts = look.core.counts();
        *self.lock() = State {
            has_ended: false,
            elapsed: look.elapsed,
            episodes: counts.requested,
            recorded: counts.recorded(),
            failed: counts.failed,
            steps: counts.steps,
            sessions: counts.sessions,
            scoring: counts.scoring,
        };
    }

    /// How things stand: at the run's end, or after the time.
    fn wait(&self, time: Duration) -> State {
        let state = self.lock();
        let waited = self.ended.wait_timeout_while(state, time, |state| !state.has_ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Tells of the end, also where it comes by a panic.
struct Ending<'a>(&'a Watch);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.ended.notify_all();
    }
}

fn play(
    options: &RunOptions,
    control: &Control,
    quiet: bool,
    watch: &Watch,
) -> Result<Outcome, RunError> {
    let _ending = Ending(watch);
    let mut progress = Progress::new(options.episodes, quiet);
    let outcome = run(options, control, |look| {
        progress.show(look);
        watch.note(look);
    });
    progress.finish();
    outcome
}

/// Waits for the run's end. The first `KeyboardInterrupt` drains it, the second one cuts it, and so
/// does any other exception, which is returned.
fn attend(
    py: Python<'_>,
    watch: &Watch,
    control: &Control,
    quiet: bool,
    on_progress: Option<&Bound<'_, PyAny>>,
) -> Option<PyErr> {
    let mut raised = None;
    let mut told: Option<Instant> = None;
    loop {
        let state = py.detach(|| watch.wait(SIGNALS_EVERY));
        let is_due = told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY);
        let looked = py.check_signals().and_then(|()| match on_progress {
            Some(callback) if raised.is_none() && (is_due || state.has_ended) => {
                told = Some(Instant::now());
                tell(callback, &state)
            }
            _ => Ok(()),
        });
        match looked {
            Ok(()) => {}
            Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => {
                control.interrupt();
                if !quiet && !state.has_ended {
                    command::tell_interrupt(control.interrupts());
                }
            }
            Err(error) => {
                control.interrupt();
                control.interrupt();
                raised.get_or_insert(error);
            }
        }
        if state.has_ended {
            return raised;
        }
    }
}

fn tell(callback: &Bound<'_, PyAny>, state: &State) -> PyResult<()> {
    let State { has_ended: _, elapsed, episodes, recorded, failed, steps, sessions, scoring } =
        *state;
    callback.call1((
        episodes,
        recorded,
        failed,
        steps,
        sessions,
        elapsed.as_secs_f64(),
        scoring,
    ))?;
    Ok(())
}
