//! vLLM's Rust frontend over gRPC.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use envmill_protocol::PolicyVersion;
use tokio::runtime::Handle;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use vllm_proto::{
    AbortRequest, CandidateTokens, DecodingParameters, GenerateRequest, GenerateResponse,
    RandomSampling, ResponseOptions, ResumeGenerationRequest, SequenceOutput, StoppingCriteria,
    TokenIds, UpdateWeightVersionRequest, candidate_tokens::Select, control_client::ControlClient,
    decoding_parameters::StructuredOutput, finish_info::FinishReason, finish_info::StopReason,
    generate_request::Prompt, inference_client::InferenceClient,
};

use crate::{
    Answer, Capabilities, Chunk, Constraint, Control, Deliver, Error, ErrorKind, Feed, Finish,
    Finished, Generation, Inference, Load, PauseMode, Request, RequestId, TOP_LOGPROBS_MAX,
    TopLogprobs, VllmHttp,
};

/// vLLM's Rust frontend, over its gRPC port (`VLLM_USE_RUST_FRONTEND=1`, `--grpc-port`).
///
/// Its protocol says nothing of policy versions of tokens, and cannot load weights from a folder: the
/// first are those in force when a chunk arrives, and the second goes over the frontend's HTTP port.
#[derive(Clone)]
pub struct VllmGrpc {
    inner: Arc<Inner>,
    runtime: Handle,
}

struct Inner {
    channel: Channel,
    /// The same frontend's HTTP port: weights from a folder, and how busy it is.
    http: Option<VllmHttp>,
    version: AtomicU64,
    /// Generations under way, and whether their end was asked for.
    aborted: Mutex<HashMap<RequestId, bool>>,
}

/// A message holds a prompt at most, or what was sampled in a step.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

impl VllmGrpc {
    /// A channel to `url` (`http://HOST:PORT` of the gRPC port), which is connected when it is first used.
    /// Its work is done on `runtime`. `http`: the same frontend's HTTP port.
    ///
    /// # Errors
    ///
    /// The URL is none.
    pub fn new(url: &str, http: Option<VllmHttp>, runtime: Handle) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| {
            Error::new(ErrorKind::Refused, format!("{url:?} is no URL ({error})"))
        })?;
        let _inside = runtime.enter();
        let channel = endpoint
            .tcp_nodelay(true)
            .connect_timeout(std::time::Duration::from_secs(10))
            // Windows that follow the line's width cost a ping for each small chunk, and the frontend hangs up on
            // those who send too many.
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .connect_lazy();
        let (version, aborted) = (AtomicU64::new(0), Mutex::default());
        let inner = Inner { channel, http, version, aborted };
        Ok(Self { inner: Arc::new(inner), runtime })
    }
}

impl Inference for VllmGrpc {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            token_ids: true,
            streaming: true,
            version_spans: false,
            stop_strings: true,
            control: true,
            top_logprobs: TOP_LOGPROBS_MAX,
            constraints: true,
        }
    }

    fn generate(&self, request: Request) -> Generation {
        let (feed, generation) = Generation::new();
        let inner = Arc::clone(&self.inner);
        inner.aborted().insert(request.id, false);
        self.runtime.spawn(async move {
            tokio::select! {
                // Dropping the call cancels it, and the frontend aborts the generation.
                () = feed.dropped() => {}
                result = inner.generate(&request, &feed) => match result {
                    // The frontend may break a stream off whose end was asked for.
                    Err(error) if error.kind != ErrorKind::Refused && inner.is_aborted(request.id) => {
                        let finished = Some(Finished::new(Finish::Aborted));
                        feed.chunk(Chunk { version: inner.version(), finished, ..Chunk::default() });
                    }
                    Err(error) => feed.fail(error),
                    Ok(()) => {}
                },
            }
            inner.aborted().remove(&request.id);
        });
        generation
    }

    fn abort(&self, requests: &[RequestId]) {
        let request_ids: Vec<String> = {
            let mut under_way = self.inner.aborted();
            let known = requests.iter().filter(|it| under_way.contains_key(it));
            let known: Vec<_> = known.copied().collect();
            under_way.extend(known.iter().map(|it| (*it, true)));
            known.iter().map(ToString::to_string).collect()
        };
        if request_ids.is_empty() {
            return;
        }
        let mut client = self.inner.control();
        self.runtime.spawn(async move {
            if let Err(error) = client.abort(AbortRequest { request_ids }).await {
                tracing::warn!("generations could not be aborted: {error}");
            }
        });
    }

    fn control(&self, control: Control) -> Answer<'_, ()> {
        Box::pin(self.inner.change(control))
    }

    fn load(&self) -> Answer<'_, Option<Load>> {
        match &self.inner.http {
            Some(http) => http.load(),
            None => Box::pin(async { Ok(None) }),
        }
    }
}

impl Inner {
    fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
    }

    fn aborted(&self) -> MutexGuard<'_, HashMap<RequestId, bool>> {
        // Held for a look at a map only.
        self.aborted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_aborted(&self, request: RequestId) -> bool {
        self.aborted().get(&request).is_some_and(|it| *it)
    }

    fn version(&self) -> PolicyVersion {
        PolicyVersion(self.version.load(Ordering::Acquire))
    }

    async fn generate(&self, request: &Request, feed: &Feed) -> Result<(), Error> {
        let mut client = InferenceClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let mut tokens = 0;
        let asked = message(request);
        if request.deliver == Deliver::Whole {
            let version = self.version();
            let answer = client.generate(asked).await.map_err(|it| failed(&it))?.into_inner();
            let mut prompt = None;
            let chunk = self.chunk(answer, request, &mut prompt, &mut tokens)?;
            let chunk = Chunk { version, ..chunk };
            if chunk.finished.is_none() {
                return Err(Error::new(ErrorKind::Nonsense, "an answer without an end"));
            }
            feed.chunk(chunk);
            return Ok(());
        }
        let mut stream =
            client.generate_stream(asked).await.map_err(|it| failed(&it))?.into_inner();
        let mut prompt = None;
        while let Some(answer) = stream.message().await.map_err(|it| failed(&it))? {
            let chunk = self.chunk(answer, request, &mut prompt, &mut tokens)?;
            let last = chunk.finished.is_some();
            if last || !chunk.token_ids.is_empty() {
                feed.chunk(chunk);
            }
            if last {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Lost, "the stream ended in the midst of an answer"))
    }

    fn chunk(
        &self,
        answer: GenerateResponse,
        request: &Request,
        prompt: &mut Option<Vec<u32>>,
        tokens: &mut u64,
    ) -> Result<Chunk, Error> {
        if let Some(info) = answer.prompt_info
            && !info.token_ids.is_empty()
        {
            *prompt = Some(info.token_ids);
        }
        let mut chunk = Chunk { version: self.version(), ..Chunk::default() };
        let Some(output) = answer.outputs else { return Ok(chunk) };
        *tokens += output.token_ids.len() as u64;
        if *tokens > u64::from(request.max_tokens) {
            let asked = request.max_tokens;
            let message = format!("{tokens} tokens where {asked} were asked for");
            return Err(Error::new(ErrorKind::Nonsense, message));
        }
        if request.sampling.top_logprobs > 0 {
            chunk.top_logprobs = top(&output, request.sampling.top_logprobs)?;
        }
        chunk.token_ids = output.token_ids;
        chunk.logprobs = output.logprobs;
        let Some(info) = output.finish_info else { return Ok(chunk) };
        let finish = match (info.finish_reason(), info.stop_reason) {
            (FinishReason::NotFinished, _) => return Ok(chunk),
            (FinishReason::Length, _) => Finish::Length,
            (FinishReason::Aborted, _) => Finish::Aborted,
            (FinishReason::Stop, Some(StopReason::StopTokenId(id))) => Finish::StopToken(id),
            (FinishReason::Stop, Some(StopReason::StopString(text))) => Finish::StopText(text),
            (FinishReason::Stop, Some(StopReason::EosTokenId(_)) | None) => Finish::EndOfTurn,
        };
        chunk.finished = Some(Finished {
            prompt: prompt.take(),
            cached_tokens: info.num_cached_tokens,
            ..Finished::new(finish)
        });
        Ok(chunk)
    }

    async fn change(&self, control: Control) -> Result<(), Error> {
        let mut client = self.control();
        match control {
            Control::Pause(mode) => {
                let mode = match mode {
                    PauseMode::Keep => vllm_proto::PauseMode::Keep,
                    PauseMode::Wait => vllm_proto::PauseMode::Wait,
                    PauseMode::Abort => vllm_proto::PauseMode::Abort,
                };
                let request = vllm_proto::PauseGenerationRequest {
                    mode: mode.into(),
                    ..vllm_proto::PauseGenerationRequest::default()
                };
                client.pause_generation(request).await.map(drop).map_err(|it| failed(&it))
            }
            Control::Resume => client
                .resume_generation(ResumeGenerationRequest {})
                .await
                .map(drop)
                .map_err(|it| failed(&it)),
            Control::LoadWeights { .. } => match &self.http {
                Some(http) => http.control(control).await,
                None => Err(Error::new(
                    ErrorKind::Unsupported,
                    "weights are loaded from a folder over the frontend's HTTP port: name it, too",
                )),
            },
            Control::SetVersion(version) => {
                let PolicyVersion(number) = version;
                let request = UpdateWeightVersionRequest { weight_version: number.to_string() };
                let told = client.update_weight_version(request).await;
                told.map_err(|it| Error::new(ErrorKind::Lost, it.to_string()))?;
                self.version.store(number, Ordering::Release);
                Ok(())
            }
        }
    }
}

/// The most likely tokens at each place, where the sampled one is told apart from the others.
fn top(output: &SequenceOutput, most: u32) -> Result<TopLogprobs, Error> {
    let SequenceOutput { token_ids, logprobs, candidate_tokens, .. } = output;
    let places = token_ids.len();
    if logprobs.len() != places || candidate_tokens.len() != places {
        let message = "tokens without the most likely ones that were asked for";
        return Err(Error::new(ErrorKind::Nonsense, message));
    }
    let mut top = TopLogprobs::default();
    for ((sampled, logprob), candidates) in token_ids.iter().zip(logprobs).zip(candidate_tokens) {
        let others = candidates.tokens.iter().filter(|it| it.id != *sampled);
        let others = others.map(|it| (it.id, it.logprob));
        top.push(others.chain([(*sampled, *logprob)]), most);
    }
    Ok(top)
}

fn message(request: &Request) -> GenerateRequest {
    let sampling = &request.sampling;
    GenerateRequest {
        request_id: request.id.to_string(),
        prompt: Some(Prompt::TokenIds(TokenIds { ids: request.prompt.to_vec() })),
        temperature: Some(sampling.temperature),
        sampling: Some(RandomSampling {
            num_sequences: 1,
            top_k: sampling.top_k,
            top_p: (sampling.top_p < 1.0).then_some(sampling.top_p),
            min_p: (sampling.min_p > 0.0).then_some(sampling.min_p),
            // The protocol's seeds have a sign.
            seed: request.seed.map(|it| (it >> 1).cast_signed()),
        }),
        stopping: Some(StoppingCriteria {
            max_new_tokens: request.max_tokens,
            min_new_tokens: sampling.min_tokens,
            stop_token_ids: sampling.stop_token_ids.clone(),
            stop_strings: sampling.stop.clone(),
            include_stop_strings: true,
            ignore_eos: sampling.ignore_eos,
            ..StoppingCriteria::default()
        }),
        decoding: sampling.constraint.as_ref().map(|it| DecodingParameters {
            structured_output: Some(match it {
                Constraint::JsonObject => StructuredOutput::JsonObject(true),
                Constraint::JsonSchema(schema) => {
                    StructuredOutput::Json(schema.as_str().to_owned())
                }
            }),
            ..DecodingParameters::default()
        }),
        response: Some(ResponseOptions {
            output_text: Some(false),
            output_token_ids: true,
            output_logprobs: sampling.logprobs,
            output_candidates: (sampling.top_logprobs > 0)
                .then(|| CandidateTokens { select: Some(Select::TopN(sampling.top_logprobs)) }),
            ..ResponseOptions::default()
        }),
        ..GenerateRequest::default()
    }
}

fn failed(status: &Status) -> Error {
    let kind = match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::NotFound | Code::Unauthenticated => {
            ErrorKind::Refused
        }
        Code::ResourceExhausted => ErrorKind::Busy,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::DeadlineExceeded => ErrorKind::Silent,
        _ => ErrorKind::Lost,
    };
    Error::new(kind, format!("{}: {}", status.code(), status.message()))
}
