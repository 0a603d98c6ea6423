//! One policy for the many jobs of an environment.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use envmill_core::InFlight;
use envmill_inference::PauseMode;
use envmill_protocol::{Decision, Generation, JobId, PolicyError, PolicyVersion, Slot, Turn};
use envmill_service::{Desk, JobPolicy, Weights};
use envmill_workers::Waker;

use crate::{
    model::ModelPolicy,
    policy::{Policy, Sampler},
};

/// Answers the turns of each job as that job says: by the environment's sampler, by one action, or at the
/// desk of a trainer. Jobs come and go while it runs. A clone is the same policy: one belongs to the
/// driver, another adds and removes jobs, on the driver's thread too.
#[derive(Clone)]
pub(super) struct JobPolicies(Arc<Mutex<Table>>);

struct Table {
    /// What draws actions, or why nothing can.
    sampler: Result<Sampler, String>,
    /// The environment's language model, or why there is none.
    model: Result<Box<dyn ModelPolicy>, String>,
    /// Versions that the model gets once no episode of their jobs is in flight.
    coming: Vec<(JobId, Weights)>,
    /// Told if the model's inference engines do not take a version.
    failed: Arc<dyn Fn(String) + Send + Sync>,
    /// Turns of one batch on their way to the model.
    thinking: Vec<Turn>,
    waker: Waker,
    /// Who sits where, by the job's number from `first` on. Those that have ended are dropped from the
    /// front.
    seats: VecDeque<Seat>,
    first: u32,
    /// The desks of jobs that have one.
    desks: Vec<(JobId, Desk)>,
    /// Jobs with turns in their inboxes.
    called: Vec<JobId>,
    ready: Vec<Decision>,
}

enum Seat {
    /// The job has ended, or is none of ours.
    Nobody,
    Random,
    Model,
    Constant(Bytes),
    Trainer {
        desk: Desk,
        /// Turns of one batch on their way to the desk.
        inbox: Vec<Turn>,
    },
}

impl JobPolicies {
    /// For an environment whose actions this sampler draws and this model plays; or none can, and why.
    /// Trainers' answers wake `waker`. `failed` is told why the model does not have a version.
    pub(super) fn new(
        sampler: Result<Sampler, String>,
        model: Result<Box<dyn ModelPolicy>, String>,
        waker: Waker,
        failed: impl Fn(String) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Mutex::new(Table {
            sampler,
            model,
            coming: Vec::new(),
            failed: Arc::new(failed),
            thinking: Vec::new(),
            waker,
            seats: VecDeque::new(),
            first: 0,
            desks: Vec::new(),
            called: Vec::new(),
            ready: Vec::new(),
        })))
    }

    /// Why jobs cannot have this policy, if so.
    pub(super) fn problem(&self, policy: &JobPolicy) -> Option<String> {
        match policy {
            JobPolicy::Random => self.table().sampler.as_ref().err().cloned(),
            JobPolicy::Model => self.table().model.as_ref().err().cloned(),
            JobPolicy::Constant(_) | JobPolicy::Trainer(_) => None,
        }
    }

    /// The version that this job announces next is one of the model's weights. The model gets them as well
    /// if the job has ended: a trainer that waits for all episodes of a step announces what it made of them
    /// when there is no job any more.
    pub(super) fn weights(&self, job: Option<JobId>, weights: Weights) {
        let table = &mut *self.table();
        match job {
            // What is in flight is to end on the weights that it began on.
            Some(job) if weights.in_flight == InFlight::Drain => table.coming.push((job, weights)),
            _ => {
                // What waited would come after what is newer.
                table
                    .coming
                    .retain(|(it, older)| Some(*it) != job || older.version > weights.version);
                table.update(weights);
            }
        }
    }

    /// A job begins.
    pub(super) fn add(&self, job: JobId, policy: JobPolicy) {
        let table = &mut *self.table();
        if table.seats.is_empty() {
            table.first = job.0;
        }
        let Some(index) = job.0.checked_sub(table.first) else { return };
        while table.seats.len() <= index as usize {
            table.seats.push_back(Seat::Nobody);
        }
        table.seats[index as usize] = match policy {
            JobPolicy::Random => Seat::Random,
            JobPolicy::Model => Seat::Model,
            JobPolicy::Constant(action) => Seat::Constant(action),
            JobPolicy::Trainer(desk) => {
                desk.wake_with(table.waker.clone());
                table.desks.push((job, desk.clone()));
                Seat::Trainer { desk, inbox: Vec::new() }
            }
        };
    }

    /// A job's episodes are begun on this version from now on.
    pub(super) fn set_version(&self, job: JobId, version: PolicyVersion) {
        let table = &mut *self.table();
        if let Some(Seat::Trainer { desk, .. }) = table.seat(job) {
            desk.set_version(version);
        }
        table.came(job, version);
    }

    /// A job has ended.
    pub(super) fn remove(&self, job: JobId) {
        let table = &mut *self.table();
        // It has nothing in flight now, whatever it waited for.
        table.came(job, PolicyVersion(u64::MAX));
        if let Some(seat) = table.seat(job) {
            *seat = Seat::Nobody;
        }
        table.desks.retain(|(it, _)| *it != job);
        while matches!(table.seats.front(), Some(Seat::Nobody)) {
            table.seats.pop_front();
            table.first += 1;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Held on one thread at a time and never over a call of somebody else's code but the desks'.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn seat(&mut self, job: JobId) -> Option<&mut Seat> {
        self.seats.get_mut(job.0.checked_sub(self.first)? as usize)
    }

    /// Gives the model the newest of a job's versions that have waited, up to this one.
    fn came(&mut self, job: JobId, version: PolicyVersion) {
        let is_due =
            |(it, weights): &mut (JobId, Weights)| *it == job && weights.version <= version;
        let due = self.coming.extract_if(.., is_due).map(|(_, weights)| weights);
        if let Some(weights) = due.max_by_key(|it| it.version) {
            self.update(weights);
        }
    }

    /// Gives the model a version.
    fn update(&self, weights: Weights) {
        let Ok(model) = &self.model else { return };
        let Weights { version, folder, abort, .. } = weights;
        let pause = if abort { PauseMode::Abort } else { PauseMode::Keep };
        let failed = Arc::clone(&self.failed);
        let failed = move |error: envmill_inference::Error| {
            failed(format!("the model does not have version {}: {error}", version.0));
        };
        model.update(folder, version, pause, Box::new(failed));
    }

    fn take(&mut self, turn: Turn) {
        let index = turn.job.0.wrapping_sub(self.first) as usize;
        let action = match self.seats.get_mut(index) {
            Some(Seat::Trainer { inbox, .. }) => {
                if inbox.is_empty() {
                    self.called.push(turn.job);
                }
                inbox.push(turn);
                return;
            }
            Some(Seat::Model) => return self.thinking.push(turn),
            Some(Seat::Constant(action)) => Ok(action.clone()),
            Some(Seat::Random) => match &mut self.sampler {
                Ok(sampler) => sampler.act(&turn),
                Err(problem) => Err(PolicyError::new(problem.clone())),
            },
            Some(Seat::Nobody) | None => {
                Err(PolicyError::new(format!("job {} has no policy", turn.job)))
            }
        };
        self.ready.push(turn.decided(action));
    }
}

impl Policy for JobPolicies {
    fn submit(&mut self, turns: &mut Vec<Turn>) {
        if turns.is_empty() {
            return;
        }
        let table = &mut *self.table();
        for turn in turns.drain(..) {
            table.take(turn);
        }
        if let (Ok(model), false) = (&mut table.model, table.thinking.is_empty()) {
            model.submit(&mut table.thinking);
        }
        while let Some(job) = table.called.pop() {
            if let Some(Seat::Trainer { desk, inbox }) = table.seat(job) {
                desk.submit(inbox.drain(..));
            }
        }
    }

    fn cancel(&mut self, turns: &[(Slot, Generation)]) {
        let table = &mut *self.table();
        if let Ok(model) = &mut table.model {
            model.cancel(turns);
        }
        for (_, desk) in &table.desks {
            desk.cancel(turns);
        }
    }

    fn decisions(&mut self, decisions: &mut Vec<Decision>) {
        let table = &mut *self.table();
        decisions.append(&mut table.ready);
        if let Ok(model) = &mut table.model {
            model.decisions(decisions);
        }
        for (_, desk) in &table.desks {
            desk.decisions(decisions);
        }
    }

    fn numbers(&self) -> Vec<(&'static str, f64)> {
        self.table().model.as_ref().map(|it| it.numbers()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use envmill_protocol::{EpisodeIndex, Observed};
    use envmill_workers::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicU32);

    impl Wake for Counter {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    const SCHEMA: &[u8] =
        br#"{"type":"object","properties":{"action":{"enum":[0,1]}},"required":["action"]}"#;

    fn policies() -> JobPolicies {
        let sampler = Sampler::compile(SCHEMA).map_err(|error| error.to_string());
        JobPolicies::new(
            sampler,
            Err("no model".to_owned()),
            Waker::new(Arc::<Counter>::default()),
            drop,
        )
    }

    fn turn(job: u32, slot: u32) -> Turn {
        Turn {
            slot: Slot(slot),
            generation: Generation(7),
            job: JobId(job),
            episode: EpisodeIndex(0),
            seed: u64::from(slot),
            step: 0,
            environment: 0,
            observed: Observed::default(),
            start: None,
        }
    }

    fn answers(
        policies: &mut JobPolicies,
        turns: &[(u32, u32)],
    ) -> Vec<(u32, Result<Bytes, String>)> {
        let mut turns: Vec<_> = turns.iter().map(|&(job, slot)| turn(job, slot)).collect();
        let mut decisions = Vec::new();
        policies.submit(&mut turns);
        policies.decisions(&mut decisions);
        assert!(turns.is_empty());
        let answer = |it: Decision| (it.slot.0, it.action.map_err(|it| it.message));
        decisions.into_iter().map(answer).collect()
    }

    #[test]
    fn each_job_has_its_own() {
        let mut policies = policies();
        policies.add(JobId(3), JobPolicy::Constant("{\"action\":1}".into()));
        policies.add(JobId(5), JobPolicy::Random);
        let said = answers(&mut policies, &[(3, 0), (5, 1), (3, 2), (4, 3), (1, 4)]);
        assert_eq!(said[0], (0, Ok("{\"action\":1}".into())));
        let drawn = String::from_utf8_lossy(said[1].1.as_ref().unwrap()).into_owned();
        assert!(drawn == "{\"action\":0}" || drawn == "{\"action\":1}", "{drawn}");
        assert_eq!(said[2], (2, Ok("{\"action\":1}".into())));
        for (_, action) in &said[3..] {
            assert!(action.as_ref().unwrap_err().contains("no policy"), "{action:?}");
        }
    }

    #[test]
    fn weights_that_wait_for_a_job_go_with_it() {
        let policies = policies();
        let weights = |version, in_flight| Weights {
            version: PolicyVersion(version),
            folder: None,
            in_flight,
            abort: false,
        };
        let waiting = || -> Vec<_> {
            policies.table().coming.iter().map(|(job, it)| (job.0, it.version.0)).collect()
        };
        policies.weights(Some(JobId(0)), weights(1, InFlight::Drain));
        policies.weights(Some(JobId(1)), weights(1, InFlight::Drain));
        policies.weights(Some(JobId(1)), weights(2, InFlight::Drain));
        policies.set_version(JobId(1), PolicyVersion(1));
        assert_eq!(waiting(), [(0, 1), (1, 2)], "each job's versions are its own");
        // It is newer than what waits, and comes at once.
        policies.weights(Some(JobId(1)), weights(3, InFlight::Keep));
        assert_eq!(waiting(), [(0, 1)]);
        policies.remove(JobId(0));
        assert_eq!(waiting(), []);
        policies.weights(None, weights(4, InFlight::Drain));
        assert_eq!(waiting(), [], "a job that has ended waits for nothing");
    }

    #[test]
    fn those_that_have_ended_take_no_room() {
        let mut policies = policies();
        for job in 0..100 {
            policies.add(JobId(job), JobPolicy::Random);
            if job > 0 {
                policies.remove(JobId(job - 1));
            }
        }
        assert_eq!(policies.table().seats.len(), 1);
        assert!(answers(&mut policies, &[(99, 0)])[0].1.is_ok());
        assert!(answers(&mut policies, &[(98, 0)])[0].1.is_err());
        policies.remove(JobId(99));
        policies.add(JobId(200), JobPolicy::Random);
        assert_eq!(policies.table().seats.len(), 1);
        assert!(answers(&mut policies, &[(200, 0)])[0].1.is_ok());
    }

    #[test]
    fn a_trainers_turns_wait_at_its_desk() {
        let mut policies = policies();
        policies.add(JobId(0), JobPolicy::Trainer(Desk::new()));
        policies.add(JobId(1), JobPolicy::Random);
        let said = answers(&mut policies, &[(0, 0), (1, 1), (0, 2)]);
        assert_eq!(said.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [1]);
        policies.cancel(&[(Slot(0), Generation(7))]);
        policies.remove(JobId(0));
        assert!(policies.table().desks.is_empty());
    }

    #[test]
    fn what_cannot_be_drawn_is_said_before() {
        let why = "--policy random cannot draw actions".to_owned();
        let policies = JobPolicies::new(
            Err(why.clone()),
            Err("no model".to_owned()),
            Waker::new(Arc::<Counter>::default()),
            drop,
        );
        assert_eq!(policies.problem(&JobPolicy::Model), Some("no model".to_owned()));
        assert_eq!(policies.problem(&JobPolicy::Random), Some(why));
        assert_eq!(policies.problem(&JobPolicy::Constant("{}".into())), None);
    }
}
