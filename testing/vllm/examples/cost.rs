//! What a request costs in processor time, on this side and in vLLM's API server, over HTTP and over shared
//! memory.
//!
//! ```text
//! ENVMILL_VLLM_SOCKET=/tmp/PRIVATE/socket testing/python/vllm/server.py FOLDER http PORT   # "ready PID"
//! cargo run --release -p envmill-vllm-tests --example cost -- PID http://127.0.0.1:PORT /tmp/PRIVATE/socket
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::{fs, sync::Arc, time::Instant};

use envmill_inference::{
    Deliver, HttpTarget, Inference, Request, RequestId, Route, Sampling, VllmHttp, VllmHttpOptions,
    VllmMemory, VllmMemoryOptions,
};
use tokio::{runtime::Runtime, task::JoinSet};

const REQUESTS: u64 = 512;
const IN_FLIGHT: u64 = 64;
const PROMPT: u64 = 512;

/// Milliseconds of processor time of all threads of a process.
fn cpu_ms(process: &str) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds = tasks.filter_map(|it| {
        let text = fs::read_to_string(it.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e6
}

/// Distinct prompts of tokens that the model has, from a small generator of numbers.
fn prompt(seed: u64) -> Arc<[u32]> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        10 + u32::try_from(state >> 40).unwrap_or(0) % 4000
    };
    (0..PROMPT).map(next).collect()
}

async fn play(engine: Arc<dyn Inference>, first: u64, max_tokens: u32, deliver: Deliver) -> usize {
    let sampling = Arc::new(Sampling { ignore_eos: true, ..Sampling::default() });
    let mut tasks = JoinSet::new();
    for lane in 0..IN_FLIGHT {
        let (engine, sampling) = (Arc::clone(&engine), Arc::clone(&sampling));
        tasks.spawn(async move {
            let mut tokens = 0;
            for nth in 0..REQUESTS / IN_FLIGHT {
                let number = first + nth * IN_FLIGHT + lane;
                let request = Request {
                    id: RequestId(number),
                    prompt: prompt(number),
                    messages: None,
                    sampling: Arc::clone(&sampling),
                    max_tokens,
                    seed: None,
                    affinity: None,
                    deliver,
                };
                let outcome = engine.generate(request).whole().await.unwrap();
                assert_eq!(outcome.logprobs.len(), outcome.token_ids.len());
                tokens += outcome.token_ids.len();
            }
            tokens
        });
    }
    tasks.join_all().await.into_iter().sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pid, url, socket, rest @ ..] = &arguments[..] else {
        println!("cost PID URL SOCKET [ROUNDS]");
        return;
    };
    let rounds: u64 = rest.first().map_or(2, |it| it.parse().unwrap());
    let runtime = Runtime::new().unwrap();
    let target = HttpTarget { url: url.clone(), api_key: None };
    let options = VllmHttpOptions { target, model: None, route: Some(Route::Generate) };
    let http = VllmHttp::new(options, runtime.handle().clone()).unwrap();
    let options = VllmMemoryOptions::new(socket);
    let memory = VllmMemory::new(options, runtime.handle().clone()).unwrap();
    let engines: [(&str, Arc<dyn Inference>); 2] =
        [("HTTP", Arc::new(http)), ("shared memory", Arc::new(memory))];
    let mut first = u64::from(std::process::id()) << 32;
    println!("channel        tokens  delivery   server ms   client ms   requests/s");
    for _ in 0..rounds {
        for (max_tokens, deliver) in
            [(1, Deliver::Whole), (16, Deliver::Whole), (16, Deliver::Streamed)]
        {
            for (name, engine) in &engines {
                first += REQUESTS;
                let (server, client, began) = (cpu_ms(pid), cpu_ms("self"), Instant::now());
                runtime.block_on(play(Arc::clone(engine), first, max_tokens, deliver));
                let each = |ms: f64| ms / REQUESTS as f64;
                println!(
                    "{name:14} {max_tokens:>6}  {:9} {:>11.3} {:>11.3} {:>12.0}",
                    format!("{deliver:?}"),
                    each(cpu_ms(pid) - server),
                    each(cpu_ms("self") - client),
                    REQUESTS as f64 / began.elapsed().as_secs_f64(),
                );
            }
        }
    }
}
