//! A recorded run: a core whose commands are answered at once, by chance well or badly.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use envmill_core::{Core, InFlight, Input, JobOptions, Options, Outputs, ServerOptions, Time};
use envmill_protocol::{
    Command, Decision, Ended, Event, Failure, FailureKind, JobId, Observed, Outcome, PolicyError,
    PolicyVersion, Request, Reward, ServerId, Spoken, Trajectory,
};
use envmill_recorder::{Recorded, Recorder};

/// A file in memory that the test keeps a hand on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(pub(crate) Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) struct Run {
    pub(crate) file: Vec<u8>,
    pub(crate) recorded: Recorded,
    pub(crate) records: Vec<Trajectory>,
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Plays `episodes` episodes on three servers and records it into at most `bytes_max` bytes.
pub(crate) fn play(seed: u64, episodes: u64, bytes_max: u64) -> Run {
    let memory = Memory::default();
    let (recorded, records) = play_into(Box::new(memory.clone()), seed, episodes, bytes_max);
    let file = memory.0.lock().unwrap().clone();
    Run { file, recorded, records }
}

pub(crate) fn play_into(
    file: Box<dyn Write + Send>,
    seed: u64,
    episodes: u64,
    bytes_max: u64,
) -> (Recorded, Vec<Trajectory>) {
    let mut core = Core::new(Options { seed, run_started_unix_us: 1, ..Options::default() });
    for index in 0..3 {
        core.add_server(ServerOptions { name: format!("server-{index}"), ..Default::default() });
    }
    let job = JobOptions {
        episodes,
        sessions_max: 8,
        max_steps: Some(30),
        reset_parameters: Bytes::from_static(b"{\"split\":\"train\"}"),
        ..JobOptions::default()
    };
    core.submit(Time::ZERO, job).unwrap();
    let mut recorder = Recorder::start(file, bytes_max, "test", &core).unwrap();
    let mut chance = Chance(seed);
    let mut records = Vec::new();
    let mut outputs = Outputs::default();
    let mut now = Time::ZERO;
    let mut answers: Vec<Input> = Vec::new();
    for round in 0.. {
        assert!(round < 100_000, "the run does not end");
        for answer in answers.drain(..) {
            recorder.handle(&mut core, now, answer, &mut outputs);
        }
        if round == 40 {
            for input in others() {
                recorder.handle(&mut core, now, input, &mut outputs);
            }
        }
        recorder.settle(&mut core, now, &mut outputs);
        records.append(&mut outputs.records);
        if core.is_idle() {
            break;
        }
        let is_quiet = outputs.commands.is_empty() && outputs.turns.is_empty();
        answers.extend(outputs.turns.drain(..).map(|turn| {
            let action = match chance.below(300) {
                0 => Err(PolicyError::new("no idea")),
                number => Ok(Bytes::from(format!("{{\"number\":{number}}}"))),
            };
            let (slot, generation) = (turn.slot, turn.generation);
            Input::Decision(Decision {
                slot,
                generation,
                action,
                generations: Vec::new(),
                spoken: Spoken::default(),
            })
        }));
        answers.extend(outputs.commands.drain(..).map(|command| answer(command, &mut chance)));
        outputs = Outputs::default();
        now = if is_quiet && core.next_deadline() < Time::NEVER {
            now.max(core.next_deadline())
        } else {
            now + Duration::from_micros(chance.below(2_000))
        };
    }
    (recorder.finish(), records)
}

/// Inputs of the kinds that the run itself has none of.
fn others() -> Vec<Input> {
    let version = |version, in_flight| Input::PolicyVersion {
        job: JobId(0),
        version: PolicyVersion(version),
        in_flight,
    };
    vec![
        Input::ServerReady(ServerId(1)),
        Input::Fingerprint { server: ServerId(2), fingerprint: "the same".into() },
        version(7, InFlight::Keep),
        version(8, InFlight::Drain),
        version(8, InFlight::Keep),
        Input::Pause(JobId(0)),
        Input::Resume(JobId(0)),
        Input::Slow(JobId(0)),
        Input::Resume(JobId(0)),
        Input::Pause(JobId(77)),
        Input::Slow(JobId(77)),
        Input::Cancel(JobId(77)),
    ]
}

fn answer(command: Command, chance: &mut Chance) -> Input {
    let Command { slot, generation, request } = command;
    let observed = |chance: &mut Chance, ended| Observed {
        observation: format!("{{\"seen\":\"{}\"}}", "é".repeat(chance.below(50) as usize)).into(),
        reward: Reward::from_raw(Bytes::from(format!("{}.5", chance.below(9)))),
        metadata: Bytes::new(),
        ended,
    };
    let luck = chance.below(100);
    let outcome = match request {
        Request::Close => Outcome::Closed,
        _ if luck < 3 => Outcome::Failed(Failure::lost(FailureKind::Disconnected, "cut")),
        Request::Open { .. } => Outcome::Opened,
        Request::Reset { .. } => Outcome::Reset(observed(chance, None)),
        Request::Step { .. } if luck < 5 => {
            Outcome::Failed(Failure::kept(FailureKind::Environment, "raised"))
        }
        Request::Step { .. } => {
            let ended = (luck > 90).then_some(Ended::Terminated);
            Outcome::Stepped(observed(chance, ended))
        }
        Request::State | Request::ToolCall { .. } => Outcome::State(Bytes::new()),
    };
    Input::Event(Event { slot, generation, outcome })
}
