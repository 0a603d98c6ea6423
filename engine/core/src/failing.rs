//! Failures and deadlines: what they say about the server, and whether the episode is tried again.

use envmill_protocol::{
    Failure, FailureKind, Phase, SessionFate, Slot,
    record::{End, Truncation},
};

use crate::{
    Core, Note, Outputs, State, Time, Trigger,
    admission::Standing,
    episode::{EpisodeKey, Play},
    retrying::Verdict,
    session::Waiting,
};

impl Core {
    /// A command failed, or a session was lost while nothing was asked of it.
    pub(crate) fn on_failed(&mut self, slot: Slot, failure: Failure, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let (waiting, key) = (session.waiting, session.episode);
        let phase = waiting.phase();
        let refused = self.learn(slot, waiting, &failure, outputs);
        if let Some(key) = key
            && !refused
        {
            self.blame(key, slot, waiting, &failure, outputs);
        }
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
            if matches!(failure.kind, FailureKind::Unreachable | FailureKind::Disconnected) {
                self.server_died(server);
            }
            self.relieve(server);
        }
        waiting == Waiting::Open || failure.kind == FailureKind::Factory
    }

    /// Holds a failed attempt against its server, and a broken connection against its task.
    fn blame(
        &mut self,
        key: EpisodeKey,
        slot: Slot,
        waiting: Waiting,
        failure: &Failure,
        outputs: &mut Outputs,
    ) {
        let server = self.sessions[slot.0 as usize].server;
        self.attempt_ended(server, slot, Some(failure.kind), outputs);
        let was_cut =
            matches!(failure.kind, FailureKind::Closed { .. } | FailureKind::Disconnected);
        if was_cut && waiting.is_request() && waiting != Waiting::Open {
            self.suspect(key, server);
        }
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
                if play.paused_at.is_some() {
                    return self.give_up_paused(slot, key, outputs);
                }
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
                if !refused {
                    self.blame(key, slot, waiting, &failure, outputs);
                }
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

    /// Gives up an attempt: the episode is tried again, or ends. Its session has been released.
    pub(crate) fn fail_attempt(
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
        let was_sent = episode.play.is_attempt;
        episode.close_attempt(self.now, name, Some(&failure));
        episode.play.slot = None;
        let twin = episode.twin;
        self.jobs[episode.job].leave(self.now);
        self.wake_at = Time::ZERO;
        if let Some(twin) = twin {
            // The other attempt goes on as the only one.
            self.merge_into(key, twin);
            outputs.notes.push(Note::AttemptFailed { server, failure });
            return;
        }
        match self.verdict(key, server, failure, phase, was_sent, outputs) {
            Verdict::Again { failure, pause } => {
                self.try_again(key, pause);
                outputs.notes.push(Note::AttemptFailed { server, failure });
            }
            Verdict::Truncate => {
                if let Some(episode) = self.episodes[key.0 as usize].as_mut() {
                    episode.advance(Trigger::Ended, &mut self.counts);
                }
                self.played(key, End::Truncated(Truncation::EnvironmentError), outputs);
            }
            Verdict::Fail(failure) => {
                if let Some(episode) = self.episodes[key.0 as usize].as_mut() {
                    episode.advance(Trigger::Fail, &mut self.counts);
                }
                if failure.kind == FailureKind::Poison {
                    self.record_poison(key, failure, outputs);
                } else {
                    self.record(key, End::Failed(failure), outputs);
                }
            }
        }
    }

    /// Puts an episode back whose session was refused before it began.
    fn refuse(&mut self, key: EpisodeKey) {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        episode.advance(Trigger::Refused, &mut self.counts);
        episode.play = Play::default();
        let job = &mut self.jobs[episode.job];
        job.leave(self.now);
        self.wake_at = Time::ZERO;
        job.queue.push_front(key);
    }
}
