//! The channel.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use bytes::Bytes;
use envmill_protocol::PolicyVersion;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::runtime::Handle;

use crate::{
    Answer, Capabilities, Control, Deliver, Error, ErrorKind, Feed, Generation, Inference, Load,
    Request, RequestId, TOP_LOGPROBS_MAX,
};

use super::{
    HttpTarget, Link,
    answer::{self, Aside},
    body,
    events::Events,
    metrics,
};

/// How to reach a vLLM server.
#[derive(Clone, Debug)]
pub struct VllmHttpOptions {
    /// Where it is.
    pub target: HttpTarget,
    /// Which of its models; `None`: the one that it serves.
    pub model: Option<String>,
    /// Which of its endpoints; `None`: the one for token ids if it has it (`--enable-scale-out`), else
    /// completions.
    pub route: Option<Route>,
}

/// What a server says it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The model's name.
    pub name: String,
    /// What it was loaded from: a folder on the server's machine, or a name in a model hub.
    pub folder: Option<String>,
    /// The tokens of a prompt and what is sampled after it, together.
    pub context_tokens: Option<u32>,
}

/// An endpoint that takes token ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `/inference/v1/generate`.
    Generate,
    /// `/v1/completions`, with token ids as its prompt.
    Completions,
}

/// vLLM's HTTP server.
#[derive(Clone)]
pub struct VllmHttp {
    inner: Arc<Inner>,
    runtime: Handle,
}

pub(super) struct Inner {
    pub(super) link: Link,
    /// What was last set as its version.
    pub(super) version: AtomicU64,
    model: Mutex<Option<Arc<str>>>,
    route: AtomicU8,
}

const UNKNOWN: u8 = 0;
const GENERATE: u8 = 1;
const COMPLETIONS: u8 = 2;

/// A token in an answer, with its log-probability and rank, takes no more than this.
const TOKEN_BYTES_MAX: u64 = 1024;
/// One of the most likely tokens at a place takes no more than this.
const CANDIDATE_BYTES_MAX: u64 = 128;
const ANSWER_BYTES: u64 = 256 << 10;
const METRICS_BYTES_MAX: u64 = 16 << 20;

impl VllmHttp {
    /// A channel whose work is done on `runtime`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// The target's URL is none.
    pub fn new(options: VllmHttpOptions, runtime: Handle) -> Result<Self, Error> {
        let route = match options.route {
            None => UNKNOWN,
            Some(Route::Generate) => GENERATE,
            Some(Route::Completions) => COMPLETIONS,
        };
        let inner = Inner {
            link: Link::new(options.target)?,
            version: AtomicU64::new(0),
            model: Mutex::new(options.model.map(Into::into)),
            route: AtomicU8::new(route),
        };
        Ok(Self { inner: Arc::new(inner), runtime })
    }

    /// What the server says it serves.
    ///
    /// # Errors
    ///
    /// It does not answer, or with nonsense.
    pub async fn served(&self) -> Result<Served, Error> {
        self.inner.served().await
    }

    pub(crate) fn link(&self) -> &Link {
        &self.inner.link
    }

    /// It was told over another channel what it samples from.
    pub(crate) fn is_at(&self, version: PolicyVersion) {
        self.inner.version.store(version.0, Ordering::Release);
    }
}

impl Inference for VllmHttp {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            token_ids: true,
            streaming: true,
            version_spans: self.inner.route.load(Ordering::Relaxed) != COMPLETIONS,
            stop_strings: true,
            control: true,
            top_logprobs: TOP_LOGPROBS_MAX,
            constraints: true,
        }
    }

    fn generate(&self, request: Request) -> Generation {
        let inner = Arc::clone(&self.inner);
        // Closing the connection is how vLLM is told that nobody wants the rest.
        Generation::played(&self.runtime, async move |feed| inner.generate(&request, &feed).await)
    }

    fn abort(&self, requests: &[RequestId]) {
        // What the endpoints make of the names they are given.
        let names: Vec<String> = requests
            .iter()
            .flat_map(|it| {
                [format!("generate-tokens-{it}"), format!("cmpl-{it}-0"), it.to_string()]
            })
            .collect();
        if names.is_empty() {
            return;
        }
        let inner = Arc::clone(&self.inner);
        self.runtime.spawn(async move {
            let body = serde_json::json!({"request_ids": names}).to_string();
            let sent = inner.link.call(Method::POST, "/abort_requests", body.into(), ANSWER_BYTES);
            if let Err(error) = sent.await {
                tracing::warn!("generations could not be aborted: {error}");
            }
        });
    }

    fn control(&self, control: Control) -> Answer<'_, ()> {
        Box::pin(self.inner.control(control))
    }

    fn load(&self) -> Answer<'_, Option<Load>> {
        Box::pin(async move {
            let link = &self.inner.link;
            let text = link.call(Method::GET, "/metrics", Bytes::new(), METRICS_BYTES_MAX).await?;
            Ok(metrics::read(&String::from_utf8_lossy(&text)))
        })
    }
}

impl Inner {
    async fn generate(&self, request: &Request, feed: &Feed) -> Result<(), Error> {
        let stream = request.deliver == Deliver::Streamed;
        let asked = self.version();
        let mut known = self.route.load(Ordering::Relaxed);
        if known != COMPLETIONS {
            let path = "/inference/v1/generate";
            let body = body::generate(request, stream);
            let (status, answer) = self.link.send(Method::POST, path, body.into()).await?;
            match status {
                status if status.is_success() => {
                    if known == UNKNOWN {
                        self.route.store(GENERATE, Ordering::Relaxed);
                    }
                    return self.take(request, answer, asked, feed).await;
                }
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if known == UNKNOWN => {
                    tracing::info!("no {path} (vLLM's --enable-scale-out): completions are used");
                    self.route.store(COMPLETIONS, Ordering::Relaxed);
                    known = COMPLETIONS;
                }
                status => return Err(self.link.refusal(path, status, answer).await),
            }
        }
        debug_assert_eq!(known, COMPLETIONS);
        let model = self.model().await?;
        let path = "/v1/completions";
        let body = body::completions(request, &model, stream);
        let (status, answer) = self.link.send(Method::POST, path, body.into()).await?;
        if !status.is_success() {
            return Err(self.link.refusal(path, status, answer).await);
        }
        self.take(request, answer, asked, feed).await
    }

    /// Hands an answer on, whole or in parts.
    async fn take(
        &self,
        request: &Request,
        mut body: Incoming,
        asked: PolicyVersion,
        feed: &Feed,
    ) -> Result<(), Error> {
        let top = request.sampling.top_logprobs;
        let mut aside = Aside::new(top);
        let mut tokens = 0;
        if request.deliver == Deliver::Whole {
            // The sampled token may be told besides, and one more is asked for.
            let candidates = if top > 0 { u64::from(top) + 2 } else { 0 };
            let token_bytes = TOKEN_BYTES_MAX + candidates * CANDIDATE_BYTES_MAX;
            let room = u64::from(request.max_tokens).saturating_mul(token_bytes);
            let bytes_max = ANSWER_BYTES + room + request.prompt.len() as u64 * 12;
            let text = self.link.read(body, bytes_max).await?;
            let mut chunk = answer::read(&text, asked, &mut aside)?;
            count(&mut tokens, &chunk.token_ids, request)?;
            chunk.finished = aside.finished();
            if chunk.finished.is_none() {
                return Err(Error::new(ErrorKind::Nonsense, "an answer without an end"));
            }
            feed.chunk(chunk);
            return Ok(());
        }
        let mut events = Events::default();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| self.link.lost(&error))?.into_data() else {
                continue;
            };
            events.push(&data)?;
            while let Some(event) = events.next() {
                if &event[..] == b"[DONE]" {
                    continue;
                }
                let chunk = answer::read(&event, self.version(), &mut aside)?;
                count(&mut tokens, &chunk.token_ids, request)?;
                if !chunk.token_ids.is_empty() {
                    feed.chunk(chunk);
                }
            }
        }
        let Some(finished) = aside.finished() else {
            return Err(Error::new(ErrorKind::Lost, "it hung up in the midst of an answer"));
        };
        let (version, finished) = (self.version(), Some(finished));
        feed.chunk(crate::Chunk { version, finished, ..crate::Chunk::default() });
        Ok(())
    }

    fn version(&self) -> PolicyVersion {
        PolicyVersion(self.version.load(Ordering::Acquire))
    }

    /// The name of the model, asked for once.
    async fn model(&self) -> Result<Arc<str>, Error> {
        let known = self.model.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(model) = known {
            return Ok(model);
        }
        let model: Arc<str> = self.served().await?.name.into();
        *self.model.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&model));
        Ok(model)
    }

    async fn served(&self) -> Result<Served, Error> {
        #[derive(Deserialize)]
        struct Models {
            data: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
            #[serde(default)]
            root: Option<String>,
            #[serde(default)]
            max_model_len: Option<u32>,
        }
        let text = self.link.call(Method::GET, "/v1/models", Bytes::new(), ANSWER_BYTES).await?;
        let models: Models = serde_json::from_slice(&text)
            .map_err(|error| Error::new(ErrorKind::Nonsense, format!("/v1/models: {error}")))?;
        let Some(Model { id, root, max_model_len }) = models.data.into_iter().next() else {
            return Err(Error::new(ErrorKind::Refused, "the server names no model"));
        };
        Ok(Served { name: id, folder: root, context_tokens: max_model_len })
    }
}

/// Counts sampled tokens.
fn count(tokens: &mut u64, new: &[u32], request: &Request) -> Result<(), Error> {
    *tokens += new.len() as u64;
    if *tokens > u64::from(request.max_tokens) {
        let asked = request.max_tokens;
        return Err(Error::new(
            ErrorKind::Nonsense,
            format!("{tokens} tokens where {asked} were asked for"),
        ));
    }
    Ok(())
}
