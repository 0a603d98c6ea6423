//! The core itself: its tables, and what an input does to them.

use std::{cmp::Reverse, collections::BinaryHeap};

use envmill_protocol::{JobId, ServerId, Slot, record::Cancellation};

use crate::{
    AdmissionStatus, Counts, FingerprintChange, Input, JobOptions, Note, Options, OptionsError,
    Outputs, ServerOptions, StatisticsByTask, Time,
    admission::Admission,
    alarms::Alarms,
    budget::Budget,
    ejection::Health,
    episode::{Episode, EpisodeKey},
    holding::Holding,
    job::Job,
    memory::Memory,
    poison::Mortality,
    random::Random,
    session::Session,
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
    /// The jobs that have not ended, in the order of their ids.
    pub(crate) live: Vec<usize>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) free_slots: Vec<Slot>,
    /// Sessions without an episode, by environment. May hold slots that have gone since.
    pub(crate) idle: Vec<Vec<Slot>>,
    pub(crate) episodes: Vec<Option<Episode>>,
    pub(crate) free_episodes: Vec<EpisodeKey>,
    /// The servers of each environment.
    pub(crate) pools: Vec<Vec<u32>>,
    pub(crate) alarms: Alarms,
    pub(crate) task_statistics: StatisticsByTask,
    pub(crate) score_serial: u32,
    /// How far the jobs of each environment have been served.
    pub(crate) virtual_time: Vec<u128>,
    /// Environments that have no room for another session, while sessions are given out.
    pub(crate) full: Vec<bool>,
    /// When servers are compared next.
    pub(crate) compare_at: Time,
    pub(crate) timers: Timers,
    /// Episodes to be tried again at a time of their own.
    pub(crate) delayed: BinaryHeap<Reverse<(Time, EpisodeKey)>>,
    pub(crate) counts: Counts,
    pub(crate) session_serial: u64,
    /// When there may be room for a waiting episode, as far as time alone decides.
    pub(crate) wake_at: Time,
    /// When a hold of steps is judged next.
    pub(crate) judge_at: Time,
    pub(crate) memory: Memory,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) options: ServerOptions,
    pub(crate) admission: Admission,
    /// Sessions whose first reset is out.
    pub(crate) constructing: u32,
    pub(crate) holding: Holding,
    pub(crate) health: Health,
    pub(crate) budget: Budget,
    pub(crate) mortality: Mortality,
}

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
            live: Vec::new(),
            sessions: Vec::new(),
            free_slots: Vec::new(),
            idle: Vec::new(),
            episodes: Vec::new(),
            free_episodes: Vec::new(),
            pools: Vec::new(),
            alarms: Alarms::default(),
            task_statistics: StatisticsByTask::default(),
            score_serial: 0,
            virtual_time: Vec::new(),
            full: Vec::new(),
            compare_at: Time::ZERO,
            timers: Timers::default(),
            delayed: BinaryHeap::new(),
            counts: Counts::default(),
            session_serial: 0,
            wake_at: Time::NEVER,
            judge_at: Time::NEVER,
            memory: Memory::default(),
        }
    }

    /// Adds a server to its environment's pool. Servers are numbered in the order they come.
    pub fn add_server(&mut self, server: ServerOptions) -> ServerId {
        let id = ServerId(u32::try_from(self.servers.len()).unwrap_or(u32::MAX));
        let environment = server.environment as usize;
        if self.idle.len() <= environment {
            self.idle.resize_with(environment + 1, Vec::new);
            self.pools.resize_with(environment + 1, Vec::new);
            self.virtual_time.resize(environment + 1, 0);
            self.full.resize(environment + 1, false);
        }
        self.pools[environment].push(id.0);
        let mut admission = Admission::new(self.options.admission);
        for job in self.live_jobs().filter(|job| job.options.environment == server.environment) {
            admission.serve(&job.options.deadlines);
        }
        self.servers.push(Server {
            options: server,
            admission,
            constructing: 0,
            holding: Holding::default(),
            health: Health::default(),
            budget: Budget::default(),
            mortality: Mortality::default(),
        });
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
        job.check_memory(self.options.steps_bytes_max)?;
        let job = Job::new(job, now)?;
        for &server in &self.pools[job.options.environment as usize] {
            self.servers[server as usize].admission.serve(&job.options.deadlines);
        }
        self.counts.requested += job.unstarted;
        self.counts.extra += job.extra();
        self.jobs.push(job);
        self.now = self.now.max(now);
        let index = self.jobs.len() - 1;
        self.live.push(index);
        for group in self.jobs[index].groups.keys().copied().collect::<Vec<_>>() {
            self.look_at_taken_up(index, group);
        }
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
            Input::Scored(scored) => self.on_scored(scored, outputs),
            Input::ServerReady(server) => {
                self.server_died(server);
                if let Some(server) = self.servers.get_mut(server.0 as usize) {
                    server.admission.restarted();
                    self.wake_at = Time::ZERO;
                }
            }
            Input::PolicyVersion { job, version, in_flight } => {
                self.on_policy_version(job, version, in_flight, outputs);
            }
            Input::Round { job, round } => self.on_round(job, round),
            Input::Pause(job) => self.pause(job),
            Input::Slow(job) => self.slow(job, outputs),
            Input::Resume(job) => self.resume(job, outputs),
            Input::Hold(job) => self.hold(job),
            Input::Drain(job) => self.end_job(job, Cancellation::Drained, outputs),
            Input::Cancel(job) => self.end_job(job, Cancellation::Cancelled, outputs),
        }
    }

    /// When [`settle`](Self::settle) must be called next, if nothing else happens before;
    /// [`Time::NEVER`] if there is nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        let delayed = self.delayed.peek().map_or(Time::NEVER, |Reverse((at, _))| *at);
        let slots = self.timers.next().min(self.alarms.next()).min(delayed);
        slots.min(self.wake_at).min(self.judge_at)
    }

    /// Whether every job has ended ([`Note::JobEnded`]) and every session is closed.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.counts.sessions == 0 && self.live.is_empty()
    }

    /// Figures about the run.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Episodes of unfinished jobs that have not been started yet.
    #[must_use]
    pub fn unstarted(&self) -> u64 {
        self.live_jobs().map(|job| job.unstarted).sum()
    }

    /// Whether every job that has something to start and may has as many admitted sessions as it can
    /// use: as many as it asked for, or as its servers were seen to hold.
    #[must_use]
    pub fn admission_settled(&self) -> bool {
        self.live_jobs().filter(|job| job.has_startable()).all(|job| {
            let admitted: u32 = self
                .pool(job.options.environment)
                .map(|server| server.admission.status().admitted)
                .sum();
            admitted >= job.options.sessions_max
                || self.pool(job.options.environment).all(|server| server.admission.is_full())
        })
    }

    /// What the core was told at its start.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// What was submitted, in the order of the jobs' ids. Of a job that has ended
    /// ([`Note::JobEnded`]), the reset parameters, the tasks and what earlier runs had recorded are not
    /// kept.
    pub fn jobs(&self) -> impl Iterator<Item = &JobOptions> {
        self.jobs.iter().map(|job| &job.options)
    }

    /// What is known of each server, in the order of their ids.
    pub fn servers(&self) -> impl Iterator<Item = (&ServerOptions, AdmissionStatus)> {
        self.servers.iter().map(|server| {
            let status = AdmissionStatus {
                ejected: !server.health.is_well(),
                ejections: server.health.ejections,
                ..*server.admission.status()
            };
            (&server.options, status)
        })
    }

    /// What the groups have cost so far, by task.
    #[must_use]
    pub const fn task_statistics(&self) -> &StatisticsByTask {
        &self.task_statistics
    }

    pub(crate) fn live_jobs(&self) -> impl Iterator<Item = &Job> {
        self.live.iter().map(|&job| &self.jobs[job])
    }

    pub(crate) fn pool(&self, environment: u32) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(move |server| server.options.environment == environment)
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
        for at in 0..self.live.len() {
            let job = self.live[at];
            let options = &self.jobs[job].options;
            if options.environment == environment
                && options.on_fingerprint_change == FingerprintChange::Stop
            {
                self.end_job(JobId(job as u32), Cancellation::Stopped, outputs);
            }
        }
    }
}
