//! A conversation that is exact to the token.

use std::sync::Arc;

use crate::delta::{self, Seen, Verdict};
use crate::ending::Ending;
use crate::window::Window;
use crate::{Branch, Chat, ChatError, Continuity, Message, Rewrites};

/// What became of messages that were observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// Ids were appended.
    Appended {
        /// How many.
        tokens: usize,
        /// Whether the template would have written the past differently, and it was kept as it was.
        kept: Option<Why>,
    },
    /// The conversation was rendered anew, into the ids of a new branch.
    Forked {
        /// Why nothing could be appended.
        why: Why,
        /// The branch that has ended. What was sampled in it is masked out in the new one.
        ended: Branch,
        /// How many ids the new branch has.
        tokens: usize,
    },
}

/// How the template would write the past differently than it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// What stands before the model's last words would change: it strips earlier reasoning, moves
    /// tools, or depends on the last question.
    Past,
    /// The model's last words would change: they are trimmed, stripped of reasoning, or rewritten.
    Words,
    /// Whitespace around the model's last words would change.
    Whitespace,
    /// The model ended its turn with another token than the template does.
    Ending,
}

/// What an engine's report of its prompt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// It has seen our ids.
    None,
    /// It has seen other ids behind what the model has sampled. They are ours from here on.
    Prompt {
        /// The first that differs.
        at: usize,
    },
    /// It has seen other ids where the model had sampled ours: a new branch has its ids.
    Forked {
        /// The branch that has ended.
        ended: Branch,
    },
}

/// One conversation. Ids are only ever appended to its branch; see `docs/conversations.md` for where
/// they come from.
#[derive(Clone)]
pub struct Conversation {
    chat: Arc<Chat>,
    messages: Vec<Message>,
    window: Window,
    /// What the template has written of it so far, unless something else was kept.
    seen: Option<Seen>,
    /// The text of the last prompt, kept where histories are compared in full.
    rendered: Option<String>,
    branch: Branch,
    /// Where the model's present turn begins, once it has begun.
    said_from: Option<usize>,
    /// What of the present turn was said in a branch that has ended since.
    said_before: String,
    /// How the template is shown the present turn, if not as its text.
    said_as: Option<Message>,
    turns: u64,
    drifts: u64,
}

/// From which turn on a condensed history is checked against the full one, at each power of two.
const FIRST_AUDIT: u64 = 16;

impl Conversation {
    pub(crate) fn new(chat: Arc<Chat>, messages: Vec<Message>, ids: &[u32], text: String) -> Self {
        let window = Window::new(&chat.markers, &messages);
        let compares = chat.continuity != Continuity::Windowed;
        Self {
            branch: Branch::new(0, ids),
            seen: Some(Seen::of(&text)),
            rendered: compares.then_some(text),
            chat,
            messages,
            window,
            said_from: None,
            said_before: String::new(),
            said_as: None,
            turns: 0,
            drifts: 0,
        }
    }

    /// The ids for the next generation: everything so far.
    #[must_use]
    pub fn prompt(&self) -> &[u32] {
        &self.branch.tokens
    }

    /// Takes what an engine reports as the prompt it has seen. If it is not ours, the engine's counts
    /// from here on, because it is what the model has seen; the difference is counted as drift.
    pub fn engine_prompt(&mut self, ids: &[u32]) -> Drift {
        let ours = &self.branch.tokens;
        if ours == ids {
            return Drift::None;
        }
        self.drifts += 1;
        let at = ours.iter().zip(ids).take_while(|(a, b)| a == b).count();
        if at < self.branch.sampled_end() {
            // In the midst of a turn, its first part is in what the engine has seen.
            if let Some(from) = self.said_from.take() {
                let said = self.chat.model.decode_behind(&self.branch.tokens[from..]);
                self.said_before.push_str(&said.unwrap_or_default());
            }
            let next = Branch::new(self.branch.number + 1, ids);
            return Drift::Forked { ended: std::mem::replace(&mut self.branch, next) };
        }
        let role = self.branch.spans.last().map_or("prompt".to_owned(), |span| span.role.clone());
        self.branch.truncate(at);
        self.branch.push(&role, &ids[at..], false);
        Drift::Prompt { at }
    }

    /// Appends exactly the ids that the model has sampled, its end of turn included if it has sampled
    /// it. Another call before anything is observed goes on with the same turn, as after a limit of
    /// length or a generation that was interrupted.
    pub fn sampled(&mut self, ids: &[u32]) {
        self.said_from.get_or_insert(self.branch.tokens.len());
        self.branch.push("assistant", ids, true);
    }

    /// Appends text to the model's present turn that it has not sampled, as where its reasoning is cut short.
    /// The next call of [`sampled`](Self::sampled) goes on with the same turn.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails. The conversation is then as before.
    pub fn forced(&mut self, text: &str) -> Result<(), ChatError> {
        let ids = self.chat.model.encode_behind(text)?;
        self.said_from.get_or_insert(self.branch.tokens.len());
        self.branch.push("assistant", &ids, false);
        Ok(())
    }

    /// The text of the last so many ids of the prompt, special ones included.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn tail(&self, ids: usize) -> Result<String, ChatError> {
        let begin = self.branch.tokens.len().saturating_sub(ids);
        Ok(self.chat.model.decode_behind(&self.branch.tokens[begin..])?)
    }

    /// Says how the template is to be shown the model's present turn: as calls of tools, where it wants
    /// to see those. Without this it is shown the text.
    pub fn said_as(&mut self, message: Message) {
        self.said_as = Some(message);
    }

    /// The text of the model's present turn, without its end of turn.
    ///
    /// # Errors
    ///
    /// If the model has not spoken since the last prompt, or the tokenizer fails.
    pub fn words(&self) -> Result<String, ChatError> {
        Ok(self.ending()?.words)
    }

    /// The model's present turn as the template will be shown it: its text, or what was given to
    /// [`said_as`](Self::said_as).
    ///
    /// # Errors
    ///
    /// If the model has not spoken since the last prompt, or the tokenizer fails.
    pub fn said(&self) -> Result<Message, ChatError> {
        let words = self.words()?;
        Ok(self.said_as.clone().unwrap_or_else(|| Message::assistant(words)))
    }

    /// Appends what the environment says, behind the model's turn, and the prompt for its next one.
    /// Or, if the template would write the past differently, renders the conversation anew.
    ///
    /// # Errors
    ///
    /// If the model has not spoken, nothing is said, the template refuses the messages, or the
    /// tokenizer fails. The conversation is then as before.
    pub fn observe(&mut self, messages: &[Message]) -> Result<Continuation, ChatError> {
        let Some(first) = messages.first() else { return Err(ChatError::NoMessages) };
        let ending = self.ending()?;
        let said = self.said_as.clone().unwrap_or_else(|| Message::assistant(&*ending.words));
        let step = self.step(&said, messages, &ending)?;
        let continuation = match step {
            Step::Append { ids, kept } => {
                // The end of the turn is the model's, though it has not sampled it.
                let missing = &self.chat.closing.ids[ending.closing_ids..];
                let own = if ids.starts_with(missing) { missing.len() } else { 0 };
                self.branch.push("assistant", &ids[..own], false);
                self.branch.push(&first.role, &ids[own..], false);
                self.enter(said, messages);
                Continuation::Appended { tokens: ids.len(), kept }
            }
            Step::Fork(why) => {
                let mut all = self.messages.clone();
                all.push(said.clone());
                all.extend_from_slice(messages);
                let text = self.chat.render(&all)?;
                let ids = self.chat.model.encode(&text)?;
                let next = Branch::new(self.branch.number + 1, &ids);
                let ended = std::mem::replace(&mut self.branch, next);
                self.seen = Some(Seen::of(&text));
                if self.rendered.is_some() {
                    self.rendered = Some(text);
                }
                self.enter(said, messages);
                Continuation::Forked { why, ended, tokens: ids.len() }
            }
        };
        Ok(continuation)
    }

    /// The model's present turn, split at its end.
    fn ending(&self) -> Result<Ending, ChatError> {
        let from = self.said_from.ok_or(ChatError::OutOfTurn)?;
        let mut ending = self.chat.closing.split(&self.chat.model, &self.branch.tokens[from..])?;
        ending.words.insert_str(0, &self.said_before);
        Ok(ending)
    }

    fn enter(&mut self, said: Message, messages: &[Message]) {
        self.window.push(&self.chat.markers, &said, messages);
        self.messages.push(said);
        self.messages.extend_from_slice(messages);
        self.said_from = None;
        self.said_before.clear();
        self.said_as = None;
        self.turns += 1;
    }

    /// What to do about messages.
    fn step(
        &mut self,
        said: &Message,
        messages: &[Message],
        ending: &Ending,
    ) -> Result<Step, ChatError> {
        let audit = self.turns >= FIRST_AUDIT && self.turns.is_power_of_two();
        if self.rendered.is_none() && (audit || self.window.is_full()) {
            let is_as_seen = self.audit(said, messages, ending)?;
            if !is_as_seen && self.chat.rewrites != Rewrites::Keep {
                return Ok(Step::Fork(Why::Past));
            }
        }
        let (before, after): (Arc<str>, String) = match &self.rendered {
            Some(before) => (before.as_str().into(), self.render_all(said, messages)?),
            None => (
                self.chat.render_window(&self.window)?,
                self.chat.render_round(&self.window, said, messages)?,
            ),
        };
        let (verdict, delta) = delta::compare(&before, &after, &ending.words);
        let why = match verdict {
            Verdict::Same => None,
            Verdict::Whitespace => Some(Why::Whitespace),
            Verdict::Rewritten(why) => Some(why),
        };
        let rewrites = self.chat.rewrites;
        let keeps = match why {
            None => true,
            Some(Why::Whitespace) => rewrites != Rewrites::Fork,
            Some(_) => rewrites == Rewrites::Keep,
        };
        if let (false, Some(why)) = (keeps, why) {
            return Ok(Step::Fork(why));
        }
        let own;
        let delta = match delta {
            Some(delta) => delta,
            // Kept though it was rewritten: the delta is what stands behind other words.
            None => match self.behind(said, messages)? {
                Some(delta) => {
                    own = delta;
                    &own
                }
                None => return Ok(Step::Fork(why.unwrap_or(Why::Words))),
            },
        };
        let behind = delta.strip_prefix(ending.closed.as_str());
        let (behind, why) = match behind {
            Some(behind) => (behind.to_owned(), why),
            None if rewrites == Rewrites::Keep => (delta.to_owned(), Some(Why::Ending)),
            None => return Ok(Step::Fork(Why::Ending)),
        };
        // Nothing fails from here on, so that an error leaves all as it was.
        let ids = self.chat.model.encode_behind(&behind)?;
        match (&mut self.seen, why) {
            (Some(seen), None) => {
                seen.push(&ending.words);
                seen.push(&ending.closed);
                seen.push(&behind);
            }
            (seen, _) => *seen = None,
        }
        if self.rendered.is_some() {
            self.rendered = Some(after);
        }
        Ok(Step::Append { ids, kept: why })
    }

    /// What the template puts behind the model's words, whatever it would write for them.
    fn behind(&self, said: &Message, messages: &[Message]) -> Result<Option<String>, ChatError> {
        if said.tool_calls.is_empty() {
            let probe = Message { content: Some(delta::SENTINEL.to_owned()), ..said.clone() };
            let probed = self.chat.render_round(&self.window, &probe, messages)?;
            return Ok(probed.split_once(delta::SENTINEL).map(|(_, delta)| delta.to_owned()));
        }
        // Behind the content come the calls: what is wanted comes behind those, too.
        let after = self.chat.render_round(&self.window, said, messages)?;
        let ended = self.chat.render_ended(&self.window, said)?;
        let words = ended.strip_suffix(self.chat.closing.text.as_str());
        Ok(words.and_then(|words| after.strip_prefix(words)).map(ToOwned::to_owned))
    }

    /// Compares the condensed history with the full one. If they say different things, or the condensed
    /// one has grown too rich, this conversation is compared in full from here on. Gives whether the
    /// template still writes the past as it was seen.
    fn audit(
        &mut self,
        said: &Message,
        messages: &[Message],
        ending: &Ending,
    ) -> Result<bool, ChatError> {
        let before = self.chat.render(&self.messages)?;
        let is_as_seen = self.seen.is_none_or(|seen| seen == Seen::of(&before));
        if is_as_seen && !self.window.is_full() {
            let full = self.render_all(said, messages)?;
            let short_before = self.chat.render_window(&self.window)?;
            let short = self.chat.render_round(&self.window, said, messages)?;
            let words = &ending.words;
            if delta::compare(&before, &full, words) == delta::compare(&short_before, &short, words)
            {
                return Ok(true);
            }
        }
        self.rendered = Some(before);
        Ok(is_as_seen)
    }

    fn render_all(&self, said: &Message, messages: &[Message]) -> Result<String, ChatError> {
        let mut all = self.messages.clone();
        all.push(said.clone());
        all.extend_from_slice(messages);
        self.chat.render(&all)
    }

    /// The present branch: ids, mask and spans.
    #[must_use]
    pub fn branch(&self) -> &Branch {
        &self.branch
    }

    /// The present branch, by value: what a record is assembled from when the conversation is over.
    #[must_use]
    pub fn into_branch(self) -> Branch {
        self.branch
    }

    /// Bytes that it takes in memory beside what it has in common with others.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Branch { tokens, loss_mask, spans, .. } = &self.branch;
        let ids = size_of_val(&tokens[..]) + loss_mask.len() + size_of_val(&spans[..]);
        let messages = self.messages.iter().map(Message::bytes).sum::<usize>();
        let texts = self.rendered.as_ref().map_or(0, String::len) + self.said_before.len();
        size_of::<Self>() + ids + messages + texts
    }

    /// All messages up to the present prompt.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// How often the conversation has forked, drifts within sampled ids included.
    #[must_use]
    pub fn forks(&self) -> u32 {
        self.branch.number
    }

    /// How often an engine reported another prompt.
    #[must_use]
    pub fn drifts(&self) -> u64 {
        self.drifts
    }
}

enum Step {
    Append { ids: Vec<u32>, kept: Option<Why> },
    Fork(Why),
}
