//! A vLLM whose model repeats what it is told: the inference engine of harnesses.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use envmill_chat::Model;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    runtime::Runtime,
    sync::{Notify, Semaphore},
};

/// So many tokens a generation has that waits in its midst.
pub(crate) const SAMPLED_BEFORE: usize = 2;

/// What it was asked and has sampled.
type Seen = (Vec<u32>, Vec<u32>);

pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
    _folder: TempDir,
}

struct Shared {
    model: Model,
    folder: PathBuf,
    seen: Mutex<Vec<Seen>>,
    /// What it was told of who asks.
    asked_by: Mutex<BTreeSet<String>>,
    /// What its weights are called.
    version: Mutex<String>,
    /// What it was told to do.
    told: Mutex<Vec<String>>,
    /// Generations that have begun and wait for something to be let go.
    held: AtomicUsize,
    gate: Semaphore,
    /// Ends them after what they have by then.
    abort: Notify,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let folder = folder();
        let model = Model::load(folder.path()).unwrap();
        let shared = Arc::new(Shared {
            model,
            folder: folder.path().to_owned(),
            seen: Mutex::default(),
            asked_by: Mutex::default(),
            version: Mutex::new("default".into()),
            told: Mutex::default(),
            held: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            abort: Notify::new(),
        });
        let routes = Router::new()
            .route("/health", get(|| async {}))
            .route("/metrics", get(|| async { "" }))
            .route("/v1/models", get(models))
            .route("/inference/v1/generate", post(generate))
            .route("/pause", post(control))
            .route("/resume", post(control))
            .route("/collective_rpc", post(control))
            .route("/reset_prefix_cache", post(control))
            .route("/update_weight_version", post(control))
            .with_state(Arc::clone(&shared));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { address, shared, _runtime: runtime, _folder: folder }
    }

    /// As a configuration names it.
    pub(crate) fn policy(&self) -> String {
        format!("vllm:http://{}", self.address)
    }

    /// What it was told of who asks.
    pub(crate) fn asked_by(&self) -> BTreeSet<String> {
        self.shared.asked_by.lock().unwrap().clone()
    }

    /// What it was told to do so far.
    pub(crate) fn told(&self) -> Vec<String> {
        self.shared.told.lock().unwrap().clone()
    }

    /// How many generations have waited in their midst: those whose last message is `hold`.
    pub(crate) fn held(&self) -> usize {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// Lets so many of them go.
    pub(crate) fn let_go(&self, count: usize) {
        self.shared.gate.add_permits(count);
    }

    /// What it was asked and has sampled.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

/// A model's folder, as an engine has it.
fn folder() -> TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("chat/tests/fixtures");
    let folder = TempDir::new().unwrap();
    for name in ["generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(fixtures.join("bytes").join(name), folder.path().join(name)).unwrap();
    }
    let template = folder.path().join("chat_template.jinja");
    fs::copy(fixtures.join("templates/chatml.jinja"), template).unwrap();
    let config = r#"{"vocab_size": 2048, "max_position_embeddings": 32768}"#;
    fs::write(folder.path().join("config.json"), config).unwrap();
    folder
}

async fn models(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({"object": "list", "data": [
        {"id": "mock", "object": "model", "root": shared.folder, "max_model_len": 32768},
    ]}))
}

/// What vLLM does in development mode.
async fn control(State(shared): State<Arc<Shared>>, uri: Uri, asked: Bytes) -> Json<Value> {
    let asked: Value = serde_json::from_slice(&asked).unwrap_or_default();
    let named = &asked["kwargs"]["weights_path"];
    let mut told = uri.to_string();
    if told == "/pause?mode=abort" {
        shared.abort.notify_waiters();
    }
    if let Some(version) = asked["new_version"].as_str() {
        version.clone_into(&mut shared.version.lock().unwrap());
    }
    if let Some(more) = named.as_str().or(asked["new_version"].as_str()) {
        told = format!("{told} {more}");
    }
    shared.told.lock().unwrap().push(told);
    Json(json!({}))
}

#[derive(Deserialize)]
struct Asked {
    token_ids: Vec<u32>,
    sampling_params: Sampling,
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct Sampling {
    max_tokens: usize,
}

async fn generate(State(shared): State<Arc<Shared>>, headers: HeaderMap, asked: Bytes) -> Response {
    let by = headers.get(header::AUTHORIZATION).map(|it| it.to_str().unwrap().to_owned());
    shared.asked_by.lock().unwrap().extend(by);
    let asked: Asked = serde_json::from_slice(&asked).unwrap();
    let version = || shared.version.lock().unwrap().clone();
    let before = version();
    let model = &shared.model;
    let prompt = model.decode(&asked.token_ids, false).unwrap();
    let (_, last) = prompt.rsplit_once("<|im_start|>user\n").unwrap();
    let (said, _) = last.split_once("<|im_end|>").unwrap();
    let mut ids = model.encode(&format!("You said {said}.")).unwrap();
    ids.push(model.eos_ids()[0]);
    // What the prompt has of it already, where a generation goes on that was aborted.
    let begun = (0..ids.len()).rev().find(|&it| asked.token_ids.ends_with(&ids[..it]));
    let begun = begun.unwrap_or_default();
    ids.drain(..begun);
    let mut finish = "stop";
    if ids.len() > asked.sampling_params.max_tokens {
        ids.truncate(asked.sampling_params.max_tokens);
        finish = "length";
    }
    if said == "hold" && begun == 0 {
        let aborted = shared.abort.notified();
        shared.held.fetch_add(1, Ordering::SeqCst);
        tokio::select! {
            permit = shared.gate.acquire() => permit.unwrap().forget(),
            () = aborted => {
                ids.truncate(SAMPLED_BEFORE);
                finish = "abort";
            }
        }
    }
    let after = version();
    // What was sampled first was on the weights that there were then.
    let first = if before == after { ids.len() } else { SAMPLED_BEFORE };
    let mut spans = vec![json!({"version": before, "start": 0, "end": first})];
    if first < ids.len() {
        spans.push(json!({"version": after, "start": first, "end": ids.len()}));
    }
    shared.seen.lock().unwrap().push((asked.token_ids, ids.clone()));
    let logprobs: Vec<_> =
        ids.iter().map(|id| json!({"token": format!("token_id:{id}"), "logprob": -0.5})).collect();
    let answer = json!({"request_id": "generate-tokens-mock", "choices": [{
        "index": 0, "logprobs": {"content": logprobs}, "token_ids": ids, "weight_versions": spans,
        "finish_reason": finish,
    }]});
    if asked.stream {
        let events = format!("data: {answer}\n\ndata: [DONE]\n\n");
        return ([(header::CONTENT_TYPE, "text/event-stream")], events).into_response();
    }
    Json(answer).into_response()
}
