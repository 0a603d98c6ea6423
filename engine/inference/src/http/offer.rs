//! What Envmill's plug-in says over vLLM's HTTP server of a faster way to the same engine.

use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;

use crate::{Error, ErrorKind};

use super::Link;

/// The plug-in's answer (`python/envmill_vllm/plugin.py`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Offer {
    /// Of what is said over shared memory.
    pub(crate) version: u32,
    /// Where engines come; `None` where they cannot.
    pub(crate) socket: Option<PathBuf>,
    /// Which vLLM it is, as is said on the socket, too.
    #[serde(default)]
    pub(crate) engine: String,
    /// The host that it runs on.
    #[serde(default)]
    pub(crate) host: String,
    /// The port that its HTTP server has.
    #[serde(default)]
    pub(crate) port: Option<u16>,
}

const PATH: &str = "/v1/envmill";
const OFFER_BYTES_MAX: u64 = 16 << 10;

impl Link {
    /// Asks for it. `None`: whoever answers knows nothing of it.
    pub(crate) async fn offer(&self) -> Result<Option<Offer>, Error> {
        let (status, body) = self.send(Method::GET, PATH, Bytes::new()).await?;
        if matches!(
            status,
            StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
        ) {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(self.refusal(PATH, status, body).await);
        }
        let text = self.read(body, OFFER_BYTES_MAX).await?;
        let offer = serde_json::from_slice(&text)
            .map_err(|error| Error::new(ErrorKind::Nonsense, format!("{PATH}: {error}")))?;
        Ok(Some(offer))
    }
}
