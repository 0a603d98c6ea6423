//! What does a request to an inference engine cost in processor time, on this side and in vLLM's frontend,
//! over each channel?
//!
//! `inference-cost [ROUNDS] [REQUESTS]`; default 5 rounds of 512 requests for each cell, 64 in flight,
//! prompts of 512 random ids, a tiny model on the CPU. `ENVMILL_VLLM` names the folder that `cargo xtask
//! vllm` has installed vLLM in. Three are started: one with its Python frontend, with which HTTP, shared
//! memory and the peers speak, one with its Rust frontend, with which HTTP and gRPC do, and one without.
//!
//! The peers are clients in Python (aiohttp) of the same Python frontend. The engines are other processes;
//! what they use is shown, and not counted. Prompts are made before the clocks are read.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use envmill_benches::{Frontend, Interval, Vllm, cpu_seconds, median, ratio_interval, vllm_folder};
use envmill_inference::{
    Deliver, EngineCore, EngineCoreOptions, HttpTarget, Inference, ModelFacts, Request, RequestId,
    Route, Sampling, VllmGrpc, VllmHttp, VllmHttpOptions, VllmMemory, VllmMemoryOptions,
};
use envmill_testing::free_port;
use serde_json::Value;
use tokio::{runtime::Runtime, task::JoinSet};

/// That of `envmill`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IN_FLIGHT: usize = 64;
const PROMPT_TOKENS: usize = 512;
/// Of other requests than those that are measured.
const WARM_UP: usize = 64;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    max_tokens: u32,
    logprobs: bool,
}

const CELLS: [Cell; 4] = [
    Cell { max_tokens: 1, logprobs: false },
    Cell { max_tokens: 1, logprobs: true },
    Cell { max_tokens: 16, logprobs: false },
    LAST,
];
/// The one that goals speak of.
const LAST: Cell = Cell { max_tokens: 16, logprobs: true };

/// Who asks.
enum Client {
    Ours(Arc<dyn Inference>),
    /// The route.
    Python(&'static str),
}

struct Channel {
    name: &'static str,
    client: Client,
    server: Arc<Vllm>,
}

/// Microseconds of CPU a request, and requests a second.
#[derive(Clone, Copy)]
struct Cost {
    client: f64,
    frontend: f64,
    engine: f64,
    rate: f64,
}

type Costs = BTreeMap<(Cell, &'static str), Vec<Cost>>;

const PEER: &str = "Python client, HTTP generate";
const MEMORY: &str = "shared memory";
const DIRECT: &str = "EngineCore direct";

fn main() -> Result<()> {
    let arguments: Vec<usize> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let rounds = arguments.first().copied().unwrap_or(5);
    let requests = arguments.get(1).copied().unwrap_or(512);
    let runtime = Runtime::new()?;
    let folder = tempfile::tempdir()?;
    let url = format!("http://127.0.0.1:{}", free_port()?);
    let channels = channels(&runtime, folder.path(), &url)?;
    let mut costs = Costs::new();
    // Prompts are never the same twice: vLLM keeps what it has computed.
    let mut seed = u64::from(std::process::id()) << 32;
    for round in 0..=rounds {
        for cell in CELLS {
            for channel in &channels {
                let count = if round == 0 { WARM_UP } else { requests };
                seed += count as u64;
                let cost = measure(&runtime, channel, &url, cell, count, seed)
                    .with_context(|| channel.name)?;
                if round > 0 {
                    costs.entry((cell, channel.name)).or_default().push(cost);
                }
            }
        }
        eprintln_round(round, rounds);
    }
    tables(&channels, &costs, rounds, requests);
    ratios(&channels, &costs);
    // Before the servers, which it would otherwise see go.
    drop(channels);
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a run takes minutes")]
fn eprintln_round(round: usize, rounds: usize) {
    eprintln!("round {round} of {rounds}");
}

/// All, with the servers behind them.
fn channels(runtime: &Runtime, folder: &Path, url: &str) -> Result<Vec<Channel>> {
    let handle = runtime.handle();
    let private = folder.join("private");
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let socket = private.join("socket");
    let port = url.rsplit(':').next().unwrap_or_default().parse()?;
    let python = Vllm::start(Frontend::Python, port, 0, Some(&socket))?;
    let (rust_port, grpc_port) = (free_port()?, free_port()?);
    let rust = Vllm::start(Frontend::Rust, rust_port, grpc_port, None)?;
    let facts = ModelFacts::load(&vllm_folder()?.join("tiny-qwen2"))?;
    let options = EngineCoreOptions::new(folder.join("core"), facts, handle.clone());
    let core = EngineCore::bind(options)?;
    let headless = Vllm::start(Frontend::None, core.handshake_address().port(), 0, None)?;
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(300), core.ready()).await })??;

    let (python, rust, headless) = (Arc::new(python), Arc::new(rust), Arc::new(headless));
    let http = |url: &str, route| -> Result<Arc<dyn Inference>> {
        let target = HttpTarget { url: url.to_owned(), api_key: None };
        let options = VllmHttpOptions { target, model: Some("tiny".into()), route: Some(route) };
        Ok(Arc::new(VllmHttp::new(options, handle.clone())?))
    };
    let rust_url = format!("http://127.0.0.1:{rust_port}");
    let grpc = VllmGrpc::new(&format!("http://127.0.0.1:{grpc_port}"), None, handle.clone())?;
    let memory = VllmMemory::new(VllmMemoryOptions::new(socket), handle.clone())?;
    let channel =
        |name, client, server: &Arc<Vllm>| Channel { name, client, server: Arc::clone(server) };
    let ours = |name, engine, server| channel(name, Client::Ours(engine), server);
    Ok(vec![
        channel("Python client, HTTP completions", Client::Python("completions"), &python),
        channel(PEER, Client::Python("generate"), &python),
        ours("HTTP completions", http(url, Route::Completions)?, &python),
        ours("HTTP generate", http(url, Route::Generate)?, &python),
        ours("HTTP generate, Rust frontend", http(&rust_url, Route::Generate)?, &rust),
        ours("gRPC, Rust frontend", Arc::new(grpc), &rust),
        ours(MEMORY, Arc::new(memory), &python),
        ours(DIRECT, Arc::new(core), &headless),
    ])
}

fn measure(
    runtime: &Runtime,
    channel: &Channel,
    url: &str,
    cell: Cell,
    requests: usize,
    seed: u64,
) -> Result<Cost> {
    let each = |seconds: f64| seconds * 1e6 / requests as f64;
    let before;
    let (client, rate) = match &channel.client {
        Client::Ours(engine) => {
            let waiting = asked(cell, requests, seed);
            before = channel.server.cpu_seconds();
            let (spent, began) = (cpu_seconds(), Instant::now());
            runtime.block_on(play(engine, waiting, cell))?;
            let rate = requests as f64 / began.elapsed().as_secs_f64();
            (each(cpu_seconds() - spent), rate)
        }
        Client::Python(route) => {
            before = channel.server.cpu_seconds();
            python(url, route, cell, requests, seed)?
        }
    };
    let after = channel.server.cpu_seconds();
    let (frontend, engine) = (each(after.0 - before.0), each(after.1 - before.1));
    Ok(Cost { client, frontend, engine, rate })
}

/// Distinct prompts of tokens that the model has.
fn asked(cell: Cell, requests: usize, seed: u64) -> Vec<Request> {
    let sampling =
        Arc::new(Sampling { ignore_eos: true, logprobs: cell.logprobs, ..Sampling::default() });
    let request = |nth| {
        let id = RequestId(seed + nth as u64);
        let mut state = id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut token = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            10 + (state >> 40) as u32 % 4000
        };
        Request {
            id,
            prompt: (0..PROMPT_TOKENS).map(|_| token()).collect(),
            messages: None,
            sampling: Arc::clone(&sampling),
            max_tokens: cell.max_tokens,
            seed: None,
            affinity: None,
            deliver: Deliver::Whole,
        }
    };
    (0..requests).map(request).collect()
}

/// Asks for all, so many at once.
async fn play(engine: &Arc<dyn Inference>, waiting: Vec<Request>, cell: Cell) -> Result<()> {
    let waiting = Arc::new(Mutex::new(waiting));
    let mut lanes = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (engine, waiting) = (Arc::clone(engine), Arc::clone(&waiting));
        lanes.spawn(async move {
            let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
            while let Some(request) = next() {
                let outcome = engine.generate(request).whole().await?;
                let logprobs = if cell.logprobs { cell.max_tokens } else { 0 };
                ensure!(
                    outcome.token_ids.len() == cell.max_tokens as usize
                        && outcome.logprobs.len() == logprobs as usize,
                    "{outcome:?}"
                );
            }
            anyhow::Ok(())
        });
    }
    lanes.join_all().await.into_iter().collect()
}

/// What the peer says that it used, and its requests a second.
fn python(url: &str, route: &str, cell: Cell, requests: usize, seed: u64) -> Result<(f64, f64)> {
    let mut command = Command::new(vllm_folder()?.join("venv/bin/python"));
    command.arg(envmill_testing::script("vllm/http_client.py")).args([url, route]);
    let numbers = [
        requests as u64,
        IN_FLIGHT as u64,
        PROMPT_TOKENS as u64,
        cell.max_tokens.into(),
        cell.logprobs.into(),
        seed,
    ];
    let output = command.args(numbers.map(|it| it.to_string())).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| said[key].as_f64().with_context(|| format!("no {key} in {said}"));
    Ok((number("cpu_us")?, number("requests_s")?))
}

fn tables(channels: &[Channel], costs: &Costs, rounds: usize, requests: usize) {
    println!("{IN_FLIGHT} in flight, prompts of {PROMPT_TOKENS} ids, {requests} requests a cell,");
    println!(
        "{rounds} rounds; medians, and the least and the most. Microseconds of CPU a request."
    );
    for cell in CELLS {
        let tokens = if cell.max_tokens == 1 { "token" } else { "tokens" };
        let logprobs = if cell.logprobs { " with log-probabilities" } else { "" };
        println!("\n{} {tokens}{logprobs}\n", cell.max_tokens);
        println!("| channel | client | frontend | together | (engine) | requests/s |");
        println!("| --- | ---: | ---: | ---: | ---: | ---: |");
        for channel in channels {
            let figure = |of: fn(&Cost) -> f64| {
                let mut list = column(costs, cell, channel.name, of);
                list.sort_by(f64::total_cmp);
                let ends = list.first().zip(list.last()).unwrap_or((&f64::NAN, &f64::NAN));
                format!("{:.0} ({:.0}–{:.0})", median(&list), ends.0, ends.1)
            };
            let client = figure(|it| it.client);
            let frontend = figure(|it| it.frontend);
            let together = figure(|it| it.client + it.frontend);
            let engine = median(&column(costs, cell, channel.name, |it| it.engine));
            let rate = figure(|it| it.rate);
            println!(
                "| {} | {client} | {frontend} | {together} | {engine:.0} | {rate} |",
                channel.name
            );
        }
    }
}

fn column(costs: &Costs, cell: Cell, name: &str, of: fn(&Cost) -> f64) -> Vec<f64> {
    costs.get(&(cell, name)).into_iter().flatten().map(of).collect()
}

/// How many times as much the peer takes, in the cell that goals speak of.
fn ratios(channels: &[Channel], costs: &Costs) {
    let together = |name| column(costs, LAST, name, |it| it.client + it.frontend);
    let client = |name| column(costs, LAST, name, |it| it.client);
    println!("\n{PEER}, 16 tokens with log-probabilities: how many times each channel's CPU\n");
    println!("| channel | client | client and frontend |");
    println!("| --- | ---: | ---: |");
    let shown = |it: Interval| format!("{:.1} ({:.1}–{:.1})", it.median, it.low, it.high);
    for channel in channels.iter().filter(|it| matches!(it.client, Client::Ours(_))) {
        let alone = ratio_interval(&client(PEER), &client(channel.name));
        let both = ratio_interval(&together(PEER), &together(channel.name));
        println!("| {} | {} | {} |", channel.name, shown(alone), shown(both));
    }
}
