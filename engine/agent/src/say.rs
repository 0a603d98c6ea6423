//! One turn of the model: what is sampled for it, and what that comes to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use envmill_chat::{Drift, Message};
use envmill_inference::{Deliver, Finish, Outcome, Request, RequestId};
use envmill_protocol::{
    Generated, GeneratedKind, PolicyError, PolicyVersion, Turn, VersionSpan, record::Truncation,
};

use crate::{
    Affinity, Agent,
    counts::add,
    talk::{Talk, failed, hash, not_begun},
};

/// What the model has said in one turn.
pub(crate) struct Words {
    /// Its text, reasoning included.
    pub(crate) text: String,
    pub(crate) finish: Finish,
}

/// Names of requests; unique in this process.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// So many of a prompt's last ids are looked at for reasoning that it begins.
const TAIL: usize = 16;

impl Talk {
    /// Has the model say something, which becomes a part of the conversation. What is sampled for it is
    /// appended to `generations`: one, or two where its reasoning was cut short.
    pub(crate) async fn say(
        &mut self,
        turn: &Turn,
        most: Option<u32>,
        generations: &mut Vec<Generated>,
    ) -> Result<Words, PolicyError> {
        let limits = &self.agent.options.limits;
        let turn_tokens = limits.turn_tokens.min(most.unwrap_or(u32::MAX));
        let prompt = self.conversation.as_ref().ok_or_else(not_begun)?;
        let budget = limits.reasoning_tokens.filter(|it| *it < turn_tokens);
        // What the template has begun counts, too.
        let before = match budget {
            Some(_) => prompt.tail(TAIL).map_err(failed)?,
            None => String::new(),
        };
        let first = budget.unwrap_or(turn_tokens);
        let mut finish = Finish::Length;
        // Where the model is to reason not at all, what the template has begun is cut at once.
        let mut is_cut = budget == Some(0);
        if !is_cut {
            finish = self.sample(turn, first, generations).await?;
            let sampled = generations.last().map_or(0, |it| it.token_ids.len());
            // Otherwise it is the context that is full.
            is_cut = budget.is_some() && finish == Finish::Length && sampled >= first as usize;
        }
        if is_cut {
            let conversation = self.conversation.as_mut().ok_or_else(not_begun)?;
            let said =
                if first == 0 { String::new() } else { conversation.words().map_err(failed)? };
            if self.agent.reasoning.is_open(&(before + &said)) {
                add(&self.agent.counts.reasoning_cut, 1);
                conversation.forced(&self.agent.reasoning_end).map_err(failed)?;
            }
            finish = self.sample(turn, turn_tokens - first, generations).await?;
        }
        let conversation = self.conversation.as_ref().ok_or_else(not_begun)?;
        Ok(Words { text: conversation.words().map_err(failed)?, finish })
    }

    /// Samples behind the conversation as it stands.
    async fn sample(
        &mut self,
        turn: &Turn,
        most: u32,
        generations: &mut Vec<Generated>,
    ) -> Result<Finish, PolicyError> {
        let begun = self.conversation.as_ref().ok_or_else(not_begun)?;
        let prompt: Arc<[u32]> = begun.prompt().into();
        let max_tokens = self.max_tokens(most, prompt.len())?;
        self.affinity = self.affinity.or_else(|| key(self.agent.options.affinity, turn, &*prompt));
        let request = self.request(turn, Arc::clone(&prompt), None, max_tokens);
        let asked_at = Instant::now();
        let outcome = self.agent.engine.generate(request).whole().await.map_err(failed)?;
        let took = asked_at.elapsed();
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
        conversation.sampled(&outcome.token_ids);
        let parent = self.last;
        generations.push(Generated { parent, ..generated(prompt, outcome, took) });
        self.last = Some(self.generations);
        self.generations += 1;
        Ok(finish)
    }

    /// The same over a channel that speaks text only: nothing is known of tokens.
    pub(crate) async fn say_text(
        &mut self,
        turn: &Turn,
        most: Option<u32>,
        generations: &mut Vec<Generated>,
    ) -> Result<Words, PolicyError> {
        let list: Vec<_> = self.messages.iter().map(Message::to_json).collect();
        let messages: Arc<str> = format!("[{}]", list.join(",")).into();
        self.affinity =
            self.affinity.or_else(|| key(self.agent.options.affinity, turn, &*messages));
        let max_tokens = self.agent.options.limits.turn_tokens.min(most.unwrap_or(u32::MAX));
        let request = self.request(turn, Arc::from([]), Some(messages), max_tokens);
        let asked_at = Instant::now();
        let mut outcome = self.agent.engine.generate(request).whole().await.map_err(failed)?;
        let took = asked_at.elapsed();
        add(&self.agent.counts.generations, 1);
        self.generations += 1;
        let finish = outcome.finish().cloned().unwrap_or(Finish::Aborted);
        let text = outcome.finished.as_mut().and_then(|it| it.text.take()).unwrap_or_default();
        // Which version said it is known, and its tokens are not.
        let policy_versions = vec![VersionSpan { version: PolicyVersion(0), tokens: 0 }];
        generations.push(Generated { policy_versions, ..generated(Vec::new(), outcome, took) });
        Ok(Words { text, finish })
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

    /// How many tokens may be sampled now, of at most so many.
    fn max_tokens(&self, most: u32, prompt: usize) -> Result<u32, PolicyError> {
        let Agent { options, context_tokens, .. } = &*self.agent;
        let context = u64::from(*context_tokens).saturating_sub(prompt as u64);
        let episode = options.limits.episode_tokens;
        let episode = episode.map_or(u64::MAX, |it| u64::from(it).saturating_sub(self.sampled));
        let most = context.min(episode).min(u64::from(most));
        match u32::try_from(most).unwrap_or(u32::MAX) {
            0 => Err(PolicyError::truncated(
                Truncation::MaxTokens,
                format!(
                    "a prompt of {prompt} tokens and {} sampled ones leave no room",
                    self.sampled
                ),
            )),
            most => Ok(most),
        }
    }
}

/// What was generated, as a record has it; `took` is how long it took altogether.
fn generated(prompt_token_ids: Vec<u32>, outcome: Outcome, took: Duration) -> Generated {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let queue_us = outcome.finished.as_ref().and_then(|it| it.queue_us).unwrap_or(0).min(micros);
    Generated {
        prompt_token_ids,
        finish_reason: outcome.finish().map_or("", Finish::name).to_owned(),
        generation_us: micros - queue_us,
        queue_us,
        loss_mask: vec![1; outcome.token_ids.len()],
        token_ids: outcome.token_ids,
        logprobs: outcome.logprobs,
        policy_versions: outcome.versions,
        kind: GeneratedKind::Agent,
        ..Generated::default()
    }
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
