//! The native environments by name.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use crate::{
    CartPole, Echo, FrozenLake, FrozenLakeOptions, JsonEdge, LakeMap, NativeWorker, Schemas,
    Synthetic, SyntheticOptions, WordGuess, WordGuessOptions,
    pool::{Pool, Rows},
};

/// An environment's parameters as text, by name (`step_ms` → `20`).
pub type Parameters = BTreeMap<String, String>;

/// What there is to say about a native environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub description: &'static str,
    /// The parameters it takes.
    pub parameters: &'static [Parameter],
}

/// A parameter of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it is, with unit, bounds and default.
    pub description: &'static str,
}

const fn parameter(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, description }
}

/// Every native environment, in the order of their names.
pub const ENVIRONMENTS: &[About] = &[
    About {
        name: "cartpole",
        description: "Gymnasium's CartPole-v1: balance a pole by pushing its cart",
        parameters: &[],
    },
    About {
        name: "echo",
        description: "OpenEnv's echo environment: the message comes back",
        parameters: &[],
    },
    About {
        name: "frozenlake",
        description: "Gymnasium's FrozenLake-v1: cross the ice without falling into a hole",
        parameters: &[
            parameter("map", "the lake, 4x4 or 8x8 (4x4)"),
            parameter("slippery", "whether moves may slip to a side, true or false (true)"),
        ],
    },
    About {
        name: "synthetic",
        description: "Takes time, sends bytes and fails, as told",
        parameters: &[
            parameter("step_ms", "milliseconds a step takes, 0 to 3600000 (0)"),
            parameter("jitter", "step time varies by this fraction, 0 to 1 (0)"),
            parameter("tail", "probability of a step slowed by a Pareto factor, 0 to 1 (0)"),
            parameter("payload_bytes", "size of an observation's payload, to 67108864 (0)"),
            parameter("fail_rate", "probability that a step fails, 0 to 1 (0)"),
            parameter("episode_steps", "mean length of an episode, 1 to 1000000000 (50)"),
        ],
    },
    About {
        name: "wordguess",
        description: "Text: guess a five-letter word in six tries, told about each letter",
        parameters: &[parameter(
            "hints",
            "whether observations list what the word may still be, true or false (false)",
        )],
    },
];

/// Why there is no such environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// No environment has this name.
    #[error("no native environment is named {name:?}; there are {}", names().join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The environment has no such parameter.
    #[error("{environment} has no parameter {name:?}; it takes {}", listed(.accepted))]
    UnknownParameter {
        /// The environment.
        environment: &'static str,
        /// The parameter asked for.
        name: String,
        /// The parameters it takes.
        accepted: &'static [Parameter],
    },
    /// A parameter's value cannot be used.
    #[error("{environment}: {name} = {value:?} is not usable: {expected}")]
    Value {
        /// The environment.
        environment: &'static str,
        /// The parameter.
        name: &'static str,
        /// The value given.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

fn names() -> Vec<&'static str> {
    ENVIRONMENTS.iter().map(|about| about.name).collect()
}

fn listed(parameters: &[Parameter]) -> String {
    if parameters.is_empty() {
        return "none".into();
    }
    parameters.iter().map(|parameter| parameter.name).collect::<Vec<_>>().join(", ")
}

/// A native environment with its parameters, ready to be served.
pub struct Environment {
    about: &'static About,
    schemas: Schemas,
    make: Box<dyn Fn() -> Box<dyn Rows> + Send + Sync>,
}

impl Environment {
    fn new<E: JsonEdge + 'static>(
        about: &'static About,
        make: impl Fn() -> E + Send + Sync + 'static,
    ) -> Self {
        Self {
            about,
            schemas: make().schemas(),
            make: Box::new(move || Box::new(Pool::new(make()))),
        }
    }

    /// What it is.
    #[must_use]
    pub const fn about(&self) -> &'static About {
        self.about
    }

    /// The schemas of what crosses its edge.
    #[must_use]
    pub const fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// A worker that serves sessions of this environment.
    #[must_use]
    pub fn worker(&self) -> NativeWorker {
        NativeWorker::new((self.make)())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("name", &self.about.name).finish_non_exhaustive()
    }
}

/// The environment named `name`.
///
/// # Errors
///
/// If there is none of this name, or a parameter is unknown or out of its bounds; the message says
/// what there is.
pub fn environment(name: &str, parameters: &Parameters) -> Result<Environment, EnvironmentError> {
    let about = ENVIRONMENTS
        .iter()
        .find(|about| about.name == name)
        .ok_or_else(|| EnvironmentError::Unknown { name: name.into() })?;
    for name in parameters.keys() {
        if !about.parameters.iter().any(|parameter| parameter.name == name) {
            return Err(EnvironmentError::UnknownParameter {
                environment: about.name,
                name: name.clone(),
                accepted: about.parameters,
            });
        }
    }
    Ok(match about.name {
        "cartpole" => Environment::new(about, CartPole::default),
        "echo" => Environment::new(about, Echo::default),
        "frozenlake" => {
            let default = FrozenLakeOptions::default();
            let read = Reader { about, parameters };
            let options = FrozenLakeOptions {
                map: read.value::<LakeMap>("map", default.map, |_| true)?,
                slippery: read.value("slippery", default.slippery, |_| true)?,
            };
            Environment::new(about, move || FrozenLake::new(options))
        }
        "wordguess" => {
            let read = Reader { about, parameters };
            let options = WordGuessOptions { hints: read.value("hints", false, |_| true)? };
            Environment::new(about, move || WordGuess::new(options))
        }
        _ => {
            let options = synthetic(about, parameters)?;
            Environment::new(about, move || Synthetic::new(options.clone()))
        }
    })
}

fn synthetic(
    about: &'static About,
    parameters: &Parameters,
) -> Result<SyntheticOptions, EnvironmentError> {
    let default = SyntheticOptions::default();
    let read = Reader { about, parameters };
    let step_ms = read.value("step_ms", 0.0, |ms| (0.0..=3_600_000.0).contains(ms))?;
    let fraction = |value: &f64| (0.0..=1.0).contains(value);
    Ok(SyntheticOptions {
        step: Duration::from_secs_f64(step_ms / 1000.0),
        jitter: read.value("jitter", default.jitter, fraction)?,
        tail: read.value("tail", default.tail, fraction)?,
        payload_bytes: read
            .value("payload_bytes", default.payload_bytes, |bytes| *bytes <= 64 << 20)?,
        fail_rate: read.value("fail_rate", default.fail_rate, fraction)?,
        episode_steps: read.value("episode_steps", default.episode_steps, |steps| {
            (1..=1_000_000_000).contains(steps)
        })?,
    })
}

struct Reader<'a> {
    about: &'static About,
    parameters: &'a Parameters,
}

impl Reader<'_> {
    fn value<T: FromStr>(
        &self,
        name: &'static str,
        default: T,
        valid: impl Fn(&T) -> bool,
    ) -> Result<T, EnvironmentError> {
        let Some(text) = self.parameters.get(name) else { return Ok(default) };
        text.parse().ok().filter(|value| valid(value)).ok_or_else(|| EnvironmentError::Value {
            environment: self.about.name,
            name,
            value: text.clone(),
            expected: self
                .about
                .parameters
                .iter()
                .find(|parameter| parameter.name == name)
                .map_or("", |parameter| parameter.description),
        })
    }
}
