//! One episode of a harness, from its turn to what its program has come to.

use std::{io, path::Path, time::Duration};

use envmill_capture::{Capture, Captured, Key, OpenError};
use envmill_protocol::Turn;

use super::{
    Launch, Players,
    door::Taken,
    outcome::{Outcome, Said},
    place::{Place, task},
    policy::Shared,
    program::{Left, Program, Start},
};

/// How long a program whose time is over may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(3);
/// How much longer than its program an episode's key is good for.
const GRACE: Duration = Duration::from_mins(1);
/// The longest task that is an environment variable as well, in bytes: Linux takes no longer ones than twice
/// that.
const TASK_BYTES_MAX: usize = 64 << 10;
/// So many of the last bytes that a program prints are recorded.
const OUTPUT_BYTES: usize = 4 << 10;

/// An episode that is to be played.
pub(super) struct Offer<'a> {
    pub(super) turn: &'a Turn,
    /// The job, as records call it.
    pub(super) job: &'a str,
    /// How long it may take.
    pub(super) limit: Duration,
}

/// Plays an episode: how it ended, and what was generated in it.
pub(super) async fn play(shared: &Shared, offer: Offer<'_>) -> (Outcome, Captured) {
    let (outcome, captured) = match &shared.players {
        Players::Started(launch) => run(shared, launch, &offer).await,
        Players::External { .. } => wait(shared, &offer).await,
    };
    if outcome.error.is_some() || outcome.truncated || !captured.calls.is_empty() {
        return (outcome, captured);
    }
    // It may have played elsewhere, with what nobody has recorded.
    let error = format!(
        "it has ended without a call of the model ({} were refused): does it take {} for its base URL, and \
         the key for its API key?",
        captured.refused, shared.base_url
    );
    (Outcome { error: Some(error), ..outcome }, captured)
}

/// An episode's key, which is closed however the episode ends.
pub(super) struct Opened {
    capture: Capture,
    key: Key,
}

impl Opened {
    pub(super) fn new(capture: &Capture, limit: Duration) -> Result<Self, OpenError> {
        let key = capture.open(Some(limit.saturating_add(GRACE)))?;
        Ok(Self { capture: capture.clone(), key })
    }

    pub(super) fn key(&self) -> &str {
        self.key.as_str()
    }

    fn close(self) -> Captured {
        self.capture.close(&self.key).unwrap_or_default()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // What nobody wants any more is dropped, and generations under way are aborted.
        let _ = self.capture.close(&self.key);
    }
}

/// Starts a program for it.
async fn run(shared: &Shared, launch: &Launch, offer: &Offer<'_>) -> (Outcome, Captured) {
    let opened = match Opened::new(&shared.capture, offer.limit) {
        Ok(opened) => opened,
        Err(error) => {
            return (Outcome::failed("not started", error.to_string()), Captured::default());
        }
    };
    let outcome = match start(shared, launch, offer, opened.key()) {
        Ok((place, program)) => ended(place, program, offer.limit).await,
        Err(error) => {
            let program = launch.command.first().map_or("", String::as_str);
            Outcome::failed("not started", format!("cannot start `{program}`: {error}"))
        }
    };
    (outcome, opened.close())
}

fn start(
    shared: &Shared,
    launch: &Launch,
    offer: &Offer<'_>,
    key: &str,
) -> io::Result<(Place, Program)> {
    let task = task(offer.job, offer.turn);
    let place = Place::new(&shared.places, &task)?;
    let start = Start {
        command: &launch.command,
        env: env(launch, &shared.base_url, key, &place, task),
        directory: &launch.directory,
        log: &shared.logs.join(format!("{}.log", offer.turn.slot.0)),
    };
    let program = Program::start(&start, &shared.sentry)?;
    Ok((place, program))
}

/// The environment variables of a program. What the configuration says wins.
fn env(
    launch: &Launch,
    base_url: &str,
    key: &str,
    place: &Place,
    task: String,
) -> Vec<(String, String)> {
    let text = |path: &Path| path.display().to_string();
    let mut env = vec![
        ("OPENAI_BASE_URL".to_owned(), base_url.to_owned()),
        ("OPENAI_API_KEY".into(), key.into()),
        ("ENVMILL_DIRECTORY".into(), text(place.path())),
        ("ENVMILL_TASK_FILE".into(), text(&place.task())),
        ("ENVMILL_RESULT_FILE".into(), text(&place.result())),
    ];
    if task.len() <= TASK_BYTES_MAX {
        env.push(("ENVMILL_TASK".into(), task));
    }
    env.extend(launch.env.iter().map(|(name, value)| {
        let value = value.replace("{base_url}", base_url).replace("{api_key}", key);
        (name.clone(), value.replace("{directory}", &text(place.path())))
    }));
    env
}

/// Waits for the end of a program, or of its time. Where nobody waits any more it ends before its place does.
async fn ended(place: Place, mut program: Program, limit: Duration) -> Outcome {
    let is_in_time = tokio::time::timeout(limit, program.ended()).await.is_ok();
    if !is_in_time {
        program.terminate();
        let _ = tokio::time::timeout(FAREWELL, program.ended()).await;
    }
    let left = program.end();
    let outcome = outcome(&left, is_in_time, &place.result());
    // What it has left may be much.
    drop(tokio::task::spawn_blocking(move || drop(place)));
    outcome
}

fn late() -> Outcome {
    Outcome { ended: "its time was over".into(), truncated: true, ..Outcome::default() }
}

fn outcome(left: &Left, is_in_time: bool, result: &Path) -> Outcome {
    let begin = left.output.len().saturating_sub(OUTPUT_BYTES);
    let output = String::from_utf8_lossy(&left.output[begin..]).into_owned();
    let said = Said::read(result, &left.output);
    if !is_in_time {
        // It may have been about to write it.
        return Outcome { output, ..late() }.saying(said.unwrap_or_default());
    }
    let ended = match &left.status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    if !left.status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        let said = if left.errors.is_empty() { "(nothing)" } else { &left.errors };
        let error = format!("the program has ended with {ended}, and said last:\n{said}");
        return Outcome { output, ..Outcome::failed(ended, error) };
    }
    match said {
        Ok(said) => Outcome { ended, output, ..Outcome::default() }.saying(said),
        Err(problem) => Outcome { output, ..Outcome::failed(ended, problem) },
    }
}

/// Waits for a program that asks for it, and then for its word on how it ended.
async fn wait(shared: &Shared, offer: &Offer<'_>) -> (Outcome, Captured) {
    let task = task(offer.job, offer.turn);
    let Some(Taken { opened, told }) = shared.door.offer(task, offer.limit).await else {
        return (Outcome::failed("not asked for", "the endpoint has closed"), Captured::default());
    };
    let outcome = match tokio::time::timeout(offer.limit, told).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Outcome::failed("not closed", "the endpoint has closed"),
        Err(_) => late(),
    };
    (outcome, opened.close())
}
