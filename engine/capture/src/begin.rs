//! From a request to its generations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, UNIX_EPOCH},
};

use axum::{
    body::{Body, to_bytes},
    http::StatusCode,
};
use bytes::Bytes;
use envmill_inference::{Deliver, Outcome, RequestId};
use serde_json::value::RawValue;

use crate::{
    Kept, Timings,
    answer::Head,
    call::{Choice, Common, Running},
    capture::Inner,
    episode::{Episode, Flight, Record},
    key::Digest,
    prepare::{Prepared, prepare},
    refusal::Refusal,
    request::{Api, Ask, Calls, Subject},
    trail::identity,
};

/// Names of requests. Agents of the same process count from 0.
static REQUESTS: AtomicU64 = AtomicU64::new(1 << 48);

/// A request, as it came in.
pub(crate) struct Asked {
    pub(crate) api: Api,
    /// The harness says itself that it is no part of its conversation.
    pub(crate) aside: bool,
    pub(crate) body: Body,
    pub(crate) at: Instant,
}

/// Everything up to the engine: the choices of a call, all under way.
pub(crate) async fn begin(
    inner: &Arc<Inner>,
    flight: Flight,
    asked: Asked,
) -> Result<(Arc<Common>, Vec<Running>), Refusal> {
    let Asked { api, aside, body, at } = asked;
    let limits = &inner.options.limits;
    let body = to_bytes(body, limits.body_bytes).await.map_err(|_| {
        let message = format!("The body is longer than {} bytes, or broken.", limits.body_bytes);
        Refusal::invalid(StatusCode::PAYLOAD_TOO_LARGE, message, None)
    })?;
    let (ask, prepared, body) = prepared(inner, api, &flight.episode, body).await?;
    let (identity, tools) = spoken(&ask);
    let call = Call { ask, identity, aside, at, body: Kept::of(body, limits.kept_bytes) };
    let first = RequestId(REQUESTS.fetch_add(1, Ordering::Relaxed));
    let common = common(inner, &call.ask, api, tools, first);
    let mut flights = vec![flight];
    let count = prepared.len() * call.ask.n as usize;
    while flights.len() < count {
        flights.push(flights[0].another()?);
    }
    let mut flights = flights.into_iter();
    let mut choices = Vec::with_capacity(count);
    for mut prepared in prepared {
        let mut conversation = prepared.conversation.take();
        let prepared = Arc::new(prepared);
        for nth in 0..call.ask.n {
            let Some(flight) = flights.next() else { break };
            let is_last = nth + 1 == call.ask.n;
            let conversation = if is_last { conversation.take() } else { conversation.clone() };
            let id = match choices.len() {
                0 => first,
                _ => RequestId(REQUESTS.fetch_add(1, Ordering::Relaxed)),
            };
            let index = u32::try_from(choices.len()).unwrap_or(u32::MAX);
            let own = (Arc::clone(&prepared), conversation);
            choices.push(call.generate(inner, &common, flight, own, (id, index, nth))?);
        }
    }
    Ok((common, choices))
}

/// Reads, renders and tokenises, on a thread that may be kept busy with it.
async fn prepared(
    inner: &Arc<Inner>,
    api: Api,
    episode: &Arc<Episode>,
    body: Bytes,
) -> Result<(Ask, Vec<Prepared>, Bytes), Refusal> {
    let failed = |_| Refusal::server(StatusCode::INTERNAL_SERVER_ERROR, "a call was not prepared");
    let permit = Arc::clone(&inner.preparing).acquire_owned().await.map_err(|_| failed(()))?;
    let (inner, episode) = (Arc::clone(inner), Arc::clone(episode));
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let ask = Ask::read(api, &body, &inner.options)?;
        can(&inner, &ask)?;
        let prepared = prepare(&inner.chats, &inner.options, &episode, &ask)?;
        Ok((ask, prepared, body))
    });
    task.await.map_err(|_| failed(()))?
}

/// Refuses what this channel to an inference engine cannot do.
fn can(inner: &Inner, ask: &Ask) -> Result<(), Refusal> {
    let can = inner.engine.capabilities();
    if !ask.shape.stop.is_empty() && !can.stop_strings {
        return Err(Refusal::bad("stop", "this inference engine knows no stop texts"));
    }
    let is_chat = matches!(ask.subject, Subject::Chat { .. });
    let name = match ask.shape.calls {
        _ if ask.sampling.top_logprobs > can.top_logprobs && is_chat => "top_logprobs",
        _ if ask.sampling.top_logprobs > can.top_logprobs => "logprobs",
        Calls::Listed | Calls::Named(_) => "tool_choice",
        Calls::None | Calls::Written => "response_format",
    };
    can.allow(&ask.sampling).map_err(|error| Refusal::bad(name, error.message))
}

/// Who speaks, and the tools.
fn spoken(ask: &Ask) -> (Digest, Option<Box<RawValue>>) {
    match &ask.subject {
        Subject::Chat { messages, tools, .. } => (identity(&ask.model, messages), tools.clone()),
        Subject::Completions(_) => (identity(&ask.model, &[]), None),
    }
}

fn common(
    inner: &Inner,
    ask: &Ask,
    api: Api,
    tools: Option<Box<RawValue>>,
    id: RequestId,
) -> Arc<Common> {
    let name = match api {
        Api::Chat => "chatcmpl",
        Api::Completions => "cmpl",
    };
    let created = UNIX_EPOCH.elapsed().map_or(0, |it| it.as_secs());
    Arc::new(Common {
        model: Arc::clone(&inner.model),
        options: Arc::clone(&inner.options),
        tools,
        shape: ask.shape.clone(),
        head: Head { api, id: format!("{name}-{id}"), created, model: ask.model.clone() },
    })
}

/// A call, once it was read.
struct Call {
    ask: Ask,
    identity: Digest,
    aside: bool,
    at: Instant,
    body: Kept,
}

impl Call {
    /// Writes the `nth` choice of a prompt down, and has it sampled.
    fn generate(
        &self,
        inner: &Inner,
        common: &Arc<Common>,
        mut flight: Flight,
        own: (Arc<Prepared>, Option<envmill_chat::Conversation>),
        (id, index, nth): (RequestId, u32, u32),
    ) -> Result<Running, Refusal> {
        let (ask, prepared) = (&self.ask, &own.0);
        let request = envmill_inference::Request {
            id,
            prompt: Arc::clone(&prepared.prompt),
            messages: None,
            sampling: Arc::new(ask.sampling.clone()),
            max_tokens: prepared.max_tokens,
            // Channels have no use for a seed's lowest bit, so that the next one would sample the same.
            seed: ask.seed.map(|it| it.wrapping_add(2 * u64::from(nth))),
            affinity: Some(flight.episode.affinity),
            deliver: if ask.shape.stream { Deliver::Streamed } else { Deliver::Whole },
        };
        let turn = flight.begin(self.record(prepared, id))?;
        let generation = inner.engine.generate(request);
        let choice = Choice { index, is_first: nth == 0, turn };
        Ok(Running::new(generation, flight, Arc::clone(common), own, choice))
    }

    fn record(&self, prepared: &Prepared, id: RequestId) -> Record {
        Record {
            id,
            parent: prepared.parent,
            begun: prepared.begun,
            identity: self.identity,
            aside: self.aside,
            prompt: Arc::clone(&prepared.prompt),
            sampling: self.ask.sampling.to_json(prepared.max_tokens).into(),
            outcome: Outcome::default(),
            request: self.body.clone(),
            response: Kept::none(),
            end: None,
            asked: self.at,
            timings: Timings::default(),
        }
    }
}
