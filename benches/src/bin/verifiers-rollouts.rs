//! What does an episode with a language model cost the process that plays it, against `verifiers` 0.4?
//!
//! `verifiers-rollouts [ROUNDS] [EPISODES] [IN_FLIGHT,...] [LATENCY_MS]`; default 5 rounds of 512 episodes,
//! 16, 128 and 512 in flight, 20 ms. Both play `words_env` (two to six turns) over OpenEnv's protocol, render
//! and tokenise the conversation themselves, and ask the same mock model (`mock-model`, built beside this)
//! over vLLM's endpoint for token ids, which answers with 22 tokens and their log-probabilities. Both write
//! what they played to a file. The environment's server and the model are other processes, and not counted.
//!
//! `ENVMILL_BENCH_VERIFIERS` names an interpreter that has `verifiers` (`testing/python/verifiers_bench.py`
//! says how it is made). Its harness is a chat in the process of the rollouts, ours and thin; the one that
//! comes with it starts a program for each turn, and plays `SHIPPED` episodes a round.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use envmill_benches::{median, ratio_interval};
use envmill_chat::Model;
use envmill_testing::{EnvmillCommand, PythonServer, script};
use serde_json::{Value, json};

/// Episodes with the harness that comes with verifiers: over a second of CPU a turn.
const SHIPPED: u64 = 8;
const REPLY: &str = "A reply of a few words about what follows.<|im_end|>";

/// Of one run.
#[derive(Clone, Copy)]
struct Cost {
    /// Episodes a CPU-second.
    episodes: f64,
    /// Microseconds of CPU a turn.
    turn_us: f64,
    /// Episodes a second.
    rate: f64,
    /// Episodes that came to nothing; only the others count, whatever these cost.
    failed: f64,
}

/// Who plays, and how many at once.
type Costs = BTreeMap<(usize, Player), Vec<Cost>>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Player {
    Envmill,
    InProcess,
    Shipped,
}

impl Player {
    const fn name(self) -> &'static str {
        match self {
            Self::Envmill => "Envmill",
            Self::InProcess => "verifiers, a harness in its process",
            Self::Shipped => "verifiers, its own `null` harness",
        }
    }
}

/// Where all is.
struct World {
    environment: String,
    model: String,
    folder: PathBuf,
    out: PathBuf,
    python: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, usual: u64| -> Result<u64> {
        Ok(arguments.get(index).map_or(Ok(usual), |text| text.parse())?)
    };
    let (rounds, episodes, latency) = (number(0, 5)?, number(1, 512)?, number(3, 20)?);
    let in_flight = arguments.get(2).map_or("16,128,512", String::as_str);
    let in_flight: Vec<usize> =
        in_flight.split(',').map(str::parse).collect::<Result<_, _>>().context("IN_FLIGHT")?;

    let directory = tempfile::tempdir()?;
    let folder = directory.path().join("model");
    let model = MockModel::start(&folder, latency)?;
    let environment = PythonServer::of("words_env")?;
    let world = World {
        environment: environment.url(),
        model: format!("http://127.0.0.1:{}", model.port),
        folder,
        out: directory.path().join("out"),
        python: std::env::var_os("ENVMILL_BENCH_VERIFIERS").map(Into::into),
    };
    let mut costs = Costs::new();
    for _ in 0..rounds {
        for &at_once in &in_flight {
            let mut kept = |player, cost| costs.entry((at_once, player)).or_default().push(cost);
            kept(Player::Envmill, envmill(&world, episodes, at_once)?);
            let Some(python) = &world.python else { continue };
            let cost = verifiers(&world, python, "verifiers_harness", episodes, at_once)?;
            kept(Player::InProcess, cost);
            if at_once == in_flight[0] {
                let cost = verifiers(&world, python, "null", SHIPPED, at_once)?;
                kept(Player::Shipped, cost);
            }
        }
    }
    table(&costs, rounds, episodes, latency);
    Ok(())
}

/// A whole job of `envmill run`, from its start to its end.
fn envmill(world: &World, episodes: u64, at_once: usize) -> Result<Cost> {
    let finished = EnvmillCommand::built()?
        .args(["run", "--env", &world.environment, "--json"])
        .args(["--policy", &format!("vllm-http:{}", world.model)])
        .args(["--sessions", &at_once.to_string(), "--episodes", &episodes.to_string()])
        .arg("--out")
        .arg(&world.out)
        .run()?;
    ensure!(finished.code() == Some(0), "exit {:?}: {}", finished.code(), finished.stderr);
    fs::remove_dir_all(&world.out)?;
    let summary = finished.summary()?;
    let number = |it: &Value| it.as_f64().with_context(|| format!("no figure in {summary}"));
    ensure!(summary["episodes"]["failed"] == 0, "{summary}");
    let (steps, cpu) = (number(&summary["steps"])?, number(&summary["cpu_s"])?);
    cost(episodes as f64, steps, cpu, number(&summary["wall_s"])?)
}

fn verifiers(
    world: &World,
    python: &Path,
    harness: &str,
    episodes: u64,
    at_once: usize,
) -> Result<Cost> {
    let work = tempfile::NamedTempFile::new()?;
    let text = json!({
        "environment": world.environment, "model": world.model, "folder": world.folder,
        "episodes": episodes, "in_flight": at_once, "harness": harness, "out": world.out,
    });
    fs::write(work.path(), text.to_string())?;
    let mut command = Command::new(python);
    command.arg(script("verifiers_bench.py")).arg(work.path());
    // It looks for `uv`, which is installed with it.
    let beside = python.parent().unwrap_or_else(|| Path::new("."));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(beside.to_owned()).chain(std::env::split_paths(&path));
    let output = command.env("PATH", std::env::join_paths(path)?).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_dir_all(&world.out)?;
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| said[key].as_f64().with_context(|| format!("no {key} in {said}"));
    if let Some(why) = said["why"].as_str() {
        println!("{} of {episodes} episodes failed, {at_once} in flight: {why}", said["failed"]);
    }
    let cpu = number("own_cpu_s")? + number("children_cpu_s")?;
    let cost = cost(number("episodes")?, number("turns")?, cpu, number("wall_s")?)?;
    Ok(Cost { failed: number("failed")?, ..cost })
}

fn cost(episodes: f64, turns: f64, cpu: f64, wall: f64) -> Result<Cost> {
    ensure!(turns >= episodes, "{turns} turns in {episodes} episodes");
    let turn_us = cpu * 1e6 / turns;
    Ok(Cost { episodes: episodes / cpu, turn_us, rate: episodes / wall, failed: 0.0 })
}

fn table(costs: &Costs, rounds: u64, episodes: u64, latency: u64) {
    println!(
        "{episodes} episodes ({SHIPPED} with the `null` harness), {rounds} rounds, a model that"
    );
    println!(
        "answers after {latency} ms; medians, the least and the most, and for ratios the interval.\n"
    );
    println!(
        "| in flight | | episodes a CPU-second | CPU a turn | episodes/s | failed | ours / its |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    for (&(at_once, player), list) in costs {
        let figure = |of: fn(&Cost) -> f64, digits: usize| {
            let mut list: Vec<f64> = list.iter().map(of).collect();
            list.sort_by(f64::total_cmp);
            let ends = list.first().zip(list.last()).unwrap_or((&f64::NAN, &f64::NAN));
            format!("{:.digits$} ({:.digits$}–{:.digits$})", median(&list), ends.0, ends.1)
        };
        let column = |list: &[Cost]| list.iter().map(|it| it.episodes).collect::<Vec<_>>();
        let ours = costs.get(&(at_once, Player::Envmill)).map_or(&[][..], Vec::as_slice);
        let ratio = if player == Player::Envmill {
            String::new()
        } else {
            let it = ratio_interval(&column(ours), &column(list));
            format!("{:.0} ({:.0}–{:.0})", it.median, it.low, it.high)
        };
        println!(
            "| {at_once} | {} | {} | {} µs | {} | {} | {ratio} |",
            player.name(),
            figure(|it| it.episodes, 1),
            figure(|it| it.turn_us, 0),
            figure(|it| it.rate, 1),
            figure(|it| it.failed, 0),
        );
    }
}

/// `mock-model`, which ends when this is dropped.
struct MockModel {
    port: u16,
    child: Child,
    held: Option<ChildStdin>,
}

impl MockModel {
    /// Makes the folder of its model, a tokenizer with a template, too.
    fn start(folder: &Path, latency: u64) -> Result<Self> {
        let fixtures = Path::new("engine/chat/tests/fixtures");
        let read = |name: &str| {
            let path = fixtures.join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        fs::create_dir(folder)?;
        let write = |name: &str, text: String| fs::write(folder.join(name), text);
        write("tokenizer.json", read("bytes/tokenizer.json")?)?;
        write("generation_config.json", read("bytes/generation_config.json")?)?;
        let mut config: Value = serde_json::from_str(&read("bytes/tokenizer_config.json")?)?;
        config["bos_token"] = "<s>".into();
        config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
        config["chat_template"] = read("templates/chatml.jinja")?.into();
        write("tokenizer_config.json", config.to_string())?;
        let config = json!({
            "model_type": "qwen2", "vocab_size": 1024, "max_position_embeddings": 32768,
            "eos_token_id": 1002,
        });
        write("config.json", config.to_string())?;
        let tokens: Vec<String> =
            Model::load(folder)?.encode(REPLY)?.iter().map(ToString::to_string).collect();

        let program = std::env::current_exe()?.with_file_name("mock-model");
        let mut child = Command::new(program)
            .arg(folder)
            .args([latency.to_string(), tokens.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("no `mock-model` beside this program")?;
        let held = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let port = line.trim().parse().context("the mock model's port")?;
        Ok(Self { port, child, held })
    }
}

impl Drop for MockModel {
    fn drop(&mut self) {
        drop(self.held.take());
        // It may have ended before.
        let _ = self.child.wait();
    }
}
