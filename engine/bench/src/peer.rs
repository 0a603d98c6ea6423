//! The stock Python client on the same target, by its own numbers.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::report::{Peer, PeerPoint};

/// What peers there are.
pub const NAMES: [&str; 1] = ["openenv-client"];

const PROGRAM: &str = include_str!("peer.py");
/// How often it is looked at whether an end was asked for.
const LOOKED_EVERY: Duration = Duration::from_millis(100);
/// How long a point may take beyond its own time: opening sessions, slow answers, closing.
const PATIENCE: Duration = Duration::from_mins(3);
/// How much of what the program says is shown.
const WORDS_BYTES_MAX: usize = 600;

/// What the peer is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The interpreter, which has `openenv`.
    pub python: PathBuf,
    /// The server.
    pub url: String,
    /// The numbers of sessions.
    pub sessions: Vec<u32>,
    /// Before anything counts.
    pub warm_up: Duration,
    /// What counts.
    pub measure: Duration,
    /// Actions, taken in turn.
    pub actions: Vec<Value>,
    /// The parameters of each reset.
    pub reset: Map<String, Value>,
    /// The seed of the first episode, if resets carry one.
    pub seed: Option<u64>,
    /// The most steps of an episode.
    pub max_steps: Option<u32>,
    /// The server's processes.
    pub server_pids: Vec<u32>,
    /// Headers of each connection. They are passed to the program, and shown nowhere.
    pub headers: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Began {
    version: String,
}

/// Runs the stock OpenEnv client at these numbers of sessions, and says what it measured. Ends it when
/// `is_interrupted` says so.
pub fn openenv_client(options: &Options, is_interrupted: &dyn Fn() -> bool) -> Peer {
    let mut peer =
        Peer { name: NAMES[0].into(), version: String::new(), points: Vec::new(), error: None };
    if let Err(problem) = run(options, is_interrupted, &mut peer) {
        peer.error = Some(problem);
    }
    peer
}

fn run(
    options: &Options,
    is_interrupted: &dyn Fn() -> bool,
    peer: &mut Peer,
) -> Result<(), String> {
    let python = options.python.display();
    let headers = options.headers.iter();
    let headers: Map<String, Value> =
        headers.map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let told = json!({
        "url": options.url,
        "sessions": options.sessions,
        "warm_up_s": options.warm_up.as_secs_f64(),
        "measure_s": options.measure.as_secs_f64(),
        "actions": options.actions,
        "reset": options.reset,
        "seed": options.seed,
        "max_steps": options.max_steps,
        "server_pids": options.server_pids,
        "headers": headers,
    });
    let mut child = Command::new(&options.python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            format!(
                "--peer: cannot start {python}: {error}; name an interpreter that has openenv with \
                 --python"
            )
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended already says why on its standard error.
        let _ = stdin.write_all(told.to_string().as_bytes());
    }
    // Read all the time, so that a talkative client never waits for us.
    let words = child.stderr.take().map(|stderr| thread::spawn(|| words(stderr)));
    let taken = follow(&mut child, options, is_interrupted, peer);
    if taken.is_err() || is_interrupted() {
        // One that has ended is not there to be killed.
        let _ = child.kill();
    }
    let words = words.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let status = child.wait().map_err(|error| format!("--peer: {error}"))?;
    taken?;
    if peer.points.len() == options.sessions.len() || is_interrupted() {
        return Ok(());
    }
    if words.contains("No module named 'openenv") {
        return Err(format!(
            "--peer: {python} has no openenv: install it there (pip install openenv), or name another interpreter \
             with --python"
        ));
    }
    Err(format!("--peer: the client ended with {status}: {words}"))
}

/// Reads the program's lines until its end.
fn follow(
    child: &mut Child,
    options: &Options,
    is_interrupted: &dyn Fn() -> bool,
    peer: &mut Peer,
) -> Result<(), String> {
    let Some(stdout) = child.stdout.take() else { return Ok(()) };
    let (sender, lines) = mpsc::channel();
    let reader = thread::Builder::new().name("peer".into()).spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    reader.map_err(|error| format!("--peer: cannot start a thread: {error}"))?;
    let patience = options.warm_up + options.measure + PATIENCE;
    let mut heard = Instant::now();
    while !is_interrupted() {
        match lines.recv_timeout(LOOKED_EVERY) {
            Ok(line) => {
                heard = Instant::now();
                if let Ok(began) = serde_json::from_str::<Began>(&line) {
                    peer.version = began.version;
                } else if let Ok(point) = serde_json::from_str::<PeerPoint>(&line) {
                    peer.points.push(point);
                }
                // Anything else was printed by something that was imported.
            }
            Err(RecvTimeoutError::Timeout) if heard.elapsed() > patience => {
                return Err(format!(
                    "--peer: the client said nothing for {} s",
                    patience.as_secs()
                ));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(())
}

/// The end of what it said.
fn words(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is what there is.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    let cut = text.len().saturating_sub(WORDS_BYTES_MAX);
    text[text.ceil_char_boundary(cut)..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(python: &str) -> Options {
        Options {
            python: python.into(),
            url: "http://127.0.0.1:1".into(),
            sessions: vec![1],
            warm_up: Duration::ZERO,
            measure: Duration::from_millis(10),
            actions: vec![json!({})],
            reset: Map::new(),
            seed: None,
            max_steps: None,
            server_pids: Vec::new(),
            headers: Vec::new(),
        }
    }

    #[test]
    fn an_interpreter_that_is_not_there_is_named() {
        let peer = openenv_client(&options("/no/such/python"), &|| false);
        let error = peer.error.unwrap();
        assert!(error.contains("/no/such/python") && error.contains("--python"), "{error}");
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let peer = openenv_client(&options("/bin/false"), &|| false);
        assert!(peer.error.is_some_and(|error| error.contains("ended with")));
    }
}
