//! Chats by the tools and template variables that calls give.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use envmill_chat::{Chat, ChatError, ChatOptions, Json, Model};
use serde_json::value::RawValue;

use crate::{key::Digest, refusal::Refusal};

/// A chat with its tools and variables.
#[derive(Clone)]
pub(crate) struct Known {
    /// The same for the same tools and variables.
    pub(crate) digest: Digest,
    pub(crate) chat: Arc<Chat>,
}

type Slot = Arc<OnceLock<Result<Arc<Chat>, Refusal>>>;

/// Chats, the latest used last; the first is given up where there are too many.
pub(crate) struct Chats {
    model: Arc<Model>,
    options: ChatOptions,
    most: usize,
    slots: Mutex<Vec<(Digest, Slot)>>,
}

impl Chats {
    pub(crate) fn new(model: Arc<Model>, options: ChatOptions, most: usize) -> Self {
        Self { model, options, most: most.max(1), slots: Mutex::default() }
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// The chat with these tools and variables. Compiling one takes milliseconds: those who ask for it
    /// meanwhile wait, so this must not be called on a thread of the runtime.
    pub(crate) fn of(
        &self,
        tools: Option<&RawValue>,
        variables: Option<&RawValue>,
    ) -> Result<Known, Refusal> {
        let [tools, variables] = [tools, variables].map(|it| it.map_or("", RawValue::get));
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(tools.len() as u64).to_le_bytes());
        hasher.update(tools.as_bytes()).update(variables.as_bytes());
        let digest = *hasher.finalize().as_bytes();
        let slot = self.slot(digest);
        let made = slot.get_or_init(|| self.make(tools, variables));
        if made.is_err() {
            self.slots().retain(|(known, _)| *known != digest);
        }
        Ok(Known { digest, chat: made.clone()? })
    }

    fn slot(&self, digest: Digest) -> Slot {
        let mut slots = self.slots();
        let found = slots.iter().position(|(known, _)| *known == digest);
        let slot = found.map_or_else(Slot::default, |at| slots.remove(at).1);
        if slots.len() >= self.most {
            slots.remove(0);
        }
        slots.push((digest, Arc::clone(&slot)));
        slot
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Vec<(Digest, Slot)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, tools: &str, variables: &str) -> Result<Arc<Chat>, Refusal> {
        let mut options = self.options.clone();
        if !tools.is_empty() {
            options.tools = serde_json::from_str(tools)
                .map_err(|error| Refusal::bad("tools", error.to_string()))?;
        }
        if !variables.is_empty() {
            let more: std::collections::BTreeMap<String, Json> = serde_json::from_str(variables)
                .map_err(|error| Refusal::bad("chat_template_kwargs", error.to_string()))?;
            options.variables.extend(more);
        }
        let chat = Chat::new(Arc::clone(&self.model), options);
        chat.map(Arc::new).map_err(|error: ChatError| Refusal::chat(&error))
    }
}
