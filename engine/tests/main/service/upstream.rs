//! A vLLM whose model repeats what it is told: the inference engine of harnesses.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    routing::{get, post},
};
use envmill_chat::Model;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

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
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let folder = folder();
        let model = Model::load(folder.path()).unwrap();
        let (path, seen) = (folder.path().to_owned(), Mutex::default());
        let asked_by = Mutex::default();
        let shared = Arc::new(Shared { model, folder: path, seen, asked_by });
        let routes = Router::new()
            .route("/health", get(|| async {}))
            .route("/metrics", get(|| async { "" }))
            .route("/v1/models", get(models))
            .route("/inference/v1/generate", post(generate))
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

#[derive(Deserialize)]
struct Asked {
    token_ids: Vec<u32>,
}

async fn generate(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    asked: Bytes,
) -> Json<Value> {
    let by = headers.get("authorization").map(|it| it.to_str().unwrap().to_owned());
    shared.asked_by.lock().unwrap().extend(by);
    let asked: Asked = serde_json::from_slice(&asked).unwrap();
    let model = &shared.model;
    let prompt = model.decode(&asked.token_ids, false).unwrap();
    let (_, last) = prompt.rsplit_once("<|im_start|>user\n").unwrap();
    let (said, _) = last.split_once("<|im_end|>").unwrap();
    let mut ids = model.encode(&format!("You said {said}.")).unwrap();
    ids.push(model.eos_ids()[0]);
    shared.seen.lock().unwrap().push((asked.token_ids, ids.clone()));
    let logprobs: Vec<_> =
        ids.iter().map(|id| json!({"token": format!("token_id:{id}"), "logprob": -0.5})).collect();
    Json(json!({"request_id": "generate-tokens-mock", "choices": [{
        "index": 0, "logprobs": {"content": logprobs}, "finish_reason": "stop", "token_ids": ids,
    }]}))
}
