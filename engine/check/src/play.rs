//! Episodes, played one request at a time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    subject::{Draw, Script, Subject},
    wire::{Answer, Reply, Socket, Trouble},
};

/// How long a slot may take to become free after a session has ended.
const ROOM_BOUND: Duration = Duration::from_secs(10);
/// How often a session is tried that the server drops without a word, since it may only be full.
const LOST_TRIES: u32 = 8;
const RETRY_PAUSE: Duration = Duration::from_millis(150);

/// Why playing cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Halt {
    /// The server has not answered as it should.
    #[error("{what}: {trouble}")]
    Trouble {
        /// What was asked.
        what: String,
        /// What came of it.
        trouble: Trouble,
    },
    /// An error was the answer to a request that must not fail.
    #[error("{what} was answered with the error {code}: {message}")]
    Refused {
        /// What was asked.
        what: String,
        code: String,
        message: String,
    },
    /// There is no room for a session.
    #[error("the server has no room for a session: {0}")]
    Full(String),
    /// The answer is to something else.
    #[error("{what} was answered with {told}")]
    Unexpected {
        /// What was asked.
        what: String,
        /// What came.
        told: String,
    },
    /// There is nothing to play.
    #[error("no actions to play: {0}; give some with --actions '[{{…}}]'")]
    NoActions(String),
}

impl Halt {
    /// Whether the user has asked to stop.
    pub(crate) const fn is_stop(&self) -> bool {
        matches!(self, Self::Trouble { trouble: Trouble::Stopped, .. })
    }
}

/// Where the actions of an episode come from.
pub(crate) enum Choice {
    /// Drawn from the schema.
    Draw { draw: Box<dyn Draw>, seed: u64 },
    /// These; the episode is cut behind them unless the last one repeats.
    List { actions: Vec<String>, repeats: bool },
}

impl Choice {
    pub(crate) const fn list(actions: Vec<String>) -> Self {
        Self::List { actions, repeats: false }
    }

    pub(crate) fn script(script: &Script) -> Self {
        Self::List { actions: script.actions.clone(), repeats: script.repeats }
    }

    /// The action of a step, if there is one more.
    pub(crate) fn action(&mut self, step: usize, seen: &Value) -> Result<Option<String>, Halt> {
        match self {
            Self::List { actions, repeats } => {
                let last = actions.last().filter(|_| *repeats);
                Ok(actions.get(step).or(last).cloned())
            }
            Self::Draw { draw, seed } => {
                let step = u32::try_from(step).unwrap_or(u32::MAX);
                let seen = seen.to_string();
                draw.draw(*seed, step, seen.as_bytes()).map(Some).map_err(Halt::NoActions)
            }
        }
    }
}

/// How an episode ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With `done`.
    Done,
    /// No further action was taken.
    Cut,
    /// The environment refused the last action, with this code.
    Refused { code: String, message: String },
}

/// One action and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) action: String,
    pub(crate) answer: Answer,
}

/// One episode.
#[derive(Clone, Debug)]
pub(crate) struct Episode {
    pub(crate) seed: u64,
    pub(crate) first: Answer,
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
    /// The action that was refused.
    pub(crate) refused: Option<String>,
}

impl Episode {
    /// One that was reset.
    pub(crate) fn begun(seed: u64, first: Answer) -> Self {
        let end = if first.done { End::Done } else { End::Cut };
        Self { seed, first, steps: Vec::new(), end, refused: None }
    }

    /// The sum of its rewards; `None` if there was none.
    pub(crate) fn sum(&self) -> Option<f64> {
        let rewards: Vec<f64> = self.rewards().collect();
        (!rewards.is_empty()).then(|| rewards.iter().sum())
    }

    /// The rewards of its steps.
    pub(crate) fn rewards(&self) -> impl Iterator<Item = f64> {
        self.steps.iter().filter_map(|step| step.answer.reward())
    }

    /// All actions, the refused one included.
    pub(crate) fn actions(&self) -> Vec<String> {
        self.steps.iter().map(|step| &step.action).chain(&self.refused).cloned().collect()
    }

    /// All answers as one value, to be compared.
    pub(crate) fn to_value(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(|step| step.answer.to_value()).collect();
        let end = match &self.end {
            End::Done => "done",
            End::Cut => "cut",
            End::Refused { code, .. } => code,
        };
        json!({ "reset": self.first.to_value(), "steps": steps, "end": end })
    }
}

/// Plays on one session at a time, which is opened when it is needed.
pub(crate) struct Player<'a> {
    subject: &'a Subject<'a>,
    socket: Option<Socket>,
}

impl<'a> Player<'a> {
    pub(crate) const fn new(subject: &'a Subject<'a>) -> Self {
        Self { subject, socket: None }
    }

    /// The text of a reset.
    pub(crate) fn reset_request(subject: &Subject<'_>, seed: u64) -> String {
        let mut data = subject.options.reset.clone();
        data.entry("seed").or_insert_with(|| seed.into());
        json!({ "type": "reset", "data": data }).to_string()
    }

    /// The text of a step.
    pub(crate) fn step_request(action: &str) -> String {
        format!(r#"{{"type":"step","data":{action}}}"#)
    }

    /// Begins an episode. A new session waits until there is room for it.
    pub(crate) fn reset(&mut self, seed: u64) -> Result<Answer, Halt> {
        let what = "reset";
        let request = Self::reset_request(self.subject, seed);
        if self.socket.is_some() {
            return match self.ask(what, &request)? {
                Reply::Observation(answer) => Ok(answer),
                reply => Err(self.not_an_observation(what, &reply)),
            };
        }
        let stop = self.subject.peer.stop();
        let until = Instant::now() + ROOM_BOUND;
        let mut lost = 0;
        loop {
            let asked = Socket::open(&self.subject.peer).and_then(|mut socket| {
                let reply = socket.ask(&request)?;
                Ok((socket, reply))
            });
            let halt = match asked {
                Ok((socket, Reply::Observation(answer))) => {
                    self.socket = Some(socket);
                    return Ok(answer);
                }
                Ok((_, Reply::Error { code, message })) if code == "CAPACITY_REACHED" => {
                    Halt::Full(message)
                }
                Ok((_, reply)) => return Err(self.not_an_observation(what, &reply)),
                Err(trouble @ (Trouble::Lost(_) | Trouble::Closed { .. })) if lost < LOST_TRIES => {
                    lost += 1;
                    Halt::Trouble { what: what.into(), trouble }
                }
                // A proxy's word for the same.
                Err(Trouble::Upgrade { status: status @ (429 | 503) }) => {
                    Halt::Full(format!("the upgrade was answered with HTTP {status}"))
                }
                Err(trouble) => return Err(Halt::Trouble { what: what.into(), trouble }),
            };
            if Instant::now() >= until || stop.is_asked() {
                return Err(halt);
            }
            stop.pause(RETRY_PAUSE);
        }
    }

    /// Takes one action. `Ok(Err(…))` is what the environment refused it with: code and message.
    pub(crate) fn step(&mut self, action: &str) -> Result<Result<Answer, (String, String)>, Halt> {
        match self.ask("step", &Self::step_request(action))? {
            Reply::Observation(answer) => Ok(Ok(answer)),
            Reply::Error { code, message } => {
                if code == "SESSION_ERROR" {
                    self.socket = None;
                }
                Ok(Err((code, message)))
            }
            reply => Err(self.not_an_observation("step", &reply)),
        }
    }

    /// The state of the session.
    pub(crate) fn state(&mut self) -> Result<Value, Halt> {
        match self.ask("state", r#"{"type":"state"}"#)? {
            Reply::State(state) => Ok(state),
            reply => Err(self.not_an_observation("state", &reply)),
        }
    }

    /// Asks on the session that there is.
    pub(crate) fn ask(&mut self, what: &str, request: &str) -> Result<Reply, Halt> {
        let asked = match &mut self.socket {
            Some(socket) => socket.ask(request),
            None => Err(Trouble::Lost("the session was lost before".into())),
        };
        asked.map_err(|trouble| {
            self.socket = None;
            Halt::Trouble { what: what.into(), trouble }
        })
    }

    fn not_an_observation(&self, what: &str, reply: &Reply) -> Halt {
        match reply {
            Reply::Error { code, message } => {
                Halt::Refused { what: what.into(), code: code.clone(), message: message.clone() }
            }
            reply => Halt::Unexpected { what: what.into(), told: reply.told() },
        }
    }

    /// Plays one episode.
    pub(crate) fn play(
        &mut self,
        seed: u64,
        choice: &mut Choice,
        steps_max: u32,
    ) -> Result<Episode, Halt> {
        let mut episode = Episode::begun(seed, self.reset(seed)?);
        while self.advance(&mut episode, choice, steps_max)? {}
        Ok(episode)
    }

    /// Takes the next step of an episode that was reset; whether there was one.
    pub(crate) fn advance(
        &mut self,
        episode: &mut Episode,
        choice: &mut Choice,
        steps_max: u32,
    ) -> Result<bool, Halt> {
        let number = episode.steps.len();
        let last = episode.steps.last().map_or(&episode.first, |step| &step.answer);
        if number >= steps_max as usize || episode.end != End::Cut {
            return Ok(false);
        }
        let Some(action) = choice.action(number, &last.observation)? else { return Ok(false) };
        match self.step(&action)? {
            Ok(answer) => {
                if answer.done {
                    episode.end = End::Done;
                }
                episode.steps.push(Step { action, answer });
            }
            Err((code, message)) => {
                episode.end = End::Refused { code, message };
                episode.refused = Some(action);
            }
        }
        Ok(true)
    }

    /// Ends the session as a client should.
    pub(crate) fn leave(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.close();
        }
    }

    /// The session's socket, to do with it what a client must not.
    pub(crate) fn take(&mut self) -> Option<Socket> {
        self.socket.take()
    }
}

impl Drop for Player<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
