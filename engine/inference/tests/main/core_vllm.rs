//! `EngineCore` against a real vLLM, where `ENVMILL_TEST_VLLM` names a folder with `venv/bin/vllm` and
//! `tiny-qwen2`. Where `ENVMILL_TEST_VLLM_HTTP` is the address of another that serves the same model over
//! HTTP, both have to say the same.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use envmill_inference::{
    Constraint, Control, Deliver, EngineCore, EngineCoreOptions, ErrorKind, Finish, Inference as _,
    JsonSchema, ModelFacts, PauseMode, Request, RequestId, Sampling, conformance,
};
use envmill_protocol::PolicyVersion;
use tokio::runtime::Handle;

use crate::request;

/// A vLLM without a frontend. It has processes of its own, which end with it.
struct Vllm(Child);

fn installed() -> Option<PathBuf> {
    let folder = std::env::var_os("ENVMILL_TEST_VLLM").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("ENVMILL_TEST_VLLM names no folder with a vLLM: skipped");
    }
    folder
}

impl Vllm {
    fn start(folder: &std::path::Path, log: &std::path::Path, port: u16) -> Self {
        let log = File::options().append(true).create(true).open(log).unwrap();
        let mut command = Command::new(folder.join("venv/bin/vllm"));
        command.arg("serve").arg(folder.join("tiny-qwen2"));
        command.args([
            "--headless",
            "--data-parallel-size",
            "1",
            "--data-parallel-size-local",
            "1",
        ]);
        command.args(["--data-parallel-address", "127.0.0.1"]);
        command.args(["--data-parallel-rpc-port", &port.to_string()]);
        command.args(["--dtype", "float32", "--enforce-eager", "--max-model-len", "4096"]);
        command.args(["--max-num-seqs", "64", "--max-num-batched-tokens", "8192"]);
        command.args(["--generation-config", "vllm"]);
        command.envs([
            ("HF_HUB_OFFLINE", "1"),
            ("TRANSFORMERS_OFFLINE", "1"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("DO_NOT_TRACK", "1"),
            ("VLLM_TARGET_DEVICE", "cpu"),
            ("VLLM_CPU_KVCACHE_SPACE", "1"),
            ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
            ("OMP_NUM_THREADS", "1"),
        ]);
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        Self(command.spawn().unwrap())
    }

    fn kill(&mut self) {
        let group = format!("-{}", self.0.id());
        Command::new("kill").args(["-9", "--", &group]).status().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Vllm {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn ready(engine: &EngineCore) {
    tokio::time::timeout(Duration::from_secs(300), engine.ready())
        .await
        .expect("it starts")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_real_engine_is_spoken_to() {
    let Some(installed) = installed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let facts = ModelFacts::load(&installed.join("tiny-qwen2")).unwrap();
    assert_eq!((&facts.eos_token_ids[..], facts.vocab_size), (&[2][..], 4096));
    let options = EngineCoreOptions::new(folder.path().join("sockets"), facts, Handle::current());
    let engine = EngineCore::bind(options.clone()).unwrap();
    let early = engine.generate(request(1, &[1], 1)).whole().await.unwrap_err();
    assert_eq!(early.kind, ErrorKind::Busy);

    let port = engine.handshake_address().port();
    let log = folder.path().join("vllm.log");
    let mut vllm = Vllm::start(&installed, &log, port);
    ready(&engine).await;
    same_as_over_http(&engine).await;
    ends(&engine).await;
    conformance::the_most_likely_tokens_are_told(&engine).await;
    conformance::what_is_held_to_a_constraint_follows_it(&engine).await;
    no_grammar(&engine).await;
    many(&engine).await;
    versions(&engine, &installed).await;
    cost(&engine).await;

    // The same engine, and another channel.
    engine.close().await;
    let options = EngineCoreOptions { handshake: ([127, 0, 0, 1], port).into(), ..options };
    let engine = EngineCore::bind(options).unwrap();
    ready(&engine).await;
    let outcome = engine.generate(request(1, &[5; 20], 5)).whole().await.unwrap();
    assert_eq!((outcome.token_ids.len(), outcome.versions[0].version), (5, PolicyVersion(7)));

    // It dies in the middle, and is started again.
    let mut under_way =
        engine.generate(Request { deliver: Deliver::Streamed, ..request(2, &[5; 20], 4000) });
    under_way.next().await.unwrap().unwrap();
    vllm.kill();
    let error = loop {
        match under_way.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Lost, "{error}");
    let error = engine.generate(request(3, &[5], 1)).whole().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Lost, "{error}");
    let _vllm = Vllm::start(&installed, &log, port);
    ready(&engine).await;
    let outcome = engine.generate(request(4, &[5; 20], 5)).whole().await.unwrap();
    assert_eq!((outcome.token_ids.len(), outcome.versions[0].version), (5, PolicyVersion(0)));
    // What cannot be loaded ends an engine.
    let lost =
        engine.control(Control::LoadWeights { folder: "/nowhere".into() }).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::Lost, "{lost}");
    let error = engine.generate(request(5, &[5], 1)).whole().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Lost, "{error}");
}

/// A schema that no grammar can be made of harms nobody else.
async fn no_grammar(engine: &EngineCore) {
    let schema = JsonSchema::new(r##"{"$ref": "#/nowhere"}"##).unwrap();
    let constraint = Some(Constraint::JsonSchema(schema));
    let sampling = Arc::new(Sampling { constraint, ..Sampling::default() });
    let held = engine.generate(Request { sampling, ..request(40, &[5; 20], 5) }).whole();
    assert_eq!(held.await.unwrap_err().kind, ErrorKind::Refused);
    let outcome = engine.generate(request(41, &[5; 20], 5)).whole().await.unwrap();
    assert_eq!(outcome.token_ids.len(), 5);
}

/// Greedy and seeded samples, with log-probabilities.
async fn same_as_over_http(engine: &EngineCore) {
    let Ok(http) = std::env::var("ENVMILL_TEST_VLLM_HTTP") else { return };
    for (id, temperature, seed) in [(10, 0.0, None), (11, 1.0, Some(3)), (12, 0.8, Some(9))] {
        let prompt: Vec<u32> = (0..100).map(|it| 10 + (it * 37 + id) % 4000).collect();
        let sampling = Sampling { temperature, ..Sampling::default() };
        let asked =
            Request { sampling: Arc::new(sampling), seed, ..request(u64::from(id), &prompt, 16) };
        let ours = engine.generate(asked).whole().await.unwrap();
        let seed = seed.map_or("null".to_owned(), |it| it.to_string());
        let body = format!(
            r#"{{"model":"tiny","token_ids":{prompt:?},"sampling_params":{{"temperature":{temperature},
            "seed":{seed},"max_tokens":16,"logprobs":0}}}}"#
        );
        let answer = post(&http, "/inference/v1/generate", &body);
        let choice = &answer["choices"][0];
        let theirs: Vec<u64> =
            choice["token_ids"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect();
        assert_eq!(ours.token_ids.iter().map(|it| u64::from(*it)).collect::<Vec<_>>(), theirs);
        let content = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(content.len(), ours.logprobs.len());
        for (ours, theirs) in ours.logprobs.iter().zip(content) {
            assert!(
                (f64::from(*ours) - theirs["logprob"].as_f64().unwrap()).abs() < 1e-4,
                "{theirs}"
            );
        }
    }
    eprintln!("the same as over HTTP");
}

fn post(address: &str, path: &str, body: &str) -> serde_json::Value {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// All the ways in which a generation ends, but for those of engines that break.
async fn ends(engine: &EngineCore) {
    let whole = engine.generate(request(20, &[7; 30], 12)).whole().await.unwrap();
    assert_eq!((whole.token_ids.len(), whole.logprobs.len()), (12, 12));
    assert_eq!(whole.finish(), Some(&Finish::Length));
    assert!(whole.finished.as_ref().unwrap().cached_tokens.is_some());
    let streamed = Request { deliver: Deliver::Streamed, ..request(21, &[7; 30], 12) };
    let mut generation = engine.generate(streamed);
    let (mut tokens, mut chunks) = (Vec::new(), 0);
    while let Some(chunk) = generation.next().await {
        tokens.extend(chunk.unwrap().token_ids);
        chunks += 1;
    }
    assert_eq!((tokens, chunks), (whole.token_ids.clone(), 12));

    // A token that it would sample, as a stop token, and as one that must wait.
    let sampling = Sampling { temperature: 1.0, ..(*request(0, &[1], 1).sampling).clone() };
    let seeded = |id, sampling: &Sampling| Request {
        sampling: Arc::new(sampling.clone()),
        seed: Some(5),
        ..request(id, &[7; 30], 12)
    };
    let whole = engine.generate(seeded(22, &sampling)).whole().await.unwrap();
    let stop = *whole.token_ids.iter().find(|it| **it != whole.token_ids[0]).unwrap();
    let at = whole.token_ids.iter().position(|it| *it == stop).unwrap();
    let sampling = Sampling { stop_token_ids: vec![stop], ..sampling };
    let stopped = engine.generate(seeded(22, &sampling)).whole().await.unwrap();
    assert_eq!(stopped.finish(), Some(&Finish::StopToken(stop)));
    assert_eq!(stopped.token_ids, whole.token_ids[..=at]);
    let sampling = Sampling { min_tokens: 12, ..sampling };
    let waited = engine.generate(seeded(23, &sampling)).whole().await.unwrap();
    assert_eq!(waited.token_ids.len(), 12);
    assert!(!waited.token_ids.contains(&stop));

    // The model's length ends it, too; and no prompt is longer.
    let last = engine.generate(request(24, &[7; 4090], 100)).whole().await.unwrap();
    assert_eq!((last.token_ids.len(), last.finish()), (6, Some(&Finish::Length)));
    let error = engine.generate(request(25, &[7; 4096], 1)).whole().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);

    // Aborts, by name and by dropping.
    let mut long =
        engine.generate(Request { deliver: Deliver::Streamed, ..request(26, &[7; 30], 4000) });
    long.next().await.unwrap().unwrap();
    let twice = engine.generate(request(26, &[7; 30], 1)).whole().await.unwrap_err();
    assert_eq!(twice.kind, ErrorKind::Refused);
    let whole = engine.generate(request(27, &[7; 30], 4000));
    let dropped = engine.generate(request(28, &[7; 30], 4000));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(engine.load().await.unwrap().unwrap().running, 3);
    drop(dropped);
    engine.abort(&[RequestId(26), RequestId(27), RequestId(999)]);
    let outcome = whole.whole().await.unwrap();
    assert_eq!(outcome.finish(), Some(&Finish::Aborted));
    assert!(!outcome.token_ids.is_empty());
    assert_eq!(outcome.token_ids.len(), outcome.logprobs.len());
    // The engine has room at once: one step later it works on nothing else.
    let next = engine.generate(request(29, &[7; 30], 20)).whole().await.unwrap();
    assert_eq!(next.token_ids.len(), 20);
    let mut watched =
        engine.generate(Request { deliver: Deliver::Streamed, ..request(30, &[7; 30], 20) });
    watched.next().await.unwrap().unwrap();
    watched.next().await.unwrap().unwrap();
    assert_eq!(engine.load().await.unwrap().unwrap().running, 1);
}

/// As many as the engine samples together, and more.
async fn many(engine: &EngineCore) {
    let all: Vec<_> = (0..200_u32)
        .map(|it| (it, engine.generate(request(100 + u64::from(it), &[10 + it; 40], 8))))
        .collect();
    let mut first = Vec::new();
    for (it, generation) in all {
        let outcome = generation.whole().await.unwrap();
        assert_eq!((outcome.token_ids.len(), outcome.logprobs.len()), (8, 8));
        if it < 3 {
            first.push(outcome.token_ids);
        }
    }
    for (it, tokens) in (0..3).zip(first) {
        let alone = engine.generate(request(100, &[10 + it; 40], 8)).whole().await.unwrap();
        assert_eq!(alone.token_ids, tokens);
    }
}

/// Weights are changed under a generation.
async fn versions(engine: &EngineCore, installed: &std::path::Path) {
    let mut generation =
        engine.generate(Request { deliver: Deliver::Streamed, ..request(300, &[9; 30], 300) });
    for _ in 0..5 {
        generation.next().await.unwrap().unwrap();
    }
    engine.control(Control::Pause(PauseMode::Keep)).await.unwrap();
    let folder = installed.join("tiny-qwen2");
    engine.control(Control::LoadWeights { folder }).await.unwrap();
    engine.control(Control::SetVersion(PolicyVersion(7))).await.unwrap();
    engine.control(Control::Resume).await.unwrap();
    let (mut sampled, mut finished) = (5, None);
    while let Some(chunk) = generation.next().await {
        let chunk = chunk.unwrap();
        sampled += u32::try_from(chunk.token_ids.len()).unwrap();
        finished = chunk.finished;
    }
    let versions = finished.unwrap().versions;
    assert_eq!(sampled, 300);
    let [before, after] = &versions[..] else { panic!("{versions:?}") };
    assert_eq!((before.version, after.version), (PolicyVersion(0), PolicyVersion(7)));
    assert!(before.tokens >= 5);
    assert_eq!(before.tokens + after.tokens, 300);

    let aborted = engine.generate(request(301, &[9; 30], 4000));
    tokio::time::sleep(Duration::from_millis(300)).await;
    engine.control(Control::Pause(PauseMode::Abort)).await.unwrap();
    let outcome = aborted.whole().await.unwrap();
    assert_eq!(outcome.finish(), Some(&Finish::Aborted));
    assert!(!outcome.token_ids.is_empty());
    let waits = engine.generate(request(302, &[9; 30], 3));
    engine.control(Control::Resume).await.unwrap();
    assert_eq!(waits.whole().await.unwrap().token_ids.len(), 3);
    // One that has begun ends first; one that had not would stay where it is.
    let drains = Request { deliver: Deliver::Streamed, ..request(303, &[9; 30], 50) };
    let mut drains = engine.generate(drains);
    drains.next().await.unwrap().unwrap();
    engine.control(Control::Pause(PauseMode::Wait)).await.unwrap();
    let mut sampled = 1;
    while let Some(chunk) = drains.next().await {
        sampled += chunk.unwrap().token_ids.len();
    }
    assert_eq!(sampled, 50);
    let waits = engine.generate(request(302, &[9; 30], 3));
    engine.control(Control::Resume).await.unwrap();
    assert_eq!(waits.whole().await.unwrap().token_ids.len(), 3);
}

/// What a request costs here, said and not judged: machines differ.
async fn cost(engine: &EngineCore) {
    for (tokens, logprobs) in [(1, false), (1, true), (16, false), (16, true)] {
        let sampling = Sampling { ignore_eos: true, logprobs, ..Sampling::default() };
        let sampling = Arc::new(sampling);
        let (mut all, mut id) = (std::collections::VecDeque::new(), 1000);
        let (cpu, start) = (cpu(), Instant::now());
        for done in 0..512 {
            while all.len() < 64 && id < 1000 + 512 {
                let prompt: Vec<u32> =
                    (0..512_u64).map(|it| ((it * 31 + id * 7 + it * id) % 4096) as u32).collect();
                let asked =
                    Request { sampling: Arc::clone(&sampling), ..request(id, &prompt, tokens) };
                all.push_back(engine.generate(asked));
                id += 1;
            }
            let outcome = all.pop_front().unwrap().whole().await;
            assert_eq!(outcome.unwrap().token_ids.len(), tokens as usize, "{done}");
        }
        let each = (self::cpu() - cpu).as_secs_f64() * 1e6 / 512.0;
        let wall = start.elapsed().as_secs_f64();
        eprintln!(
            "{tokens} tokens, log-probabilities {logprobs}: {each:.0} us of CPU a request, {wall:.1} s"
        );
    }
}

/// The CPU time of this process: user and system, in nanoseconds of its tasks' schedules.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let times = tasks.filter_map(|it| {
        let text = std::fs::read_to_string(it.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}
