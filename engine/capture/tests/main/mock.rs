//! An inference engine that answers what the last message of the prompt asks for.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use envmill_chat::Model;
use envmill_inference::{
    Answer, Capabilities, Chunk, Constraint, Control, Deliver, Error, ErrorKind, Finish, Finished,
    Generation, Inference, Load, Request, RequestId, TOP_LOGPROBS_MAX, TopLogprobs,
};
use envmill_protocol::PolicyVersion;
use tokio::runtime::Handle;

/// What it was asked and has sampled.
pub(crate) type Seen = (Vec<u32>, Vec<u32>);

pub(crate) struct Mock {
    pub(crate) model: Arc<Model>,
    /// How long a whole answer takes.
    pub(crate) latency: Duration,
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) dropped: Arc<AtomicUsize>,
    pub(crate) handle: Handle,
    pub(crate) requests: Mutex<Vec<Request>>,
    /// It gives no log-probabilities but the sampled token's, and holds to no constraint.
    pub(crate) is_plain: AtomicBool,
}

impl Mock {
    pub(crate) fn new(model: Arc<Model>, latency: Duration, handle: Handle) -> Self {
        let dropped = Arc::default();
        let (seen, requests) = (Mutex::default(), Mutex::default());
        let is_plain = AtomicBool::new(false);
        Self { model, latency, seen, dropped, handle, requests, is_plain }
    }

    /// The ids of a text, a character at a time: no tokenizer would choose them.
    pub(crate) fn ids(&self, text: &str) -> Vec<u32> {
        text.chars().flat_map(|it| self.model.encode(&it.to_string()).unwrap()).collect()
    }
}

/// The text of the last message that is not the model's.
fn asked(prompt: &str) -> &str {
    let prompt = prompt.rsplit_once("<|im_start|>assistant").map_or(prompt, |it| it.0);
    let last = prompt.rsplit_once("<|im_start|>").map_or(prompt, |it| it.1);
    last.split_once('\n').map_or(last, |it| it.1).trim_end().trim_end_matches("<|im_end|>")
}

/// What a constraint lets through: a list of one call of `look_up`, or arguments of it.
fn held(constraint: &Constraint) -> &'static str {
    match constraint {
        Constraint::JsonSchema(schema) if schema.as_str().contains("minItems") => {
            "[{\"name\": \"look_up\", \"parameters\": {\"what\": \"é\"}}]"
        }
        Constraint::JsonSchema(_) | Constraint::JsonObject => "{\"what\": \"é\"}",
    }
}

/// The most likely tokens, of which the one that was sampled is the second.
fn top(ids: &[u32], most: u32) -> TopLogprobs {
    let mut top = TopLogprobs::default();
    for id in ids.iter().filter(|_| most > 0) {
        top.push([(*id, -0.5), (id + 1, -0.25), (id + 2, -9.0)], most);
    }
    top
}

fn reply(asked: &str) -> String {
    if let Some(text) = asked.strip_prefix("say ") {
        return text.to_owned();
    }
    match asked {
        "call" => "Let me see.\n<tool_call>\n{\"name\": \"look_up\", \"arguments\": {\"what\": \
                   \"é\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"look_up\", \"arguments\": {}}\n\
                   </tool_call>"
            .to_owned(),
        "call tightly" => {
            "<tool_call>\n{\"name\":\"look_up\",\"arguments\":{}}\n</tool_call>".to_owned()
        }
        "think" => "<think>\nHm, 漢.\n</think>\n\nYes 🙂.".to_owned(),
        "slow" => "word ".repeat(2000),
        other => format!("You said {other:?}, é漢🙂."),
    }
}

impl Inference for Mock {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            token_ids: true,
            streaming: true,
            version_spans: false,
            stop_strings: true,
            control: false,
            top_logprobs: if self.is_plain.load(Ordering::SeqCst) { 0 } else { TOP_LOGPROBS_MAX },
            constraints: !self.is_plain.load(Ordering::SeqCst),
        }
    }

    fn generate(&self, request: Request) -> Generation {
        let text = self.model.decode(&request.prompt, false).unwrap();
        self.requests.lock().unwrap().push(request.clone());
        match asked(&text) {
            "busy" => return Generation::failed(Error::new(ErrorKind::Busy, "no room")),
            "lost" => return Generation::failed(Error::new(ErrorKind::Lost, "gone")),
            _ => {}
        }
        let said = match (&request.sampling.constraint, asked(&text)) {
            (Some(constraint), _) => held(constraint).to_owned(),
            (None, "pick") => format!("I pick {:?}.", request.seed),
            (None, asked) => reply(asked),
        };
        let mut ids = self.ids(&said);
        let is_slow = asked(&text) == "slow";
        let breaks = asked(&text) == "say break";
        ids.push(self.model.eos_ids()[0]);
        let most = request.max_tokens as usize;
        let finish = if ids.len() > most { Finish::Length } else { Finish::EndOfTurn };
        ids.truncate(most);
        self.seen.lock().unwrap().push((request.prompt.to_vec(), ids.clone()));
        let (feed, generation) = Generation::new();
        let (latency, dropped) = (self.latency, Arc::clone(&self.dropped));
        self.handle.spawn(async move {
            let size = if request.deliver == Deliver::Streamed { 1 } else { ids.len() };
            if !is_slow {
                tokio::time::sleep(latency).await;
            }
            let count = ids.len().div_ceil(size);
            for (index, part) in ids.chunks(size).enumerate() {
                let is_last = index + 1 == count;
                if is_slow {
                    tokio::select! {
                        () = feed.dropped() => {
                            dropped.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        () = tokio::time::sleep(Duration::from_millis(20)) => {}
                    }
                }
                if breaks && index == 2 {
                    return feed.fail(Error::new(ErrorKind::Lost, "gone in the middle"));
                }
                feed.chunk(Chunk {
                    token_ids: part.to_vec(),
                    logprobs: vec![-0.5; part.len()],
                    top_logprobs: top(part, request.sampling.top_logprobs),
                    version: PolicyVersion(3),
                    finished: is_last.then(|| Finished::new(finish.clone())),
                });
            }
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
