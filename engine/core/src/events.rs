//! What a worker's event does to its session and to the episode on it.

use envmill_protocol::{
    Ended, Event, Observed, Outcome, Phase, SessionFate, Slot,
    record::{End, Step, Truncation},
};

use crate::{
    Core, Latency, Note, Outputs, Time, Trigger, admission::Standing, holding::Load,
    session::Waiting, turns::micros,
};

impl Core {
    pub(crate) fn on_event(&mut self, event: Event, outputs: &mut Outputs) {
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
    pub(crate) fn stop_waiting(&mut self, slot: Slot) {
        let session = &mut self.sessions[slot.0 as usize];
        let waiting = std::mem::replace(&mut session.waiting, Waiting::Nothing);
        self.counts.requests_in_flight -= u32::from(waiting.is_request());
        let known = &mut self.servers[session.server.0 as usize];
        match waiting {
            Waiting::FirstReset => known.constructing -= 1,
            Waiting::Step => known.holding.returned(),
            _ => {}
        }
    }

    /// Takes note that the slot's command was answered.
    pub(crate) fn answered(&mut self, slot: Slot, phase: Phase, outputs: &mut Outputs) {
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
            let session = &self.sessions[slot.0 as usize];
            let took = self.now.since(session.sent_at);
            self.servers[session.server.0 as usize].admission.answered(self.now, took);
        }
        let ended = observed.ended;
        if let Some(failure) = self.take_first(key, observed) {
            self.release(slot, false, outputs);
            return self.fail_attempt(key, failure, phase, outputs);
        }
        let now = self.now;
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        self.counts.attempts += 1;
        episode.play.reset_at = now;
        if self.jobs[episode.job].options.group.is_some() {
            self.see_first_observation(key, outputs);
        }
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        match ended {
            Some(ended) => self.finish(key, end_of(ended), outputs),
            None => {
                episode.advance(Trigger::TurnOpened, &mut self.counts);
                self.open_turn(slot, key, outputs);
            }
        }
    }

    pub(crate) fn on_admitted(&mut self, slot: Slot, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let took = self.now.since(session.opened_at);
        let server = session.server;
        self.stand(slot, Standing::Admitted);
        self.counts.sessions_built += 1;
        let known = &mut self.servers[server.0 as usize];
        known.mortality.has_lived = true;
        let load = Load {
            first_reply: took,
            opening: known.admission.status().opening,
            queueing: known.admission.queueing(),
            fast: self.options.admission.first_reply_target,
        };
        if known.holding.built(self.now, load) {
            self.judge_at = Time::ZERO;
        }
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
        let known = &mut self.servers[server];
        known.admission.stepped(self.now, took);
        known.health.stepped(took);
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let ended = observed.ended;
        let step = Step {
            action: std::mem::take(&mut episode.play.action),
            observed,
            environment_us: micros(took),
            policy_us: episode.play.policy_us,
        };
        let end = match self.take_steps(key, [step]) {
            // What ended it is not in it.
            Some(Truncation::EpisodeBytes) => Some(End::Truncated(Truncation::EpisodeBytes)),
            limit => ended.map(end_of).or(limit.map(End::Truncated)),
        };
        match end {
            Some(end) => self.finish(key, end, outputs),
            None => {
                let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
                episode.advance(Trigger::Stepped, &mut self.counts);
                self.open_turn(slot, key, outputs);
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
