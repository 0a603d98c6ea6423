//! Which versions of which packages a Python environment has.

use std::{
    env,
    ffi::OsString,
    io::Read as _,
    process::{ChildStdout, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::config::{Local, RunOptions, Source};

/// Asks the interpreter, which imports nothing of the environment's own.
const PROGRAM: &str = include_str!("versions.py");
/// An interpreter that takes longer has none to tell.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether somebody wants it to end.
const LOOKED_EVERY: Duration = Duration::from_millis(100);

/// The versions of Python, of the packages that the environment's module is installed by, and of OpenEnv, Gymnasium
/// and NumPy where they are there, each after its name. Nothing for what is no Python environment, or where the
/// interpreter cannot be asked.
pub(super) fn versions(run: &RunOptions, is_interrupted: &dyn Fn() -> bool) -> Vec<String> {
    let name = match run.sources.first() {
        Some(Source::Local(Local::OpenEnvClass(it)) | Source::Served(Local::OpenEnvClass(it))) => {
            &it.class
        }
        Some(Source::Local(Local::Gymnasium(it)) | Source::Served(Local::Gymnasium(it))) => {
            &it.name
        }
        _ => return Vec::new(),
    };
    let asked = ask(run, name, is_interrupted);
    if asked.is_none() {
        tracing::warn!(environment = name, "the interpreter does not say which packages it has");
    }
    asked.unwrap_or_default()
}

fn ask(run: &RunOptions, name: &str, is_interrupted: &dyn Fn() -> bool) -> Option<Vec<String>> {
    let python = run.python.clone().unwrap_or_else(|| "python3".into());
    let mut child = Command::new(python)
        .args(["-c", PROGRAM, name])
        .env("PYTHONPATH", path(run)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let text = child.stdout.take().and_then(|stdout| printed(stdout, is_interrupted));
    // One that has ended is not there to be killed.
    let _ = child.kill();
    let _ = child.wait();
    let text = text?;
    serde_json::from_str(text.lines().last()?).ok()
}

/// All that it prints, unless that takes too long.
fn printed(mut stdout: ChildStdout, is_interrupted: &dyn Fn() -> bool) -> Option<String> {
    let (sender, read) = mpsc::channel();
    let reader = thread::Builder::new().name("versions".into()).spawn(move || {
        let mut text = String::new();
        // What was read before an error is what there is, and who has given up needs none of it.
        let _ = stdout.read_to_string(&mut text);
        let _ = sender.send(text);
    });
    reader.ok()?;
    let deadline = Instant::now() + PATIENCE;
    while !is_interrupted() && Instant::now() < deadline {
        match read.recv_timeout(LOOKED_EVERY) {
            Ok(text) => return Some(text),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    None
}

/// Where modules are looked for, as in the processes of the environment.
fn path(run: &RunOptions) -> Option<OsString> {
    let before = env::var_os("PYTHONPATH").unwrap_or_default();
    let before = env::split_paths(&before).filter(|path| !path.as_os_str().is_empty());
    env::join_paths(run.python_path.iter().cloned().chain(before)).ok()
}
