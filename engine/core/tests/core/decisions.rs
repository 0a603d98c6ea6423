//! Single decisions, told one input at a time.

use std::time::Duration;

use bytes::Bytes;
use envmill_core::{
    Core, Driver, External, ExternalTurn, InFlight, Input, JobOptions, Note, Options, Outputs,
    ServerOptions, SessionReuse, Time,
};
use envmill_protocol::{
    Command, Decision, Ended, Event, Failure, FailureKind, Generated, GeneratedKind, Generation,
    JobId, Observed, Outcome, PolicyVersion, Request, ServerId, Slot, Spoken,
    record::{Cancellation, End, Step, Truncation},
};

use crate::job;

/// A core and the hands that work it: each call is a millisecond later than the one before.
struct Bench {
    core: Core,
    now: Time,
    outputs: Outputs,
}

impl Bench {
    fn new(job: JobOptions) -> Self {
        Self::with_servers(job, 1)
    }

    fn with_servers(job: JobOptions, servers: u32) -> Self {
        Self::with(Options::default(), job, servers)
    }

    fn with(options: Options, job: JobOptions, servers: u32) -> Self {
        let mut core = Core::new(options);
        for server in 0..servers {
            core.add_server(ServerOptions {
                name: format!("server-{server}"),
                fingerprint: "one".into(),
                ..ServerOptions::default()
            });
        }
        core.submit(Time::ZERO, job).unwrap();
        let mut bench = Self { core, now: Time::ZERO, outputs: Outputs::default() };
        bench.wait(Duration::ZERO);
        bench
    }

    fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.core.settle(self.now, &mut self.outputs);
    }

    fn tell(&mut self, input: Input) {
        self.now = self.now + Duration::from_millis(1);
        self.core.handle(self.now, input, &mut self.outputs);
        self.core.settle(self.now, &mut self.outputs);
    }

    fn command(&mut self) -> Command {
        assert!(!self.outputs.commands.is_empty(), "no command: {:?}", self.core.counts());
        self.outputs.commands.remove(0)
    }

    fn answer(&mut self, command: &Command, outcome: Outcome) {
        let Command { slot, generation, .. } = *command;
        self.tell(Input::Event(Event { slot, generation, outcome }));
    }

    fn decide(&mut self, slot: Slot, generation: Generation) {
        let action = Ok(Bytes::from_static(b"{}"));
        let (generations, spoken) = (Vec::new(), Spoken::default());
        self.tell(Input::Decision(Decision { slot, generation, action, generations, spoken }));
    }

    /// Opens a session and resets it; the turn is open after that.
    fn begin(&mut self) -> Slot {
        let open = self.command();
        assert_eq!(open.request.name(), "open");
        self.answer(&open, Outcome::Opened);
        let reset = self.command();
        assert_eq!(reset.request.name(), "reset");
        self.answer(&reset, Outcome::Reset(Observed::default()));
        open.slot
    }

    /// Takes the open turn and gives the step's command back.
    fn step(&mut self) -> Command {
        let turn = self.outputs.turns.remove(0);
        self.decide(turn.slot, turn.generation);
        let step = self.command();
        assert_eq!(step.request.name(), "step");
        step
    }

    fn ends(&self) -> Vec<(&str, String)> {
        self.outputs.records.iter().map(|r| (r.end.name(), r.end.cause())).collect()
    }
}

fn ended(ended: Ended) -> Observed {
    Observed { ended: Some(ended), ..Observed::default() }
}

fn lost(kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure::lost(kind, "for the test"))
}

#[test]
fn one_episode_from_request_to_record() {
    let mut bench = Bench::new(job(1, 1));
    bench.begin();
    let step = bench.step();
    bench.answer(&step, Outcome::Stepped(ended(Ended::TerminatedUnmapped)));
    assert_eq!(bench.ends(), [("completed", "terminated (unmapped)".to_owned())]);
    let close = bench.command();
    assert_eq!(close.request, Request::Close);
    assert!(!bench.core.is_idle());
    bench.answer(&close, Outcome::Closed);
    assert!(bench.core.is_idle());
    let record = &bench.outputs.records[0];
    assert_eq!(record.trajectory_id, "job-00000000");
    assert_eq!(record.reset_parameters, r#"{"seed":0}"#);
    assert_eq!((record.steps.len(), record.attempts.len()), (1, 1));
    assert_eq!(record.provenance.server, "server-0");
    assert_eq!(record.steps[0].environment_us, 1_000);
}

#[test]
fn a_reset_may_already_be_the_end() {
    let mut bench = Bench::new(job(1, 1));
    let open = bench.command();
    bench.answer(&open, Outcome::Opened);
    let reset = bench.command();
    bench.answer(&reset, Outcome::Reset(ended(Ended::Terminated)));
    assert_eq!(bench.ends(), [("completed", "terminated".to_owned())]);
    assert!(bench.outputs.turns.is_empty());
}

#[test]
fn late_and_doubled_events_change_nothing() {
    let mut bench = Bench::new(job(1, 1));
    bench.begin();
    let step = bench.step();
    let answer = Outcome::Stepped(Observed::default());
    bench.answer(&step, answer.clone());
    bench.answer(&step, answer.clone());
    assert_eq!((bench.outputs.turns.len(), bench.core.counts().ignored), (1, 1));
    let next = bench.step();
    bench.answer(&step, answer);
    bench.answer(&next, Outcome::Opened);
    assert_eq!(bench.core.counts().ignored, 3);
    assert_eq!(bench.core.counts().steps, 1);
    bench.decide(step.slot, step.generation);
    bench.tell(Input::Event(Event {
        slot: Slot(99),
        generation: Generation(1),
        outcome: Outcome::Closed,
    }));
    assert_eq!(bench.core.counts().ignored, 5);
}

#[test]
fn a_step_deadline_cuts_the_session_and_tries_again_elsewhere() {
    let mut bench = Bench::new(JobOptions { attempts_max: 2, ..job(1, 1) });
    bench.begin();
    for attempt in 0..2 {
        let step = bench.step();
        bench.wait(Duration::from_secs(61));
        let close = bench.command();
        assert_eq!(close.request, Request::Close);
        // The answer that comes after all must not count.
        bench.answer(&step, Outcome::Stepped(ended(Ended::Terminated)));
        bench.answer(&close, Outcome::Closed);
        if attempt == 0 {
            bench.begin();
        }
    }
    assert_eq!(bench.ends(), [("failed", "deadline_step".to_owned())]);
    assert_eq!(bench.outputs.records[0].attempts.len(), 2);
    assert_eq!(bench.core.servers().next().unwrap().1.ghosts, 2);
}

#[test]
fn an_exception_in_a_step_is_the_episode_s_end_and_the_session_is_not_used_again() {
    let mut bench = Bench::new(job(2, 1));
    bench.begin();
    let step = bench.step();
    let failure = Failure::kept(FailureKind::Environment, "boom");
    bench.answer(&step, Outcome::Failed(failure));
    assert_eq!(bench.ends(), [("failed", "environment".to_owned())]);
    assert_eq!(bench.command().request, Request::Close);
    assert_eq!(bench.command().request.name(), "open");
}

#[test]
fn a_lost_connection_is_tried_again_with_the_same_seed_and_policy() {
    let mut bench = Bench::new(JobOptions { seed: 5, ..job(1, 1) });
    bench.begin();
    let first = bench.outputs.turns[0].seed;
    let step = bench.step();
    bench.answer(&step, lost(FailureKind::Closed { code: 1012 }));
    let open = bench.command();
    bench.answer(&open, Outcome::Opened);
    let reset = bench.command();
    assert_eq!(reset.request, Request::Reset { parameters: Bytes::from_static(br#"{"seed":5}"#) });
    bench.answer(&reset, Outcome::Reset(Observed::default()));
    assert_eq!(bench.outputs.turns[0].seed, first);
    let step = bench.step();
    bench.answer(&step, Outcome::Stepped(ended(Ended::Terminated)));
    let record = &bench.outputs.records[0];
    let causes: Vec<&str> = record.attempts.iter().map(|a| a.cause.as_str()).collect();
    assert_eq!(causes, ["closed_1012", ""]);
}

#[test]
fn a_session_lost_under_the_policy_s_turn_takes_the_turn_back() {
    let mut bench = Bench::new(job(1, 1));
    bench.begin();
    let turn = bench.outputs.turns.remove(0);
    bench.tell(Input::Event(Event {
        slot: turn.slot,
        generation: turn.generation,
        outcome: lost(FailureKind::Disconnected),
    }));
    assert_eq!(bench.outputs.cancelled_turns, [(turn.slot, turn.generation)]);
    bench.decide(turn.slot, turn.generation);
    assert_eq!(bench.core.counts().ignored, 1);
    assert_eq!(bench.core.counts().retries, 1);
}

#[test]
fn refusals_are_no_attempts() {
    let mut bench = Bench::new(JobOptions { attempts_max: 1, ..job(1, 1) });
    for _ in 0..5 {
        let open = bench.command();
        bench.answer(&open, Outcome::Opened);
        let reset = bench.command();
        bench.answer(&reset, lost(FailureKind::Capacity));
        assert!(bench.outputs.commands.is_empty(), "it must wait before it asks again");
        bench.wait(Duration::from_secs(10));
    }
    bench.begin();
    let step = bench.step();
    bench.answer(&step, Outcome::Stepped(ended(Ended::Terminated)));
    assert_eq!(bench.outputs.records[0].attempts.len(), 1);
    assert_eq!(bench.core.counts().refusals, 5);
}

#[test]
fn a_server_that_refuses_for_good_ends_the_job_at_once() {
    let mut bench = Bench::new(job(100, 1));
    for _ in 0..3 {
        let open = bench.command();
        bench.answer(&open, lost(FailureKind::UpgradeRefused { status: 401 }));
        bench.wait(Duration::from_secs(5));
    }
    assert_eq!(bench.outputs.records.len(), 100);
    assert!(bench.ends().iter().all(|(_, cause)| cause == "upgrade_refused_401"));
    assert!(bench.core.is_idle());
}

#[test]
fn retry_after_is_kept_to() {
    let mut bench = Bench::new(job(1, 1));
    let open = bench.command();
    let failure = Failure {
        retry_after: Some(Duration::from_secs(20)),
        ..Failure::lost(FailureKind::UpgradeRefused { status: 503 }, "busy")
    };
    bench.answer(&open, Outcome::Failed(failure));
    bench.wait(Duration::from_secs(19));
    assert!(bench.outputs.commands.is_empty());
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.command().request.name(), "open");
}

#[test]
fn a_dead_server_leaves_its_work_to_the_other() {
    let mut bench = Bench::with_servers(job(20, 2), 2);
    let mut played = 0;
    for _ in 0..200 {
        if bench.core.counts().recorded() == 20 {
            break;
        }
        bench.wait(Duration::from_millis(500));
        while !bench.outputs.commands.is_empty() {
            let command = bench.command();
            let outcome = match command.request {
                Request::Open { server: ServerId(0) } => lost(FailureKind::Unreachable),
                Request::Open { .. } => Outcome::Opened,
                Request::Close => Outcome::Closed,
                _ => {
                    played += 1;
                    Outcome::Reset(ended(Ended::Terminated))
                }
            };
            bench.answer(&command, outcome);
        }
    }
    assert_eq!((bench.core.counts().completed, played), (20, 20));
    assert!(bench.core.servers().next().unwrap().1.down);
    let downs = bench.outputs.notes.iter().filter(|n| matches!(n, Note::ServerDown { .. }));
    assert_eq!(downs.count(), 1);
}

#[test]
fn max_steps_and_the_episode_deadline_truncate() {
    let mut bench = Bench::new(JobOptions { max_steps: Some(2), ..job(1, 1) });
    bench.begin();
    for _ in 0..2 {
        let step = bench.step();
        bench.answer(&step, Outcome::Stepped(Observed::default()));
    }
    assert_eq!(bench.outputs.records[0].end, End::Truncated(Truncation::MaxSteps));

    let mut options = job(1, 1);
    options.deadlines.episode = Some(Duration::from_secs(3));
    let mut bench = Bench::new(options);
    bench.begin();
    bench.wait(Duration::from_secs(4));
    assert_eq!(bench.outputs.records[0].end, End::Truncated(Truncation::EpisodeDeadline));
    assert_eq!(bench.outputs.cancelled_turns.len(), 1);
}

#[test]
fn the_largest_episodes_are_cut_where_all_hold_too_much() {
    const MIB: usize = 1 << 20;
    let options = Options { steps_bytes_max: 24 * MIB as u64, ..Options::default() };
    let mut bench = Bench::with(options, job(2, 2), 1);
    // One session's observations are three times as large as the other's.
    let mut held = [0, 0];
    while bench.outputs.records.is_empty() {
        if let Some(turn) = bench.outputs.turns.pop() {
            bench.decide(turn.slot, turn.generation);
        }
        let command = bench.command();
        let large = command.slot.0 == 0;
        let outcome = match command.request {
            Request::Open { .. } => Outcome::Opened,
            Request::Reset { .. } => Outcome::Reset(Observed::default()),
            _ => {
                let bytes = if large { 3 * MIB } else { MIB };
                held[usize::from(large)] += bytes;
                let observation = vec![b' '; bytes].into();
                Outcome::Stepped(Observed { observation, ..Observed::default() })
            }
        };
        bench.answer(&command, outcome);
    }
    let record = &bench.outputs.records[0];
    assert_eq!(record.end, End::Truncated(Truncation::MaxBytes));
    assert!(record.steps.iter().all(|step| step.observed.observation.len() == 3 * MIB));
    assert!(held[0] < held[1] && held[0] + held[1] <= 32 * MIB, "{held:?}");
}

/// What goes beyond an episode's own maximum is not kept, whatever it is.
#[test]
fn an_episode_is_cut_at_its_own_maximum() {
    let shown = |bytes: usize| {
        let observation = vec![b' '; bytes].into();
        Observed { observation, ..Observed::default() }
    };
    let too_large = End::Truncated(Truncation::EpisodeBytes);
    let options = JobOptions { episode_bytes_max: Some(10_000), ..job(1, 1) };

    let mut bench = Bench::new(options.clone());
    bench.begin();
    for _ in 0..2 {
        let step = bench.step();
        bench.answer(&step, Outcome::Stepped(shown(4_000)));
    }
    assert_eq!(bench.core.held_bytes(), bench.core.held_bytes().clamp(8_001, 10_000));
    let step = bench.step();
    let last = Observed { ended: Some(Ended::Terminated), ..shown(4_000) };
    bench.answer(&step, Outcome::Stepped(last));
    assert_eq!(
        (&bench.outputs.records[0].end, bench.outputs.records[0].steps.len()),
        (&too_large, 2)
    );
    assert_eq!((bench.core.held_bytes(), bench.core.memory().reserved), (0, 0));

    let mut bench = Bench::new(options.clone());
    bench.begin();
    let turn = bench.outputs.turns.remove(0);
    let generated = Generated { prompt_token_ids: vec![7; 2_500], ..Generated::default() };
    let (slot, generation) = (turn.slot, turn.generation);
    let action = Ok(Bytes::from_static(b"{}"));
    let (generations, spoken) = (vec![generated], Spoken::default());
    bench.tell(Input::Decision(Decision { slot, generation, action, generations, spoken }));
    assert_eq!(bench.outputs.records[0].end, too_large);
    assert!(bench.outputs.records[0].generations.is_empty());

    let mut bench = Bench::new(options);
    let open = bench.command();
    bench.answer(&open, Outcome::Opened);
    let reset = bench.command();
    bench.answer(&reset, Outcome::Reset(shown(10_001)));
    let End::Failed(failure) = &bench.outputs.records[0].end else {
        panic!("{:?}", bench.outputs.records[0].end)
    };
    assert_eq!(failure.kind, FailureKind::Limit);
    assert!(failure.message.contains("may take 10000 (`episode_bytes_max`)"), "{failure}");
}

/// A generation with a whole prompt.
fn whole(prompt: &[u32], sampled: &[u32]) -> Generated {
    Generated {
        prompt_token_ids: prompt.to_vec(),
        token_ids: sampled.to_vec(),
        ..Generated::default()
    }
}

#[test]
fn what_is_generated_is_kept_as_what_it_adds() {
    let mut bench = Bench::new(JobOptions { max_steps: Some(2), ..job(1, 1) });
    let slot = bench.begin();
    let told = [
        (vec![whole(&[1, 2], &[9]), whole(&[1, 2, 3], &[4])], "{\"role\":\"user\"},{}"),
        (vec![whole(&[1, 2, 3, 4, 5], &[6])], "{\"role\":\"tool\"}"),
    ];
    for (mut generations, messages) in told {
        let turn = bench.outputs.turns.pop().unwrap();
        generations[0].kind = match turn.step {
            0 => GeneratedKind::Discarded,
            _ => GeneratedKind::Agent,
        };
        let spoken = Spoken { messages: messages.into(), sampling: "{\"top_p\":1.0}".into() };
        let action = Ok(Bytes::from_static(b"{}"));
        let generation = turn.generation;
        bench.tell(Input::Decision(Decision { slot, generation, action, generations, spoken }));
        let step = bench.command();
        bench.answer(&step, Outcome::Stepped(Observed::default()));
    }
    let record = &bench.outputs.records[0];
    let kept: Vec<_> = record
        .generations
        .iter()
        .map(|it| (it.prompt_shared, &it.prompt_token_ids[..], it.step))
        .collect();
    let expected: [(u32, &[u32], _); 3] =
        [(0, &[1, 2], Some(0)), (2, &[3], Some(0)), (4, &[5], Some(1))];
    assert_eq!(kept, expected);
    assert_eq!(record.tokens.token_ids, [1, 2, 3, 4, 5, 6]);
    assert_eq!(record.messages, "[{\"role\":\"user\"},{},{\"role\":\"tool\"}]");
    assert_eq!(record.sampling, "{\"top_p\":1.0}");
}

#[test]
fn a_prompt_that_shares_what_is_not_there_fails_the_attempt() {
    let mut bench = Bench::new(job(1, 1));
    let slot = bench.begin();
    let generation = bench.outputs.turns.remove(0).generation;
    let shares = Generated { prompt_shared: 1, ..whole(&[2], &[3]) };
    let (action, spoken) = (Ok(Bytes::from_static(b"{}")), Spoken::default());
    let generations =
        vec![whole(&[1], &[2]), shares.clone(), Generated { parent: Some(2), ..shares }];
    bench.tell(Input::Decision(Decision { slot, generation, action, generations, spoken }));
    let End::Failed(failure) = &bench.outputs.records[0].end else {
        panic!("{:?}", bench.outputs.records[0].end)
    };
    assert_eq!(failure.kind, FailureKind::Policy);
    assert!(failure.message.contains("generation 2 shares the first 1 ids"), "{failure}");
    assert!(bench.outputs.records[0].generations.is_empty());
}

#[test]
fn session_reuse_is_bounded() {
    for (reuse, opens) in
        [(SessionReuse::Never, 6), (SessionReuse::Episodes(4), 2), (SessionReuse::Unlimited, 1)]
    {
        let mut bench = Bench::new(JobOptions { session_reuse: reuse, ..job(6, 1) });
        let mut opened = 0;
        while !bench.core.is_idle() {
            let command = bench.command();
            let outcome = match command.request {
                Request::Open { .. } => {
                    opened += 1;
                    Outcome::Opened
                }
                Request::Close => Outcome::Closed,
                _ => Outcome::Reset(ended(Ended::Terminated)),
            };
            bench.answer(&command, outcome);
        }
        assert_eq!(opened, opens, "{reuse:?}");
        assert_eq!(bench.core.counts().completed, 6);
    }
}

#[test]
fn a_changed_fingerprint_stops_the_job() {
    let mut bench = Bench::new(job(3, 1));
    bench.begin();
    let changed = Input::Fingerprint { server: ServerId(0), fingerprint: "two".into() };
    bench.tell(changed);
    assert_eq!(bench.outputs.records.len(), 3);
    assert!(
        bench.outputs.records.iter().all(|r| r.end == End::Cancelled(Cancellation::Stopped)),
        "{:?}",
        bench.ends()
    );
}

#[test]
fn a_silent_close_does_not_hold_the_run() {
    let mut bench = Bench::new(job(1, 1));
    bench.begin();
    bench.tell(Input::Cancel(JobId(0)));
    assert!(!bench.core.is_idle());
    bench.wait(Duration::from_secs(11));
    assert!(bench.core.is_idle());
}

#[test]
fn an_external_driver_opens_and_closes_its_own_turns() {
    let mut bench = Bench::new(JobOptions { driver: Driver::External, ..job(2, 1) });
    bench.tell(Input::PolicyVersion {
        job: JobId(0),
        version: PolicyVersion(3),
        in_flight: InFlight::Keep,
    });
    let mut play = |end: Option<End>, wait: Duration| {
        if bench.outputs.commands.first().is_some_and(|c| c.request.name() == "open") {
            bench.begin();
        } else {
            let reset = bench.command();
            bench.answer(&reset, Outcome::Reset(Observed::default()));
        }
        assert!(bench.outputs.turns.is_empty());
        let handed = bench.outputs.handed.remove(0);
        let (slot, generation) = (handed.slot, handed.generation);
        for _ in 0..2 {
            bench.tell(Input::External(External { slot, generation, turn: ExternalTurn::Opened }));
            let step = Step {
                action: Bytes::from_static(b"{}"),
                observed: Observed::default(),
                environment_us: 5,
                policy_us: 7,
            };
            let turn = ExternalTurn::Closed { steps: vec![step], generations: Vec::new() };
            bench.tell(Input::External(External { slot, generation, turn }));
        }
        bench.tell(Input::External(External { slot, generation, turn: ExternalTurn::Opened }));
        bench.wait(wait);
        if let Some(end) = end {
            let turn = ExternalTurn::EpisodeEnded(end);
            bench.tell(Input::External(External { slot, generation, turn }));
        }
        bench.outputs.records.remove(0)
    };
    let record = play(Some(End::Completed { mapped: true }), Duration::ZERO);
    assert_eq!((record.steps.len(), record.end.name()), (2, "completed"));
    // The driver falls silent with a turn open: the core still has the deadline.
    bench.core.handle(bench.now, Input::Drain(JobId(0)), &mut bench.outputs);
    assert!(bench.outputs.commands.iter().any(|c| c.request.name() == "reset"));
}

#[test]
fn an_external_turn_has_a_deadline() {
    let mut bench =
        Bench::new(JobOptions { driver: Driver::External, attempts_max: 1, ..job(1, 1) });
    bench.begin();
    let handed = bench.outputs.handed.remove(0);
    bench.tell(Input::External(External {
        slot: handed.slot,
        generation: handed.generation,
        turn: ExternalTurn::Opened,
    }));
    bench.wait(Duration::from_secs(61));
    assert_eq!(bench.ends(), [("failed", "deadline_step".to_owned())]);
}
