//! What vLLM answers in development mode.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use envmill_protocol::PolicyVersion;
use http::{Method, StatusCode};

use crate::{Control, Error, ErrorKind};

use super::vllm::Inner;

/// Answers of its control endpoints are short.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

impl Inner {
    /// Changes the state of the server.
    pub(super) async fn control(&self, control: Control) -> Result<(), Error> {
        match control {
            Control::Pause(mode) => {
                self.post(&format!("/pause?mode={}", mode.name()), Bytes::new()).await
            }
            Control::Resume => self.post("/resume", Bytes::new()).await,
            Control::LoadWeights { folder } => {
                let Ok(folder) = folder.into_os_string().into_string() else {
                    return Err(Error::new(ErrorKind::Refused, "the folder's name is no UTF-8"));
                };
                let body = serde_json::json!({
                    "method": "reload_weights",
                    "kwargs": {"weights_path": folder},
                });
                self.post("/collective_rpc", body.to_string().into())
                    .await
                    .map_err(Error::of_update)?;
                // What is cached was computed with the old weights. Generations that were kept are computed
                // anew from their tokens, so that all that follows is the new weights' own.
                self.post("/reset_prefix_cache?reset_running_requests=true", Bytes::new())
                    .await
                    .map_err(Error::of_update)
            }
            Control::SetVersion(version) => {
                let PolicyVersion(number) = version;
                let body = serde_json::json!({"new_version": number.to_string()});
                self.post("/update_weight_version", body.to_string().into())
                    .await
                    .map_err(Error::of_update)?;
                self.version.store(number, Ordering::Release);
                Ok(())
            }
        }
    }

    async fn post(&self, path: &str, body: Bytes) -> Result<(), Error> {
        let (status, answer) = self.link.send(Method::POST, path, body).await?;
        if status.is_success() {
            return self.link.read(answer, ANSWER_BYTES_MAX).await.map(drop);
        }
        let refusal = self.link.refusal(path, status, answer).await;
        if matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
            let hint = "vLLM answers this only if it was started with VLLM_SERVER_DEV_MODE=1";
            let message = format!("{}; {hint}", refusal.message);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Err(refusal)
    }
}
