//! The stock Python client's own flow against a server.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{python_of, script};

/// Lets the stock Python client of OpenEnv `version` play against the server at `url`: `sessions`
/// sessions at a time, two episodes each, `steps` times `action` an episode. Returns what it saw (the
/// form is documented in `python/stock_client_flow.py`).
///
/// # Errors
///
/// When the Python environment is missing or the client raises; the message holds its traceback.
pub fn stock_client_flow(
    version: &str,
    url: &str,
    action: &Value,
    steps: u32,
    sessions: u32,
) -> Result<Value> {
    let output = Command::new(python_of(version)?)
        .arg(script("stock_client_flow.py"))
        .arg(url)
        .args(["--action", &action.to_string()])
        .args(["--steps", &steps.to_string()])
        .args(["--sessions", &sessions.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("cannot start the stock client")?;
    if !output.status.success() {
        bail!(
            "the client of OpenEnv {version} failed against {url}:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("the flow did not print JSON")
}
