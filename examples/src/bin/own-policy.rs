//! A policy and a sink of one's own: both ends of the engine, with its driver in the middle.
//!
//! Balances CartPole with one line of control theory, on a native environment in this process, and
//! keeps only how long each episode lasted.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use bytes::Bytes;
use envmill::{
    driver::{Control, Driver},
    policy::Policy,
    sink::{Sink, SinkError},
};
use envmill_core::{Core, JobOptions, Options, ServerOptions, Time};
use envmill_native::{Parameters, environment};
use envmill_protocol::{Decision, Generation, PolicyError, Slot, Trajectory, Turn};
use serde::Deserialize;

/// Pushes towards the side that the pole falls to.
#[derive(Default)]
struct Balance {
    ready: Vec<Decision>,
}

/// The part of an observation that the policy reads: position, velocity, angle, angular velocity.
#[derive(Deserialize)]
struct Observation {
    state: [f64; 4],
}

fn push(turn: &Turn) -> Result<Bytes, PolicyError> {
    let observation: Observation = serde_json::from_slice(&turn.observed.observation)
        .map_err(|error| PolicyError::new(format!("this is no CartPole: {error}")))?;
    let [position, velocity, angle, spin] = observation.state;
    let lean = angle + 0.5 * spin + 0.05 * position + 0.1 * velocity;
    let action: &[u8] = if lean > 0.0 { br#"{"action":1}"# } else { br#"{"action":0}"# };
    Ok(Bytes::copy_from_slice(action))
}

impl Policy for Balance {
    fn submit(&mut self, turns: &mut Vec<Turn>) {
        // All turns that came up at once are one batch: here a model would run on them together.
        self.ready.extend(turns.drain(..).map(|turn| turn.decided(push(&turn))));
    }

    fn cancel(&mut self, _turns: &[(Slot, Generation)]) {}

    fn decisions(&mut self, decisions: &mut Vec<Decision>) {
        decisions.append(&mut self.ready);
    }
}

/// Counts steps, and forgets the rest of the record.
struct Lengths {
    lengths: Arc<Mutex<Vec<usize>>>,
    written: u64,
}

impl Sink for Lengths {
    fn submit(&mut self, records: &mut Vec<Trajectory>) {
        self.written += records.len() as u64;
        let mut lengths = self.lengths.lock().unwrap_or_else(PoisonError::into_inner);
        lengths.extend(records.drain(..).map(|record| record.steps.len()));
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn failure(&self) -> Option<SinkError> {
        None
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut core = Core::new(Options::default());
    core.add_server(ServerOptions { name: "in this process".into(), ..ServerOptions::default() });
    let job = JobOptions { episodes: 200, sessions_max: 50, ..JobOptions::default() };
    let job = core.submit(Time::ZERO, job)?;

    let worker = environment("cartpole", &Parameters::new())?.worker();
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let sink = Lengths { lengths: Arc::clone(&lengths), written: 0 };
    let policies: Vec<Box<dyn Policy>> = vec![Box::new(Balance::default())];
    let driver = Driver::new(core, vec![job], worker, policies, Box::new(sink), Control::new())?;
    let finished = driver.run(|_| {});

    let lengths = lengths.lock().unwrap_or_else(PoisonError::into_inner);
    let mean = lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
    let counts = finished.core.counts();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{} episodes, mean length {mean:.1}", counts.recorded())?;
    Ok(())
}
