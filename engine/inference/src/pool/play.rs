//! One request, from replica to replica until it is answered.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use envmill_protocol::VersionSpan;
use tokio::time::{Instant, timeout};

use crate::{
    Chunk, Deliver, Error, ErrorKind, Feed, Finish, Finished, Generation, Outcome, Request,
    Sampling,
};

use super::replicas::{Running, Shared};

pub(super) struct Play {
    shared: Arc<Shared>,
    request: Request,
    feed: Feed,
    /// All that has come, of all tries.
    whole: Outcome,
    /// What the first try's engine said of the prompt.
    prompt: Option<Vec<u32>>,
    cached_tokens: Option<u32>,
    /// How long it has waited for replicas, and at them as far as they say.
    queued: Duration,
}

/// An engine may abort a generation unasked so often: each is a pause for new weights.
const ABORTED_MAX: u32 = 1000;

/// How a try ended.
enum End {
    /// The generation's end, which has been handed on.
    Finished,
    /// The engine stopped it, and nobody had asked for that.
    Interrupted,
    Failed(Error),
    /// No replica took it, for as long as anybody waits.
    Nowhere(Error),
    /// Nobody wants it.
    Dropped,
}

impl Play {
    pub(super) fn new(shared: Arc<Shared>, request: Request, feed: Feed) -> Self {
        let whole = Outcome::default();
        shared.state().running.insert(request.id, Running::default());
        Self {
            shared,
            request,
            feed,
            whole,
            prompt: None,
            cached_tokens: None,
            queued: Duration::ZERO,
        }
    }

    pub(super) async fn run(mut self) {
        let (mut tries, mut interrupted) = (0, 0);
        loop {
            let end = self.attempt().await;
            let sampled = self.whole.token_ids.len();
            match end {
                End::Finished | End::Dropped => return,
                End::Nowhere(error) => return self.feed.fail(error),
                End::Interrupted => {
                    interrupted += 1;
                    if interrupted > ABORTED_MAX {
                        let message = format!("aborted {interrupted} times by the engine");
                        return self.feed.fail(Error::new(ErrorKind::Busy, message));
                    }
                    if sampled > 0 && self.is_held() {
                        let message = "the engine has ended a generation that is held to a constraint, \
                                       and half of one cannot go on: ask again";
                        return self.feed.fail(Error::new(ErrorKind::Busy, message));
                    }
                    tracing::debug!(sampled, "a generation was interrupted, and goes on");
                }
                End::Failed(error) => {
                    tries += 1;
                    let is_over = tries >= self.shared.options.attempts.max(1);
                    if !error.kind.retry() || is_over || (sampled > 0 && self.is_held()) {
                        return self.feed.fail(error);
                    }
                    tracing::debug!(sampled, "a generation goes on elsewhere: {error}");
                    self.shared.counts.retried.fetch_add(1, Ordering::Relaxed);
                }
            }
            if sampled > 0 {
                self.shared.counts.continued.fetch_add(1, Ordering::Relaxed);
            }
            // What was sampled may be all that was asked for, but for the word that it is.
            if sampled as u64 >= u64::from(self.request.max_tokens) {
                return self.finish(Finished::new(Finish::Length));
            }
        }
    }

    async fn attempt(&mut self) -> End {
        let request = self.rest();
        let tokens = request.prompt.len() as u64 + u64::from(request.max_tokens);
        let asked_at = Instant::now();
        let place = tokio::select! {
            () = self.feed.dropped() => return End::Dropped,
            place = self.shared.place(tokens, request.affinity) => match place {
                Ok(place) => place,
                Err(error) => return End::Nowhere(error),
            },
        };
        self.queued += asked_at.elapsed();
        let seat = place.seat;
        let asked = {
            let mut state = self.shared.state();
            let running = state.running.entry(self.request.id).or_default();
            running.at = Some((seat, request.id));
            running.aborted
        };
        if asked {
            self.finish(Finished::new(Finish::Aborted));
            return End::Finished;
        }
        let generation = place.engine.generate(request);
        let end = self.take(generation).await;
        match &end {
            End::Failed(error) => self.shared.failed(seat, error),
            End::Finished | End::Interrupted => self.shared.succeeded(seat),
            End::Dropped | End::Nowhere(_) => {}
        }
        end
    }

    /// The request for what has not come yet.
    fn rest(&self) -> Request {
        let sampled = &self.whole.token_ids;
        let mut request = Request { id: self.shared.new_id(), ..self.request.clone() };
        if !sampled.is_empty() {
            let count = u32::try_from(sampled.len()).unwrap_or(u32::MAX);
            request.prompt = [&self.request.prompt[..], sampled].concat().into();
            request.max_tokens -= count.min(request.max_tokens);
            let sampling = &self.request.sampling;
            if sampling.min_tokens > 0 {
                let min_tokens = sampling.min_tokens.saturating_sub(count);
                request.sampling = Arc::new(Sampling { min_tokens, ..Sampling::clone(sampling) });
            }
        }
        request
    }

    async fn take(&mut self, mut generation: Generation) -> End {
        let silence = self.shared.options.silence;
        let mut here = Outcome::default();
        loop {
            let next = tokio::select! {
                () = self.feed.dropped() => return End::Dropped,
                next = timeout(silence, generation.next()) => next,
            };
            let chunk = match next {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => return End::Failed(error),
                Ok(None) => return End::Failed(Error::new(ErrorKind::Lost, "no end came")),
                Err(_) => {
                    let message = format!("nothing came for {} s", silence.as_secs());
                    return End::Failed(Error::new(ErrorKind::Silent, message));
                }
            };
            if let Err(error) = self.check(&chunk) {
                return End::Failed(error);
            }
            let last_tokens = chunk.token_ids.len();
            let handed = (self.streamed() && chunk.finished.is_none()).then(|| chunk.clone());
            let last = match here.push(chunk) {
                Ok(last) => last,
                Err(error) => return End::Failed(error),
            };
            if let Some(chunk) = handed {
                self.count(&chunk);
                // Kept, in case the rest has to come from elsewhere.
                if let Err(error) = self.whole.push(chunk.clone()) {
                    return End::Failed(error);
                }
                self.feed.chunk(chunk);
            }
            if last {
                return self.ended(&here, last_tokens);
            }
        }
    }

    /// A try's generation has ended.
    fn ended(&mut self, here: &Outcome, last: usize) -> End {
        let Some(finished) = here.finished.clone() else { return End::Interrupted };
        self.queued += Duration::from_micros(finished.queue_us.unwrap_or(0));
        if self.prompt.is_none() {
            self.prompt.clone_from(&finished.prompt);
            self.cached_tokens = finished.cached_tokens;
            let cached = u64::from(finished.cached_tokens.unwrap_or(0));
            self.shared.counts.cached_tokens.fetch_add(cached, Ordering::Relaxed);
        }
        let interrupted = finished.finish == Finish::Aborted && !self.asked();
        // Nobody has seen what was to come whole: it is sampled anew, from its beginning.
        if interrupted && self.is_held() && !self.streamed() {
            return End::Interrupted;
        }
        // What of this try has not been handed on: all, or the last chunk's tokens.
        let handed =
            here.token_ids.len() - if self.streamed() { last } else { here.token_ids.len() };
        let rest = Chunk {
            token_ids: here.token_ids[handed..].to_vec(),
            logprobs: here.logprobs.get(handed..).unwrap_or_default().to_vec(),
            top_logprobs: here.top_logprobs.rest(handed),
            version: here.versions.last().map_or_else(Default::default, |it| it.version),
            finished: None,
        };
        self.count(&rest);
        let before = self.whole.token_ids.len() - handed;
        if let Err(error) = self.whole.push(rest.clone()) {
            return End::Failed(error);
        }
        // The engine's own word on the versions is better than the times of arrival.
        if !finished.versions.is_empty() {
            self.whole.versions = keep(&self.whole.versions, before, &finished.versions);
        }
        if !rest.token_ids.is_empty() {
            self.feed.chunk(rest);
        }
        if interrupted {
            return End::Interrupted;
        }
        self.finish(finished);
        End::Finished
    }

    /// It is held to a constraint, which knows no beginning in the midst of a text.
    fn is_held(&self) -> bool {
        self.request.sampling.constraint.is_some()
    }

    fn streamed(&self) -> bool {
        self.request.deliver == Deliver::Streamed
    }

    fn finish(&mut self, finished: Finished) {
        let finished = Finished {
            versions: std::mem::take(&mut self.whole.versions),
            prompt: self.prompt.take(),
            cached_tokens: self.cached_tokens,
            queue_us: Some(u64::try_from(self.queued.as_micros()).unwrap_or(u64::MAX)),
            ..finished
        };
        let version = finished.versions.last().map_or_else(Default::default, |it| it.version);
        self.feed.chunk(Chunk { version, finished: Some(finished), ..Chunk::default() });
    }

    fn asked(&self) -> bool {
        self.shared.state().running.get(&self.request.id).is_some_and(|it| it.aborted)
    }

    fn count(&self, chunk: &Chunk) {
        let count = chunk.token_ids.len() as u64;
        self.shared.counts.sampled_tokens.fetch_add(count, Ordering::Relaxed);
    }

    fn check(&self, chunk: &Chunk) -> Result<(), Error> {
        let Some(vocabulary) = self.shared.options.vocabulary else { return Ok(()) };
        match chunk.token_ids.iter().find(|it| **it >= vocabulary) {
            Some(odd) => Err(Error::new(
                ErrorKind::Nonsense,
                format!("token {odd} of a vocabulary of {vocabulary}"),
            )),
            None => Ok(()),
        }
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        self.shared.state().running.remove(&self.request.id);
    }
}

/// The versions of the first so many tokens, and then these.
fn keep(versions: &[VersionSpan], mut first: usize, then: &[VersionSpan]) -> Vec<VersionSpan> {
    let mut kept: Vec<VersionSpan> = Vec::new();
    for it in versions {
        let tokens = first.min(it.tokens as usize);
        first -= tokens;
        #[allow(clippy::cast_possible_truncation, reason = "at most as many as before")]
        if tokens > 0 {
            kept.push(VersionSpan { tokens: tokens as u32, ..*it });
        }
    }
    for it in then {
        VersionSpan::add(&mut kept, it.version, it.tokens);
    }
    kept
}
