//! A worker driven in a closed loop, as fast as it answers, by nothing else than a loop.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use envmill_protocol::{Command, Event, Generation, Outcome, Request, ServerId, Slot};
use envmill_workers::Worker;

use crate::cpu_seconds;

/// What is played.
pub struct Drive {
    /// How many sessions at once.
    pub sessions: u32,
    /// How many steps, after a warm-up of a few for each session.
    pub steps: u64,
    /// The actions, one after another.
    pub actions: Vec<Bytes>,
    /// Whether resets have a seed.
    pub seeded: bool,
}

/// What was measured, in microseconds of CPU a step.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Where the environment runs.
    pub there: f64,
    /// In this process.
    pub here: f64,
    /// Steps a second.
    pub steps_per_s: f64,
}

/// Actions of a discrete space, drawn the same each time. Of a length that few numbers of sessions
/// divide, so that each session gets all of them in turn.
#[must_use]
pub fn discrete_actions(choices: u64) -> Vec<Bytes> {
    let mut state = 1_u64;
    let draw = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!(r#"{{"action":{}}}"#, (state >> 33) % choices).into()
    };
    (0..257).map(draw).collect()
}

/// Opens and resets all sessions, steps each as soon as its answer is there and resets it when its episode
/// ends. `there` tells the CPU seconds of the processes that the environment runs in. Resets count as
/// steps.
///
/// # Errors
///
/// If anything fails, or nothing moves.
pub fn drive(worker: &mut dyn Worker, work: &Drive, there: impl Fn() -> f64) -> Result<Cost> {
    let mut generations = vec![0_u32; work.sessions as usize];
    let mut batch: Vec<Command> = Vec::new();
    let mut events: Vec<Event> = Vec::new();
    let mut ask = |slot: Slot, request: Request, batch: &mut Vec<Command>| {
        let generation = &mut generations[slot.0 as usize];
        *generation += 1;
        batch.push(Command { slot, generation: Generation(*generation), request });
    };
    let reset = |seed: u64| Request::Reset {
        parameters: match work.seeded {
            true => format!(r#"{{"seed":{seed}}}"#).into(),
            false => Bytes::new(),
        },
    };
    for slot in 0..work.sessions {
        ask(Slot(slot), Request::Open { server: ServerId(0) }, &mut batch);
    }
    let (mut standing, mut taken, mut out) = (0, 0, 0);
    let warm_up = u64::from(work.sessions) * 10;
    let last = warm_up + work.steps;
    let mut began = None;
    let until = Instant::now() + Duration::from_secs(600);
    while taken < last {
        worker.submit(&mut batch);
        worker.completions(&mut events, Duration::from_millis(100));
        for event in events.drain(..) {
            let seen = match event.outcome {
                Outcome::Opened => {
                    ask(event.slot, reset(event.slot.0.into()), &mut batch);
                    continue;
                }
                Outcome::Reset(seen) | Outcome::Stepped(seen) => seen,
                other => bail!("not expected: {other:?}"),
            };
            if standing < work.sessions {
                standing += 1;
                // All begin together.
                if standing < work.sessions {
                    continue;
                }
                for slot in 0..work.sessions {
                    let action = work.actions[out as usize % work.actions.len()].clone();
                    ask(Slot(slot), Request::Step { action }, &mut batch);
                    out += 1;
                }
                continue;
            }
            taken += 1;
            // To the end, since rows that step together wait for each other.
            let request = if seen.ended.is_some() {
                reset(out)
            } else {
                Request::Step { action: work.actions[out as usize % work.actions.len()].clone() }
            };
            ask(event.slot, request, &mut batch);
            out += 1;
        }
        if taken >= warm_up && began.is_none() {
            began = Some((Instant::now(), there(), cpu_seconds(), taken));
        }
        ensure!(Instant::now() < until, "{taken} steps in ten minutes");
    }
    let (at, there_before, here_before, before) = began.context("no warm-up")?;
    let steps = (taken - before) as f64;
    Ok(Cost {
        there: (there() - there_before) * 1e6 / steps,
        here: (cpu_seconds() - here_before) * 1e6 / steps,
        steps_per_s: steps / at.elapsed().as_secs_f64(),
    })
}

/// CPU seconds of a process and of all its descendants that live.
#[must_use]
pub fn tree_cpu_seconds(pid: u32) -> f64 {
    descendants(pid).into_iter().map(cpu_seconds_of).sum()
}

/// A process and all its descendants that live.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    found
}

/// CPU seconds of one process, user and system, in the system's ticks (usually 10 ms).
#[must_use]
pub fn cpu_seconds_of(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let spent: u64 = fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    spent as f64 / rustix::param::clock_ticks_per_second() as f64
}
