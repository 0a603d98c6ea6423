//! From what the user wrote to a policy.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process,
    sync::Arc,
    thread,
    time::Duration,
};

use envmill_agent::{Agent, AgentError, AgentOptions, Agents, Script};
use envmill_inference::{
    EngineCore, EngineCoreOptions, Error, ErrorKind, HttpTarget, Inference, ModelFacts, OpenAiChat,
    Pool, PoolOptions, VllmGrpc, VllmHttp, VllmHttpOptions, VllmMemory, VllmMemoryOptions,
    VllmNearest,
};
use envmill_workers::Waker;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinSet,
};

use super::{
    Channel, CodeSetup, Engines, LanguageModel, ModelSpec, code::PythonScript, default_agent,
};
use crate::secret::{self, Secret};

/// A language model that is to play.
#[derive(Clone)]
pub struct ModelSetup {
    /// Its inference engine.
    pub spec: ModelSpec,
    /// The agent, as a file says it. Without it, the model's words go into the one field of the action that
    /// takes text.
    pub agent: Option<AgentOptions>,
    /// Where an agent that is a Python function (`code` in its file) runs.
    pub code: CodeSetup,
    /// An agent in Rust, in place of one in Python.
    pub script: Option<Arc<dyn Script>>,
}

/// Why a language model cannot play.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The policy is another one.
    #[error("--policy {0} is no language model")]
    None(String),
    /// The agent's file cannot be read.
    #[error("--agent {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says what no agent is.
    #[error("--agent {}: {message}", path.display())]
    Options {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// There is no agent, and the actions need one.
    #[error("--policy {spec}: {why}; say with --agent FILE how text becomes an action")]
    NoAgent {
        /// The inference engine.
        spec: ModelSpec,
        /// Why.
        why: String,
    },
    /// Nobody said where the model's tokenizer and template are.
    #[error(
        "--policy {spec}: the folder of its model is not known here ({said}); say `model = \"FOLDER\"` in \
         --agent"
    )]
    NoFolder {
        /// The inference engine.
        spec: ModelSpec,
        /// What the inference engine says.
        said: String,
    },
    /// The key that its servers want is not where it should be.
    #[error("--policy: {0}")]
    Key(String),
    /// A channel cannot be made.
    #[error("--policy: {0}")]
    Channel(Error),
    /// The agent cannot be made.
    #[error("--agent: {0}")]
    Agent(#[from] AgentError),
    /// The agent's code does not run.
    #[error("--agent: code.python = \"{function}\": {why}")]
    Code {
        /// What was named.
        function: String,
        /// Why.
        why: String,
    },
    /// There are no threads for it.
    #[error("no threads for the language model: {0}")]
    Runtime(std::io::Error),
}

/// Its inference engine is asked for so long what it serves.
const SERVED_TIMEOUT: Duration = Duration::from_secs(30);

/// A core of vLLM loads its model before it dials in.
const CORE_TIMEOUT: Duration = Duration::from_mins(10);

/// Threads that speak with inference engines and make and read tokens. The engine's own is beside them.
const THREADS_MAX: usize = 4;

impl ModelSetup {
    /// Reads an agent's file (TOML).
    ///
    /// # Errors
    ///
    /// It cannot be read, or says what no agent is.
    pub fn read_agent(path: &Path) -> Result<AgentOptions, ModelError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ModelError::File { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|error| ModelError::Options {
            path: path.to_owned(),
            message: error.to_string(),
        })
    }

    /// Connects. `schema` is that of the environment's actions; `waker` is woken when there are decisions.
    ///
    /// # Errors
    ///
    /// See [`ModelError`].
    pub fn start(self, schema: &[u8], waker: Waker) -> Result<LanguageModel, ModelError> {
        let options = match self.agent {
            Some(options) => options,
            None => default_agent::for_schema(schema)
                .map_err(|why| ModelError::NoAgent { spec: self.spec.clone(), why })?,
        };
        let script = match (self.script, &options.code) {
            (Some(script), _) => Some(script),
            (None, Some(code)) => {
                Some(Arc::new(PythonScript::start(code, &self.code)?) as Arc<dyn Script>)
            }
            (None, None) => None,
        };
        let Connected { pool, nearest, folder, context_tokens, runtime } =
            connect(&self.spec, options.model.clone())?;
        let mut options = options;
        options.limits.context_tokens = options.limits.context_tokens.or(context_tokens);
        let handle = runtime.handle().clone();
        let agent = Agent::new(options, folder.as_deref(), Arc::new(pool.clone()), script)?;
        let agents = Agents::new(Arc::new(agent), handle, waker);
        Ok(LanguageModel::new(agents, Engines::new(pool, nearest, runtime)))
    }
}

/// Replicas that can be asked.
pub(super) struct Connected {
    pub(super) pool: Pool,
    /// Those that have found out by themselves how to speak with the server at a URL.
    pub(super) nearest: Vec<(String, VllmNearest)>,
    /// The model's, where its inference engine takes token ids.
    pub(super) folder: Option<PathBuf>,
    /// What the inference engine says of its context.
    pub(super) context_tokens: Option<u32>,
    pub(super) runtime: Runtime,
}

/// Connects to the replicas of a model, whose folder the user has named or not.
pub(super) fn connect(spec: &ModelSpec, model: Option<String>) -> Result<Connected, ModelError> {
    let runtime = runtime().map_err(ModelError::Runtime)?;
    let handle = runtime.handle().clone();
    let key = key(spec.channel)?;
    let (folder, context_tokens) = folder(spec, model, key.as_deref(), &runtime)?;
    let facts = folder.as_deref().map(ModelFacts::load).transpose();
    let facts = facts.map_err(ModelError::Channel)?;
    let options = PoolOptions {
        vocabulary: facts.as_ref().map(|it| it.vocab_size),
        ..PoolOptions::default()
    };
    let pool = Pool::new(options, handle.clone());
    let (mut nearest, mut engines) = (Vec::new(), Vec::new());
    for replica in &spec.replicas {
        let key = key.as_deref();
        let engine = channel(spec, replica, key, facts.as_ref(), &handle, &mut nearest);
        engines.push(engine.map_err(ModelError::Channel)?);
    }
    choose(&nearest, &runtime);
    for (replica, engine) in spec.replicas.iter().zip(engines) {
        pool.add(replica.clone(), engine);
    }
    Ok(Connected { pool, nearest, folder, context_tokens, runtime })
}

/// Asks these servers, all at once, what they offer.
fn choose(nearest: &[(String, VllmNearest)], runtime: &Runtime) {
    let mut asked = JoinSet::new();
    for (_, engine) in nearest {
        let engine = engine.clone();
        asked.spawn_on(async move { engine.choose().await }, runtime.handle());
    }
    runtime.block_on(async { while asked.join_next().await.is_some() {} });
}

fn runtime() -> std::io::Result<Runtime> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("envmill-model")
        .enable_all()
        .build()
}

fn channel(
    spec: &ModelSpec,
    replica: &str,
    key: Option<&str>,
    facts: Option<&ModelFacts>,
    runtime: &Handle,
    nearest: &mut Vec<(String, VllmNearest)>,
) -> Result<Arc<dyn Inference>, Error> {
    Ok(match spec.channel {
        Channel::Vllm => {
            let engine = VllmNearest::new(http(replica, key, runtime)?, runtime.clone());
            nearest.push((replica.to_owned(), engine.clone()));
            Arc::new(engine)
        }
        Channel::VllmHttp => Arc::new(http(replica, key, runtime)?),
        Channel::VllmGrpc => {
            let (grpc, over_http) = match replica.split_once('+') {
                Some((grpc, url)) => (grpc, Some(http(url, key, runtime)?)),
                None => (replica, None),
            };
            Arc::new(VllmGrpc::new(grpc, over_http, runtime.clone())?)
        }
        Channel::VllmCore => {
            let handshake = if replica.contains(':') {
                replica.to_owned()
            } else {
                format!("127.0.0.1:{replica}")
            };
            let facts = facts.ok_or_else(|| {
                Error::new(ErrorKind::Refused, "vllm-core: the model's folder is not known")
            })?;
            Arc::new(core(&handshake, facts, runtime)?)
        }
        Channel::VllmMemory => {
            Arc::new(VllmMemory::new(VllmMemoryOptions::new(replica), runtime.clone())?)
        }
        Channel::OpenAi => {
            let (model, url) = replica.split_once('@').ok_or_else(|| {
                Error::new(ErrorKind::Refused, format!("`{replica}` should be MODEL@URL"))
            })?;
            let target = HttpTarget { url: url.to_owned(), api_key: key.map(str::to_owned) };
            Arc::new(OpenAiChat::new(target, model.to_owned(), runtime.clone())?)
        }
    })
}

/// A channel that waits for a core of vLLM to dial in.
fn core(handshake: &str, facts: &ModelFacts, runtime: &Handle) -> Result<EngineCore, Error> {
    let handshake: SocketAddr = handshake.parse().map_err(|error| {
        Error::new(
            ErrorKind::Refused,
            format!("vllm-core:{handshake} is no PORT or ADDRESS:PORT ({error})"),
        )
    })?;
    let folder =
        std::env::temp_dir().join(format!("envmill-core-{}-{}", process::id(), handshake.port()));
    let options = EngineCoreOptions {
        handshake,
        ..EngineCoreOptions::new(folder, facts.clone(), runtime.clone())
    };
    let engine = EngineCore::bind(options)?;
    tracing::info!("waiting for `vllm serve --headless` to dial in at {handshake}");
    let ready =
        runtime.block_on(async { tokio::time::timeout(CORE_TIMEOUT, engine.ready()).await });
    ready.map_err(|_| {
        let message = format!(
            "no vLLM dialled in at {handshake} for {} s: start `vllm serve MODEL --headless \
             --data-parallel-size 1 --data-parallel-size-local 1 --data-parallel-address {} \
             --data-parallel-rpc-port {}`",
            CORE_TIMEOUT.as_secs(),
            handshake.ip(),
            handshake.port(),
        );
        Error::new(ErrorKind::Lost, message)
    })??;
    Ok(engine)
}

fn http(url: &str, key: Option<&str>, runtime: &Handle) -> Result<VllmHttp, Error> {
    let target = HttpTarget { url: url.to_owned(), api_key: key.map(str::to_owned) };
    VllmHttp::new(VllmHttpOptions { target, model: None, route: None }, runtime.clone())
}

/// What is sent to servers that want a key.
fn key(channel: Channel) -> Result<Option<String>, ModelError> {
    let name = match channel {
        Channel::OpenAi => "OPENAI_API_KEY",
        Channel::Vllm | Channel::VllmHttp | Channel::VllmGrpc => "VLLM_API_KEY",
        Channel::VllmCore | Channel::VllmMemory => return Ok(None),
    };
    let key = secret::api_key(name, |name| std::env::var(name).ok()).map_err(ModelError::Key)?;
    Ok(key.map(Secret::into_text))
}

/// The folder of the model where it is needed, and how long its context is, as far as somebody knows.
fn folder(
    spec: &ModelSpec,
    model: Option<String>,
    key: Option<&str>,
    runtime: &Runtime,
) -> Result<(Option<PathBuf>, Option<u32>), ModelError> {
    let url = match spec.channel {
        Channel::OpenAi => return Ok((None, None)),
        Channel::Vllm | Channel::VllmHttp => spec.replicas.first().map(String::as_str),
        Channel::VllmGrpc => spec.replicas.first().and_then(|it| it.split_once('+')).map(|it| it.1),
        Channel::VllmCore | Channel::VllmMemory => None,
    };
    let served = match url {
        Some(url) => {
            let server = http(url, key, runtime.handle()).map_err(ModelError::Channel)?;
            let asked = runtime
                .block_on(async { tokio::time::timeout(SERVED_TIMEOUT, server.served()).await });
            match asked {
                Ok(Ok(served)) => Some(served),
                // It may still be starting, and everything else is known.
                Ok(Err(error)) if model.is_none() => return Err(ModelError::Channel(error)),
                Ok(Err(_)) | Err(_) => None,
            }
        }
        None => None,
    };
    let context_tokens = served.as_ref().and_then(|it| it.context_tokens);
    if let Some(folder) = model {
        return Ok((Some(folder.into()), context_tokens));
    }
    let said = match served.and_then(|it| it.folder) {
        Some(folder) if Path::new(&folder).join("tokenizer.json").exists() => {
            return Ok((Some(folder.into()), context_tokens));
        }
        Some(folder) => format!("the inference engine serves `{folder}`, which is no folder here"),
        None => "the inference engine does not say what it serves".to_owned(),
    };
    Err(ModelError::NoFolder { spec: spec.clone(), said })
}
