//! What does a turn of a language model's conversation cost, from messages to token ids?
//!
//! `chat-turns [ROUNDS] [TURNS] [CONVERSATIONS] [FOLDER] [TEMPLATE]`; default 5 rounds of 16 conversations
//! of 128 turns with the small tokenizer and the ChatML template of `engine/chat`'s tests. A turn is an
//! answer of some 60 words, given as ids, and an observation of some 60 words, whose ids are wanted, with
//! the prompt for the next answer. The peers (`ENVMILL_BENCH_TRANSFORMERS` names an interpreter that has
//! `transformers`) do the same work with its fast tokenizer: one renders and tokenises all messages at
//! each turn; the other renders and tokenises a turn's messages behind a short made-up history, and takes
//! what is behind that.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{process::Command, sync::Arc};

use anyhow::{Context, Result, ensure};
use envmill_benches::{cpu_seconds, median, ratio_interval};
use envmill_chat::{Chat, ChatOptions, Continuation, Message, Model};
use serde_json::{Value, json};

/// What is said, for both sides.
struct Script {
    answers: Vec<String>,
    observations: Vec<String>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, usual: usize| -> Result<usize> {
        Ok(arguments.get(index).map_or(Ok(usual), |text| text.parse())?)
    };
    let (rounds, turns, conversations) = (number(0, 5)?, number(1, 128)?, number(2, 16)?);
    let fixtures = "engine/chat/tests/fixtures";
    let folder = arguments.get(3).cloned().unwrap_or_else(|| format!("{fixtures}/bytes"));
    let template = arguments.get(4).cloned();
    let template = template.unwrap_or_else(|| format!("{fixtures}/templates/chatml.jinja"));
    let source = std::fs::read_to_string(&template).context("the template")?;

    let script = Script::new(turns);
    let model = Arc::new(Model::load(&folder)?);
    let options = ChatOptions { template_source: Some(source), ..ChatOptions::default() };
    let chat = Arc::new(Chat::new(model, options)?);
    let python = std::env::var("ENVMILL_BENCH_TRANSFORMERS").ok();
    let (mut ours, mut whole, mut delta) = (Vec::new(), Vec::new(), Vec::new());
    let mut ids = (0, 0);
    for _ in 0..rounds {
        let (cpu, count) = play(&chat, &script, conversations)?;
        ours.push(cpu);
        ids.0 = count;
        if let Some(python) = &python {
            let theirs = transformers(python, &folder, &template, &script, conversations)?;
            let figure = |key: &str| theirs[key].as_f64().with_context(|| format!("no {key}"));
            whole.push(figure("whole_us")?);
            delta.push(figure("delta_us")?);
            ids.1 = theirs["ids"].as_u64().context("no ids")?;
        }
    }
    println!(
        "{conversations} conversations of {turns} turns, {} ids each, {rounds} rounds\n",
        ids.0
    );
    println!("| | CPU a turn | its / ours |");
    println!("| --- | ---: | ---: |");
    println!("| Envmill | {:.1} µs | |", median(&ours));
    for (name, theirs) in [("all messages again", &whole), ("behind a short history", &delta)] {
        if !theirs.is_empty() {
            let ratio = ratio_interval(theirs, &ours);
            let (low, middle, high) = (ratio.low, ratio.median, ratio.high);
            let cost = median(theirs);
            println!("| transformers: {name} | {cost:.1} µs | {middle:.1} ({low:.1}–{high:.1}) |");
        }
    }
    ensure!(python.is_none() || ids.0 == ids.1, "the two came to {} and {} ids", ids.0, ids.1);
    Ok(())
}

/// CPU microseconds a turn, and how many ids a conversation came to.
fn play(chat: &Arc<Chat>, script: &Script, conversations: usize) -> Result<(f64, u64)> {
    let answers: Vec<Vec<u32>> = script
        .answers
        .iter()
        .map(|answer| chat.model().encode(&format!("{answer}{}", chat.closing().trim_end())))
        .collect::<Result<_, _>>()?;
    let mut ids = 0;
    let before = cpu_seconds();
    for _ in 0..conversations {
        let mut conversation = chat.begin(Script::start())?;
        for (answer, observation) in answers.iter().zip(&script.observations) {
            conversation.sampled(answer);
            let continuation = conversation.observe(&[Message::user(observation)])?;
            ensure!(matches!(continuation, Continuation::Appended { kept: None, .. }), "it forked");
        }
        ids = conversation.prompt().len() as u64;
    }
    let turns = conversations * answers.len();
    Ok(((cpu_seconds() - before) / turns as f64 * 1e6, ids))
}

fn transformers(
    python: &str,
    folder: &str,
    template: &str,
    script: &Script,
    conversations: usize,
) -> Result<Value> {
    let work = tempfile::NamedTempFile::new()?;
    let start: Vec<Value> = Script::start()
        .iter()
        .map(|message| serde_json::from_str(&message.to_json()))
        .collect::<Result<_, _>>()?;
    let text = json!({
        "folder": folder, "template": template, "start": start, "conversations": conversations,
        "answers": script.answers, "observations": script.observations,
    });
    std::fs::write(work.path(), text.to_string())?;
    let program = envmill_testing::script("chat_bench.py");
    let output = Command::new(python).arg(program).arg(work.path()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl Script {
    fn start() -> Vec<Message> {
        let system = "You walk through a house of many rooms, and say where you go.";
        vec![Message::system(system), Message::user("You are in the hall. Which way?")]
    }

    /// Words that repeat, as those of a game do, in an order that does not.
    fn new(turns: usize) -> Self {
        let words = [
            "north",
            "door",
            "the",
            "kitchen",
            "a",
            "lamp",
            "is",
            "locked",
            "key",
            "to",
            "east",
            "wall",
            "and",
            "old",
            "stairs",
            "look",
            "carefully",
            "at",
            "window",
            "number",
            "42",
            "open,",
        ];
        let mut state = 7_u64;
        let mut text = |count: usize| {
            let mut text = String::from("There");
            for _ in 0..count {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push(' ');
                text.push_str(words[(state >> 33) as usize % words.len()]);
            }
            text + "."
        };
        let said: Vec<_> = (0..turns).map(|_| (text(60), text(60))).collect();
        let (answers, observations) = said.into_iter().unzip();
        Self { answers, observations }
    }
}
