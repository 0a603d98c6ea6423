//! A real vLLM for a benchmark, and what each part of it has used.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{cpu_seconds_of, descendants};

/// Where vLLM is installed: `ENVMILL_VLLM`, as `cargo xtask vllm` has made it.
///
/// # Errors
///
/// The variable is not set.
pub fn vllm_folder() -> Result<PathBuf> {
    let folder = std::env::var_os("ENVMILL_VLLM");
    folder.map(Into::into).context("ENVMILL_VLLM names no folder (see `cargo xtask vllm`)")
}

/// A vLLM with a tiny model. It ends when this is dropped.
pub struct Vllm {
    /// Its own main process: the API server in Python, or what has started the other parts.
    pid: u32,
    frontend: Frontend,
    child: Child,
    held: Option<ChildStdin>,
}

/// What stands in front of vLLM's engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frontend {
    /// Its API server in Python.
    Python,
    /// Its frontend in Rust.
    Rust,
    /// Nothing.
    None,
}

impl Vllm {
    /// Starts one, and waits until it answers; without a frontend, until it was started.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(
        frontend: Frontend,
        port: u16,
        grpc_port: u16,
        socket: Option<&Path>,
    ) -> Result<Self> {
        let kind = match frontend {
            Frontend::Python => "http",
            Frontend::Rust => "rust",
            Frontend::None => "headless",
        };
        let mut command = Command::new("python3");
        command.arg(envmill_testing::script("vllm/server.py")).arg(vllm_folder()?);
        command.args([kind, &port.to_string(), &grpc_port.to_string()]);
        if let Some(socket) = socket {
            command.env("ENVMILL_VLLM_SOCKET", socket);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let held = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let pid = line.strip_prefix("ready ").and_then(|it| it.trim().parse().ok());
        ensure!(pid.is_some(), "vLLM did not start; LOG names a file for what it says");
        Ok(Self { pid: pid.unwrap_or_default(), frontend, child, held })
    }

    /// CPU seconds of what stands in front of its engine, and of the engine with its workers.
    #[must_use]
    pub fn cpu_seconds(&self) -> (f64, f64) {
        let mut spent = (0.0, 0.0);
        for pid in descendants(self.pid) {
            let in_front = match self.frontend {
                Frontend::Python => pid == self.pid,
                // The process in Python that watches over it is counted with it.
                Frontend::Rust => pid == self.pid || name(pid).starts_with("vllm-rs"),
                Frontend::None => false,
            };
            let part = if in_front { &mut spent.0 } else { &mut spent.1 };
            *part += cpu_seconds_of(pid);
        }
        spent
    }
}

impl Drop for Vllm {
    fn drop(&mut self) {
        drop(self.held.take());
        // It may have ended before.
        let _ = self.child.wait();
    }
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}
