//! What an episode was worth: between its last step and its end.

use envmill_protocol::{Failure, FailureKind, Phase, record::End};

use crate::{
    Core, Outputs, Score, ScoreTicket, Scored, Scoring, State, Time, ToScore, Trigger,
    alarms::Alarm, episode::EpisodeKey,
};

impl Core {
    /// The episode was played to an end that counts; its session has been released.
    pub(crate) fn played(&mut self, key: EpisodeKey, end: End, outputs: &mut Outputs) {
        let now = self.now;
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        episode.ended_at = Some((now, self.jobs[episode.job].versions.current));
        let server = episode.play.server.map(|server| &self.servers[server.0 as usize].options);
        episode.close_attempt(now, server.map_or("", |server| &server.name), None);
        let job = &mut self.jobs[episode.job];
        let Scoring::External { deadline, .. } = job.options.scoring else {
            return self.scored(key, end, outputs);
        };
        job.scoring += 1;
        self.counts.scoring += 1;
        self.score_serial += 1;
        let ticket = ScoreTicket(u64::from(self.score_serial) << 32 | u64::from(key.0));
        episode.advance(Trigger::ScoringBegan, &mut self.counts);
        episode.ticket = Some(ticket);
        episode.pending = Some(end.clone());
        let trajectory = episode.clone().into_record(
            server.map(|server| (server.name.as_str(), server.fingerprint.as_str())),
            end,
            &self.jobs,
            now,
            self.options.run_started_unix_us,
        );
        outputs.to_score.push(ToScore { ticket, trajectory: Box::new(trajectory) });
        self.alarms.set(deadline.map_or(Time::NEVER, |limit| now + limit), Alarm::Score(ticket));
        self.sweep_alarms();
    }

    /// The episode that waits for this score, if it still does.
    pub(crate) fn awaits_score(&self, ticket: ScoreTicket) -> Option<EpisodeKey> {
        let key = EpisodeKey((ticket.0 & 0xFFFF_FFFF) as u32);
        let episode = self.episodes.get(key.0 as usize)?.as_ref()?;
        (episode.ticket == Some(ticket)).then_some(key)
    }

    /// A score has come.
    pub(crate) fn on_scored(&mut self, scored: Scored, outputs: &mut Outputs) {
        let Some(key) = self.awaits_score(scored.ticket) else {
            self.counts.ignored += 1;
            return;
        };
        let end = self.leave_scoring(key);
        match (scored.result, end) {
            (Ok(Score { reward, components }), Some(end)) => {
                if let Some(episode) = self.episode(key) {
                    episode.score = Some(Score { reward, components });
                }
                self.scored(key, end, outputs);
            }
            (Ok(_), None) => {}
            (Err(message), _) => {
                self.fail_unscored(key, Failure::kept(FailureKind::Scorer, message), outputs);
            }
        }
    }

    /// A score is due and has not come.
    pub(crate) fn on_score_deadline(&mut self, ticket: ScoreTicket, outputs: &mut Outputs) {
        let Some(key) = self.awaits_score(ticket) else { return };
        self.leave_scoring(key);
        let kind = FailureKind::Deadline(Phase::Scoring);
        let failure = Failure::kept(kind, "the scorer has not answered in time");
        self.fail_unscored(key, failure, outputs);
    }

    /// The episode is no longer with the scorer; how it had ended.
    pub(crate) fn leave_scoring(&mut self, key: EpisodeKey) -> Option<End> {
        let episode = self.episodes[key.0 as usize].as_mut()?;
        if episode.state() != State::Scoring {
            return None;
        }
        episode.ticket = None;
        self.jobs[episode.job].scoring -= 1;
        self.counts.scoring -= 1;
        self.wake_at = Time::ZERO;
        episode.pending.take()
    }

    fn fail_unscored(&mut self, key: EpisodeKey, failure: Failure, outputs: &mut Outputs) {
        if let Some(episode) = self.episodes[key.0 as usize].as_mut() {
            episode.advance(Trigger::Fail, &mut self.counts);
        }
        self.record(key, End::Failed(failure), outputs);
    }

    /// The episode's score stands: its group takes note of it, or it is recorded.
    fn scored(&mut self, key: EpisodeKey, end: End, outputs: &mut Outputs) {
        let Some(episode) = self.episodes[key.0 as usize].as_ref() else { return };
        if self.jobs[episode.job].options.group.is_some() {
            self.member_scored(key, end, outputs);
        } else {
            self.conclude(key, end, outputs);
        }
    }

    /// Records an episode that was played and scored.
    pub(crate) fn conclude(&mut self, key: EpisodeKey, end: End, outputs: &mut Outputs) {
        let trigger = match end {
            End::Filtered(_) => Trigger::Filter,
            End::Truncated(_) => Trigger::Truncate,
            _ => Trigger::Complete,
        };
        if let Some(episode) = self.episodes[key.0 as usize].as_mut() {
            episode.advance(trigger, &mut self.counts);
        }
        self.record(key, end, outputs);
    }
}
