//! One episode's conversation.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use envmill_chat::{Chat, Continuation, Conversation, Drift, Message, Parsed, ToolCall};
use envmill_inference::{Deliver, Finish, Outcome, Request, RequestId};
use envmill_protocol::{
    Generated, GeneratedKind, Observed, PolicyError, PolicyVersion, Turn, VersionSpan,
    record::Truncation,
};

use crate::{Affinity, Agent, Then, counts::add, tools};

/// One episode's conversation, from turn to turn.
pub(crate) struct Talk {
    agent: Arc<Agent>,
    /// Begins with the first observation that is told.
    conversation: Option<Conversation>,
    /// The same where the channel speaks text only.
    messages: Vec<Message>,
    /// What was called and not sent yet, if the model called several tools at once.
    pending: VecDeque<ToolCall>,
    /// The call that the environment answers now.
    called: Option<ToolCall>,
    /// Answers that the model is told together.
    answers: Vec<Message>,
    /// The environment was asked for its tools, and answers now.
    listing: bool,
    chat: Option<Arc<Chat>>,
    /// Generations of this episode so far, and the last that is part of the conversation.
    generations: u32,
    last: Option<u32>,
    sampled: u64,
    affinity: Option<u64>,
}

/// What a turn came to.
pub(crate) struct Said {
    pub(crate) action: Result<Bytes, PolicyError>,
    pub(crate) generations: Vec<Generated>,
}

/// Names of requests; unique in this process.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

impl Talk {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self {
            chat: agent.chat.clone(),
            agent,
            conversation: None,
            messages: Vec::new(),
            pending: VecDeque::new(),
            called: None,
            answers: Vec::new(),
            listing: false,
            generations: 0,
            last: None,
            sampled: 0,
            affinity: None,
        }
    }

    /// Plays a turn.
    pub(crate) async fn turn(&mut self, turn: &Turn) -> Said {
        let mut generations = Vec::new();
        let action = self.act(turn, &mut generations).await;
        Said { action, generations }
    }

    async fn act(
        &mut self,
        turn: &Turn,
        generations: &mut Vec<Generated>,
    ) -> Result<Bytes, PolicyError> {
        if turn.step == 0 && self.agent.options.tools.from_environment {
            self.listing = true;
            // What the reset showed is told with the first prompt.
            self.answers.push(self.told(turn)?);
            return Ok(Bytes::from_static(tools::LIST));
        }
        if self.listing {
            self.listing = false;
            let (tools, key) =
                tools::listed(&observation(&turn.observed)).map_err(PolicyError::new)?;
            self.chat = Some(self.agent.chat_with(&tools, &key).map_err(failed)?);
        } else if let Some(called) = self.called.take() {
            let text = observation(&turn.observed);
            let answer = tools::answer(&String::from_utf8_lossy(&text));
            self.answers.push(Message::tool(&called, answer));
        } else {
            self.answers.push(self.told(turn)?);
        }
        if let Some(next) = self.pending.pop_front() {
            return self.call(next).map_err(PolicyError::new);
        }
        let told = std::mem::take(&mut self.answers);
        self.tell(told)?;
        if self.chat.is_none() {
            return self.generate_text(turn, generations).await;
        }
        self.generate(turn, generations).await
    }

    /// What the environment showed, as a message.
    fn told(&self, turn: &Turn) -> Result<Message, PolicyError> {
        let text = observation(&turn.observed);
        let reward = turn.observed.reward.value;
        self.agent
            .observe
            .message(&String::from_utf8_lossy(&text), reward, turn.step)
            .map_err(failed)
    }

    /// Appends messages to the conversation, or begins it.
    fn tell(&mut self, mut told: Vec<Message>) -> Result<(), PolicyError> {
        if self.conversation.is_none()
            && self.messages.is_empty()
            && let Some(system) = &self.agent.options.system
        {
            told.insert(0, Message::system(system.clone()));
        }
        let Some(chat) = &self.chat else {
            self.messages.append(&mut told);
            return Ok(());
        };
        let Some(conversation) = &mut self.conversation else {
            self.conversation = Some(chat.begin(told).map_err(failed)?);
            return Ok(());
        };
        if let Continuation::Forked { why, .. } = conversation.observe(&told).map_err(failed)? {
            add(&self.agent.counts.forks, 1);
            tracing::debug!(?why, "a conversation was rendered anew");
        }
        Ok(())
    }

    /// Generates until there is an action.
    async fn generate(
        &mut self,
        turn: &Turn,
        generations: &mut Vec<Generated>,
    ) -> Result<Bytes, PolicyError> {
        let mut again = 0;
        loop {
            let begun = self.conversation.as_ref().ok_or_else(not_begun)?;
            let prompt: Arc<[u32]> = begun.prompt().into();
            let max_tokens = max_tokens(&self.agent, self.sampled, prompt.len())?;
            self.affinity =
                self.affinity.or_else(|| key(self.agent.options.affinity, turn, &*prompt));
            let request = self.request(turn, Arc::clone(&prompt), None, max_tokens);
            let outcome = self.agent.engine.generate(request).whole().await.map_err(failed)?;
            let finish = outcome.finish().cloned().unwrap_or(Finish::Aborted);
            let counts = &self.agent.counts;
            add(&counts.generations, 1);
            add(&counts.sampled_tokens, outcome.token_ids.len());
            add(&counts.prompt_tokens, prompt.len());
            self.sampled += outcome.token_ids.len() as u64;
            let conversation = self.conversation.as_mut().ok_or_else(not_begun)?;
            // What the engine has seen is what was sampled from.
            let seen = outcome.finished.as_ref().and_then(|it| it.prompt.as_deref());
            if let Some(seen) = seen
                && !matches!(conversation.engine_prompt(seen), Drift::None)
            {
                add(&counts.drifts, 1);
            }
            let prompt = seen.unwrap_or(&prompt).to_vec();
            let index = self.generations;
            self.generations += 1;
            let mut generated = generated(prompt, outcome, self.last);
            let before = self.agent.options.malformed.reply.is_none().then(|| conversation.clone());
            conversation.sampled(&generated.token_ids);
            let text = conversation.words().map_err(failed)?;
            let why = match self.agent.actions.parse(&text, turn.step) {
                Parsed::Action(action) => {
                    self.last = Some(index);
                    generations.push(generated);
                    return Ok(action);
                }
                Parsed::ToolCalls(calls) => {
                    let said = Message { tool_calls: calls.clone(), ..Message::assistant("") };
                    let mut calls = VecDeque::from(calls);
                    match calls.pop_front().map(|first| self.call(first)) {
                        Some(Ok(action)) => {
                            if let Some(conversation) = &mut self.conversation {
                                conversation.said_as(said);
                            }
                            self.pending = calls;
                            self.last = Some(index);
                            generations.push(generated);
                            return Ok(action);
                        }
                        Some(Err(why)) => why,
                        None => "it calls no tool".to_owned(),
                    }
                }
                Parsed::Text(text) => match &self.agent.options.tools.answer_field {
                    Some(field) => {
                        self.last = Some(index);
                        generations.push(generated);
                        return Ok(serde_json::json!({ field: text }).to_string().into());
                    }
                    None => "it calls no tool".to_owned(),
                },
                Parsed::Malformed { why } => why,
            };
            add(&self.agent.counts.malformed, 1);
            let is_last = again >= self.agent.options.malformed.again;
            match (before, &self.agent.options.malformed.reply) {
                (Some(before), _) if !is_last => {
                    generated.kind = GeneratedKind::Discarded;
                    self.conversation = Some(before);
                }
                (_, Some(reply)) if !is_last => {
                    self.last = Some(index);
                    let reply = reply.replace("{why}", &why);
                    self.tell(vec![Message::user(reply)])?;
                }
                _ => {}
            }
            generations.push(generated);
            if is_last {
                return Err(self.gave_up(&why, &finish));
            }
            again += 1;
        }
    }

    /// Generates until there is an action, over a channel that speaks text only.
    async fn generate_text(
        &mut self,
        turn: &Turn,
        generations: &mut Vec<Generated>,
    ) -> Result<Bytes, PolicyError> {
        let mut again = 0;
        loop {
            let list: Vec<_> = self.messages.iter().map(Message::to_json).collect();
            let messages: Arc<str> = format!("[{}]", list.join(",")).into();
            self.affinity =
                self.affinity.or_else(|| key(self.agent.options.affinity, turn, &*messages));
            let max_tokens = self.agent.options.limits.turn_tokens;
            let request = self.request(turn, Arc::from([]), Some(messages), max_tokens);
            let outcome = self.agent.engine.generate(request).whole().await.map_err(failed)?;
            add(&self.agent.counts.generations, 1);
            self.generations += 1;
            let finish = outcome.finish().cloned().unwrap_or(Finish::Aborted);
            let text = outcome.finished.and_then(|it| it.text).unwrap_or_default();
            // Which version said it is known, and its tokens are not.
            let policy_versions = vec![VersionSpan { version: PolicyVersion(0), tokens: 0 }];
            generations.push(Generated { policy_versions, ..Generated::default() });
            let why = match self.agent.actions.parse(&text, turn.step) {
                Parsed::Action(action) => {
                    self.messages.push(Message::assistant(text));
                    return Ok(action);
                }
                Parsed::Malformed { why } => why,
                Parsed::ToolCalls(_) | Parsed::Text(_) => "tools cannot be called here".to_owned(),
            };
            add(&self.agent.counts.malformed, 1);
            if again >= self.agent.options.malformed.again {
                return Err(self.gave_up(&why, &finish));
            }
            again += 1;
            if let Some(reply) = &self.agent.options.malformed.reply {
                self.messages.push(Message::assistant(text));
                self.messages.push(Message::user(reply.replace("{why}", &why)));
            }
        }
    }

    /// The next request of this episode.
    fn request(
        &self,
        turn: &Turn,
        prompt: Arc<[u32]>,
        messages: Option<Arc<str>>,
        max_tokens: u32,
    ) -> Request {
        let streamed = self.agent.options.sampling.streamed;
        Request {
            id: RequestId(REQUESTS.fetch_add(1, Ordering::Relaxed)),
            prompt,
            messages,
            sampling: Arc::clone(&self.agent.sampling),
            max_tokens,
            seed: Some(seed(turn, self.generations)),
            affinity: self.affinity,
            deliver: if streamed { Deliver::Streamed } else { Deliver::Whole },
        }
    }

    /// What the model said is no action, again and again.
    fn gave_up(&self, why: &str, finish: &Finish) -> PolicyError {
        let message = format!("what the model said is no action: {why}");
        match self.agent.options.malformed.then {
            Then::Truncate if *finish == Finish::Length => {
                PolicyError::truncated(Truncation::MaxTokens, message)
            }
            Then::Truncate => PolicyError::truncated(Truncation::Malformed, message),
            Then::Fail => PolicyError::new(message),
        }
    }

    fn call(&mut self, call: ToolCall) -> Result<Bytes, String> {
        let action = tools::call(&call)?;
        self.called = Some(call);
        Ok(action)
    }
}

fn generated(prompt_token_ids: Vec<u32>, outcome: Outcome, parent: Option<u32>) -> Generated {
    Generated {
        prompt_token_ids,
        loss_mask: vec![1; outcome.token_ids.len()],
        token_ids: outcome.token_ids,
        logprobs: outcome.logprobs,
        policy_versions: outcome.versions,
        parent,
        kind: GeneratedKind::Agent,
    }
}

/// How many tokens may be sampled now.
fn max_tokens(agent: &Agent, sampled: u64, prompt: usize) -> Result<u32, PolicyError> {
    let limits = agent.options.limits;
    let context = u64::from(agent.context_tokens).saturating_sub(prompt as u64);
    let episode =
        limits.episode_tokens.map_or(u64::MAX, |it| u64::from(it).saturating_sub(sampled));
    let most = context.min(episode).min(u64::from(limits.turn_tokens));
    match u32::try_from(most).unwrap_or(u32::MAX) {
        0 => Err(PolicyError::truncated(
            Truncation::MaxTokens,
            format!("a prompt of {prompt} tokens and {sampled} sampled ones leave no room"),
        )),
        most => Ok(most),
    }
}

fn observation(observed: &Observed) -> Bytes {
    observed.observation.text().clone()
}

/// Another attempt at the same turn samples the same.
fn seed(turn: &Turn, generation: u32) -> u64 {
    hash((turn.seed, turn.step, generation))
}

fn key(affinity: Affinity, turn: &Turn, prompt: &(impl std::hash::Hash + ?Sized)) -> Option<u64> {
    match affinity {
        Affinity::Episode => Some(hash((turn.job.0, turn.episode.0, turn.slot.0))),
        Affinity::Prompt => Some(hash(prompt)),
        Affinity::None => None,
    }
}

fn hash(it: impl std::hash::Hash) -> u64 {
    // The same in every process of one build: its keys are fixed.
    let mut hasher = DefaultHasher::new();
    it.hash(&mut hasher);
    hasher.finish()
}

fn not_begun() -> PolicyError {
    PolicyError::new("the conversation has not begun")
}

fn failed(error: impl std::fmt::Display) -> PolicyError {
    PolicyError::new(error.to_string())
}
