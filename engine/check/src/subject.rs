//! What is checked, as all checks see it.

use std::{
    any::Any,
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    capacity::Capacity,
    options::Options,
    play::{Choice, Halt},
    processes::Processes,
    sample::Sample,
    wire::{Http, Peer},
};

/// Draws actions that a schema allows.
pub trait Draw: Send {
    /// An action (the text of one JSON object) for a step, which depends on nothing but what is given.
    ///
    /// # Errors
    ///
    /// Says why the schema gives none.
    fn draw(&mut self, seed: u64, step: u32, observation: &[u8]) -> Result<String, String>;
}

/// A server that was started for a check, and ends with what is kept.
pub struct Started {
    /// Its base URL.
    pub url: String,
    /// Ends it when it is dropped.
    pub kept: Box<dyn Any>,
}

/// What the program around the checks does for them.
pub trait Surroundings: Sync {
    /// Compiles an action schema.
    ///
    /// # Errors
    ///
    /// Says why nothing can be drawn from it.
    fn sampler(&self, action_schema: &str) -> Result<Box<dyn Draw>, String>;

    /// Starts the target once more, in production mode; `None` if it was not started by this program.
    fn production(&self) -> Option<Result<Started, String>>;

    /// Says which check begins.
    fn tell(&self, check: &str, number: usize, of: usize);
}

/// A policy that is compared with a random one.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// As the user named it.
    pub name: String,
    /// Its episodes.
    pub scripts: Vec<Script>,
}

/// The actions of one episode.
#[derive(Clone, Debug)]
pub struct Script {
    /// The seed of its reset; that of the check if there is none.
    pub seed: Option<u64>,
    /// Texts of JSON objects; the last one goes on where `repeats`.
    pub actions: Vec<String>,
    /// Whether the last action is taken until the episode ends.
    pub repeats: bool,
}

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Schemas {
    pub(crate) action: Value,
    pub(crate) observation: Option<Value>,
    pub(crate) reset_observation: Option<Value>,
    pub(crate) state: Option<Value>,
}

/// The target of all checks.
pub struct Subject<'a> {
    pub(crate) options: Options,
    pub(crate) peer: Peer,
    pub(crate) http: Http,
    pub(crate) surroundings: &'a dyn Surroundings,
    pub(crate) baseline: Option<Baseline>,
    pid: Option<u32>,
    schemas: OnceLock<Result<Schemas, String>>,
    pub(crate) sample: OnceLock<Result<Sample, Halt>>,
    pub(crate) capacity: OnceLock<Capacity>,
}

impl<'a> Subject<'a> {
    /// Asks nobody yet. `pid` is the server's process where that is known.
    #[must_use]
    pub fn new(
        options: Options,
        peer: Peer,
        surroundings: &'a dyn Surroundings,
        pid: Option<u32>,
        baseline: Option<Baseline>,
    ) -> Self {
        let http = Http::new(&peer);
        Self {
            options,
            peer,
            http,
            surroundings,
            baseline,
            pid,
            schemas: OnceLock::new(),
            sample: OnceLock::new(),
            capacity: OnceLock::new(),
        }
    }

    /// The answer to `/schema`.
    pub(crate) fn schemas(&self) -> Result<&Schemas, &str> {
        let read = || {
            let answer = self.http.get("/schema").map_err(|trouble| trouble.to_string())?;
            if answer.status != 200 {
                return Err(format!("GET /schema was answered with HTTP {}", answer.status));
            }
            let mut all = answer.json().ok_or("the answer to GET /schema is no JSON")?;
            let mut take = |key: &str| {
                let schema = all.get_mut(key).map(Value::take);
                schema.filter(|schema| schema.is_object() || schema.is_boolean())
            };
            Ok(Schemas {
                action: take("action").ok_or("the answer to GET /schema has no `action` schema")?,
                observation: take("observation"),
                reset_observation: take("reset_observation"),
                state: take("state"),
            })
        };
        self.schemas.get_or_init(read).as_ref().map_err(String::as_str)
    }

    /// What takes the actions of an episode: those that were given, or else draws that follow from
    /// `seed`.
    pub(crate) fn choice(&self, seed: u64) -> Result<Choice, Halt> {
        if self.options.actions.is_empty() {
            return self.random(seed);
        }
        Ok(Choice::list(self.options.actions.clone()))
    }

    /// What draws actions, whatever was given.
    pub(crate) fn random(&self, seed: u64) -> Result<Choice, Halt> {
        let schemas = self.schemas().map_err(|why| Halt::NoActions(why.into()))?;
        let draw = self.surroundings.sampler(&schemas.action.to_string());
        Ok(Choice::Draw { draw: draw.map_err(Halt::NoActions)?, seed })
    }

    /// The server's processes, if they are on this machine.
    pub(crate) fn processes(&self) -> Option<Processes> {
        match self.pid {
            Some(pid) => Processes::of(pid),
            None if self.peer.is_local() => Processes::on_port(self.peer.port()),
            None => None,
        }
    }

    /// A share of what a check would take: all of it, or less where it is to be quick.
    pub(crate) const fn at_most(&self, thorough: u32, quick: u32) -> u32 {
        if self.options.quick { quick } else { thorough }
    }

    /// When a part of a check has to be done that may take `seconds`.
    pub(crate) fn until(&self, seconds: u32) -> Instant {
        let seconds = if self.options.quick { seconds.div_ceil(3) } else { seconds };
        Instant::now() + Duration::from_secs(seconds.into())
    }
}
