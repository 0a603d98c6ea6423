//! What vLLM answers in development mode.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use envmill_protocol::PolicyVersion;
use http::Method;

use crate::{Control, Error, ErrorKind, PauseMode};

use super::vllm::Inner;

/// Answers of its control endpoints are short.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

impl Inner {
    /// Changes the state of the server.
    pub(super) async fn control(&self, control: Control) -> Result<(), Error> {
        match control {
            Control::Pause(mode) => {
                let mode = match mode {
                    PauseMode::Keep => "keep",
                    PauseMode::Wait => "wait",
                    PauseMode::Abort => "abort",
                };
                self.post(&format!("/pause?mode={mode}"), Bytes::new()).await
            }
            Control::Resume => self.post("/resume", Bytes::new()).await,
            Control::LoadWeights { folder } => {
                let body = serde_json::json!({
                    "method": "reload_weights",
                    "kwargs": {"weights_path": folder.to_string_lossy()},
                });
                self.post("/collective_rpc", body.to_string().into()).await.map_err(untrusted)?;
                // What is cached was computed with the old weights. Generations that were kept are computed
                // anew from their tokens, so that all that follows is the new weights' own.
                self.post("/reset_prefix_cache?reset_running_requests=true", Bytes::new())
                    .await
                    .map_err(untrusted)
            }
            Control::SetVersion(version) => {
                let PolicyVersion(number) = version;
                let body = serde_json::json!({"new_version": number.to_string()});
                self.post("/update_weight_version", body.to_string().into())
                    .await
                    .map_err(untrusted)?;
                self.version.store(number, Ordering::Release);
                Ok(())
            }
        }
    }

    async fn post(&self, path: &str, body: Bytes) -> Result<(), Error> {
        let answer = self.link.call(Method::POST, path, body, ANSWER_BYTES_MAX).await;
        answer.map(|_| ()).map_err(|error| {
            if error.message.contains(" 404") || error.message.contains(" 403") {
                let hint = "vLLM answers this only if it was started with VLLM_SERVER_DEV_MODE=1";
                return Error::new(ErrorKind::Unsupported, format!("{}; {hint}", error.message));
            }
            error
        })
    }
}

/// Nobody knows what the engine samples from now.
fn untrusted(error: Error) -> Error {
    match error.kind {
        ErrorKind::Unsupported => error,
        _ => Error::new(
            ErrorKind::Lost,
            format!(
                "its weights are unknown after a failed update, restart it ({})",
                error.message
            ),
        ),
    }
}
