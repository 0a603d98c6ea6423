//! What does the endpoint for captured harnesses add to an upstream of fixed latency?
//!
//! `capture-latency [CLIENTS] [TURNS] [LATENCY_MS] [MESSAGE_BYTES] [FOLDER] [TEMPLATE]`; default 32 clients,
//! conversations of 50 turns, an upstream of 100 ms, messages of 400 bytes, and the small tokenizer and the
//! ChatML template of `engine/chat`'s tests. Each client sends all messages at each turn, as harnesses do;
//! they begin spread over the upstream's latency. Clients, endpoint and upstream share the machine.
//!
//! *Added* is between two timestamps of the engine: from a request's head to the prompt's being handed to
//! the upstream, and from the upstream's last token to the answer's being handed to the connection. What
//! the upstream took is measured by itself, and by the engine; the difference is what waking up took, and
//! the noise floor beside it is how late a bare timer of the same length is in the same run.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envmill_capture::{Capture, CaptureOptions};
use envmill_chat::Model;
use envmill_inference::{
    Answer, Capabilities, Chunk, Control, Error, ErrorKind, Finish, Finished, Generation,
    Inference, Load, Request, RequestId,
};
use envmill_protocol::PolicyVersion;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// Samples the same ids for everybody, after a while.
struct Upstream {
    ids: Vec<u32>,
    latency: Duration,
    took: Arc<Mutex<Vec<f64>>>,
}

impl Inference for Upstream {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            token_ids: true,
            streaming: false,
            version_spans: false,
            stop_strings: false,
            control: false,
            top_logprobs: 0,
            constraints: false,
        }
    }

    fn generate(&self, _request: Request) -> Generation {
        let (feed, generation) = Generation::new();
        let (ids, latency, took) = (self.ids.clone(), self.latency, Arc::clone(&self.took));
        let begun = Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep_until((begun + latency).into()).await;
            took.lock().unwrap_or_else(PoisonError::into_inner).push(micros(begun));
            feed.chunk(Chunk {
                logprobs: vec![-0.5; ids.len()],
                token_ids: ids,
                version: PolicyVersion(0),
                finished: Some(Finished::new(Finish::EndOfTurn)),
                ..Chunk::default()
            });
        });
        generation
    }

    fn abort(&self, _requests: &[RequestId]) {}

    fn control(&self, _control: Control) -> Answer<'_, ()> {
        Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "")) })
    }

    fn load(&self) -> Answer<'_, Option<Load>> {
        Box::pin(async { Ok(None) })
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, usual: usize| -> Result<usize> {
        Ok(arguments.get(index).map_or(Ok(usual), |text| text.parse())?)
    };
    let (clients, turns) = (number(0, 32)?, number(1, 50)?);
    let latency = Duration::from_millis(number(2, 100)? as u64);
    let bytes = number(3, 400)?;
    let fixtures = "engine/chat/tests/fixtures";
    let folder = arguments.get(4).cloned().unwrap_or_else(|| format!("{fixtures}/bytes"));
    let template = arguments.get(5).cloned();
    let template = template.unwrap_or_else(|| format!("{fixtures}/templates/chatml.jinja"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let model = Arc::new(Model::load(&folder)?);
        let mut ids = model.encode(&"a few words of an answer ".repeat(8))?;
        ids.push(*model.eos_ids().first().context("no end of turn")?);
        let took = Arc::default();
        let engine = Arc::new(Upstream { ids, latency, took: Arc::clone(&took) });
        let options = CaptureOptions {
            template_source: Some(std::fs::read_to_string(&template).context("the template")?),
            context_tokens: 1 << 20,
            ..CaptureOptions::default()
        };
        let capture = Capture::new(model, engine, options)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = capture.clone();
        tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
        let keys: Vec<_> = (0..clients).map(|_| capture.open(None)).collect::<Result<_, _>>()?;
        let timers = tokio::spawn(late(latency));
        let harnesses: Vec<_> = (0..clients)
            .map(|it| {
                let key = keys[it].as_str().to_owned();
                // Not all at once: with an upstream of fixed latency they would stay in step.
                let delay = latency.mul_f64(it as f64 / clients as f64);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    play(address, key, turns, bytes).await
                })
            })
            .collect();
        let mut trips = Vec::new();
        for harness in harnesses {
            trips.extend(harness.await??);
        }
        timers.abort();
        let mut calls = Vec::new();
        for key in &keys {
            let captured = capture.close(key).context("it is open")?;
            ensure!(captured.branches == 1, "a conversation was not continued");
            calls.extend(captured.calls);
        }
        ensure!(calls.len() == clients * turns, "{} calls were recorded", calls.len());
        let of = |time: fn(&envmill_capture::Timings) -> u64| -> Vec<f64> {
            calls.iter().map(|it| time(&it.timings) as f64).collect()
        };
        let took = std::mem::take(&mut *took.lock().unwrap_or_else(PoisonError::into_inner));
        println!("{clients} clients, {turns} turns, an upstream of {latency:?}, {bytes} bytes a message\n");
        println!("| | p50 µs | p90 µs | p99 µs |\n| --- | ---: | ---: | ---: |");
        row("added, by the engine's timestamps", of(|it| it.queue_us + it.answer_us));
        row("… before the upstream", of(|it| it.queue_us));
        row("… behind the upstream", of(|it| it.answer_us));
        row("the upstream, by itself", took);
        row("the upstream, as the engine saw it", of(|it| it.generation_us));
        row("the round trip, as clients saw it", trips);
        row("noise floor: how late a bare timer is", timers_of());
        Ok(())
    })
}

/// How late timers were.
static LATE: Mutex<Vec<f64>> = Mutex::new(Vec::new());

async fn late(latency: Duration) {
    loop {
        let begun = Instant::now();
        tokio::time::sleep_until((begun + latency).into()).await;
        let late = micros(begun) - latency.as_secs_f64() * 1e6;
        LATE.lock().unwrap_or_else(PoisonError::into_inner).push(late);
    }
}

fn timers_of() -> Vec<f64> {
    std::mem::take(&mut *LATE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn row(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (times.len().saturating_sub(1) as f64 * share).round() as usize;
        times.get(index).copied().unwrap_or(f64::NAN)
    };
    println!("| {what} | {:.0} | {:.0} | {:.0} |", at(0.5), at(0.9), at(0.99));
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// A harness: it sends all messages at each turn, on one connection. Gives how long each call took.
async fn play(address: SocketAddr, key: String, turns: usize, bytes: usize) -> Result<Vec<f64>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut messages = vec![json!({"role": "system", "content": "s".repeat(bytes)})];
    let mut trips = Vec::with_capacity(turns);
    for turn in 0..turns {
        let content = format!("{turn} {}", "some words ".repeat(bytes / 11));
        messages.push(json!({"role": "user", "content": content}));
        let body = json!({"model": "x", "messages": messages}).to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let begun = Instant::now();
        stream.get_mut().write_all((head + &body).as_bytes()).await?;
        let answer = answer(&mut stream).await?;
        trips.push(micros(begun));
        messages.push(answer["choices"][0]["message"].clone());
    }
    Ok(trips)
}

async fn answer(stream: &mut BufReader<TcpStream>) -> Result<Value> {
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).await?;
    ensure!(line.contains(" 200 "), "{line}");
    while !line.trim().is_empty() {
        line.clear();
        stream.read_line(&mut line).await?;
        if let Some(it) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = it.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}
