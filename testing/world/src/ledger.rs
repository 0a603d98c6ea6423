//! What the core has asked for, kept by somebody else: it knows which command may follow which, and
//! which event and decision the core must take and which it must ignore.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use envmill_core::{Input, Note, Outputs, ScoreTicket, Time};
use envmill_protocol::{
    Command, EpisodeIndex, Event, Generation, JobId, Outcome, Request, SessionFate, Slot, Turn,
};

use crate::versions::Versions;

/// Whether the core has to take what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Must,
    MustNot,
    Either,
}

/// A turn that the policy was asked for, found again by the number in its action.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) job: JobId,
    pub(crate) episode: EpisodeIndex,
    pub(crate) step: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    places: Vec<Place>,
    pub(crate) turns: Vec<Asked>,
    /// Episodes with the scorer.
    tickets: HashMap<ScoreTicket, String>,
    /// How each recorded episode ended, by trajectory.
    pub(crate) recorded: HashMap<String, String>,
    /// What each was worth once that was taken, by trajectory.
    pub(crate) scores: HashMap<String, Option<f64>>,
    /// The most episodes that a session may play; `None` without a limit.
    reuse_max: Option<u32>,
    /// Jobs that may not go on.
    paused: HashSet<JobId>,
    /// Jobs that may begin nothing, and what they had reserved when they were looked at last.
    pub(crate) slowed: HashMap<JobId, u64>,
    pub(crate) versions: Versions,
    /// How many jobs there are.
    jobs: u32,
    /// Those that have ended.
    ended: HashSet<JobId>,
    /// The latest time that the core was told.
    pub(crate) told: Time,
    violations: Vec<String>,
}

/// A slot, as its commands and their answers show it.
#[derive(Clone, Debug, Default)]
struct Place {
    generation: Generation,
    stage: Stage,
    /// False once it has failed: such a session is to be closed and never used again.
    is_sound: bool,
    resets: u32,
    /// The open turn's generation.
    turn: Option<Generation>,
    is_handed: bool,
    /// The action that was decided on and is to be sent.
    decided: Option<Bytes>,
    /// The last observation.
    seen: Bytes,
    closed_at: Time,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Gone,
    Opening,
    Resetting,
    Stepping,
    Closing,
    /// It stands, and nothing is asked of it.
    Idle,
}

/// The core takes a close for granted after this time without an answer.
const CLOSE_PATIENCE_S: u64 = 10;
/// Enough to see what is wrong.
const VIOLATIONS_MAX: usize = 20;

impl Ledger {
    pub(crate) fn new(jobs: u32, reuse_max: Option<u32>) -> Self {
        Self { jobs, reuse_max, ..Self::default() }
    }

    pub(crate) fn violation(&mut self, what: impl FnOnce() -> String) {
        if self.violations.len() < VIOLATIONS_MAX {
            let what = what();
            self.violations.push(format!("at {}: {what}", self.told));
        }
    }

    /// Whether all jobs have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.len() == self.jobs as usize
    }

    /// Something of a job came out.
    pub(crate) fn came_out(&mut self, job: JobId, what: &str) {
        if self.ended.contains(&job) {
            self.violation(|| format!("{what} of job {job} after its end"));
        }
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) const fn slots(&self) -> u64 {
        self.places.len() as u64
    }

    /// The generation of the slot's last command.
    pub(crate) fn generation(&self, slot: Slot) -> Generation {
        self.places.get(slot.0 as usize).map_or(Generation(0), |place| place.generation)
    }

    /// Whether the core must take an event, as things stand.
    pub(crate) fn on_event(&self, event: &Event) -> Verdict {
        let Some(place) = self.places.get(event.slot.0 as usize) else { return Verdict::MustNot };
        if place.generation != event.generation {
            return Verdict::MustNot;
        }
        match (place.stage, &event.outcome) {
            (Stage::Opening, Outcome::Opened)
            | (Stage::Resetting, Outcome::Reset(_))
            | (Stage::Stepping, Outcome::Stepped(_))
            | (Stage::Opening | Stage::Resetting | Stage::Stepping, Outcome::Failed(_)) => {
                Verdict::Must
            }
            (Stage::Idle, Outcome::Failed(failure)) if failure.session == SessionFate::Lost => {
                Verdict::Must
            }
            (Stage::Closing, Outcome::Closed) if self.is_overdue(place) => Verdict::Either,
            (Stage::Closing, Outcome::Closed) => Verdict::Must,
            _ => Verdict::MustNot,
        }
    }

    fn is_overdue(&self, place: &Place) -> bool {
        self.told.since(place.closed_at).as_secs() >= CLOSE_PATIENCE_S
    }

    /// Whether the core must take a decision.
    pub(crate) fn on_decision(&self, slot: Slot, generation: Generation) -> Verdict {
        match self.places.get(slot.0 as usize) {
            Some(place) if place.turn == Some(generation) => Verdict::Must,
            _ => Verdict::MustNot,
        }
    }

    /// Whether the core may take news from an external driver.
    pub(crate) fn on_external(&self, slot: Slot, generation: Generation) -> Verdict {
        match self.places.get(slot.0 as usize) {
            Some(place) if place.is_handed && place.generation == generation => Verdict::Either,
            _ => Verdict::MustNot,
        }
    }

    /// Whether the core may take a score.
    pub(crate) fn on_score(&self, ticket: ScoreTicket) -> Verdict {
        if self.tickets.contains_key(&ticket) { Verdict::Either } else { Verdict::MustNot }
    }

    /// The core has taken a score.
    pub(crate) fn took_score(&mut self, ticket: ScoreTicket, reward: Option<f64>) {
        if let Some(trajectory) = self.tickets.remove(&ticket) {
            self.scores.insert(trajectory, reward);
        }
    }

    /// Whether the session stands, nothing is asked of it, and this was its last command.
    pub(crate) fn is_idle(&self, slot: Slot, generation: Generation) -> bool {
        self.places
            .get(slot.0 as usize)
            .is_some_and(|place| place.stage == Stage::Idle && place.generation == generation)
    }

    /// The core is about to take this event.
    pub(crate) fn took_event(&mut self, event: &Event) {
        let Some(place) = self.places.get_mut(event.slot.0 as usize) else { return };
        match &event.outcome {
            Outcome::Opened => place.stage = Stage::Idle,
            Outcome::Reset(observed) | Outcome::Stepped(observed) => {
                place.stage = Stage::Idle;
                place.seen = observed.observation.text().clone();
            }
            Outcome::Failed(failure) if failure.session == SessionFate::Kept => {
                place.stage = Stage::Idle;
                place.is_sound = false;
            }
            _ => place.stage = Stage::Gone,
        }
    }

    /// The core is about to take this decision.
    pub(crate) fn took_decision(&mut self, slot: Slot, action: Option<&Bytes>) {
        if let Some(place) = self.places.get_mut(slot.0 as usize) {
            place.turn = None;
            place.decided = action.cloned();
        }
    }

    /// Numbers a turn; its action carries the number.
    pub(crate) fn number(&mut self, turn: &Turn) -> usize {
        let Turn { job, episode, step, .. } = *turn;
        self.turns.push(Asked { job, episode, step });
        self.turns.len() - 1
    }

    /// What the core is about to be told, as far as more follows from it than the core may see.
    pub(crate) fn told(&mut self, input: &Input) {
        match input {
            Input::Pause(job) => drop(self.paused.insert(*job)),
            Input::Resume(job) => {
                self.paused.remove(job);
                self.slowed.remove(job);
            }
            Input::Slow(job) => {
                self.paused.remove(job);
                self.slowed.entry(*job).or_insert(u64::MAX);
            }
            &Input::PolicyVersion { job, version, in_flight }
                if job.0 < self.jobs && !self.ended.contains(&job) =>
            {
                self.versions.announced(job, version, in_flight, self.told);
            }
            _ => {}
        }
    }

    /// Follows what the core wants done.
    pub(crate) fn observe(&mut self, outputs: &Outputs) {
        for &(slot, generation) in &outputs.cancelled_turns {
            self.cancelled(slot, generation);
        }
        for command in &outputs.commands {
            self.commanded(command);
        }
        for to_score in &outputs.to_score {
            let id = to_score.trajectory.trajectory_id.clone();
            if self.tickets.insert(to_score.ticket, id).is_some() {
                self.violation(|| format!("{:?} is given twice", to_score.ticket));
            }
        }
        for turn in outputs.turns.iter().chain(&outputs.handed) {
            if self.paused.contains(&turn.job) {
                self.violation(|| format!("a turn of job {} while it is paused", turn.job));
            }
            self.asked(turn);
        }
        for turn in &outputs.turns {
            self.places[turn.slot.0 as usize].turn = Some(turn.generation);
        }
        for turn in &outputs.handed {
            self.places[turn.slot.0 as usize].is_handed = true;
        }
    }

    /// Follows what the core has to tell, after the records that came with it.
    pub(crate) fn noted(&mut self, notes: &[Note]) {
        for note in notes {
            let outcome = match *note {
                Note::VersionCurrent { job, .. } | Note::JobEnded(job)
                    if self.ended.contains(&job) =>
                {
                    Err(format!("job {job} has ended before: {note:?}"))
                }
                Note::VersionCurrent { job, version } => {
                    self.versions.is_current(job, version, self.told)
                }
                Note::JobEnded(job) => {
                    self.ended.insert(job);
                    self.versions.is_over(job)
                }
                _ => Ok(()),
            };
            if let Err(what) = outcome {
                self.violation(|| what);
            }
        }
        if let Some(what) = self.versions.overdue() {
            self.violation(|| what);
        }
    }

    /// What must hold of a slot after an event for it was taken.
    pub(crate) fn after_event(&mut self, slot: Slot) {
        let Some(place) = self.places.get(slot.0 as usize) else { return };
        if place.stage == Stage::Gone && place.turn.is_some() {
            self.violation(|| format!("the turn of slot {slot} outlived its session"));
        } else if place.stage == Stage::Idle && !place.is_sound {
            self.violation(|| format!("slot {slot} is kept after a failure"));
        }
    }

    fn cancelled(&mut self, slot: Slot, generation: Generation) {
        let place = self.places.get_mut(slot.0 as usize);
        match place {
            Some(place) if place.turn == Some(generation) => place.turn = None,
            Some(place) if place.is_handed => {}
            _ => self.violation(|| format!("slot {slot} had no turn to be cancelled")),
        }
    }

    fn asked(&mut self, turn: &Turn) {
        let Turn { slot, generation, .. } = *turn;
        let Some(place) = self.places.get(slot.0 as usize) else {
            return self.violation(|| format!("a turn for slot {slot}, which was never opened"));
        };
        let fits = place.stage == Stage::Idle
            && place.is_sound
            && place.generation == generation
            && place.turn.is_none();
        if !fits {
            let place = place.clone();
            self.violation(|| format!("a turn for slot {slot} that does not fit: {place:?}"));
        } else if place.seen != turn.observed.observation.text() {
            self.violation(|| format!("slot {slot} shows an observation that is not its last"));
        }
    }

    fn commanded(&mut self, command: &Command) {
        let Command { slot, generation, ref request } = *command;
        let index = slot.0 as usize;
        if self.places.len() <= index {
            self.places.resize_with(index + 1, Place::default);
        }
        let place = &self.places[index];
        let is_free =
            place.stage == Stage::Gone || place.stage == Stage::Closing && self.is_overdue(place);
        let is_idle = place.stage == Stage::Idle && place.is_sound;
        let stays_within_reuse = self.reuse_max.is_none_or(|most| place.resets < most);
        let fits = match request {
            Request::Open { .. } => is_free,
            Request::Reset { .. } => is_idle && place.turn.is_none() && stays_within_reuse,
            Request::Step { action } => is_idle && place.decided.as_ref() == Some(action),
            Request::Close => {
                !matches!(place.stage, Stage::Gone | Stage::Closing) && place.turn.is_none()
            }
            Request::State | Request::ToolCall { .. } => false,
        };
        if !fits || place.generation.next() != generation {
            let before = place.clone();
            let name = request.name();
            self.violation(|| format!("{name} {generation} does not follow on {slot}: {before:?}"));
        }
        let told = self.told;
        let place = &mut self.places[index];
        place.generation = generation;
        place.decided = None;
        place.is_handed = false;
        match request {
            Request::Open { .. } => {
                *place = Place { generation, is_sound: true, ..Place::default() };
                place.stage = Stage::Opening;
            }
            Request::Reset { .. } => {
                place.resets += 1;
                place.stage = Stage::Resetting;
            }
            Request::Close => {
                place.stage = Stage::Closing;
                place.closed_at = told;
                place.turn = None;
            }
            _ => place.stage = Stage::Stepping,
        }
    }
}
