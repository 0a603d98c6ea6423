//! The core and a worker without anything of the engine around them: the loop that a program writes
//! which has an event loop of its own already.
//!
//! The core does no I/O and reads no clock. Here it is told the time of this machine; a test tells it
//! any time it likes.

use std::{io::Write, time::Instant};

use anyhow::Result;
use bytes::Bytes;
use envmill_core::{Core, Input, JobOptions, Options, Outputs, ServerOptions, Time};
use envmill_native::{Parameters, environment};
use envmill_workers::Worker as _;

fn main() -> Result<()> {
    let mut worker = environment("echo", &Parameters::new())?.worker();
    let mut core = Core::new(Options::default());
    core.add_server(ServerOptions { name: "in this process".into(), ..ServerOptions::default() });
    let job = JobOptions {
        episodes: 1_000,
        sessions_max: 100,
        max_steps: Some(5),
        ..JobOptions::default()
    };
    core.submit(Time::ZERO, job)?;

    let began = Instant::now();
    let now = || Time::ZERO + began.elapsed();
    let mut outputs = Outputs::default();
    let mut events = Vec::new();
    let mut stdout = std::io::stdout();
    let mut steps = 0;
    loop {
        // Deadlines, new episodes, retries; then what the core wants done.
        core.settle(now(), &mut outputs);
        for turn in std::mem::take(&mut outputs.turns) {
            let action = format!(r#"{{"message":"step {}"}}"#, turn.step);
            let decision = turn.decided(Ok(Bytes::from(action)));
            core.handle(now(), Input::Decision(decision), &mut outputs);
        }
        worker.submit(&mut outputs.commands);
        for record in outputs.records.drain(..) {
            // Exactly one for each episode that was asked for, whatever happened to it.
            steps += record.steps.len();
        }
        outputs.notes.clear();
        outputs.latencies.clear();
        outputs.cancelled_turns.clear();
        if core.is_idle() {
            break;
        }
        worker.completions(&mut events, core.next_deadline().since(now()));
        for event in events.drain(..) {
            core.handle(now(), Input::Event(event), &mut outputs);
        }
    }
    let counts = core.counts();
    writeln!(stdout, "{} episodes, {steps} steps", counts.recorded())?;
    writeln!(stdout, "{} sessions", counts.sessions_built)?;
    Ok(())
}
