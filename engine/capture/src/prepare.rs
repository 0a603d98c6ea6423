//! From a call's messages to the ids of its prompt.

use std::sync::Arc;

use envmill_chat::{Continuation, Conversation, Message};

use crate::{
    Begun, CaptureOptions,
    chats::{Chats, Known},
    episode::{Episode, Node},
    key::Digest,
    refusal::Refusal,
    request::Ask,
    trail::Trail,
};

/// Ids of the prompt's end in which the beginning of reasoning is looked for.
const TAIL: usize = 16;

/// A call that is ready to be sampled for.
pub(crate) struct Prepared {
    /// Up to the prompt.
    pub(crate) conversation: Option<Conversation>,
    pub(crate) chat: Digest,
    pub(crate) trail: Trail,
    pub(crate) begun: Begun,
    /// The call that it continues.
    pub(crate) parent: Option<usize>,
    pub(crate) prompt: Arc<[u32]>,
    pub(crate) max_tokens: u32,
    /// The prompt ends with the beginning of reasoning.
    pub(crate) reasons: bool,
}

/// Renders and tokenises: what continues an earlier call is appended to it, all else begins anew. Not for
/// threads of the runtime.
pub(crate) fn prepare(
    chats: &Chats,
    options: &CaptureOptions,
    episode: &Episode,
    ask: &Ask,
) -> Result<Prepared, Refusal> {
    let known = chats.of(ask.tools.as_deref(), ask.variables.as_deref())?;
    let trail = Trail::of(&ask.messages);
    let found = episode.continued(&ask.messages, &trail);
    let parent = found.as_ref().map(|(index, ..)| *index);
    let continued =
        found.and_then(|(_, count, node)| proceed(&known, &node, &ask.messages[count..]));
    let (conversation, begun) = match continued {
        Some(continued) => continued,
        None => {
            let begun = known.chat.begin(ask.messages.clone());
            (begun.map_err(|error| Refusal::chat(&error))?, Begun::Anew)
        }
    };
    let prompt: Arc<[u32]> = conversation.prompt().into();
    let context = options.context_tokens;
    let room = context.saturating_sub(u32::try_from(prompt.len()).unwrap_or(u32::MAX));
    if room == 0 {
        return Err(Refusal::too_long(prompt.len(), context));
    }
    let max_tokens = ask.max_tokens.or(options.max_tokens).unwrap_or(room).min(room);
    let tail = &prompt[prompt.len().saturating_sub(TAIL)..];
    let open = &options.reasoning[0];
    let reasons = !open.is_empty()
        && chats.model().decode(tail, false).is_ok_and(|it| it.trim_end().ends_with(open));
    Ok(Prepared {
        conversation: Some(conversation),
        chat: known.digest,
        trail,
        begun,
        parent,
        prompt,
        max_tokens,
        reasons,
    })
}

/// The conversation with new messages behind it. `None`: they have to be rendered anew, because the tools
/// are others, or the template refuses them so.
fn proceed(known: &Known, node: &Node, messages: &[Message]) -> Option<(Conversation, Begun)> {
    if node.chat != known.digest {
        return None;
    }
    let observe = |mut conversation: Conversation| {
        let begun = match conversation.observe(messages).ok()? {
            Continuation::Appended { .. } => Begun::Continued,
            Continuation::Forked { why, .. } => Begun::Forked(why),
        };
        Some((conversation, begun))
    };
    // The model's own text is what it said. Templates that accept a tool's answer only behind a call of
    // it are shown the call.
    observe(node.conversation.clone()).or_else(|| {
        let mut conversation = node.conversation.clone();
        conversation.said_as(node.said.clone());
        observe(conversation)
    })
}
