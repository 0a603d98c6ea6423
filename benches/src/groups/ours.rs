//! Our scheduler: the shipped core in virtual time, with a server that answers at once and a policy
//! that takes the time of the step.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use bytes::Bytes;
use envmill_core::{
    Core, Deadlines, GroupOptions, Input, JobOptions, Options, OptionsError, Outputs,
    ServerOptions, SessionReuse, Time,
};
use envmill_protocol::{
    Command, Decision, Ended, Event, Generation, Observed, Outcome, Request, Slot, Spoken,
    Trajectory, Turn,
};

use crate::groups::{Group, Played, Span, Workload};

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing: a group is complete when all of its members have been played.
    Nothing,
    /// So many members more are started, and the rest is cut when as many as were asked for have
    /// been played.
    Oversample(u32),
}

/// Plays the workload through the core.
///
/// # Errors
///
/// If the core refuses the job.
pub fn ours(workload: &Workload, cut: Cut) -> Result<Played, OptionsError> {
    let members = workload.samples
        + match cut {
            Cut::Nothing => 0,
            Cut::Oversample(more) => more as usize,
        };
    let mut core = Core::new(Options::default());
    core.add_server(ServerOptions::default());
    let asked = workload.groups.len() * workload.samples;
    let job = JobOptions {
        episodes: asked as u64,
        sessions_max: workload.slots as u32,
        session_reuse: SessionReuse::Unlimited,
        deadlines: Deadlines { policy: None, ..Deadlines::default() },
        ..JobOptions::default()
    };
    core.submit(Time::ZERO, grouped(job, workload, cut))?;
    let mut run = Run {
        workload,
        members,
        core,
        now: Time::ZERO,
        outputs: Outputs::default(),
        slots: Vec::new(),
        thinking: BinaryHeap::new(),
        records: Vec::new(),
    };
    run.play();
    Ok(played(workload, members, &run.records))
}

/// The job's groups.
fn grouped(job: JobOptions, workload: &Workload, cut: Cut) -> JobOptions {
    let samples = workload.samples as u32;
    let oversample = match cut {
        Cut::Nothing => 0,
        Cut::Oversample(more) => more,
    };
    let group =
        GroupOptions { samples, oversample, complete_at: Some(samples), ..GroupOptions::default() };
    JobOptions { group: Some(group), ..job }
}

struct Run<'a> {
    workload: &'a Workload,
    members: usize,
    core: Core,
    now: Time,
    outputs: Outputs,
    /// What each slot plays: group, member, steps taken.
    slots: Vec<(usize, usize, usize)>,
    thinking: BinaryHeap<Reverse<(Time, Slot, Generation)>>,
    records: Vec<Trajectory>,
}

impl Run<'_> {
    fn play(&mut self) {
        self.core.settle(self.now, &mut self.outputs);
        loop {
            self.carry_out();
            if self.core.is_idle() {
                return;
            }
            let thought = self.thinking.peek().map_or(Time::NEVER, |Reverse((at, ..))| *at);
            self.now = self.now.max(thought.min(self.core.next_deadline()));
            while let Some(&Reverse((at, slot, generation))) = self.thinking.peek() {
                if at > self.now {
                    break;
                }
                self.thinking.pop();
                let action = Ok(Bytes::from_static(b"{}"));
                let decision = Decision {
                    slot,
                    generation,
                    action,
                    generations: Vec::new(),
                    spoken: Spoken::default(),
                };
                self.core.handle(self.now, Input::Decision(decision), &mut self.outputs);
            }
            self.core.settle(self.now, &mut self.outputs);
        }
    }

    /// Does what the core wants until it wants nothing more at this moment.
    fn carry_out(&mut self) {
        while !self.outputs.is_empty() {
            let outputs = std::mem::take(&mut self.outputs);
            self.records.extend(outputs.records);
            for command in &outputs.commands {
                let event = self.answer(command);
                self.core.handle(self.now, Input::Event(event), &mut self.outputs);
            }
            for turn in outputs.turns {
                self.think(&turn);
            }
            self.core.settle(self.now, &mut self.outputs);
        }
    }

    fn answer(&mut self, command: &Command) -> Event {
        let index = command.slot.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, (0, 0, 0));
        }
        let outcome = match command.request {
            Request::Open { .. } => Outcome::Opened,
            Request::Close => Outcome::Closed,
            Request::Reset { .. } => Outcome::Reset(Observed::default()),
            _ => {
                let (group, member, steps) = &mut self.slots[index];
                *steps += 1;
                let is_over = *steps >= self.workload.episode(*group, *member).steps.len();
                let ended = is_over.then_some(Ended::Terminated);
                Outcome::Stepped(Observed { ended, ..Observed::default() })
            }
        };
        Event { slot: command.slot, generation: command.generation, outcome }
    }

    fn think(&mut self, turn: &Turn) {
        let (group, member) = self.place(turn.episode.0);
        let step = turn.step as usize;
        self.slots[turn.slot.0 as usize] = (group, member, step);
        let seconds = self.workload.episode(group, member).steps[step];
        let at = self.now + Duration::from_secs_f64(seconds);
        self.thinking.push(Reverse((at, turn.slot, turn.generation)));
    }

    /// The group and the member of an episode.
    const fn place(&self, episode: u64) -> (usize, usize) {
        (episode as usize / self.members, episode as usize % self.members)
    }
}

/// Puts the records together: when each group had enough members.
fn played(workload: &Workload, members: usize, records: &[Trajectory]) -> Played {
    let seconds = |us: u64| us as f64 / 1e6;
    let mut played = Played::default();
    let mut groups: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
    // Records come in the order in which the episodes end.
    for record in records {
        let number = record.trajectory_id.rsplit('-').next().and_then(|it| it.parse().ok());
        let group = number.unwrap_or(0_usize) / members;
        let from = record.attempts.last().map_or(record.timing.ended_us, |it| it.started_us);
        let (from, until) = (seconds(from), seconds(record.timing.ended_us));
        let is_cut = record.end.name() != "completed";
        played.spans.push(Span { from, until, steps: record.steps.len(), is_cut });
        let (began, used) = groups.entry(group).or_insert((from, 0));
        *began = began.min(from);
        *used += usize::from(!is_cut);
        if !is_cut && *used == workload.samples {
            played.groups.push(Group { began: *began, held: until });
        }
    }
    played
}
