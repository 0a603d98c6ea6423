//! One measured run of each client, as a process of its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envmill_testing::{EnvmillCommand, Running, python, script};
use serde_json::Value;

/// The action that all clients send to `bench_env` and its kin: no sleep, no payload.
pub const BENCH_ACTION: &str = r#"{"sleep_s":0.0,"payload_bytes":0}"#;

/// What a run of a client showed.
#[derive(Clone, Debug)]
pub struct Figures {
    /// CPU microseconds of the client's process for each step, in its steady part.
    pub cpu_us_per_step: f64,
    /// Steps per second of wall-clock.
    pub steps_per_s: f64,
    /// All that it printed.
    pub summary: Value,
}

impl Figures {
    fn from(summary: Value, cpu: &str, rate: &str) -> Result<Self> {
        let number = |key: &str| {
            summary[key].as_f64().with_context(|| format!("no number `{key}` in {summary}"))
        };
        let (cpu_us_per_step, steps_per_s) = (number(cpu)?, number(rate)?);
        Ok(Self { cpu_us_per_step, steps_per_s, summary })
    }
}

/// The stock Python client (`GenericEnvClient`) in a closed loop for `seconds`.
///
/// # Errors
///
/// When it cannot be run or prints no figures.
pub fn python_client(url: &str, sessions: u32, seconds: f64) -> Result<Figures> {
    let mut summary = stock_client(url, sessions, seconds, 0)?;
    let per_1000 = summary["client_cpu_s_per_1k"].as_f64().context("no CPU figure")?;
    summary["cpu_us_per_step"] = (per_1000 * 1e3).into();
    Figures::from(summary, "cpu_us_per_step", "steps_s")
}

/// The same, with what it costs the server whose process this is, children included: CPU microseconds a
/// step.
///
/// # Errors
///
/// When the client fails, or a session of it did.
pub fn python_client_of(url: &str, sessions: u32, seconds: f64, server: u32) -> Result<f64> {
    let summary = stock_client(url, sessions, seconds, server)?;
    let no_errors = summary["errs"].as_object().is_some_and(serde_json::Map::is_empty);
    ensure!(no_errors && summary["reset_ok"] == sessions, "the client had trouble: {summary}");
    let per_1000 = summary["server_cpu_s_per_1k"].as_f64().context("no CPU figure")?;
    Ok(per_1000 * 1e3)
}

/// What the stock client prints; `server` is the process whose CPU it counts, 0 for none.
fn stock_client(url: &str, sessions: u32, seconds: f64, server: u32) -> Result<Value> {
    let mut command = Command::new(python()?);
    command.arg(script("py_bench.py")).args([url, &sessions.to_string(), &seconds.to_string()]);
    command.args(["0", "0", &server.to_string()]);
    last_line(command)
}

/// The bare tuned WebSocket loop in a closed loop for `seconds`.
///
/// # Errors
///
/// When it has not been built, or prints no figures.
pub fn bare_loop(url: &str, sessions: u32, seconds: f64, action: &str) -> Result<Figures> {
    let socket = format!("{}/ws", url.replacen("http", "ws", 1));
    let mut command = Command::new(sibling("bare-loop")?);
    let step = format!(r#"{{"type":"step","data":{action}}}"#);
    command.args([&socket, &sessions.to_string(), &seconds.to_string(), &step]);
    Figures::from(last_line(command)?, "cpu_us_per_step", "steps_per_s")
}

/// A whole job of the engine, records written into a directory that is deleted afterwards.
///
/// # Errors
///
/// When it has not been built, fails, or an episode of it failed.
pub fn engine(url: &str, sessions: u32, episodes: u64, arguments: &[&str]) -> Result<Figures> {
    let directory = tempfile::tempdir()?;
    let finished = EnvmillCommand::built()?
        .args(["run", "--env", url, "--json"])
        .args(["--sessions", &sessions.to_string(), "--episodes", &episodes.to_string()])
        .arg("--out")
        .arg(directory.path().join("out"))
        .args(arguments)
        .run()?;
    ensure!(finished.code() == Some(0), "exit {:?}: {}", finished.code(), finished.stderr);
    Figures::from(finished.summary()?, "cpu_steady_us_per_step", "steps_per_s")
}

/// A program built next to this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.parent().unwrap_or_else(|| Path::new(".")).join(name);
    ensure!(
        path.is_file(),
        "no {}: build with `cargo build --release --workspace`",
        path.display()
    );
    Ok(path)
}

fn last_line(mut command: Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default())
        .with_context(|| format!("no JSON from {command:?}: {text}"))
}

/// `envmill env serve` of an OpenEnv class among the tests' servers, and its URL.
///
/// # Errors
///
/// When it has not been built, or does not start.
pub fn front(class: &str) -> Result<(Running, String)> {
    let port = envmill_testing::free_port()?;
    let running = EnvmillCommand::built()?
        .args(["env", "serve", &format!("openenv-class:{class}")])
        .args(["--port", &port.to_string(), "--python"])
        .arg(envmill_testing::python()?)
        .env("PYTHONPATH", envmill_testing::script("servers"))
        .start()?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    envmill_testing::wait_until("the front is up", Duration::from_secs(120), || {
        envmill_testing::get(address, "/health").is_ok()
    });
    Ok((running, format!("http://{address}")))
}
