//! The core itself: its tables, and what an input does to them.

use std::{cmp::Reverse, collections::BinaryHeap};

use envmill_protocol::{
    Command, Decision, Ended, Event, Failure, FailureKind, JobId, Observed, Outcome, Phase,
    PolicyVersion, Request, Retry, ServerId, SessionFate, Slot, Turn,
    record::{Cancellation, End, Step, Truncation},
};

use crate::{
    AdmissionStatus, Counts, Driver, External, ExternalTurn, FingerprintChange, Input, JobOptions,
    Latency, Note, Options, OptionsError, Outputs, ServerOptions, State, Time, Trigger,
    admission::{Admission, Standing},
    episode::{Episode, EpisodeKey, Play},
    job::{Ending, Job},
    random::Random,
    session::{Session, Waiting},
    timers::Timers,
};

/// The scheduler: owns every session slot, every episode and every deadline, and decides.
///
/// ```text
/// loop {
///     worker.completions(&mut events, core.next_deadline() - now);
///     for event in events { core.handle(now, Input::Event(event), &mut outputs) }
///     core.settle(now, &mut outputs);          // deadlines, new episodes, retries
///     // carry out `outputs`; decisions of the policy come back through `handle`
/// }
/// ```
#[derive(Debug)]
pub struct Core {
    pub(crate) options: Options,
    pub(crate) random: Random,
    pub(crate) now: Time,
    pub(crate) servers: Vec<Server>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) free_slots: Vec<Slot>,
    /// Sessions without an episode, by environment. May hold slots that have gone since.
    pub(crate) idle: Vec<Vec<Slot>>,
    episodes: Vec<Option<Episode>>,
    free_episodes: Vec<EpisodeKey>,
    pub(crate) timers: Timers,
    /// Episodes to be tried again at a time of their own.
    pub(crate) delayed: BinaryHeap<Reverse<(Time, EpisodeKey)>>,
    pub(crate) counts: Counts,
    policy_version: PolicyVersion,
    pub(crate) session_serial: u64,
    /// When there may be room for a waiting episode, as far as time alone decides.
    pub(crate) wake_at: Time,
    /// The job that is served first at the next turn.
    pub(crate) first_job: usize,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) options: ServerOptions,
    pub(crate) admission: Admission,
    /// Sessions whose first reset is out.
    pub(crate) constructing: u32,
}

/// A worker that does not answer a close within this time is taken at its silence.
const CLOSE_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

impl Core {
    /// A core without servers and jobs.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            random: Random::new(options.seed),
            options,
            now: Time::ZERO,
            servers: Vec::new(),
            jobs: Vec::new(),
            sessions: Vec::new(),
            free_slots: Vec::new(),
            idle: Vec::new(),
            episodes: Vec::new(),
            free_episodes: Vec::new(),
            timers: Timers::default(),
            delayed: BinaryHeap::new(),
            counts: Counts::default(),
            policy_version: PolicyVersion(0),
            session_serial: 0,
            wake_at: Time::NEVER,
            first_job: 0,
        }
    }

    /// Adds a server to its environment's pool. Servers are numbered in the order they come.
    pub fn add_server(&mut self, server: ServerOptions) -> ServerId {
        let id = ServerId(u32::try_from(self.servers.len()).unwrap_or(u32::MAX));
        let environment = server.environment as usize;
        if self.idle.len() <= environment {
            self.idle.resize_with(environment + 1, Vec::new);
        }
        let admission = Admission::new(self.options.admission);
        self.servers.push(Server { options: server, admission, constructing: 0 });
        self.wake_at = Time::ZERO;
        id
    }

    /// Takes a job on; its episodes start with the next [`settle`](Self::settle).
    ///
    /// # Errors
    ///
    /// [`OptionsError`] says what to change; nothing was taken on.
    pub fn submit(&mut self, now: Time, job: JobOptions) -> Result<JobId, OptionsError> {
        if !self.servers.iter().any(|server| server.options.environment == job.environment) {
            return Err(OptionsError::NoServer(job.environment));
        }
        if job.sessions_max > self.options.slots_max {
            return Err(OptionsError::Slots {
                asked: job.sessions_max,
                most: self.options.slots_max,
            });
        }
        let job = Job::new(job, now)?;
        self.counts.requested += job.unstarted();
        self.jobs.push(job);
        self.wake_at = Time::ZERO;
        Ok(JobId(u32::try_from(self.jobs.len() - 1).unwrap_or(u32::MAX)))
    }

    /// Takes one input. Late and doubled ones are counted and change nothing.
    pub fn handle(&mut self, now: Time, input: Input, outputs: &mut Outputs) {
        self.now = self.now.max(now);
        match input {
            Input::Event(event) => self.on_event(event, outputs),
            Input::Decision(decision) => self.on_decision(decision, outputs),
            Input::External(external) => self.on_external(external, outputs),
            Input::Fingerprint { server, fingerprint } => {
                self.on_fingerprint(server, fingerprint, outputs);
            }
            Input::ServerReady(server) => {
                if let Some(server) = self.servers.get_mut(server.0 as usize) {
                    server.admission.restarted();
                    self.wake_at = Time::ZERO;
                }
            }
            Input::PolicyVersion(version) => {
                self.policy_version = self.policy_version.max(version);
            }
            Input::Drain(job) => self.end_job(job, Cancellation::Drained, outputs),
            Input::Cancel(job) => self.end_job(job, Cancellation::Cancelled, outputs),
        }
    }

    /// When [`settle`](Self::settle) must be called next, if nothing else happens before;
    /// [`Time::NEVER`] if there is nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        let delayed = self.delayed.peek().map_or(Time::NEVER, |Reverse((at, _))| *at);
        self.timers.next().min(delayed).min(self.wake_at)
    }

    /// Whether every requested episode has been recorded and every session is closed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.counts.sessions == 0 && self.jobs.iter().all(Job::is_finished)
    }

    /// Figures about the run.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Episodes of unfinished jobs that have not been started yet.
    #[must_use]
    pub fn unstarted(&self) -> u64 {
        self.jobs.iter().map(Job::unstarted).sum()
    }

    /// Whether every running job has as many admitted sessions as it can use: as many as it asked
    /// for, or as its servers were seen to hold.
    #[must_use]
    pub fn admission_settled(&self) -> bool {
        self.jobs.iter().filter(|job| job.has_work()).all(|job| {
            let admitted: u32 = self
                .pool(job.options.environment)
                .map(|server| server.admission.status().admitted)
                .sum();
            admitted >= job.options.sessions_max
                || self.pool(job.options.environment).all(|server| server.admission.is_full())
        })
    }

    /// What is known of each server, in the order of their ids.
    pub fn servers(&self) -> impl Iterator<Item = (&ServerOptions, AdmissionStatus)> {
        self.servers.iter().map(|server| (&server.options, *server.admission.status()))
    }

    pub(crate) fn pool(&self, environment: u32) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(move |server| server.options.environment == environment)
    }

    fn on_event(&mut self, event: Event, outputs: &mut Outputs) {
        let slot = event.slot;
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            self.counts.ignored += 1;
            return;
        };
        if session.generation != event.generation {
            self.counts.ignored += 1;
            return;
        }
        match (session.waiting, event.outcome) {
            (Waiting::Step, Outcome::Stepped(observed)) => self.on_stepped(slot, observed, outputs),
            (Waiting::Reset | Waiting::FirstReset, Outcome::Reset(observed)) => {
                self.on_reset(slot, observed, outputs);
            }
            (Waiting::Open, Outcome::Opened) => {
                self.answered(slot, Phase::Connect, outputs);
                self.send_reset(slot, outputs);
            }
            (Waiting::Close, Outcome::Closed) => self.on_closed(slot),
            (Waiting::Free | Waiting::Close, _) => self.counts.ignored += 1,
            (Waiting::Nothing, Outcome::Failed(failure))
                if failure.session == SessionFate::Kept =>
            {
                self.counts.ignored += 1;
            }
            (_, Outcome::Failed(failure)) => self.on_failed(slot, failure, outputs),
            _ => self.counts.ignored += 1,
        }
    }

    /// The slot's session waits for nothing any more.
    fn stop_waiting(&mut self, slot: Slot) {
        let session = &mut self.sessions[slot.0 as usize];
        let waiting = std::mem::replace(&mut session.waiting, Waiting::Nothing);
        self.counts.requests_in_flight -= u32::from(waiting.is_request());
        if waiting == Waiting::FirstReset {
            self.servers[session.server.0 as usize].constructing -= 1;
        }
    }

    /// Takes note that the slot's command was answered.
    fn answered(&mut self, slot: Slot, phase: Phase, outputs: &mut Outputs) {
        self.stop_waiting(slot);
        let session = &self.sessions[slot.0 as usize];
        outputs.latencies.push(Latency { phase, took: self.now.since(session.sent_at) });
    }

    fn on_reset(&mut self, slot: Slot, observed: Observed, outputs: &mut Outputs) {
        let session = &mut self.sessions[slot.0 as usize];
        let phase = session.waiting.phase();
        let Some(key) = session.episode else { return };
        self.counts.resets += 1;
        self.answered(slot, phase, outputs);
        if phase == Phase::FirstReset {
            self.on_admitted(slot, outputs);
        } else {
            let server = self.sessions[slot.0 as usize].server;
            self.servers[server.0 as usize].admission.answered(self.now);
        }
        let now = self.now;
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        self.counts.attempts += 1;
        episode.play.reset_at = now;
        let ended = observed.ended;
        episode.play.reset = Some(observed);
        match ended {
            Some(ended) => self.finish(key, end_of(ended), outputs),
            None => {
                episode.advance(Trigger::TurnOpened, &mut self.counts);
                self.open_turn(slot, key, outputs);
            }
        }
    }

    fn on_admitted(&mut self, slot: Slot, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let took = self.now.since(session.opened_at);
        let server = session.server;
        self.stand(slot, Standing::Admitted);
        self.counts.sessions_built += 1;
        let known = &mut self.servers[server.0 as usize];
        if known.admission.admitted(self.now, took) {
            outputs.notes.push(Note::ServerRecovered(server));
        }
    }

    fn on_stepped(&mut self, slot: Slot, observed: Observed, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let took = self.now.since(session.sent_at);
        let Some(key) = session.episode else { return };
        let server = session.server.0 as usize;
        self.counts.steps += 1;
        self.answered(slot, Phase::Step, outputs);
        self.servers[server].admission.answered(self.now);
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let ended = observed.ended;
        let play = &mut episode.play;
        play.steps.push(Step {
            action: std::mem::take(&mut play.action),
            observed,
            environment_us: micros(took),
            policy_us: play.policy_us,
        });
        let max_steps = self.jobs[episode.job].options.max_steps;
        match ended {
            Some(ended) => self.finish(key, end_of(ended), outputs),
            None if max_steps.is_some_and(|most| play.steps.len() >= most as usize) => {
                self.finish(key, End::Truncated(Truncation::MaxSteps), outputs);
            }
            None => {
                episode.advance(Trigger::Stepped, &mut self.counts);
                self.open_turn(slot, key, outputs);
            }
        }
    }

    /// Hands the turn to the policy, or the episode to its external driver.
    fn open_turn(&mut self, slot: Slot, key: EpisodeKey, outputs: &mut Outputs) {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let job = &self.jobs[episode.job];
        let play = &mut episode.play;
        play.turn_opened_at = self.now;
        let observed = play.steps.last().map_or(play.reset.as_ref(), |step| Some(&step.observed));
        let turn = Turn {
            slot,
            generation: self.sessions[slot.0 as usize].generation,
            job: JobId(u32::try_from(episode.job).unwrap_or(u32::MAX)),
            episode: episode.index,
            seed: episode.policy_seed,
            step: u32::try_from(play.steps.len()).unwrap_or(u32::MAX),
            environment: job.options.environment,
            observed: observed.cloned().unwrap_or_default(),
        };
        match job.options.driver {
            Driver::Policy => outputs.turns.push(turn),
            Driver::External => outputs.handed.push(turn),
        }
        self.arm(slot, Phase::Policy);
    }

    fn on_decision(&mut self, decision: Decision, outputs: &mut Outputs) {
        let Some(key) = self.turn(decision.slot, decision.generation, Driver::Policy) else {
            self.counts.ignored += 1;
            return;
        };
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        if episode.state() != State::AwaitingPolicy {
            self.counts.ignored += 1;
            return;
        }
        episode.play.policy_us = micros(self.now.since(episode.play.turn_opened_at));
        episode.play.generations.extend(decision.generations);
        match decision.action {
            Ok(action) => {
                episode.play.action = action.clone();
                episode.advance(Trigger::StepSent, &mut self.counts);
                self.send(decision.slot, Request::Step { action }, Waiting::Step, outputs);
            }
            Err(error) => {
                let failure = Failure::kept(FailureKind::Policy, error.message);
                self.release(decision.slot, false, outputs);
                self.fail_attempt(key, failure, Phase::Policy, outputs);
            }
        }
    }

    /// The episode whose turn this is, if it still is.
    fn turn(
        &self,
        slot: Slot,
        generation: envmill_protocol::Generation,
        driver: Driver,
    ) -> Option<EpisodeKey> {
        let session = self.sessions.get(slot.0 as usize)?;
        let is_turn = session.generation == generation && session.waiting == Waiting::Nothing;
        let key = session.episode.filter(|_| is_turn)?;
        let job = self.episodes[key.0 as usize].as_ref()?.job;
        (self.jobs[job].options.driver == driver).then_some(key)
    }

    fn on_external(&mut self, external: External, outputs: &mut Outputs) {
        let slot = external.slot;
        let Some(key) = self.turn(slot, external.generation, Driver::External) else {
            self.counts.ignored += 1;
            return;
        };
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        match (external.turn, episode.state()) {
            (ExternalTurn::Opened, State::AwaitingPolicy) => {
                episode.play.turn_opened_at = self.now;
                episode.advance(Trigger::StepSent, &mut self.counts);
                self.arm(slot, Phase::Step);
            }
            (ExternalTurn::Closed { steps, generations }, State::Stepping) => {
                self.counts.steps += steps.len() as u64;
                episode.play.steps.extend(steps);
                episode.play.generations.extend(generations);
                let max_steps = self.jobs[episode.job].options.max_steps;
                if max_steps.is_some_and(|most| episode.play.steps.len() >= most as usize) {
                    self.finish(key, End::Truncated(Truncation::MaxSteps), outputs);
                } else {
                    episode.advance(Trigger::Stepped, &mut self.counts);
                    self.arm(slot, Phase::Policy);
                }
            }
            (ExternalTurn::EpisodeEnded(end), State::AwaitingPolicy | State::Stepping) => match end
            {
                End::Failed(failure) => {
                    self.release(slot, false, outputs);
                    self.fail_attempt(key, failure, Phase::Policy, outputs);
                }
                end => self.finish(key, end, outputs),
            },
            _ => self.counts.ignored += 1,
        }
    }

    fn on_fingerprint(&mut self, server: ServerId, after: String, outputs: &mut Outputs) {
        let Some(known) = self.servers.get_mut(server.0 as usize) else { return };
        if known.options.fingerprint == after {
            return;
        }
        let environment = known.options.environment;
        let before = std::mem::replace(&mut known.options.fingerprint, after.clone());
        if before.is_empty() {
            return;
        }
        outputs.notes.push(Note::FingerprintChanged { server, before, after });
        for job in 0..self.jobs.len() {
            let options = &self.jobs[job].options;
            if options.environment == environment
                && options.on_fingerprint_change == FingerprintChange::Stop
            {
                self.end_job(JobId(job as u32), Cancellation::Stopped, outputs);
            }
        }
    }

    /// A command failed, or a session was lost while nothing was asked of it.
    fn on_failed(&mut self, slot: Slot, failure: Failure, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let (waiting, key) = (session.waiting, session.episode);
        let phase = waiting.phase();
        let refused = self.learn(slot, waiting, &failure, outputs);
        self.cancel_turn(slot, outputs);
        self.stop_waiting(slot);
        if failure.session == SessionFate::Lost {
            self.free(slot);
        } else {
            self.release(slot, false, outputs);
        }
        let Some(key) = key else { return };
        if refused {
            self.refuse(key);
        } else {
            self.fail_attempt(key, failure, phase, outputs);
        }
    }

    /// Draws from a failure what it says about the server. True if the session was refused before
    /// it began, which is no fault of its episode.
    fn learn(
        &mut self,
        slot: Slot,
        waiting: Waiting,
        failure: &Failure,
        outputs: &mut Outputs,
    ) -> bool {
        let session = &self.sessions[slot.0 as usize];
        let server = session.server;
        if session.standing != Standing::Opening {
            if failure.session == SessionFate::Lost {
                self.servers[server.0 as usize].admission.lost(self.now);
            }
            return false;
        }
        if failure.session == SessionFate::Kept {
            // The environment answered, if only with an error: it was admitted.
            self.on_admitted(slot, outputs);
            return false;
        }
        let known = &mut self.servers[server.0 as usize];
        self.counts.refusals += 1;
        let holds_some = known.admission.status().admitted > 0;
        let full = match failure.kind {
            FailureKind::Capacity | FailureKind::Limit => true,
            FailureKind::UpgradeRefused { status } => holds_some && matches!(status, 429 | 503),
            _ => false,
        };
        if full {
            let learned = known.admission.refused(self.now, failure.clone(), &mut self.random);
            outputs.notes.extend(learned.map(|limit| Note::LimitLearned { server, limit }));
            return true;
        }
        if known.admission.open_failed(self.now, failure.clone(), &mut self.random) {
            outputs.notes.push(Note::ServerDown { server, failure: failure.clone() });
        }
        waiting == Waiting::Open || failure.kind == FailureKind::Factory
    }

    /// A slot's deadline has come.
    pub(crate) fn on_deadline(&mut self, slot: Slot, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let waiting = session.waiting;
        match (waiting, session.episode) {
            (Waiting::Close, _) => self.on_closed(slot),
            (_, None) => {}
            (_, Some(key)) => {
                let Some(episode) = self.episodes[key.0 as usize].as_ref() else { return };
                let play = &episode.play;
                if play.deadline.is_some_and(|deadline| deadline <= self.now)
                    && play.reset.is_some()
                {
                    self.cancel_turn(slot, outputs);
                    self.finish(key, End::Truncated(Truncation::EpisodeDeadline), outputs);
                    return;
                }
                let phase = match play.deadline {
                    Some(deadline) if deadline <= self.now => Phase::Episode,
                    // An external turn has no command out, and is a step all the same.
                    _ if episode.state() == State::Stepping => Phase::Step,
                    _ => waiting.phase(),
                };
                let message = format!(
                    "no answer within {:?}",
                    self.jobs[episode.job].options.deadlines.of(phase).unwrap_or_default()
                );
                let failure = Failure::lost(FailureKind::Deadline(phase), message);
                let refused = self.learn(slot, waiting, &failure, outputs);
                self.cancel_turn(slot, outputs);
                self.release(slot, false, outputs);
                if refused {
                    self.refuse(key);
                } else {
                    self.fail_attempt(key, failure, phase, outputs);
                }
            }
        }
    }

    fn on_closed(&mut self, slot: Slot) {
        let session = &self.sessions[slot.0 as usize];
        let (server, abandoned) = (session.server, session.abandoned);
        self.servers[server.0 as usize].admission.closed(self.now, abandoned);
        self.free(slot);
    }

    /// Tells the policy that a turn is no longer wanted, if the policy has it.
    fn cancel_turn(&self, slot: Slot, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let episode = session.episode.and_then(|key| self.episodes[key.0 as usize].as_ref());
        if episode.is_some_and(|episode| episode.state() == State::AwaitingPolicy) {
            outputs.cancelled_turns.push((slot, session.generation));
        }
    }

    /// Ends an episode that was played (or given up) and frees its session.
    pub(crate) fn finish(&mut self, key: EpisodeKey, end: End, outputs: &mut Outputs) {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let slot = episode.play.slot;
        let trigger = match &end {
            End::Completed { .. } => Trigger::Complete,
            End::Truncated(_) => Trigger::Truncate,
            End::Failed(_) => Trigger::Fail,
            End::Cancelled(_) => Trigger::Cancel,
            End::Stale => Trigger::Expire,
            End::Filtered(_) => Trigger::Filter,
        };
        if matches!(trigger, Trigger::Complete | Trigger::Truncate | Trigger::Filter) {
            episode.advance(Trigger::Ended, &mut self.counts);
        }
        episode.advance(trigger, &mut self.counts);
        if let Some(slot) = slot {
            self.jobs[episode.job].active -= 1;
            self.wake_at = Time::ZERO;
            let healthy = matches!(trigger, Trigger::Complete | Trigger::Truncate);
            self.release(slot, healthy, outputs);
        }
        self.record(key, end, outputs);
    }

    /// Gives up an attempt: the episode is tried again, or fails. Its session has been released.
    fn fail_attempt(
        &mut self,
        key: EpisodeKey,
        failure: Failure,
        phase: Phase,
        outputs: &mut Outputs,
    ) {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let server = episode.play.server.unwrap_or_default();
        let name = &self.servers[server.0 as usize].options.name;
        if episode.play.is_attempt && episode.play.reset.is_none() {
            self.counts.attempts += 1; // one that failed before its first observation
        }
        episode.close_attempt(self.now, name, Some(&failure));
        let job = &mut self.jobs[episode.job];
        job.active -= 1;
        self.wake_at = Time::ZERO;
        let again = failure.kind.retry(phase);
        let left = (episode.attempts.len() as u64) < u64::from(job.options.attempts_max);
        if again == Retry::Never || !left || job.ending.is_some() {
            episode.play.slot = None;
            episode.advance(Trigger::Fail, &mut self.counts);
            self.record(key, End::Failed(failure), outputs);
            return;
        }
        episode.advance(Trigger::Retried, &mut self.counts);
        episode.play = Play::default();
        self.counts.retries += 1;
        outputs.notes.push(Note::AttemptFailed { server, failure });
        if let Retry::After(pause) = again {
            job.delayed += 1;
            self.delayed.push(Reverse((self.now + self.random.jitter(pause), key)));
        } else {
            job.queue.push_front(key);
        }
    }

    /// Puts an episode back whose session was refused before it began.
    fn refuse(&mut self, key: EpisodeKey) {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        episode.advance(Trigger::Refused, &mut self.counts);
        episode.play = Play::default();
        let job = &mut self.jobs[episode.job];
        job.active -= 1;
        self.wake_at = Time::ZERO;
        job.queue.push_front(key);
    }

    /// Hands out the record of an episode in a terminal state.
    pub(crate) fn record(&mut self, key: EpisodeKey, end: End, outputs: &mut Outputs) {
        let Some(mut episode) = self.episodes[key.0 as usize].take() else { return };
        self.free_episodes.push(key);
        let state = episode.state();
        self.counts.episodes_by_state[state as usize] -= 1;
        let counts = &mut self.counts;
        *match end {
            End::Completed { .. } => &mut counts.completed,
            End::Truncated(_) => &mut counts.truncated,
            End::Failed(_) => &mut counts.failed,
            End::Cancelled(_) => &mut counts.cancelled,
            End::Stale => &mut counts.stale,
            End::Filtered(_) => &mut counts.filtered,
        } += 1;
        let server = episode.play.server.map(|server| &self.servers[server.0 as usize].options);
        episode.close_attempt(self.now, server.map_or("", |server| &server.name), None);
        outputs.records.push(episode.into_record(
            server.map(|server| (server.name.as_str(), server.fingerprint.as_str())),
            end,
            &self.jobs,
            self.now,
            self.options.run_started_unix_us,
            self.policy_version,
        ));
    }

    /// A started episode for the next unstarted one of `job`.
    pub(crate) fn start_next(&mut self, job: usize) -> EpisodeKey {
        let state = &mut self.jobs[job];
        let index = state.take_next();
        let episode = Episode::new(
            job,
            index,
            crate::random::policy_seed(state.options.seed, index.0),
            state.parameters(index),
            self.now,
            &mut self.counts,
        );
        if let Some(key) = self.free_episodes.pop() {
            self.episodes[key.0 as usize] = Some(episode);
            return key;
        }
        self.episodes.push(Some(episode));
        EpisodeKey(u32::try_from(self.episodes.len() - 1).unwrap_or(u32::MAX))
    }

    pub(crate) fn episode(&mut self, key: EpisodeKey) -> Option<&mut Episode> {
        self.episodes[key.0 as usize].as_mut()
    }

    /// Gives a waiting episode its session, which has been opened or is to be.
    pub(crate) fn assign(&mut self, key: EpisodeKey, slot: Slot, outputs: &mut Outputs) {
        let (now, version) = (self.now, self.policy_version);
        let session = &mut self.sessions[slot.0 as usize];
        session.episode = Some(key);
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let job = &mut self.jobs[episode.job];
        job.active += 1;
        episode.play = Play {
            slot: Some(slot),
            server: Some(session.server),
            session_serial: session.serial,
            episode_in_session: session.played,
            began_at: now,
            deadline: job.options.deadlines.episode.map(|episode| now + episode),
            policy_version_started: version,
            ..Play::default()
        };
        session.played += 1;
        if session.standing == Standing::Admitted {
            self.send_reset(slot, outputs);
        } else {
            let server = session.server;
            session.opened_at = now;
            episode.advance(Trigger::OpenSent, &mut self.counts);
            self.stand(slot, Standing::Opening);
            self.send(slot, Request::Open { server }, Waiting::Open, outputs);
        }
    }

    fn send_reset(&mut self, slot: Slot, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let first = session.standing != Standing::Admitted;
        let (server, key) = (session.server, session.episode);
        let Some(episode) = key.and_then(|key| self.episodes[key.0 as usize].as_mut()) else {
            return;
        };
        episode.play.is_attempt = true;
        let parameters = episode.parameters.clone();
        episode.advance(Trigger::ResetSent, &mut self.counts);
        self.servers[server.0 as usize].constructing += u32::from(first);
        let waiting = if first { Waiting::FirstReset } else { Waiting::Reset };
        self.send(slot, Request::Reset { parameters }, waiting, outputs);
    }

    fn send(&mut self, slot: Slot, request: Request, waiting: Waiting, outputs: &mut Outputs) {
        let session = &mut self.sessions[slot.0 as usize];
        session.generation = session.generation.next();
        session.waiting = waiting;
        session.sent_at = self.now;
        outputs.commands.push(Command { slot, generation: session.generation, request });
        if waiting.is_request() {
            let counts = &mut self.counts;
            counts.requests_in_flight += 1;
            counts.requests_in_flight_peak =
                counts.requests_in_flight_peak.max(counts.requests_in_flight);
            self.arm(slot, waiting.phase());
        } else {
            self.timers.set(slot.0, self.now + CLOSE_DEADLINE);
        }
    }

    /// Sets the slot's deadline for `phase`, or the episode's where that is earlier.
    fn arm(&mut self, slot: Slot, phase: Phase) {
        let session = &self.sessions[slot.0 as usize];
        let Some(episode) = session.episode.and_then(|key| self.episodes[key.0 as usize].as_ref())
        else {
            return;
        };
        let limit = self.jobs[episode.job].options.deadlines.of(phase);
        let deadline = limit.map_or(Time::NEVER, |limit| self.now + limit);
        self.timers.set(slot.0, deadline.min(episode.play.deadline.unwrap_or(Time::NEVER)));
    }

    /// Takes the session from its episode. A healthy one is kept for the next where that is
    /// allowed and wanted; otherwise it is closed.
    pub(crate) fn release(&mut self, slot: Slot, healthy: bool, outputs: &mut Outputs) {
        let session = &mut self.sessions[slot.0 as usize];
        let Some(key) = session.episode.take() else {
            return self.close(slot, outputs);
        };
        let played = session.played;
        let usable = healthy && session.waiting == Waiting::Nothing;
        let Some(episode) = self.episodes[key.0 as usize].as_ref() else { return };
        let options = &self.jobs[episode.job].options;
        if usable && options.session_reuse.allows(played) && self.has_work(options.environment) {
            let environment = options.environment as usize;
            self.timers.set(slot.0, Time::NEVER);
            self.idle[environment].push(slot);
            self.wake_at = Time::ZERO;
        } else {
            self.close(slot, outputs);
        }
    }

    pub(crate) fn has_work(&self, environment: u32) -> bool {
        self.jobs.iter().any(|job| {
            job.options.environment == environment && job.ending.is_none() && job.has_work()
        })
    }

    pub(crate) fn close(&mut self, slot: Slot, outputs: &mut Outputs) {
        let session = &mut self.sessions[slot.0 as usize];
        if matches!(session.waiting, Waiting::Free | Waiting::Close) {
            return;
        }
        session.abandoned = session.waiting.is_request() && session.waiting != Waiting::Open;
        session.episode = None;
        self.stop_waiting(slot);
        self.stand(slot, Standing::Closing);
        self.send(slot, Request::Close, Waiting::Close, outputs);
    }

    /// The slot's session is gone.
    fn free(&mut self, slot: Slot) {
        self.stand(slot, Standing::None);
        let session = &mut self.sessions[slot.0 as usize];
        *session = Session { generation: session.generation, ..Session::free() };
        self.free_slots.push(slot);
        self.timers.set(slot.0, Time::NEVER);
        self.counts.sessions -= 1;
        self.wake_at = Time::ZERO;
    }

    fn stand(&mut self, slot: Slot, standing: Standing) {
        let session = &mut self.sessions[slot.0 as usize];
        let before = std::mem::replace(&mut session.standing, standing);
        self.servers[session.server.0 as usize].admission.moved(before, standing);
        self.counts.sessions_admitted += u32::from(standing == Standing::Admitted);
        self.counts.sessions_admitted -= u32::from(before == Standing::Admitted);
        if before == Standing::Opening {
            self.wake_at = Time::ZERO; // the window has room again
        }
    }

    /// Starts nothing more of a job; unless it only drains, gives up what is under way.
    pub(crate) fn end_job(&mut self, job: JobId, why: Cancellation, outputs: &mut Outputs) {
        let index = job.0 as usize;
        let Some(state) = self.jobs.get_mut(index) else { return };
        if state.is_finished() {
            return;
        }
        state.ending = Some(Ending::Cancelled(why));
        self.wake_at = Time::ZERO;
        if why == Cancellation::Drained {
            return;
        }
        for slot in 0..self.sessions.len() {
            let slot = Slot(slot as u32);
            let Some(key) = self.sessions[slot.0 as usize].episode else { continue };
            if self.episodes[key.0 as usize].as_ref().is_some_and(|episode| episode.job == index) {
                self.cancel_turn(slot, outputs);
                self.finish(key, End::Cancelled(why), outputs);
            }
        }
    }
}

const fn end_of(ended: Ended) -> End {
    match ended {
        Ended::Terminated => End::Completed { mapped: true },
        Ended::TerminatedUnmapped => End::Completed { mapped: false },
        Ended::Truncated => End::Truncated(Truncation::Environment),
    }
}

fn micros(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
