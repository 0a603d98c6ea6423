//! The world itself: what happens when, and the core in its middle.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

use bytes::Bytes;
use envmill_core::{
    AdmissionStatus, Core, Counts, External, Input, Latency, Note, Options, Outputs, Scored,
    ServerOptions, SessionReuse, Time,
};
use envmill_protocol::{
    Command, Decision, Event, Failure, FailureKind, Generation, Outcome, PolicyError, Request,
    ServerId, Slot, Spoken, Trajectory, Turn,
    record::{GroupRecord, write_group_line, write_json_line},
};

use crate::{
    Plan, Random, accounts,
    clock::Clock,
    external::Hand,
    grouped,
    ledger::{Ledger, Verdict},
    lies, memory, recorded,
    scorer::{Scorers, Scores},
    server::Servers,
};

/// A simulated world.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    /// The core under test.
    pub core: Core,
    /// The world's own time. What the core is told may differ from it by the clock's jumps.
    pub now: Time,
    /// Every record so far, in the order they came.
    pub records: Vec<Trajectory>,
    /// Every group's record so far, in the order they came.
    pub groups: Vec<GroupRecord>,
    /// Records of an earlier run.
    earlier: Vec<Trajectory>,
    /// Inputs that the core was given.
    pub inputs: u64,
    /// What the core had to tell, in order.
    pub notes: Vec<Note>,
    random: Random,
    clock: Clock,
    servers: Servers,
    ledger: Ledger,
    scorers: Scorers,
    queue: BinaryHeap<Reverse<Scheduled>>,
    serial: u64,
    /// What the core wants done, until the world obeys.
    outputs: Outputs,
    /// The same, of the last call alone.
    fresh: Outputs,
    batch: Vec<Happening>,
}

#[derive(Clone, Debug)]
enum Happening {
    Deliver { event: Event, is_lie: bool },
    Decide(Decision),
    Drive(Hand),
    External(External),
    Score(Scored),
    Crash { server: usize, again: bool },
    Return { server: usize, again: bool },
    LoseIdle(Slot, Generation),
    Wish(Input),
    Jump,
}

#[derive(Debug)]
struct Scheduled {
    at: Time,
    serial: u64,
    happening: Happening,
}

impl World {
    /// A world in which nothing has happened yet.
    ///
    /// # Panics
    ///
    /// If the core refuses one of the plan's jobs.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut core = Core::new(Options { seed: plan.seed, ..plan.options });
        for (index, server) in plan.servers.iter().enumerate() {
            core.add_server(ServerOptions {
                name: format!("sim-{index}"),
                environment: server.environment,
                fingerprint: "as planned".into(),
            });
        }
        for job in plan.jobs() {
            if let Err(error) = core.submit(Time::ZERO, job.clone()) {
                panic!("the plan's job {} is refused: {error}", job.name);
            }
        }
        let reuse = plan.jobs().map(|job| match job.session_reuse {
            SessionReuse::Never => Some(1),
            SessionReuse::Episodes(most) => Some(most.max(1)),
            SessionReuse::Unlimited => None,
        });
        let reuse_max = reuse.reduce(|a, b| Some(a?.max(b?))).flatten();
        let mut world = Self {
            core,
            now: Time::ZERO,
            records: Vec::new(),
            groups: Vec::new(),
            earlier: Vec::new(),
            inputs: 0,
            notes: Vec::new(),
            random: Random::new(plan.seed),
            clock: Clock::new(plan.clock),
            servers: Servers::new(plan.servers.clone()),
            ledger: Ledger::new(1 + plan.more_jobs.len() as u32, reuse_max),
            scorers: Scorers::new(&plan),
            queue: BinaryHeap::new(),
            serial: 0,
            outputs: Outputs::default(),
            fresh: Outputs::default(),
            batch: Vec::new(),
            plan,
        };
        world.schedule_plan();
        world
    }

    fn schedule_plan(&mut self) {
        for server in 0..self.servers.len() {
            let plan = self.servers.plan(server).clone();
            if let Some(every) = plan.crash_every {
                self.at(every, Happening::Crash { server, again: true });
            }
            for spell in plan.spells.iter().filter(|spell| spell.slower == 0) {
                self.at(spell.from, Happening::Crash { server, again: false });
                self.at(spell.until, Happening::Return { server, again: false });
            }
        }
        for (when, wish) in self.plan.wishes.clone() {
            self.at(when, Happening::Wish(wish));
        }
        if let Some(after) = self.clock.next_jump(&mut self.random) {
            self.at(after, Happening::Jump);
        }
    }

    /// A world that has played a plan to its end, checked.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run) and [`check`](Self::check).
    #[must_use]
    pub fn played(plan: Plan) -> Self {
        let mut world = Self::new(plan);
        world.run();
        world.check();
        world
    }

    /// Plays until everything asked for is recorded and closed.
    ///
    /// # Panics
    ///
    /// If that never comes.
    pub fn run(&mut self) -> &[Trajectory] {
        if let Err(what) = self.run_within(200_000_000) {
            panic!("{what}");
        }
        &self.records
    }

    /// Plays until everything asked for is recorded and closed, in at most so many steps.
    ///
    /// # Errors
    ///
    /// What stands still, or turns in circles.
    pub fn run_within(&mut self, steps_max: u64) -> Result<(), String> {
        self.settle();
        for _ in 0..steps_max {
            if self.core.is_idle() {
                return Ok(());
            }
            if self.next().is_none() {
                return Err(format!("nothing will ever happen again: {:?}", self.core.counts()));
            }
            self.step();
        }
        Err(format!("it does not come to an end: {:?}", self.core.counts()))
    }

    /// Plays until the world's clock shows `until`, or everything is done.
    pub fn run_until(&mut self, until: Time) {
        self.settle();
        while self.next().is_some_and(|next| next <= until) && !self.core.is_idle() {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// Plays until `condition` holds. False if everything was done before it did.
    pub fn drive(&mut self, mut condition: impl FnMut(&Self) -> bool) -> bool {
        self.settle();
        while !condition(self) {
            if self.core.is_idle() || self.next().is_none() {
                return false;
            }
            self.step();
        }
        true
    }

    /// Puts something into the core from outside, now.
    pub fn input(&mut self, input: Input) {
        if !matches!(input, Input::PolicyVersion { .. } | Input::ServerReady(_)) {
            self.plan.wishes.push((self.now.since(Time::ZERO), input.clone()));
        }
        self.put(input, Verdict::Either);
        self.settle();
    }

    /// The most sessions that each server has held.
    #[must_use]
    pub fn held_peak(&self) -> Vec<usize> {
        self.servers.held_peak()
    }

    /// The core's figures.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        self.core.counts()
    }

    /// What the core knows of a server.
    #[must_use]
    pub fn server(&self, server: usize) -> AdmissionStatus {
        self.core.servers().nth(server).map(|(_, status)| status).unwrap_or_default()
    }

    /// A hash over every record, those of groups included, in order and to the last byte.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut line = Vec::new();
        for record in &self.records {
            line.clear();
            write_json_line(&mut line, record);
            hasher.update(&line);
        }
        for group in &self.groups {
            line.clear();
            write_group_line(&mut line, group);
            hasher.update(&line);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Lets the next thing happen, with all that happens at the same time or is noticed with it.
    pub fn step(&mut self) {
        let Some(next) = self.next() else { return };
        self.now = self.now.max(next);
        if self.plan.late > Duration::ZERO {
            self.now = self.now + self.random.up_to(self.plan.late);
        }
        let mut batch = std::mem::take(&mut self.batch);
        while self.queue.peek().is_some_and(|Reverse(it)| it.at <= self.now) {
            batch.extend(self.queue.pop().map(|Reverse(it)| it.happening));
        }
        if self.plan.late > Duration::ZERO {
            self.random.shuffle(&mut batch);
        }
        for happening in batch.drain(..) {
            self.happen(happening);
        }
        self.batch = batch;
        self.settle();
    }

    fn next(&self) -> Option<Time> {
        let happening = self.queue.peek().map_or(Time::NEVER, |Reverse(it)| it.at);
        let next = happening.min(self.clock.when(self.core.next_deadline()));
        (next != Time::NEVER).then_some(next)
    }

    fn at(&mut self, after: Duration, happening: Happening) {
        self.serial += 1;
        let (at, serial) = (self.now + after, self.serial);
        self.queue.push(Reverse(Scheduled { at, serial, happening }));
    }

    /// Schedules something that may come twice.
    fn send(&mut self, after: Duration, happening: Happening) {
        if self.random.chance(self.plan.twice) {
            let later = after + self.random.up_to(Duration::from_secs(1));
            self.at(later, happening.clone());
        }
        self.at(after, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { event, is_lie } => self.deliver(event, is_lie),
            Happening::Decide(decision) => self.decide(decision),
            Happening::Drive(hand) => {
                let (slot, generation) = (hand.slot, hand.generation);
                let (turn, again) = hand.report(&self.plan.external, &mut self.random);
                let external = External { slot, generation, turn };
                self.send(Duration::ZERO, Happening::External(external));
                if let Some((pause, hand)) = again {
                    self.at(pause, Happening::Drive(hand));
                }
            }
            Happening::External(external) => {
                let verdict = self.ledger.on_external(external.slot, external.generation);
                self.put(Input::External(external), verdict);
            }
            Happening::Score(scored) => self.give_score(scored),
            Happening::Crash { server, again } => self.crash(server, again),
            Happening::Return { server, again } => {
                self.servers.come_back(server);
                let plan = self.servers.plan(server);
                let (announces, every) = (plan.announces_return, plan.crash_every);
                if let Some(every) = every.filter(|_| again) {
                    let pause = every / 2 + self.random.up_to(every);
                    self.at(pause, Happening::Crash { server, again });
                }
                if announces {
                    self.put(Input::ServerReady(ServerId(server as u32)), Verdict::Either);
                }
            }
            Happening::LoseIdle(slot, generation) => {
                if self.ledger.is_idle(slot, generation) && self.servers.lose(slot) {
                    let failure = Failure::lost(FailureKind::Closed { code: 1001 }, "going away");
                    let outcome = Outcome::Failed(failure);
                    self.answer(Duration::ZERO, Event { slot, generation, outcome });
                }
            }
            Happening::Wish(input) => self.put(input, Verdict::Either),
            Happening::Jump => {
                if let Some(after) = self.clock.jump(&mut self.random) {
                    self.at(after, Happening::Jump);
                }
            }
        }
    }

    fn crash(&mut self, server: usize, again: bool) {
        for (slot, generation) in self.servers.crash(server, self.now) {
            let failure = Failure::lost(FailureKind::Disconnected, "crashed");
            let outcome = Outcome::Failed(failure);
            self.answer(Duration::ZERO, Event { slot, generation, outcome });
        }
        if again {
            let away = self.servers.plan(server).away;
            self.at(away, Happening::Return { server, again });
        }
    }

    fn deliver(&mut self, event: Event, is_lie: bool) {
        let slot = event.slot;
        let verdict = self.ledger.on_event(&event);
        if is_lie && verdict != Verdict::MustNot {
            return; // nobody could tell it from the truth
        }
        if verdict == Verdict::MustNot {
            return self.put(Input::Event(event), verdict);
        }
        self.ledger.took_event(&event);
        self.put(Input::Event(event), verdict);
        self.ledger.after_event(slot);
    }

    fn decide(&mut self, decision: Decision) {
        let verdict = self.ledger.on_decision(decision.slot, decision.generation);
        if verdict == Verdict::Must {
            self.ledger.took_decision(decision.slot, decision.action.as_ref().ok());
        }
        self.put(Input::Decision(decision), verdict);
    }

    fn give_score(&mut self, scored: Scored) {
        let verdict = self.ledger.on_score(scored.ticket);
        let reward = scored.result.as_ref().ok().map(|score| score.reward);
        let (ticket, ignored) = (scored.ticket, self.core.counts().ignored);
        if let Some(reward) = reward {
            self.ledger.took_score(ticket, reward);
        }
        self.put(Input::Scored(scored), verdict);
        if self.core.counts().ignored == ignored && verdict == Verdict::MustNot {
            self.ledger.violation(|| format!("{ticket:?} was taken twice"));
        }
    }

    /// Gives the core an input, and sees to it that the core takes it or leaves it as it must.
    fn put(&mut self, input: Input, verdict: Verdict) {
        self.inputs += 1;
        let told = self.clock.told(self.now);
        self.ledger.told = self.ledger.told.max(told);
        let ignored_before = self.core.counts().ignored;
        let shown = (verdict == Verdict::MustNot).then(|| format!("{input:?}"));
        self.ledger.told(&input);
        self.core.handle(told, input, &mut self.fresh);
        let was_ignored = self.core.counts().ignored > ignored_before;
        match (verdict, was_ignored) {
            (Verdict::Must, true) => {
                self.ledger.violation(|| "a true answer was ignored".into());
            }
            (Verdict::MustNot, _) if !was_ignored || !self.fresh.is_empty() => {
                self.ledger.violation(|| format!("taken: {}", shown.unwrap_or_default()));
            }
            _ => {}
        }
        self.observe();
    }

    fn observe(&mut self) {
        self.ledger.observe(&self.fresh);
        let slack =
            self.plan.late + self.clock.jumped + self.plan.paused() + Duration::from_millis(1);
        for record in &self.fresh.records {
            recorded::check(record, &self.plan, slack, &mut self.ledger);
        }
        for group in &self.fresh.groups {
            let own = |it: &&Trajectory| it.job_id == group.job_id && it.group_id == group.group_id;
            let recent = self.fresh.records.iter().chain(&self.outputs.records);
            let before = self.earlier.iter().chain(&self.records);
            let members: Vec<&Trajectory> = before.chain(recent).filter(own).collect();
            accounts::check_group(group, &members, &self.plan, slack, &mut self.ledger);
        }
        memory::check(&self.core, &self.plan, &mut self.ledger);
        self.ledger.noted(&self.fresh.notes);
        let (fresh, outputs) = (&mut self.fresh, &mut self.outputs);
        outputs.commands.append(&mut fresh.commands);
        outputs.turns.append(&mut fresh.turns);
        outputs.cancelled_turns.append(&mut fresh.cancelled_turns);
        outputs.handed.append(&mut fresh.handed);
        outputs.records.append(&mut fresh.records);
        outputs.groups.append(&mut fresh.groups);
        outputs.to_score.append(&mut fresh.to_score);
        outputs.latencies.append(&mut fresh.latencies);
        outputs.notes.append(&mut fresh.notes);
    }

    fn settle(&mut self) {
        let told = self.clock.told(self.now);
        self.ledger.told = self.ledger.told.max(told);
        self.core.settle(told, &mut self.fresh);
        self.observe();
        let mut outputs = std::mem::take(&mut self.outputs);
        for command in outputs.commands.drain(..) {
            self.obey(command);
        }
        for turn in outputs.turns.drain(..) {
            self.think(&turn);
        }
        self.score(&mut outputs);
        self.records.append(&mut outputs.records);
        self.groups.append(&mut outputs.groups);
        self.notes.append(&mut outputs.notes);
        for turn in outputs.handed.drain(..) {
            let hand = Hand::take(&turn, &self.plan.external, &mut self.random);
            let pause = self.random.up_to(self.plan.think);
            self.at(pause, Happening::Drive(hand));
        }
        outputs.latencies.drain(..).for_each(|Latency { .. }| {});
        outputs.cancelled_turns.clear();
        self.outputs = outputs;
    }

    /// The policy takes a turn.
    fn think(&mut self, turn: &Turn) {
        let number = self.ledger.number(turn);
        if self.random.chance(self.plan.mute) {
            return;
        }
        let action = if self.random.chance(self.plan.refuse) {
            Err(PolicyError::new("no idea"))
        } else {
            Ok(Bytes::from(format!("{{\"turn\":{number}}}")))
        };
        let Turn { slot, generation, .. } = *turn;
        let mut pause = self.plan.think / 2 + self.random.up_to(self.plan.think);
        if self.random.chance(self.plan.ponder) {
            pause *= 1_000;
        }
        let decision = Decision {
            slot,
            generation,
            action,
            generations: Vec::new(),
            spoken: Spoken::default(),
        };
        if self.random.chance(self.plan.lies) {
            let slot = Slot(self.random.below(self.ledger.slots() + 2) as u32);
            let generation = if self.random.chance(500) {
                self.ledger.generation(slot)
            } else {
                Generation(generation.0.wrapping_sub(self.random.below(2) as u32))
            };
            if self.ledger.on_decision(slot, generation) == Verdict::MustNot {
                let lie = Decision { slot, generation, ..decision.clone() };
                self.put(Input::Decision(lie), Verdict::MustNot);
            }
        }
        self.send(pause, Happening::Decide(decision));
    }

    /// Hands to the scorers what is to be scored, and tells them of records: in this order, as drivers do.
    fn score(&mut self, outputs: &mut Outputs) {
        for to_score in outputs.to_score.drain(..) {
            let Self { scorers, plan, random, ledger, .. } = self;
            let scores = scorers.take(to_score, plan, random, ledger);
            self.send_scores(scores);
        }
        for record in &outputs.records {
            let Self { scorers, plan, random, ledger, .. } = self;
            let scores = scorers.recorded(record, plan, random, ledger);
            self.send_scores(scores);
        }
    }

    fn send_scores(&mut self, scores: Scores) {
        for (pause, scored) in scores {
            self.send(pause, Happening::Score(scored));
        }
    }

    /// What is wrong with how whole groups were scored.
    pub(crate) fn scorer_violations(&self) -> Vec<String> {
        self.scorers.check(&self.records, &self.plan)
    }

    fn obey(&mut self, command: Command) {
        let Command { slot, generation, request } = command;
        let (now, random) = (self.now, &mut self.random);
        let answer = match request {
            Request::Open { server } => self.servers.open(slot, server.0 as usize, now, random),
            Request::Reset { .. } => self.servers.reset(slot, now, random),
            Request::Step { action } => self.servers.step(slot, &action, now, random),
            Request::Close => self.servers.close(slot, random),
            Request::State | Request::ToolCall { .. } => None,
        };
        self.servers.took(slot, generation);
        if let Some((after, outcome)) = answer {
            self.answer(after, Event { slot, generation, outcome });
        }
    }

    /// Sends an event on its way, perhaps with others that it could be taken for.
    fn answer(&mut self, after: Duration, event: Event) {
        if self.random.chance(self.plan.lies) {
            let (later, lie) = lies::beside(&event, &self.ledger, &mut self.random);
            self.at(after + later, Happening::Deliver { event: lie, is_lie: true });
        }
        if matches!(event.outcome, Outcome::Reset(_) | Outcome::Stepped(_)) {
            let server = self.servers.of(event.slot);
            let share = server.map_or(0, |server| self.servers.plan(server).lose_idle);
            if self.random.chance(share) {
                let soon = after + self.random.up_to(self.plan.think * 2);
                self.at(soon, Happening::LoseIdle(event.slot, event.generation));
            }
        }
        self.send(after, Happening::Deliver { event, is_lie: false });
    }

    /// The jobs have these records from an earlier run.
    pub(crate) fn remember(&mut self, records: Vec<Trajectory>) {
        for record in &records {
            self.ledger.recorded.insert(record.trajectory_id.clone(), "by an earlier run".into());
        }
        self.earlier = records;
    }

    pub(crate) fn earlier(&self) -> &[Trajectory] {
        &self.earlier
    }

    pub(crate) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the core got wrong so far; empty if nothing.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.ledger.violations().to_vec()
    }

    /// What is wrong at the end of the run, beside what went wrong on the way.
    #[must_use]
    pub fn all_violations(&self) -> Vec<String> {
        let mut violations = self.violations();
        violations.extend(accounts::check_all(self));
        violations.extend(grouped::check_all(&self.groups, &self.records, &self.plan, false));
        violations.extend(self.scorer_violations());
        let counts = self.core.counts();
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                violations.push(format!("{what}: {counts:?}"));
            }
        };
        let ended = |name| self.records.iter().filter(|it| it.end.name() == name).count() as u64;
        expect(counts.recorded() == self.records.len() as u64, "the counts miss records");
        expect(counts.completed == ended("completed"), "completed ones are miscounted");
        expect(counts.truncated == ended("truncated"), "truncated ones are miscounted");
        expect(counts.failed == ended("failed"), "failed ones are miscounted");
        expect(counts.cancelled == ended("cancelled"), "cancelled ones are miscounted");
        expect(counts.requests_in_flight == 0, "requests are in flight");
        expect(self.ledger.is_over(), "a job has not ended");
        let memory = self.core.memory();
        expect(memory.reserved == 0 && self.core.held_bytes() == 0, "memory is kept for nobody");
        expect(counts.sessions == 0 && counts.sessions_admitted == 0, "a session leaked");
        expect(counts.episodes_by_state.iter().all(|&n| n == 0), "an episode leaked");
        // Sessions being closed take up slots beside those that play; how many depends on how long
        // a close takes.
        let sessions_max: u32 = self.plan.jobs().map(|job| job.sessions_max).sum();
        let closes_hang = self.plan.servers.iter().any(|server| server.hang_close > 0);
        let most = if closes_hang { self.plan.options.slots_max } else { sessions_max * 2 };
        expect(counts.sessions_peak <= most, "too many sessions");
        expect(self.servers.held() == 0, "a server still holds sessions");
        for (server, status) in self.core.servers() {
            let standing = (status.opening, status.admitted, status.closing);
            expect(standing == (0, 0, 0), &format!("{} counts sessions", server.name));
        }
        violations
    }

    /// Checks what must hold at the end of every world.
    ///
    /// # Panics
    ///
    /// With everything that does not.
    pub fn check(&self) {
        let violations = self.all_violations();
        assert!(violations.is_empty(), "seed {}: {}", self.plan.seed, violations.join("\n"));
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}
