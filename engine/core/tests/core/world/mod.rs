//! A simulated world: servers, a policy and the way between them, in virtual time.
//!
//! It drives the shipped core. Servers refuse, hang, crash, come back, lie about generations and
//! answer late; the way delivers some events twice. All of it is drawn from one seed, so a failing
//! world can be played again.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use envmill_core::{Core, Input, JobOptions, Options, Outputs, ServerOptions, Time};
use envmill_protocol::{
    Command, Decision, Ended, Event, Failure, FailureKind, Generation, Observed, Outcome,
    PolicyError, Request, Reward, ServerId, Slot, Trajectory,
};

/// How a server behaves. Shares are of a thousand.
#[derive(Clone, Debug)]
pub(crate) struct ServerPlan {
    pub(crate) capacity: usize,
    pub(crate) connect: Duration,
    pub(crate) construct: Duration,
    pub(crate) step: Duration,
    /// A step takes up to this many times as long, now and then.
    pub(crate) tail: u32,
    /// Steps that never answer.
    pub(crate) hang: u32,
    /// Steps that break the connection.
    pub(crate) cut: u32,
    /// Steps that raise an exception.
    pub(crate) raise: u32,
    /// Between two crashes, which lose every session; the server is away for `away` after each.
    pub(crate) crash_every: Option<Duration>,
    pub(crate) away: Duration,
    /// Steps until the episode ends: drawn from 1 to this.
    pub(crate) episode_steps: u64,
}

impl Default for ServerPlan {
    fn default() -> Self {
        Self {
            capacity: usize::MAX,
            connect: Duration::from_micros(200),
            construct: Duration::from_millis(2),
            step: Duration::from_millis(1),
            tail: 1,
            hang: 0,
            cut: 0,
            raise: 0,
            crash_every: None,
            away: Duration::from_secs(1),
            episode_steps: 20,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) servers: Vec<ServerPlan>,
    pub(crate) job: JobOptions,
    /// Events delivered twice, of a thousand; the second time up to a second later.
    pub(crate) twice: u32,
    /// Decisions that take up to this long (0: at once).
    pub(crate) think: Duration,
    /// Turns the policy refuses, of a thousand.
    pub(crate) refuse: u32,
}

#[derive(Debug)]
enum Happening {
    Deliver(Event),
    Decide(Decision),
    Crash(usize),
    Return(usize),
}

#[derive(Debug, Default)]
struct Session {
    server: usize,
    generation: Generation,
    steps_left: u64,
    is_open: bool,
    is_constructed: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    plan: Plan,
    pub(crate) core: Core,
    pub(crate) now: Time,
    random: u64,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: HashMap<u64, Happening>,
    serial: u64,
    sessions: BTreeMap<Slot, Session>,
    held: Vec<usize>,
    is_away: Vec<bool>,
    pub(crate) outputs: Outputs,
    pub(crate) records: Vec<Trajectory>,
    pub(crate) inputs: u64,
    /// The most sessions each server ever held.
    pub(crate) held_peak: Vec<usize>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut core = Core::new(Options { seed: plan.seed, ..Options::default() });
        for index in 0..plan.servers.len() {
            core.add_server(ServerOptions { name: format!("sim-{index}"), ..Default::default() });
        }
        core.submit(Time::ZERO, plan.job.clone()).unwrap();
        let servers = plan.servers.len();
        let mut world = Self {
            random: plan.seed,
            plan,
            core,
            now: Time::ZERO,
            queue: BinaryHeap::new(),
            happenings: HashMap::new(),
            serial: 0,
            sessions: BTreeMap::new(),
            held: vec![0; servers],
            is_away: vec![false; servers],
            outputs: Outputs::default(),
            records: Vec::new(),
            inputs: 0,
            held_peak: vec![0; servers],
        };
        for server in 0..servers {
            if let Some(every) = world.plan.servers[server].crash_every {
                world.at(every, Happening::Crash(server));
            }
        }
        world
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn chance(&mut self, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && self.draw() % 1_000 < u64::from(of_a_thousand)
    }

    fn spread(&mut self, around: Duration) -> Duration {
        around / 2 + around.mul_f64((self.draw() % 1_000) as f64 / 1_000.0)
    }

    fn at(&mut self, after: Duration, happening: Happening) {
        self.serial += 1;
        self.queue.push(Reverse((self.now + after, self.serial)));
        self.happenings.insert(self.serial, happening);
    }

    /// Plays until everything asked for is recorded and closed.
    pub(crate) fn run(&mut self) -> &[Trajectory] {
        self.settle();
        for _ in 0..200_000_000_u64 {
            if self.core.is_idle() {
                return &self.records;
            }
            self.step();
        }
        panic!("the world does not come to an end: {:?}", self.core.counts());
    }

    pub(crate) fn run_until(&mut self, until: Time) {
        self.settle();
        while self.next().is_some_and(|next| next <= until) && !self.core.is_idle() {
            self.step();
        }
        self.now = self.now.max(until);
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.core.handle(self.now, input, &mut self.outputs);
        self.settle();
    }

    fn next(&self) -> Option<Time> {
        let happening = self.queue.peek().map_or(Time::NEVER, |Reverse((at, _))| *at);
        let next = happening.min(self.core.next_deadline());
        (next != Time::NEVER).then_some(next)
    }

    fn step(&mut self) {
        let Some(next) = self.next() else {
            panic!("nothing will ever happen again: {:?}", self.core.counts());
        };
        self.now = self.now.max(next);
        while let Some(&Reverse((at, serial))) = self.queue.peek() {
            if at > self.now {
                break;
            }
            self.queue.pop();
            if let Some(happening) = self.happenings.remove(&serial) {
                self.happen(happening);
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.core.settle(self.now, &mut self.outputs);
        let mut outputs = std::mem::take(&mut self.outputs);
        self.records.append(&mut outputs.records);
        for command in outputs.commands.drain(..) {
            self.obey(command);
        }
        for turn in outputs.turns.drain(..) {
            let action = if self.chance(self.plan.refuse) {
                Err(PolicyError { message: "no idea".into() })
            } else {
                Ok(Bytes::from(format!("{{\"a\":{}}}", turn.seed ^ u64::from(turn.step))))
            };
            let decision = Decision {
                slot: turn.slot,
                generation: turn.generation,
                action,
                generations: Vec::new(),
            };
            let think = self.spread(self.plan.think);
            self.at(think, Happening::Decide(decision));
        }
    }

    fn happen(&mut self, happening: Happening) {
        self.inputs += 1;
        match happening {
            Happening::Deliver(event) => {
                self.core.handle(self.now, Input::Event(event), &mut self.outputs);
            }
            Happening::Decide(decision) => {
                self.core.handle(self.now, Input::Decision(decision), &mut self.outputs);
            }
            Happening::Crash(server) => {
                self.is_away[server] = true;
                self.held[server] = 0;
                let lost: Vec<(Slot, Generation)> = self
                    .sessions
                    .iter()
                    .filter(|(_, session)| session.is_open && session.server == server)
                    .map(|(slot, session)| (*slot, session.generation))
                    .collect();
                for (slot, generation) in lost {
                    self.sessions.remove(&slot);
                    let failure = Failure::lost(FailureKind::Disconnected, "crashed");
                    let outcome = Outcome::Failed(failure);
                    self.deliver(Duration::ZERO, Event { slot, generation, outcome });
                }
                let away = self.plan.servers[server].away;
                self.at(away, Happening::Return(server));
            }
            Happening::Return(server) => {
                self.is_away[server] = false;
                if let Some(every) = self.plan.servers[server].crash_every {
                    let pause = self.spread(every);
                    self.at(pause, Happening::Crash(server));
                }
            }
        }
    }

    fn deliver(&mut self, after: Duration, event: Event) {
        if self.chance(self.plan.twice) {
            let later = after + Duration::from_micros(self.draw() % 1_000_000);
            self.at(later, Happening::Deliver(event.clone()));
        }
        self.at(after, Happening::Deliver(event));
    }

    fn obey(&mut self, command: Command) {
        let Command { slot, generation, request } = command;
        let (after, outcome) = match request {
            Request::Open { server } => self.open(slot, server),
            Request::Reset { .. } => self.reset(slot),
            Request::Step { .. } => match self.take_step(slot) {
                Some(answer) => answer,
                None => return, // it hangs
            },
            Request::Close => {
                if let Some(session) = self.sessions.remove(&slot)
                    && session.is_constructed
                {
                    self.held[session.server] -= 1;
                }
                (Duration::from_micros(50), Outcome::Closed)
            }
            Request::State | Request::ToolCall { .. } => unreachable!("the core sends none"),
        };
        if let Some(session) = self.sessions.get_mut(&slot) {
            session.generation = generation;
        }
        self.deliver(after, Event { slot, generation, outcome });
    }

    fn open(&mut self, slot: Slot, server: ServerId) -> (Duration, Outcome) {
        let server = server.0 as usize;
        let connect = self.spread(self.plan.servers[server].connect);
        if self.is_away[server] {
            let failure = Failure::lost(FailureKind::Unreachable, "connection refused");
            return (connect, Outcome::Failed(failure));
        }
        let is_open = true;
        let earlier = self.sessions.insert(slot, Session { server, is_open, ..Session::default() });
        assert!(earlier.is_none(), "{slot:?} was opened twice");
        (connect, Outcome::Opened)
    }

    fn reset(&mut self, slot: Slot) -> (Duration, Outcome) {
        let length = self.draw();
        let Some(session) = self.sessions.get_mut(&slot) else {
            let failure = Failure::lost(FailureKind::Disconnected, "no such session");
            return (Duration::ZERO, Outcome::Failed(failure));
        };
        let server = session.server;
        let plan = &self.plan.servers[server];
        session.steps_left = 1 + length % plan.episode_steps;
        let first = !session.is_constructed;
        if first {
            if self.held[server] >= plan.capacity {
                self.sessions.remove(&slot);
                let failure = Failure::lost(FailureKind::Capacity, "full");
                return (Duration::from_micros(100), Outcome::Failed(failure));
            }
            session.is_constructed = true;
            self.held[server] += 1;
            self.held_peak[server] = self.held_peak[server].max(self.held[server]);
        }
        let around = if first { plan.construct } else { plan.step };
        let took = self.spread(around);
        (took, Outcome::Reset(observed(None)))
    }

    fn take_step(&mut self, slot: Slot) -> Option<(Duration, Outcome)> {
        let Some(session) = self.sessions.get_mut(&slot) else {
            let failure = Failure::lost(FailureKind::Disconnected, "no such session");
            return Some((Duration::ZERO, Outcome::Failed(failure)));
        };
        session.steps_left -= 1;
        let (server, over) = (session.server, session.steps_left == 0);
        let plan = self.plan.servers[server].clone();
        let mut took = self.spread(plan.step);
        if self.chance(10) {
            took *= plan.tail;
        }
        if self.chance(plan.hang) {
            return None;
        }
        if self.chance(plan.cut) {
            self.sessions.remove(&slot);
            self.held[server] -= 1;
            let failure = Failure::lost(FailureKind::Disconnected, "cut");
            return Some((took, Outcome::Failed(failure)));
        }
        if self.chance(plan.raise) {
            let failure = Failure::kept(FailureKind::Environment, "an exception");
            return Some((took, Outcome::Failed(failure)));
        }
        Some((took, Outcome::Stepped(observed(over.then_some(Ended::Terminated)))))
    }

    /// Checks what must hold at the end of every world.
    pub(crate) fn check(&self) {
        let counts = self.core.counts();
        let mut ids: Vec<&str> = self.records.iter().map(|r| r.trajectory_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), self.records.len(), "an episode was recorded twice");
        assert_eq!(ids.len() as u64, self.plan.job.episodes, "an episode was lost");
        assert_eq!(counts.recorded(), self.plan.job.episodes);
        assert_eq!(counts.requests_in_flight, 0);
        assert_eq!(counts.sessions_admitted, 0);
        assert!(counts.episodes_by_state.iter().all(|&n| n == 0), "{counts:?}");
        assert!(counts.sessions_peak <= self.plan.job.sessions_max.max(1) * 2);
        for (_, status) in self.core.servers() {
            assert_eq!((status.opening, status.admitted, status.closing), (0, 0, 0));
        }
        for record in &self.records {
            assert!(record.attempts.len() <= self.plan.job.attempts_max as usize);
        }
    }
}

fn observed(ended: Option<Ended>) -> Observed {
    Observed {
        observation: Bytes::from_static(b"{}"),
        reward: Reward { value: Some(1.0), raw: Bytes::from_static(b"1.0") },
        metadata: Bytes::new(),
        ended,
    }
}
