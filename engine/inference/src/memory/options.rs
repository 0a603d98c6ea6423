//! How the channel is set up.

use std::path::PathBuf;

/// How to reach a vLLM whose API server has Envmill's plug-in, and how large batches are.
///
/// A batch takes address space for its most, and memory only as far as it was ever used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VllmMemoryOptions {
    /// The plug-in's socket: what `ENVMILL_VLLM_SOCKET` says where vLLM was started.
    pub socket: PathBuf,
    /// The name of the vLLM that is expected there, as its plug-in says it; another one is
    /// [lost](crate::ErrorKind::Lost). `None`: whichever listens.
    pub engine: Option<String>,
    /// So many rows a batch has at most, either way. 256.
    pub rows: u32,
    /// So many batches are on their way at once, either way. 4.
    pub slots: u32,
    /// So many tokens the prompts of one batch have together. A longer prompt is refused, so that this is
    /// at least the model's context. 1 Mi.
    pub prompt_tokens: u32,
    /// So many sampled tokens one batch has; what is longer comes in parts. 256 Ki.
    pub sampled_tokens: u32,
    /// So many bytes of texts one batch has: strings that end generations, folders, errors. 64 KiB.
    pub text_bytes: u32,
    /// So many bytes the JSON schemas of one batch have together. A longer one is refused. 1 MiB.
    pub schema_bytes: u32,
    /// So many requests may wait to be written; more are told that there is no room
    /// ([`ErrorKind::Busy`](crate::ErrorKind)). 65 536.
    pub waiting_max: usize,
}

impl VllmMemoryOptions {
    /// Those for the plug-in at `socket`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            engine: None,
            rows: 256,
            slots: 4,
            prompt_tokens: 1 << 20,
            sampled_tokens: 1 << 18,
            text_bytes: 1 << 16,
            schema_bytes: 1 << 20,
            waiting_max: 1 << 16,
        }
    }
}
