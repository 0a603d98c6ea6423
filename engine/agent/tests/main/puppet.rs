//! An inference engine that says what it is told to, and an agent around it.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use envmill_agent::{Agent, Agents};
use envmill_chat::Model;
use envmill_inference::{
    Answer, Capabilities, Chunk, Control, Error, ErrorKind, Finish, Finished, Generation,
    Inference, Load, Request, RequestId,
};
use envmill_protocol::{
    Decision, EpisodeIndex, Generation as Named, JobId, Observed, PolicyVersion, Slot, Turn,
};
use envmill_workers::{Wake, Waker};
use serde_json::Value;
use tokio::runtime::Runtime;

/// The engine.
struct Puppet {
    model: Model,
    token_ids: bool,
    says: Mutex<VecDeque<&'static str>>,
}

impl Inference for Puppet {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            token_ids: self.token_ids,
            streaming: false,
            version_spans: false,
            stop_strings: true,
            control: false,
            top_logprobs: 0,
            constraints: false,
        }
    }

    fn generate(&self, request: Request) -> Generation {
        let text = self.says.lock().unwrap().pop_front().unwrap();
        let (feed, generation) = Generation::new();
        let mut chunk = Chunk { version: PolicyVersion(3), ..Chunk::default() };
        let mut finished = Finished::new(Finish::EndOfTurn);
        finished.queue_us = Some(0);
        if self.token_ids {
            chunk.token_ids = self.model.encode(text).unwrap();
            chunk.token_ids.push(self.model.eos_ids()[0]);
            chunk.logprobs = vec![-0.5; chunk.token_ids.len()];
            if chunk.token_ids.len() > request.max_tokens as usize {
                chunk.token_ids.truncate(request.max_tokens as usize);
                chunk.logprobs.truncate(request.max_tokens as usize);
                finished.finish = Finish::Length;
            }
        } else {
            finished.text = Some(text.to_owned());
        }
        feed.chunk(Chunk { finished: Some(finished), ..chunk });
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

struct Bell(Mutex<mpsc::Sender<()>>);

impl Wake for Bell {
    fn wake(&self) {
        let _ = self.0.lock().unwrap().send(());
    }
}

/// An agent, and what it plays.
pub(crate) struct Rig {
    agents: Agents,
    rung: mpsc::Receiver<()>,
    step: u32,
    _runtime: Runtime,
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../chat/tests/fixtures")
}

impl Rig {
    /// An agent as `options` say, whose model says these texts, as token ids or as text only.
    pub(crate) fn new(mut options: Value, token_ids: bool, says: &[&'static str]) -> Self {
        let folder = fixtures().join("bytes");
        let template = std::fs::read_to_string(fixtures().join("templates/chatml.jinja")).unwrap();
        options["chat"]["template_source"] = template.into();
        let says = Mutex::new(says.iter().copied().collect());
        let engine = Puppet { model: Model::load(&folder).unwrap(), token_ids, says };
        let options = serde_json::from_value(options).unwrap();
        let agent = Agent::new(options, Some(&folder), Arc::new(engine), None).unwrap();
        let runtime = Runtime::new().unwrap();
        let (bell, rung) = mpsc::channel();
        let waker = Waker::new(Arc::new(Bell(Mutex::new(bell))));
        let agents = Agents::new(Arc::new(agent), runtime.handle().clone(), waker);
        Self { agents, rung, step: 0, _runtime: runtime }
    }

    /// The decision where the environment shows this next.
    pub(crate) fn turn(&mut self, observation: &'static str) -> Decision {
        let turn = Turn {
            slot: Slot(0),
            generation: Named(1),
            job: JobId(0),
            episode: EpisodeIndex(0),
            seed: 7,
            step: self.step,
            environment: 0,
            observed: Observed { observation: observation.into(), ..Observed::default() },
            start: None,
        };
        self.step += 1;
        self.agents.submit(&mut vec![turn]);
        let mut decisions = Vec::new();
        while decisions.is_empty() {
            // A watchdog, and not a measure.
            self.rung.recv_timeout(Duration::from_secs(60)).unwrap();
            self.agents.decisions(&mut decisions);
        }
        decisions.remove(0)
    }
}
