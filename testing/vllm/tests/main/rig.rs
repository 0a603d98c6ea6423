//! Servers that are started once, and end with this process.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use envmill_inference::{
    Control, HttpTarget, Inference as _, PauseMode, VllmHttp, VllmHttpOptions,
};
use envmill_protocol::{
    PolicyVersion,
    record::{read_json_line, whole_prompt},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Where vLLM is installed.
pub(crate) fn folder() -> PathBuf {
    let folder = std::env::var_os("ENVMILL_VLLM");
    folder
        .expect("ENVMILL_VLLM names the folder that `cargo xtask vllm` has installed vLLM in")
        .into()
}

/// A line of a file of records, with each generation's whole prompt.
pub(crate) fn record(line: &str) -> Value {
    let mut record: Value = serde_json::from_str(line).unwrap();
    let generations = read_json_line(line.as_bytes()).unwrap().generations;
    for index in 0..generations.len() {
        record["generations"][index]["prompt_token_ids"] = json!(whole_prompt(&generations, index));
    }
    record
}

/// A port that nobody has at the moment.
pub(crate) fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A vLLM of one kind.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) grpc_port: u16,
    /// Where Envmill's plug-in is, in vLLM's Python frontend.
    pub(crate) socket: PathBuf,
    child: Child,
    /// It ends when this is closed.
    held: Option<ChildStdin>,
}

impl Server {
    pub(crate) fn start(kind: &str, port: u16) -> Self {
        Self::start_with(kind, port, &[])
    }

    pub(crate) fn start_with(kind: &str, port: u16, variables: &[(&str, &str)]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/vllm/server.py");
        let grpc_port = self::port();
        let log = std::env::temp_dir().join(format!("envmill-vllm-{kind}-{port}.log"));
        // Nobody else enters it.
        let folder =
            std::env::temp_dir().join(format!("envmill-vllm-{}-{port}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let socket = folder.join("socket");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(self::folder())
            .args([kind, &port.to_string(), &grpc_port.to_string()])
            // What only the Python frontend knows.
            .args(["--", "--enable-per-request-metrics"].iter().filter(|_| kind == "http"))
            .env("LOG", &log)
            .envs(variables.iter().copied())
            .env("ENVMILL_VLLM_SOCKET", &socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let held = child.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "vLLM did not start, see {}", log.display());
        Self { port, grpc_port, socket, child, held: Some(held) }
    }

    /// `kill -9` to all of it.
    pub(crate) fn kill(&mut self) {
        self.held.take();
        self.child.wait().unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// What the engine behind the Python frontend was asked.
pub(crate) fn engine_log() -> PathBuf {
    std::env::temp_dir().join(format!("envmill-vllm-{}.jsonl", std::process::id()))
}

/// A vLLM with the Python frontend, whose engine writes down what it is asked.
pub(crate) fn logged(log: &Path) -> Server {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/vllm/log");
    let variables = [
        ("ENVMILL_VLLM_LOG", log.to_str().unwrap()),
        ("PYTHONPATH", script.to_str().unwrap()),
        ("MAX_NUM_SEQS", "256"),
    ];
    Server::start_with("http", port(), &variables)
}

/// The command, built beside these tests (`cargo xtask vllm` does).
pub(crate) fn envmill() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("envmill");
    assert!(path.exists(), "{} is not built: cargo build -p envmill", path.display());
    path
}

/// vLLM's Python frontend. Tests that change its state take turns.
pub(crate) fn python() -> MutexGuard<'static, Server> {
    static SERVER: LazyLock<Mutex<Server>> = LazyLock::new(|| {
        let log = engine_log();
        std::fs::write(&log, "").unwrap();
        Mutex::new(logged(&log))
    });
    SERVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// vLLM's Rust frontend.
pub(crate) fn rust() -> MutexGuard<'static, Server> {
    static SERVER: LazyLock<Mutex<Server>> =
        LazyLock::new(|| Mutex::new(Server::start("rust", port())));
    SERVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a server other weights as a trainer would: generations under way stay, and go on with them.
pub(crate) fn exchange_weights(server: &Server, model: &str, version: u64) {
    tell(
        server,
        &[
            Control::Pause(PauseMode::Keep),
            Control::LoadWeights { folder: folder().join(model) },
            Control::SetVersion(PolicyVersion(version)),
            Control::Resume,
        ],
    );
}

/// Changes a server's state.
pub(crate) fn tell(server: &Server, controls: &[Control]) {
    let target = HttpTarget { url: server.url(), api_key: None };
    let options = VllmHttpOptions { target, model: None, route: None };
    let engine = VllmHttp::new(options, RUNTIME.handle().clone()).unwrap();
    RUNTIME.block_on(async {
        for control in controls {
            engine.control(control.clone()).await.unwrap();
        }
    });
}

/// Lines of a file; none while it is not there.
pub(crate) fn lines(path: &Path) -> usize {
    std::fs::read(path).unwrap_or_default().iter().filter(|it| **it == b'\n').count()
}

/// Where channels do their work.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
