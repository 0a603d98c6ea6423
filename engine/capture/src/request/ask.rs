//! A call, as it was read.

use envmill_chat::Message;
use envmill_inference::Sampling;
use serde_json::value::RawValue;

use super::{chat, completion};
use crate::{CaptureOptions, refusal::Refusal};

/// Which of the endpoints was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// A call.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The name that the call gives the model.
    pub(crate) model: String,
    pub(crate) subject: Subject,
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) seed: Option<u64>,
    /// So many continuations of each prompt are wanted, at least 1.
    pub(crate) n: u32,
    pub(crate) shape: Shape,
}

/// What is to be continued.
#[derive(Debug)]
pub(crate) enum Subject {
    Chat {
        messages: Vec<Message>,
        /// Tools and template variables as they were written: models see their keys in that order.
        tools: Option<Box<RawValue>>,
        variables: Option<Box<RawValue>>,
    },
    /// At least one.
    Completions(Vec<Prompt>),
}

/// A prompt that no template is around.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

/// What the answer should look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// It comes in pieces.
    pub(crate) stream: bool,
    /// The last piece counts tokens.
    pub(crate) usage: bool,
    pub(crate) logprobs: bool,
    /// It has the token ids, as vLLM answers them.
    pub(crate) token_ids: bool,
    pub(crate) calls: Calls,
    /// Texts that end it, and are no part of it.
    pub(crate) stop: Vec<String>,
}

/// Which calls of tools are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// None.
    None,
    /// Those that the model writes in its own format, if it likes.
    Written,
    /// A list of them, which is all that it can say.
    Listed,
    /// Arguments of this tool, which are all that it can say.
    Named(String),
}

impl Ask {
    /// Reads a body. Fields that nobody here knows are let be, as servers of this API do.
    pub(crate) fn read(api: Api, body: &[u8], options: &CaptureOptions) -> Result<Self, Refusal> {
        match api {
            Api::Chat => chat::read(body, options),
            Api::Completions => completion::read(body, options),
        }
    }
}
