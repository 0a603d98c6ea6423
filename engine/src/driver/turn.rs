//! The loop itself.

use std::time::{Duration, Instant};

use envmill_core::{Core, Input, JobOptions, Note, OptionsError, Outputs, Time};
use envmill_protocol::{Decision, Event, JobId, record::End};
use envmill_recorder::{Recorded, Recorder};
use envmill_workers::Worker;

use crate::{
    driver::{Control, Errand, Meter},
    policy::Policy,
    run::Failures,
    scorer::Scorer,
    sink::{GroupSink, Sink, SinkError},
};

/// The longest wait, so that displays move and interrupts are seen.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// A core with its worker, its policies and its sink.
pub struct Driver<W: Worker> {
    core: Core,
    worker: W,
    /// One policy for each environment of the configuration.
    policies: Vec<Box<dyn Policy>>,
    sink: Box<dyn Sink>,
    /// Where records of groups go, if anywhere.
    groups: Option<Box<dyn GroupSink>>,
    /// Who says what episodes were worth, if a job asks for that.
    scorer: Option<Box<dyn Scorer>>,
    /// Records that the sink was given.
    submitted: u64,
    /// The jobs that interrupts end.
    jobs: Vec<JobId>,
    /// Whether it waits for more when there is nothing to do.
    stays: bool,
    control: Control,
    recorder: Option<Recorder>,
    meter: Meter,
    began: Instant,
    failures: Failures,
    /// What was told to the core of interrupts and of a failed sink.
    told: Told,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    #[default]
    Nothing,
    Drain,
    Cancel,
}

impl Told {
    /// What a job is told.
    const fn about(self, job: JobId) -> Option<Input> {
        match self {
            Self::Nothing => None,
            Self::Drain => Some(Input::Drain(job)),
            Self::Cancel => Some(Input::Cancel(job)),
        }
    }
}

/// What a display or a watcher sees after each batch.
#[derive(Debug)]
pub struct Look<'a, W> {
    /// The core and its counts.
    pub core: &'a Core,
    /// The worker and its counts.
    pub worker: &'a mut W,
    /// The latencies so far.
    pub meter: &'a Meter,
    /// News of this batch.
    pub notes: &'a [Note],
    /// Failed episodes so far, by cause.
    pub failures: &'a Failures,
    /// The policies.
    pub policies: Policies<'a>,
    /// Since the start of the run.
    pub elapsed: Duration,
}

/// The policies of a run, as a display sees them.
#[derive(Clone, Copy)]
pub struct Policies<'a>(&'a [Box<dyn Policy>]);

impl Policies<'_> {
    /// What they have counted; those of an environment after those of the one before.
    #[must_use]
    pub fn numbers(&self) -> Vec<(&'static str, f64)> {
        self.0.iter().flat_map(|policy| policy.numbers()).collect()
    }

    /// How they speak with those whom they ask; see [`Policy::channels`].
    #[must_use]
    pub fn channels(&self) -> Vec<(String, String)> {
        self.0.iter().flat_map(|policy| policy.channels()).collect()
    }
}

impl std::fmt::Debug for Policies<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.numbers()).finish()
    }
}

/// A run that has come to its end.
pub struct Finished<W> {
    /// The core, with its final counts.
    pub core: Core,
    /// The worker, for its counts.
    pub worker: W,
    /// What was measured.
    pub meter: Meter,
    /// Failed episodes by cause.
    pub failures: Failures,
    /// From the start to the last record being kept.
    pub wall: Duration,
    /// Records known to be kept.
    pub written: u64,
    /// Records of groups that are kept; `None` where none were to be.
    pub groups_written: Option<u64>,
    /// Why some were not.
    pub sink_failure: Option<SinkError>,
    /// What came of the flight recording, if there was one.
    pub recorded: Option<Recorded>,
    /// What the policies have counted.
    pub policy: Vec<(&'static str, f64)>,
    /// How the policies spoke with those whom they ask; see [`Policy::channels`].
    pub channels: Vec<(String, String)>,
}

impl<W: Worker> Driver<W> {
    /// A driver for the `jobs` of `core`, which have been submitted at [`Time::ZERO`]; others may be
    /// submitted through `control`. `policies` holds one for each environment. What `control` was told before counts.
    ///
    /// # Errors
    ///
    /// Only if the bounds of the histograms were wrong.
    pub fn new(
        core: Core,
        jobs: Vec<JobId>,
        worker: W,
        policies: Vec<Box<dyn Policy>>,
        sink: Box<dyn Sink>,
        control: Control,
    ) -> Result<Self, hdrhistogram::CreationError> {
        control.attach(worker.waker());
        Ok(Self {
            core,
            worker,
            policies,
            sink,
            groups: None,
            scorer: None,
            submitted: 0,
            jobs,
            stays: false,
            control,
            recorder: None,
            meter: Meter::new()?,
            began: Instant::now(),
            failures: Failures::new(),
            told: Told::Nothing,
        })
    }

    /// Writes down every input of the core from now on: `recorder` was started with this core.
    #[must_use]
    pub fn recorded_by(mut self, recorder: Option<Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    /// Keeps records of groups, too.
    #[must_use]
    pub fn with_groups(mut self, groups: Option<Box<dyn GroupSink>>) -> Self {
        self.groups = groups;
        self
    }

    /// Has episodes scored, of jobs with [`Scoring::External`](envmill_core::Scoring::External). Without a
    /// scorer these get no score, and fail at their deadline.
    #[must_use]
    pub fn scored_by(mut self, scorer: Option<Box<dyn Scorer>>) -> Self {
        self.scorer = scorer;
        self
    }

    /// Waits for more jobs when there is nothing to do, until it is told to [stop](Control::stop).
    #[must_use]
    pub const fn stays(mut self) -> Self {
        self.stays = true;
        self
    }

    /// Plays until every requested episode is recorded and every session closed, or until it is told to
    /// [stop](Control::stop). `look` is called after each batch and at least ten times a second.
    pub fn run(mut self, mut look: impl FnMut(Look<'_, W>)) -> Finished<W> {
        let mut outputs = Outputs::default();
        let mut events: Vec<Event> = Vec::new();
        let mut errands = Vec::new();
        let mut decisions = Vec::new();
        self.began = Instant::now();
        loop {
            let now = self.now();
            self.control.take(&mut errands);
            for errand in errands.drain(..) {
                self.run_errand(now, errand, &mut outputs);
            }
            self.pass_on_interrupts(now, &mut outputs);
            self.settle(now, &mut outputs);
            self.ask_policies(now, &mut outputs, &mut decisions);
            self.worker.submit(&mut outputs.commands);
            for latency in outputs.latencies.drain(..) {
                self.meter.latency(&latency);
            }
            for record in &outputs.records {
                if let End::Failed(failure) = &record.end {
                    *self.failures.entry(failure.kind.name()).or_default() += 1;
                }
            }
            self.ask_scorer(&mut outputs);
            self.submitted += outputs.records.len() as u64;
            self.sink.submit(&mut outputs.records);
            self.keep_groups(&mut outputs);
            self.meter.look(&self.core, self.told != Told::Nothing);
            look(Look {
                core: &self.core,
                worker: &mut self.worker,
                meter: &self.meter,
                notes: &outputs.notes,
                failures: &self.failures,
                policies: Policies(&self.policies),
                elapsed: self.began.elapsed(),
            });
            for note in outputs.notes.drain(..) {
                if let Note::JobEnded(job) = note {
                    self.jobs.retain(|&it| it != job);
                }
            }
            // External drivers come with the service; until then nothing is handed out.
            outputs.handed.clear();
            if self.control.is_stopped() || (self.core.is_idle() && !self.stays) {
                return self.finish();
            }
            let wait = self.core.next_deadline().since(self.now()).min(WAIT_MAX);
            self.worker.completions(&mut events, wait);
            let now = self.now();
            for event in events.drain(..) {
                self.handle(now, Input::Event(event), &mut outputs);
            }
        }
    }

    fn run_errand(&mut self, now: Time, errand: Errand, outputs: &mut Outputs) {
        match errand {
            Errand::Input(input) => self.handle(now, input, outputs),
            Errand::Later(input) => {
                if let Some(input) = input() {
                    self.handle(now, input, outputs);
                }
            }
            Errand::Submit(options, then) => then(self.submit(now, *options, outputs)),
        }
    }

    fn submit(
        &mut self,
        now: Time,
        options: JobOptions,
        outputs: &mut Outputs,
    ) -> Result<JobId, OptionsError> {
        if self.recorder.take().is_some() {
            tracing::warn!("the flight recording is cut off where a job is submitted");
        }
        let job = self.core.submit(now, options)?;
        self.jobs.push(job);
        if let Some(input) = self.told.about(job) {
            self.handle(now, input, outputs);
        }
        Ok(job)
    }

    /// The one way of an input into the core.
    fn handle(&mut self, now: Time, input: Input, outputs: &mut Outputs) {
        match &mut self.recorder {
            None => self.core.handle(now, input, outputs),
            Some(recorder) => recorder.handle(&mut self.core, now, input, outputs),
        }
    }

    fn settle(&mut self, now: Time, outputs: &mut Outputs) {
        match &mut self.recorder {
            None => self.core.settle(now, outputs),
            Some(recorder) => recorder.settle(&mut self.core, now, outputs),
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    fn pass_on_interrupts(&mut self, now: Time, outputs: &mut Outputs) {
        let groups_fail = self.groups.as_ref().is_some_and(|groups| groups.failure().is_some());
        let wanted = if self.control.is_cut() || self.sink.failure().is_some() || groups_fail {
            Told::Cancel
        } else if self.control.is_draining() {
            Told::Drain
        } else {
            return;
        };
        if wanted <= self.told {
            return;
        }
        self.told = wanted;
        for input in self.jobs.iter().filter_map(|&job| wanted.about(job)).collect::<Vec<_>>() {
            self.handle(now, input, outputs);
        }
    }

    /// Hands turns out and decisions back until the policies have nothing more to say.
    fn ask_policies(&mut self, now: Time, outputs: &mut Outputs, decisions: &mut Vec<Decision>) {
        if !outputs.cancelled_turns.is_empty() {
            for policy in &mut self.policies {
                policy.cancel(&outputs.cancelled_turns);
            }
            outputs.cancelled_turns.clear();
        }
        if let [policy] = self.policies.as_mut_slice() {
            policy.submit(&mut outputs.turns);
        } else {
            let mut turns = std::mem::take(&mut outputs.turns);
            for (environment, policy) in self.policies.iter_mut().enumerate() {
                let is_its =
                    |turn: &mut envmill_protocol::Turn| turn.environment as usize == environment;
                let mut its: Vec<_> = turns.extract_if(.., is_its).collect();
                policy.submit(&mut its);
            }
        }
        for policy in &mut self.policies {
            policy.decisions(decisions);
        }
        for decision in decisions.drain(..) {
            self.handle(now, Input::Decision(decision), outputs);
        }
    }

    /// Hands out what is to be scored, and says what no longer is.
    fn ask_scorer(&mut self, outputs: &mut Outputs) {
        match &mut self.scorer {
            Some(scorer) => {
                if !outputs.to_score.is_empty() {
                    scorer.submit(&mut outputs.to_score);
                }
                if !outputs.records.is_empty() {
                    scorer.recorded(&outputs.records);
                }
            }
            None => outputs.to_score.clear(),
        }
    }

    fn keep_groups(&mut self, outputs: &mut Outputs) {
        match &mut self.groups {
            Some(groups) => {
                groups.submit(&mut outputs.groups, self.submitted);
                groups.advance(self.sink.written());
            }
            None => outputs.groups.clear(),
        }
    }

    fn finish(mut self) -> Finished<W> {
        let mut sink_failure = self.sink.finish().err();
        if let Some(groups) = &mut self.groups {
            groups.finish(self.sink.written());
            sink_failure = sink_failure.or_else(|| groups.failure());
        }
        Finished {
            wall: self.began.elapsed(),
            written: self.sink.written(),
            groups_written: self.groups.as_ref().map(|groups| groups.written()),
            sink_failure,
            recorded: self.recorder.map(Recorder::finish),
            policy: Policies(&self.policies).numbers(),
            channels: Policies(&self.policies).channels(),
            core: self.core,
            worker: self.worker,
            meter: self.meter,
            failures: self.failures,
        }
    }
}
