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
use envmill_chat::{Chat, Continuation, Conversation, Message, Parsed, ToolCall};
use envmill_inference::Finish;
use envmill_protocol::{
    Generated, GeneratedKind, Observed, PolicyError, Spoken, Turn, record::Truncation,
};

use crate::{Agent, Answer, Ask, Question, Script, Then, counts::add, say::Words, tools};

/// One episode's conversation, from turn to turn.
pub(crate) struct Talk {
    pub(crate) agent: Arc<Agent>,
    /// Begins with the first observation that is told.
    pub(crate) conversation: Option<Conversation>,
    /// The same where the channel speaks text only.
    pub(crate) messages: Vec<Message>,
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
    pub(crate) generations: u32,
    pub(crate) last: Option<u32>,
    pub(crate) sampled: u64,
    pub(crate) affinity: Option<u64>,
    /// So many messages have gone into decisions.
    told: usize,
    over: Over,
}

/// Tells an agent in code that a conversation is over, when it is dropped.
struct Over {
    conversation: u64,
    script: Option<Arc<dyn Script>>,
}

impl Drop for Over {
    fn drop(&mut self) {
        if let Some(script) = &self.script {
            script.ended(self.conversation);
        }
    }
}

/// What a turn came to.
pub(crate) struct Said {
    pub(crate) action: Result<Bytes, PolicyError>,
    pub(crate) generations: Vec<Generated>,
    pub(crate) spoken: Spoken,
}

/// Names of conversations; unique in this process.
static CONVERSATIONS: AtomicU64 = AtomicU64::new(0);

/// An agent in code may have the model speak so often in one step.
const SAYINGS_MAX: u32 = 1000;

impl Talk {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        let over = Over {
            conversation: CONVERSATIONS.fetch_add(1, Ordering::Relaxed),
            script: agent.script.clone(),
        };
        Self {
            over,
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
            told: 0,
        }
    }

    /// Plays a turn.
    pub(crate) async fn turn(&mut self, turn: &Turn) -> Said {
        let mut generations = Vec::new();
        let action = self.act(turn, &mut generations).await;
        let sampling = self.agent.sampling_json.clone();
        let spoken = Spoken { messages: self.messages_since(), sampling };
        Said { action, generations, spoken }
    }

    /// The messages since the turn before, for the record.
    fn messages_since(&mut self) -> Bytes {
        if !self.agent.options.messages {
            return Bytes::new();
        }
        let (all, said) = match &self.conversation {
            // Where the model has not spoken there is no present turn.
            Some(conversation) => (conversation.messages(), conversation.said().ok()),
            None => (&self.messages[..], None),
        };
        let new: Vec<_> = all.iter().chain(&said).skip(self.told).map(Message::to_json).collect();
        self.told += new.len();
        new.join(",").into()
    }

    async fn act(
        &mut self,
        turn: &Turn,
        generations: &mut Vec<Generated>,
    ) -> Result<Bytes, PolicyError> {
        if let Some(script) = self.agent.script.clone() {
            return self.scripted(script, turn, generations).await;
        }
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
        if self.agent.script.is_none()
            && self.conversation.is_none()
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

    /// Has the model say something until it is an action.
    async fn generate(
        &mut self,
        turn: &Turn,
        generations: &mut Vec<Generated>,
    ) -> Result<Bytes, PolicyError> {
        let mut again = 0;
        loop {
            let (before, last) = match self.agent.options.malformed.reply {
                None => (self.conversation.clone(), self.last),
                Some(_) => (None, None),
            };
            let begin = generations.len();
            let Words { text, finish } = self.say(turn, None, generations).await?;
            let why = match self.parse(&text, turn)? {
                Parsed::Action(action) => return Ok(action),
                Parsed::ToolCalls(calls) => {
                    let said = Message { tool_calls: calls.clone(), ..Message::assistant("") };
                    let names = said.tools_called();
                    let mut calls = VecDeque::from(calls);
                    match calls.pop_front().map(|first| self.call(first)) {
                        Some(Ok(action)) => {
                            if let Some(conversation) = &mut self.conversation {
                                conversation.said_as(said);
                            }
                            if let Some(last) = generations.last_mut() {
                                last.tool = names;
                            }
                            self.pending = calls;
                            return Ok(action);
                        }
                        Some(Err(why)) => why,
                        None => "it calls no tool".to_owned(),
                    }
                }
                Parsed::Text(text) => match &self.agent.options.tools.answer_field {
                    Some(field) => {
                        return Ok(serde_json::json!({ field: text }).to_string().into());
                    }
                    None => "it calls no tool".to_owned(),
                },
                Parsed::Malformed { why } => why,
            };
            add(&self.agent.counts.malformed, 1);
            if again >= self.agent.options.malformed.again {
                return Err(self.gave_up(&why, &finish));
            }
            match &self.agent.options.malformed.reply {
                None => {
                    for generated in &mut generations[begin..] {
                        generated.kind = GeneratedKind::Discarded;
                    }
                    (self.conversation, self.last) = (before, last);
                }
                Some(reply) => {
                    let reply = reply.replace("{why}", &why);
                    self.tell(vec![Message::user(reply)])?;
                }
            }
            again += 1;
        }
    }

    /// The same over a channel that speaks text only.
    async fn generate_text(
        &mut self,
        turn: &Turn,
        generations: &mut Vec<Generated>,
    ) -> Result<Bytes, PolicyError> {
        let mut again = 0;
        loop {
            let Words { text, finish } = self.say_text(turn, None, generations).await?;
            let why = match self.parse(&text, turn)? {
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

    /// Asks an agent in code until it has an action.
    async fn scripted(
        &mut self,
        script: Arc<dyn Script>,
        turn: &Turn,
        generations: &mut Vec<Generated>,
    ) -> Result<Bytes, PolicyError> {
        let mut question = Question::Seen {
            observation: observation(&turn.observed),
            reward: turn.observed.reward.value,
        };
        for _ in 0..SAYINGS_MAX {
            let ask = Ask {
                conversation: self.over.conversation,
                episode: turn.episode.0,
                seed: turn.seed,
                step: turn.step,
                question,
            };
            let (messages, most) = match script.ask(ask).await.map_err(PolicyError::new)? {
                Answer::Act(action) => return Ok(action),
                Answer::Truncate(why) => {
                    return Err(PolicyError::truncated(Truncation::Malformed, why));
                }
                Answer::Fail(why) => return Err(PolicyError::new(why)),
                Answer::Tell { messages, max_tokens } => (messages, max_tokens),
            };
            if messages.is_empty() {
                return Err(PolicyError::new("the agent's code tells the model nothing"));
            }
            self.tell(messages)?;
            let Words { text, finish } = if self.chat.is_some() {
                self.say(turn, most, generations).await?
            } else {
                let words = self.say_text(turn, most, generations).await?;
                self.messages.push(Message::assistant(words.text.clone()));
                words
            };
            let answer = self.agent.reasoning.cut(&text).map(|it| it.into_owned());
            question = Question::Said { text, answer, finish };
        }
        Err(PolicyError::new(format!(
            "the agent's code has had the model speak {SAYINGS_MAX} times in a step, without an action"
        )))
    }

    fn parse(&self, text: &str, turn: &Turn) -> Result<Parsed, PolicyError> {
        let actions = self.agent.actions.as_ref();
        let actions = actions.ok_or_else(|| PolicyError::new("nothing reads the model's words"))?;
        Ok(actions.parse(text, turn.step))
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

fn observation(observed: &Observed) -> Bytes {
    observed.observation.text().clone()
}

pub(crate) fn hash(it: impl std::hash::Hash) -> u64 {
    // The same in every process of one build: its keys are fixed.
    let mut hasher = DefaultHasher::new();
    it.hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn not_begun() -> PolicyError {
    PolicyError::new("the conversation has not begun")
}

pub(crate) fn failed(error: impl std::fmt::Display) -> PolicyError {
    PolicyError::new(error.to_string())
}
