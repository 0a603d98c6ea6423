//! The loop of one point.

mod answers;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

use envmill_protocol::{Command, Event, Request, ServerId, Slot};

use crate::{
    Actions, Load, Measured, Watch,
    load::{LoadError, Look, Mark},
    meter::Meter,
    opening::Window,
    schedule::{Metronome, Schedule},
    session::{Next, Session, State},
};

/// Commands that are sent with one look at the clock.
const CHUNK: usize = 16;
/// How often deadlines are looked at, and the display is moved.
const CHECKED_EVERY: Duration = Duration::from_millis(50);
/// How long closes are waited for.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// How long the other side's ends are waited for, and a pause after them: servers free a place a moment later.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// Sessions by what became of them, and two times.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) admitted: u32,
    pub(crate) refused: u32,
    pub(crate) failed: u32,
    pub(crate) lost: u32,
    pub(crate) last_admitted: u64,
    pub(crate) first_step: u64,
}

/// A point that is being measured.
pub(crate) struct Round<'r, 'a, W, A> {
    load: &'r mut Load<'a, W, A>,
    watch: Option<&'r Watch>,
    look: &'r mut dyn FnMut(Look),
    stage: &'static str,
    sessions: Vec<Session>,
    asked: usize,
    opening: usize,
    waiting: usize,
    window: Window,
    /// Sessions without anything to do, of an open loop: the one that has waited longest first.
    ready: VecDeque<u32>,
    schedule: Option<Schedule>,
    /// Whether answers are followed by requests.
    goes_on: bool,
    batch: Vec<Command>,
    chunk: Vec<Command>,
    events: Vec<Event>,
    checked_at: u64,
    pub(crate) meter: Meter,
    pub(crate) counts: Counts,
    pub(crate) marks: Option<(Mark, Mark)>,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) words: BTreeMap<String, String>,
    pub(crate) not_sent: u64,
    pub(crate) interrupted: bool,
}

impl<'r, 'a, W: Measured, A: Actions> Round<'r, 'a, W, A> {
    pub(crate) fn new(
        load: &'r mut Load<'a, W, A>,
        sessions: u32,
        meter: Meter,
        watch: Option<&'r Watch>,
        look: &'r mut dyn FnMut(Look),
    ) -> Self {
        let window = Window::new(load.plan.servers, load.plan.storm);
        let slots = (load.first_slot + sessions) as usize;
        if load.generations.len() < slots {
            load.generations.resize(slots, Default::default());
        }
        let seed = load.plan.seed ^ u64::from(sessions);
        let schedule = load.plan.open.map(|(rate, arrivals)| Schedule::new(arrivals, rate, seed));
        Self {
            sessions: (0..sessions).map(|_| Session::default()).collect(),
            load,
            watch,
            look,
            stage: "opening",
            asked: 0,
            opening: 0,
            waiting: 0,
            window,
            ready: VecDeque::new(),
            schedule,
            goes_on: false,
            batch: Vec::new(),
            chunk: Vec::with_capacity(CHUNK),
            events: Vec::new(),
            checked_at: 0,
            meter,
            counts: Counts::default(),
            marks: None,
            failures: BTreeMap::new(),
            words: BTreeMap::new(),
            not_sent: 0,
            interrupted: false,
        }
    }

    /// Since the benchmark began, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.load.origin.elapsed().as_nanos() as u64
    }

    /// The whole of it.
    pub(crate) fn play(&mut self) -> Result<(), LoadError> {
        self.open_all();
        if self.alive() > 0 && !self.interrupted {
            self.step_all()?;
        }
        self.close_all();
        Ok(())
    }

    fn alive(&self) -> u32 {
        self.counts.admitted - self.counts.lost
    }

    /// Asks for all sessions, and waits until each has its first reply.
    fn open_all(&mut self) {
        let until = self.now() + nanos(self.load.plan.deadlines.opening);
        while (self.asked < self.sessions.len() || self.opening > 0) && !self.interrupted {
            let now = self.now();
            if now >= until {
                self.give_up_opening();
                break;
            }
            while self.asked < self.sessions.len() && self.opening < self.window.room() {
                self.ask(self.asked);
                self.asked += 1;
            }
            self.pump(until);
        }
    }

    fn ask(&mut self, index: usize) {
        let server = ServerId(index as u32 % self.load.plan.servers.max(1));
        self.opening += 1;
        self.sessions[index].state = State::Opening;
        self.push(index, Request::Open { server });
    }

    /// The time for opening is over: what is under way is closed, and it and the rest have failed.
    fn give_up_opening(&mut self) {
        let seconds = self.load.plan.deadlines.opening.as_secs_f64();
        for index in 0..self.sessions.len() {
            let is_opening = self.sessions[index].state.is_opening();
            if is_opening {
                self.opening -= 1;
                self.close(index);
            }
            if is_opening || self.sessions[index].state == State::Unasked {
                self.counts.failed += 1;
                self.fails("deadline_opening", || {
                    format!("not all sessions were open after {seconds} s")
                });
            }
        }
        self.asked = self.sessions.len();
    }

    /// Steps until the time is over, and waits for the answers that are missing then.
    fn step_all(&mut self) -> Result<(), LoadError> {
        let first = self.now();
        self.counts.first_step = first;
        self.meter.begin(first);
        let _metronome = match &self.schedule {
            Some(schedule) => {
                let at = self.load.origin + Duration::from_nanos(first);
                Some(Metronome::start(schedule.clone(), at, self.load.worker.waker())?)
            }
            None => None,
        };
        (self.stage, self.goes_on) = ("warming up", true);
        for index in 0..self.sessions.len() {
            if self.sessions[index].state == State::Idle {
                self.step(index);
            }
        }
        self.play_until(first + nanos(self.load.plan.warm_up));
        if self.alive() > 0 && !self.interrupted {
            self.stage = "measuring";
            let (from, measure) = (self.now(), self.load.plan.measure);
            for index in 0..self.sessions.len() {
                // What sessions were at before does not count.
                let Session { state, since, .. } = self.sessions[index];
                self.meter.spent(state, since, from);
            }
            self.meter.count(from, measure, self.alive());
            let begin = self.mark();
            self.play_until(from + nanos(measure));
            let until = self.now();
            self.meter.cut(until, self.alive());
            self.marks = Some((begin, self.mark()));
            self.not_sent = self.not_sent_by(from, until);
        } else {
            let now = self.now();
            self.meter.cut(now, self.alive());
        }
        (self.stage, self.goes_on) = ("ending", false);
        while self.waiting > 0 && !self.interrupted {
            self.pump(u64::MAX);
        }
        Ok(())
    }

    fn mark(&self) -> Mark {
        if let Some(watch) = self.watch {
            watch.mark();
        }
        Mark::now(self.load.worker)
    }

    fn play_until(&mut self, until: u64) {
        while self.alive() > 0 && !self.interrupted {
            let now = self.now();
            if now >= until {
                break;
            }
            self.meter.look(now, self.counts.admitted - self.counts.lost);
            self.send_due(now);
            self.pump(until);
        }
    }

    /// Gives the steps that are due to sessions that are free.
    fn send_due(&mut self, now: u64) {
        let first = self.counts.first_step;
        while let Some(schedule) = &mut self.schedule
            && first + schedule.due() <= now
            && let Some(index) = self.ready.pop_front()
        {
            let index = index as usize;
            if self.sessions[index].state == State::Idle {
                self.sessions[index].due_at = first + schedule.take();
                self.send_step(index);
            }
        }
    }

    /// Steps that were due in the part that counts, and are not sent.
    fn not_sent_by(&self, from: u64, until: u64) -> u64 {
        let first = self.counts.first_step;
        self.schedule.as_ref().map_or(0, |rest| {
            rest.until(until.saturating_sub(first)) - rest.until(from.saturating_sub(first))
        })
    }

    /// Closes all that is open, and waits for it.
    fn close_all(&mut self) {
        self.goes_on = false;
        for index in 0..self.sessions.len() {
            let state = self.sessions[index].state;
            if state.is_admitted() || state.is_opening() {
                self.close(index);
            }
        }
        let until = self.now() + nanos(CLOSED_WITHIN);
        while self.sessions.iter().any(|session| session.state == State::Closing)
            && self.now() < until
        {
            self.pump(until);
        }
        if self.sessions.iter().any(|session| session.state == State::Closing) {
            self.load.first_slot += self.sessions.len() as u32;
        }
        let until = self.now() + nanos(SETTLED_WITHIN);
        while !self.load.worker.is_settled() && (self.load.interrupts)() < 2 && self.now() < until {
            self.pump(until);
        }
        let until = self.now() + nanos(PAUSE);
        while self.now() < until {
            self.pump(until);
        }
    }

    /// Sends what is to be sent, waits until something comes, but not beyond `until`, and deals with it.
    fn pump(&mut self, until: u64) {
        self.submit();
        let now = self.now();
        let wait = Duration::from_nanos(until.saturating_sub(now)).min(CHECKED_EVERY);
        let mut events = mem::take(&mut self.events);
        self.load.worker.completions(&mut events, wait);
        let now = self.now();
        for event in events.drain(..) {
            self.event(event, now);
        }
        self.events = events;
        if now.saturating_sub(self.checked_at) >= nanos(CHECKED_EVERY) {
            self.checked_at = now;
            self.check_deadlines(now);
            let (asked, open) = (self.sessions.len() as u32, self.alive());
            let refused = self.counts.refused + self.counts.failed;
            (self.look)(Look { stage: self.stage, asked, open, refused });
        }
        self.interrupted |= (self.load.interrupts)() > 0;
    }

    fn submit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut batch = mem::take(&mut self.batch);
        let mut now = 0;
        for command in batch.drain(..) {
            if self.chunk.is_empty() {
                now = self.now();
            }
            let index = (command.slot.0 - self.load.first_slot) as usize;
            self.sent(index, now);
            self.chunk.push(command);
            if self.chunk.len() == CHUNK {
                self.load.worker.submit(&mut self.chunk);
            }
        }
        self.batch = batch;
        if !self.chunk.is_empty() {
            self.load.worker.submit(&mut self.chunk);
        }
    }

    fn sent(&mut self, index: usize, now: u64) {
        let is_closed = self.schedule.is_none();
        let session = &mut self.sessions[index];
        session.sent_at = now;
        let state = match session.state {
            State::Opening => {
                session.asked_at = now;
                return;
            }
            State::Turn(Next::FirstReset) => State::FirstReset,
            State::Turn(Next::Step) => State::Stepping,
            State::Turn(Next::Reset) => State::Resetting,
            _ => return,
        };
        if is_closed || state != State::Stepping {
            session.due_at = now;
        }
        self.waiting += usize::from(state.is_waiting());
        self.enter(index, state, now);
    }

    fn enter(&mut self, index: usize, state: State, now: u64) {
        let session = &mut self.sessions[index];
        let (before, since) = (session.state, session.since);
        (session.state, session.since) = (state, now);
        self.meter.spent(before, since, now);
    }

    fn push(&mut self, index: usize, request: Request) {
        let slot = self.load.first_slot + index as u32;
        let generation = self.load.generations[slot as usize].next();
        self.load.generations[slot as usize] = generation;
        self.sessions[index].generation = generation;
        self.batch.push(Command { slot: Slot(slot), generation, request });
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
