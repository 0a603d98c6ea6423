//! Agents that are Python functions, in processes of their own.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use envmill_agent::{Answer, Answering, Ask, CodeOptions, Question, Script};
use envmill_chat::Message;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::ModelError;
use crate::{
    callable::{Caller as _, Fault, Launch, PythonCaller},
    children::Sentry,
};

/// How a process answers.
const PROGRAM: &str = include_str!("agent.py");

/// So many questions go to a process at once.
const BATCH_MAX: usize = 1024;

/// Where Python agents run.
#[derive(Clone, Debug)]
pub struct CodeSetup {
    /// The interpreter.
    pub interpreter: PathBuf,
    /// Directories in which modules are looked for first.
    pub path: Vec<PathBuf>,
    /// What the processes print goes to `agent.log` in this directory.
    pub logs: PathBuf,
}

/// An agent that is a Python function. Its conversations are spread over processes, and each has one thread
/// that asks it with all questions that wait.
pub(super) struct PythonScript {
    lanes: Vec<Sender<Item>>,
    is_over: Arc<AtomicBool>,
}

enum Item {
    Ask(Box<Ask>, oneshot::Sender<Result<Answer, String>>),
    Ended(u64),
}

impl PythonScript {
    /// Starts the processes, and waits until they are ready.
    pub(super) fn start(options: &CodeOptions, setup: &CodeSetup) -> Result<Self, ModelError> {
        let failed = |why: String| ModelError::Code { function: options.python.clone(), why };
        let timeout = Duration::try_from_secs_f64(options.timeout_s).ok();
        let timeout = timeout.filter(|it| !it.is_zero()).ok_or_else(|| {
            failed(format!("code.timeout_s: {} is no time to wait", options.timeout_s))
        })?;
        if options.processes == 0 {
            return Err(failed("code.processes: at least one is needed".to_owned()));
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let mut script = Self { lanes: Vec::new(), is_over: Arc::clone(&is_over) };
        let launch = Launch {
            program: PROGRAM,
            function: options.python.clone(),
            interpreter: setup.interpreter.clone(),
            path: setup.path.clone(),
            log: setup.logs.join("agent.log"),
            sentry: Arc::new(Sentry::post()),
            is_over,
        };
        let (started, results) = mpsc::channel();
        for number in 0..options.processes {
            let (lane, items) = mpsc::channel();
            script.lanes.push(lane);
            let started = started.clone();
            let mut caller = PythonCaller::new(launch.clone(), timeout);
            thread::Builder::new()
                .name(format!("agent-{number}"))
                .spawn(move || {
                    // Nobody listens when another one has failed.
                    let _ = started.send(caller.start().map(|_| ()));
                    drop(started);
                    Lane { caller, known: HashSet::new() }.run(&items);
                })
                .map_err(ModelError::Runtime)?;
        }
        drop(started);
        for result in results {
            result.map_err(|fault: Fault| failed(fault.message))?;
        }
        Ok(script)
    }

    fn lane(&self, conversation: u64) -> Option<&Sender<Item>> {
        self.lanes.get((conversation % self.lanes.len().max(1) as u64) as usize)
    }
}

impl Drop for PythonScript {
    fn drop(&mut self) {
        // The threads end when nobody can ask any more, and their processes with them.
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Script for PythonScript {
    fn ask(&self, ask: Ask) -> Answering<'_> {
        let (answer, answered) = oneshot::channel();
        if let Some(lane) = self.lane(ask.conversation) {
            // One that is gone answers nothing, which is told below.
            let _ = lane.send(Item::Ask(Box::new(ask), answer));
        }
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| Err("the agent's process is gone".to_owned()))
        })
    }

    fn ended(&self, conversation: u64) {
        if let Some(lane) = self.lane(conversation) {
            let _ = lane.send(Item::Ended(conversation));
        }
    }
}

/// One process and the thread that asks it.
struct Lane {
    caller: PythonCaller,
    /// The conversations that the process knows of.
    known: HashSet<u64>,
}

type Waiting = (Box<Ask>, oneshot::Sender<Result<Answer, String>>);

impl Lane {
    fn run(mut self, items: &Receiver<Item>) {
        while let Ok(first) = items.recv() {
            let (mut asks, mut ended) = (Vec::new(), Vec::new());
            for item in std::iter::once(first).chain(items.try_iter()) {
                match item {
                    Item::Ask(ask, answer) => asks.push((ask, answer)),
                    Item::Ended(conversation) => ended.push(conversation),
                }
                if asks.len() >= BATCH_MAX {
                    break;
                }
            }
            self.answer(asks, ended);
        }
    }

    fn answer(&mut self, asks: Vec<Waiting>, mut ended: Vec<u64>) {
        ended.retain(|it| self.known.remove(it));
        // Before its process was started again, somebody else knew what had been said.
        let is_new = |ask: &Ask| ask.step == 0 && matches!(ask.question, Question::Seen { .. });
        let (asks, lost): (Vec<_>, Vec<_>) = asks
            .into_iter()
            .filter(|(_, answer)| !answer.is_closed())
            .partition(|(ask, _)| is_new(ask) || self.known.contains(&ask.conversation));
        for (_, answer) in lost {
            let _ = answer.send(Err("the agent's process has ended in mid-episode".to_owned()));
        }
        if asks.is_empty() && ended.is_empty() {
            return;
        }
        self.known.extend(asks.iter().map(|(ask, _)| ask.conversation));
        let replies = self.asked(&asks, &ended);
        match replies {
            Ok(replies) => {
                for ((_, answer), reply) in asks.into_iter().zip(replies) {
                    // What is not wanted any more is nobody's loss.
                    let _ = answer.send(read(reply));
                }
            }
            Err(why) => {
                tracing::warn!(asks = asks.len(), "an agent in code gives no answer: {why}");
                for (_, answer) in asks {
                    let _ = answer.send(Err(why.clone()));
                }
            }
        }
    }

    fn asked(&mut self, asks: &[Waiting], ended: &[u64]) -> Result<Vec<Reply>, String> {
        let told = asks.iter().map(|(ask, _)| Told::new(ask)).collect::<Result<Vec<_>, _>>();
        let frame = told.and_then(|asks| serde_json::to_vec(&Frame { asks, ended }));
        let frame = frame.map_err(|error| format!("a question has no form in JSON: {error}"))?;
        let answer = self.caller.call(&frame).map_err(|fault| {
            if !self.caller.is_running() {
                self.known.clear();
            }
            fault.message
        })?;
        let Replies { replies } = serde_json::from_slice(&answer)
            .map_err(|error| format!("the agent's answers cannot be read: {error}"))?;
        if replies.len() == asks.len() {
            Ok(replies)
        } else {
            Err(format!("{} questions, and {} answers", asks.len(), replies.len()))
        }
    }
}

#[derive(Serialize)]
struct Frame<'a> {
    asks: Vec<Told<'a>>,
    ended: &'a [u64],
}

/// A question as Python sees it.
#[derive(Serialize)]
struct Told<'a> {
    conversation: u64,
    episode: u64,
    seed: u64,
    step: u32,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum What<'a> {
    Seen { observation: &'a RawValue, reward: Option<f64> },
    Said { text: &'a str, answer: Option<&'a str>, finish: &'static str },
}

impl<'a> Told<'a> {
    fn new(ask: &'a Ask) -> Result<Self, serde_json::Error> {
        let what = match &ask.question {
            Question::Seen { observation, reward } => What::Seen {
                observation: serde_json::from_slice(observation)?,
                reward: reward.filter(|it| it.is_finite()),
            },
            Question::Said { text, answer, finish } => {
                What::Said { text, answer: answer.as_deref(), finish: finish.name() }
            }
        };
        let Ask { conversation, episode, seed, step, .. } = *ask;
        Ok(Self { conversation, episode, seed, step, what })
    }
}

#[derive(Deserialize)]
struct Replies {
    replies: Vec<Reply>,
}

/// What Python answers: one of the first four.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    messages: Option<Box<RawValue>>,
    action: Option<Box<RawValue>>,
    truncate: Option<String>,
    fail: Option<String>,
    max_tokens: Option<u32>,
}

fn read(reply: Reply) -> Result<Answer, String> {
    let wanted = "an answer has one of `messages`, `action`, `truncate` and `fail`";
    match reply {
        Reply {
            messages: Some(messages),
            action: None,
            truncate: None,
            fail: None,
            max_tokens,
        } => {
            let messages = Message::list_from_json(messages.get())
                .map_err(|error| format!("the agent's `messages`: {error}"))?;
            Ok(Answer::Tell { messages, max_tokens })
        }
        Reply { max_tokens: Some(_), .. } => {
            Err(format!("{wanted}; `max_tokens` stands beside `messages` only"))
        }
        Reply { action: Some(action), messages: None, truncate: None, fail: None, .. } => {
            if !action.get().starts_with('{') {
                return Err(format!("the agent's `action` is no JSON object: {}", action.get()));
            }
            Ok(Answer::Act(action.get().to_owned().into()))
        }
        Reply { truncate: Some(why), messages: None, action: None, fail: None, .. } => {
            Ok(Answer::Truncate(why))
        }
        Reply { fail: Some(why), messages: None, action: None, truncate: None, .. } => {
            Ok(Answer::Fail(why))
        }
        _ => Err(wanted.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<Answer, String> {
        let reply: Reply = serde_json::from_str(text).map_err(|error| error.to_string())?;
        read(reply)
    }

    #[test]
    fn an_answer_is_one_of_four() {
        assert_eq!(answer(r#"{"action":{"a":1}}"#), Ok(Answer::Act(r#"{"a":1}"#.into())));
        assert_eq!(
            answer(r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":3}"#),
            Ok(Answer::Tell { messages: vec![Message::user("hi")], max_tokens: Some(3) })
        );
        assert_eq!(answer(r#"{"truncate":"why"}"#), Ok(Answer::Truncate("why".into())));
        assert_eq!(answer(r#"{"fail":"why"}"#), Ok(Answer::Fail("why".into())));
    }

    #[test]
    fn what_is_none_is_told() {
        for (text, expected) in [
            ("{}", "one of"),
            (r#"{"action":{},"fail":"x"}"#, "one of"),
            (r#"{"action":3}"#, "no JSON object: 3"),
            (r#"{"action":{},"max_tokens":3}"#, "beside `messages`"),
            (r#"{"act":{}}"#, "unknown field `act`"),
            (r#"{"messages":[{"content":"hi"}]}"#, "role"),
        ] {
            let error = answer(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
