//! What one step costs in the core alone: an event in, a turn out, a decision in, a command out, and
//! its share of the record at the end; what one input costs; and what a session weighs.
//!
//! `core-cost [SESSIONS] [STEPS_PER_EPISODE]` prints one JSON object. A session's weight is what the
//! process has grown by when all sessions have an episode under way, the bench's own lists included
//! (about 100 bytes).

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{error::Error, time::Duration};

use bytes::Bytes;
use envmill_benches::{cpu_seconds, resident_bytes};
use envmill_core::{Core, Input, JobOptions, Options, Outputs, ServerOptions, SessionReuse, Time};
use envmill_protocol::{Command, Ended, Event, Observed, Outcome, Request, Reward};

const OBSERVATION: &[u8] = br#"{"metadata":{},"step":12,"pid":4711,"payload":""}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let sessions: u32 = arguments.next().as_deref().unwrap_or("4096").parse()?;
    let length: u64 = arguments.next().as_deref().unwrap_or("30").parse()?;
    let episodes = u64::from(sessions) * 16;
    let resident_before = resident_bytes();
    let mut core = Core::new(Options::default());
    core.add_server(ServerOptions::default());
    core.submit(
        Time::ZERO,
        JobOptions {
            episodes,
            sessions_max: sessions,
            session_reuse: SessionReuse::Unlimited,
            ..JobOptions::default()
        },
    )?;
    let mut outputs = Outputs::default();
    let mut played = vec![0_u64; sessions as usize * 2];
    let mut now = Time::ZERO;
    let (mut commands, mut turns, mut records) = (Vec::new(), Vec::new(), 0_u64);
    let (mut steady, mut steps_before) = (None, 0);
    let (mut inputs, mut inputs_before, mut session_bytes) = (0_u64, 0, 0);
    let frame = Bytes::from_static(OBSERVATION);
    core.settle(now, &mut outputs);
    while !core.is_idle() {
        if steady.is_none() && core.admission_settled() {
            steady = Some(cpu_seconds());
            steps_before = core.counts().steps;
            inputs_before = inputs;
            session_bytes = (resident_bytes() - resident_before) / u64::from(sessions);
        }
        std::mem::swap(&mut commands, &mut outputs.commands);
        now = now + Duration::from_micros(100);
        inputs += commands.len() as u64;
        for command in commands.drain(..) {
            let event = answer(&command, &frame, length, &mut played);
            core.handle(now, Input::Event(event), &mut outputs);
        }
        std::mem::swap(&mut turns, &mut outputs.turns);
        inputs += turns.len() as u64;
        for turn in turns.drain(..) {
            let decision = turn.decided(Ok(Bytes::from_static(b"{\"sleep_s\":0.0}")));
            core.handle(now, Input::Decision(decision), &mut outputs);
        }
        core.settle(now, &mut outputs);
        records += outputs.records.len() as u64;
        outputs.records.clear();
        outputs.latencies.clear();
        outputs.notes.clear();
        if outputs.commands.is_empty() {
            now = now.max(core.next_deadline());
            core.settle(now, &mut outputs);
        }
    }
    let spent = cpu_seconds() - steady.unwrap_or_default();
    let steps = core.counts().steps - steps_before;
    println!(
        "{}",
        serde_json::json!({
            "sessions": sessions,
            "episodes": records,
            "steps": steps,
            "core_ns_per_step": spent * 1e9 / steps as f64,
            "inputs": inputs - inputs_before,
            "core_ns_per_input": spent * 1e9 / (inputs - inputs_before) as f64,
            "session_bytes": session_bytes,
        })
    );
    Ok(())
}

fn answer(command: &Command, frame: &Bytes, length: u64, played: &mut [u64]) -> Event {
    let played = &mut played[command.slot.0 as usize];
    let observed = |ended| Observed {
        observation: frame.slice(1..frame.len() - 1).into(),
        reward: Reward { value: Some(1.0), raw: frame.slice(0..3) },
        metadata: Bytes::new(),
        ended,
    };
    let outcome = match command.request {
        Request::Open { .. } => Outcome::Opened,
        Request::Close => Outcome::Closed,
        Request::Reset { .. } => {
            *played = 0;
            Outcome::Reset(observed(None))
        }
        _ => {
            *played += 1;
            Outcome::Stepped(observed((*played >= length).then_some(Ended::Terminated)))
        }
    };
    Event { slot: command.slot, generation: command.generation, outcome }
}
