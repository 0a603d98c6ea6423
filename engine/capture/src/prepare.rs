//! From a call's messages to the ids of its prompt.

use std::sync::Arc;

use envmill_chat::{Continuation, Conversation, Message};

use crate::{
    Begun, CaptureOptions,
    chats::{Chats, Known},
    episode::Episode,
    held::{Past, Talk},
    key::Digest,
    refusal::Refusal,
    request::{Ask, Prompt, Subject},
    trail::Trail,
};

/// Ids of the prompt's end in which the beginning of reasoning is looked for.
const TAIL: usize = 16;

/// A prompt that is ready to be sampled for.
pub(crate) struct Prepared {
    /// Up to the prompt, if messages led to it. The rest of what is said of messages means nothing otherwise.
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
    /// What is sampled is held to a constraint.
    pub(crate) is_held: bool,
}

/// Renders and tokenises a call's prompts, at least one. Not for threads of the runtime.
pub(crate) fn prepare(
    chats: &Chats,
    options: &CaptureOptions,
    episode: &Episode,
    ask: &Ask,
) -> Result<Vec<Prepared>, Refusal> {
    match &ask.subject {
        Subject::Chat { messages, tools, variables } => {
            let known = chats.of(tools.as_deref(), variables.as_deref())?;
            Ok(vec![chat(chats, options, episode, ask, (&known, messages))?])
        }
        Subject::Completions(prompts) => {
            let prepared = prompts.iter().map(|it| completion(chats, options, episode, ask, it));
            prepared.collect()
        }
    }
}

/// A prompt without a template: it continues an earlier call if it begins with that call's ids.
fn completion(
    chats: &Chats,
    options: &CaptureOptions,
    episode: &Episode,
    ask: &Ask,
    prompt: &Prompt,
) -> Result<Prepared, Refusal> {
    let prompt: Arc<[u32]> = match prompt {
        Prompt::Text(text) => {
            let ids = chats.model().encode(text);
            ids.map_err(|error| Refusal::bad("prompt", error.to_string()))?.into()
        }
        Prompt::Ids(ids) => ids.as_slice().into(),
    };
    if prompt.is_empty() {
        return Err(Refusal::bad("prompt", "there is no token in the prompt"));
    }
    let parent = episode.began(&prompt);
    Ok(Prepared {
        conversation: None,
        chat: Digest::default(),
        trail: Trail::of(&[]),
        begun: if parent.is_some() { Begun::Continued } else { Begun::Anew },
        parent,
        max_tokens: max_tokens(options, ask, &prompt, "prompt")?,
        prompt,
        reasons: false,
        is_held: ask.sampling.constraint.is_some(),
    })
}

/// How many tokens may be sampled behind a prompt.
fn max_tokens(
    options: &CaptureOptions,
    ask: &Ask,
    prompt: &[u32],
    name: &str,
) -> Result<u32, Refusal> {
    let context = options.context_tokens;
    let room = context.saturating_sub(u32::try_from(prompt.len()).unwrap_or(u32::MAX));
    if room == 0 {
        return Err(Refusal::too_long(name, prompt.len(), context));
    }
    Ok(ask.max_tokens.or(options.max_tokens).unwrap_or(room).min(room))
}

/// Messages: what continues an earlier call is appended to it, all else begins anew.
fn chat(
    chats: &Chats,
    options: &CaptureOptions,
    episode: &Episode,
    ask: &Ask,
    (known, messages): (&Known, &[Message]),
) -> Result<Prepared, Refusal> {
    let trail = Trail::of(messages);
    let found = episode.continued(messages, &trail);
    let parent = found.as_ref().map(|(index, ..)| *index);
    let continued =
        found.and_then(|(_, count, past)| proceed(known, past, messages.split_at(count)));
    let (conversation, begun) = match continued {
        Some(continued) => continued,
        None => {
            let begun = known.chat.begin(messages.to_vec());
            (begun.map_err(|error| Refusal::chat(&error))?, Begun::Anew)
        }
    };
    let prompt: Arc<[u32]> = conversation.prompt().into();
    let max_tokens = max_tokens(options, ask, &prompt, "messages")?;
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
        is_held: ask.sampling.constraint.is_some(),
    })
}

/// The conversation with new messages behind those that it had with its answer. `None`: they have to be
/// rendered anew, because the tools are others, or the template refuses them so.
fn proceed(
    known: &Known,
    past: Past,
    (before, new): (&[Message], &[Message]),
) -> Option<(Conversation, Begun)> {
    if past.chat != known.digest {
        return None;
    }
    let conversation = match past.talk {
        Talk::AsItIs(conversation) => conversation,
        Talk::Ids(prompt, sampled) => {
            let (_, asked) = before.split_last()?;
            let mut conversation = known.chat.resume(asked.to_vec(), &prompt).ok()?;
            conversation.sampled(&sampled);
            Arc::new(conversation)
        }
    };
    let observe = |mut conversation: Conversation| {
        let begun = match conversation.observe(new).ok()? {
            Continuation::Appended { .. } => Begun::Continued,
            Continuation::Forked { why, .. } => Begun::Forked(why),
        };
        Some((conversation, begun))
    };
    // The model's own text is what it said. Templates that accept a tool's answer only behind a call of
    // it are shown the call.
    observe(Conversation::clone(&conversation)).or_else(|| {
        let mut conversation = Conversation::clone(&conversation);
        conversation.said_as(Message::clone(&past.said));
        observe(conversation)
    })
}
