//! An episode that has been started and is not recorded yet.

use bytes::Bytes;
use envmill_protocol::{
    EpisodeIndex, Failure, FailureKind, Generated, Observed, PolicyVersion, ResetParameters,
    ServerId, Slot, Trajectory,
    record::{Attempt, ContentHash, Conversation, End, Provenance, Step, Timing, content_hash},
};

use crate::{Counts, Score, ScoreTicket, State, Time, Trigger, job::Job, poison::Suspicion};

/// Where an episode lies in the core's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EpisodeKey(pub(crate) u32);

#[derive(Clone, Debug)]
pub(crate) struct Episode {
    pub(crate) job: usize,
    pub(crate) index: EpisodeIndex,
    /// Its group; without groups, its own number.
    pub(crate) group: u64,
    /// Its number within the group.
    pub(crate) sample: u32,
    /// The place of its task in the set of the job.
    pub(crate) task: Option<u32>,
    pub(crate) policy_seed: u64,
    pub(crate) parameters: ResetParameters,
    state: State,
    /// Past attempts, and at the end the last.
    pub(crate) attempts: Vec<Attempt>,
    /// Sampled tokens of each of these.
    pub(crate) tokens: Vec<u64>,
    pub(crate) started_at: Time,
    /// When it was played to its end, and the job's policy version then; scorers and groups may keep it
    /// longer.
    pub(crate) ended_at: Option<(Time, PolicyVersion)>,
    pub(crate) play: Play,
    /// The same episode a second time, beside this one; whichever ends first is recorded.
    pub(crate) twin: Option<EpisodeKey>,
    /// The hash of its first observation, where groups compare them.
    pub(crate) first_observation: Option<u64>,
    /// What the scorer is to answer with.
    pub(crate) ticket: Option<ScoreTicket>,
    pub(crate) score: Option<Score>,
    /// How it ended, while it waits for its score or for its group.
    pub(crate) pending: Option<End>,
    pub(crate) suspicions: Vec<Suspicion>,
    /// Whether memory is reserved for it alone, which is so without groups.
    pub(crate) has_reserved: bool,
}

/// What belongs to the attempt under way; begun anew with each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Play {
    pub(crate) slot: Option<Slot>,
    pub(crate) server: Option<ServerId>,
    pub(crate) session_serial: u64,
    pub(crate) episode_in_session: u32,
    pub(crate) began_at: Time,
    /// When the episode's own deadline comes.
    pub(crate) deadline: Option<Time>,
    /// Since when its turn waits for the job to go on.
    pub(crate) paused_at: Option<Time>,
    pub(crate) reset_at: Time,
    pub(crate) reset: Option<Observed>,
    pub(crate) steps: Vec<Step>,
    /// What all that was played takes in memory.
    pub(crate) bytes: u64,
    /// Whether it has grown by so much that it is to be compared with the others.
    pub(crate) is_to_be_compared: bool,
    pub(crate) generations: Vec<Generated>,
    /// Messages with commas between, behind the bracket that opens their list; or nothing.
    pub(crate) messages: Vec<u8>,
    pub(crate) sampling: Bytes,
    pub(crate) turn_opened_at: Time,
    /// The action that is out, and how long the policy took for it.
    pub(crate) action: Bytes,
    pub(crate) policy_us: u32,
    pub(crate) policy_version_started: PolicyVersion,
    /// Whether the reset went out: from then on it counts as an attempt.
    pub(crate) is_attempt: bool,
}

impl Episode {
    pub(crate) fn new(
        job: usize,
        index: EpisodeIndex,
        policy_seed: u64,
        parameters: ResetParameters,
        now: Time,
        counts: &mut Counts,
    ) -> Self {
        counts.started += 1;
        counts.episodes_by_state[State::Queued as usize] += 1;
        Self {
            job,
            index,
            group: index.0,
            sample: 0,
            task: None,
            policy_seed,
            parameters,
            state: State::Queued,
            attempts: Vec::new(),
            tokens: Vec::new(),
            started_at: now,
            ended_at: None,
            play: Play::default(),
            twin: None,
            first_observation: None,
            ticket: None,
            score: None,
            pending: None,
            suspicions: Vec::new(),
            has_reserved: false,
        }
    }

    /// The same episode, which is `key`, a second time: queued, without anything that was played of it.
    pub(crate) fn twin_of(&self, key: EpisodeKey) -> Self {
        Self {
            parameters: self.parameters.clone(),
            state: State::Queued,
            attempts: Vec::new(),
            tokens: Vec::new(),
            ended_at: None,
            play: Play::default(),
            twin: Some(key),
            first_observation: None,
            ticket: None,
            score: None,
            pending: None,
            suspicions: Vec::new(),
            has_reserved: false,
            ..*self
        }
    }

    /// What it was worth: the scorer's word, or the sum of the rewards that are not missing.
    pub(crate) fn reward(&self) -> Option<f64> {
        if let Some(score) = &self.score {
            return score.reward;
        }
        let rewards = self.play.reset.iter().map(|observed| &observed.reward);
        rewards
            .chain(self.play.steps.iter().map(Step::reward))
            .filter_map(|reward| reward.value)
            .fold(None, |sum, reward| Some(sum.unwrap_or(0.0) + reward))
    }

    /// Attempts that count against those that there may be.
    pub(crate) fn failed_attempts(&self) -> u64 {
        let paused = FailureKind::Paused.name();
        self.attempts.iter().filter(|attempt| attempt.cause != paused).count() as u64
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// Moves on by the table. False, and nothing happens, if the table has no such move.
    pub(crate) fn advance(&mut self, trigger: Trigger, counts: &mut Counts) -> bool {
        let Some(next) = self.state.on(trigger) else {
            debug_assert!(false, "{trigger:?} cannot happen in {:?}", self.state);
            return false;
        };
        counts.episodes_by_state[self.state as usize] -= 1;
        counts.episodes_by_state[next as usize] += 1;
        self.state = next;
        true
    }

    /// Writes the attempt under way into the list. False if there is none.
    pub(crate) fn close_attempt(
        &mut self,
        now: Time,
        server: &str,
        failure: Option<&Failure>,
    ) -> bool {
        let sampled = self.play.generations.iter().map(|it| it.token_ids.len() as u64);
        if self.play.is_attempt {
            self.tokens.push(sampled.sum());
            self.attempts.push(Attempt {
                server: server.to_owned(),
                started_us: self.play.began_at.as_micros(),
                ended_us: now.as_micros(),
                steps: u32::try_from(self.play.steps.len()).unwrap_or(u32::MAX),
                cause: failure.map_or_else(String::new, |failure| failure.kind.name()),
                message: failure.map_or_else(String::new, |failure| failure.message.clone()),
            });
        }
        std::mem::replace(&mut self.play.is_attempt, false)
    }

    /// The record of this episode. The attempt under way must have been closed.
    pub(crate) fn into_record(
        self,
        server: Option<(&str, &str)>,
        end: End,
        jobs: &[Job],
        now: Time,
        run_started_unix_us: u64,
    ) -> Trajectory {
        let job = &jobs[self.job];
        let reward = self.reward();
        let (ended_at, ended_on) = self.ended_at.unwrap_or((now, job.versions.current));
        let mut play = self.play;
        if !play.messages.is_empty() {
            play.messages.push(b']');
        }
        let (server, fingerprint) = server.unwrap_or_default();
        let conversation = Conversation::of(&play.generations, &play.steps);
        let mut trajectory = Trajectory {
            trajectory_id: job.trajectory_id(self.index),
            job_id: job.options.name.clone(),
            group_id: self.group,
            sample_index: self.sample,
            task_id: job.task_id(self.task),
            environment: job.options.environment_name.clone(),
            branch_id: conversation.branch,
            parent_branch: conversation.parent_branch,
            agent_id: 0,
            seed: self.parameters.seed,
            reset_parameters: self.parameters.text,
            provenance: Provenance {
                server: server.to_owned(),
                session_id: play
                    .server
                    .map_or_else(String::new, |_| format!("session-{}", play.session_serial)),
                episode_in_session: play.episode_in_session,
                environment_fingerprint: fingerprint.to_owned(),
            },
            attempts: self.attempts,
            reset: play.reset,
            steps: play.steps,
            reward,
            reward_components: self.score.map_or_else(Vec::new, |score| score.components),
            end,
            tokens: conversation.tokens,
            generations: play.generations,
            turns: conversation.turns,
            messages: play.messages.into(),
            sampling: play.sampling,
            blobs: Vec::new(),
            metrics: Vec::new(),
            timing: Timing {
                run_started_unix_us,
                started_us: self.started_at.as_micros(),
                reset_us: play.reset_at.as_micros(),
                ended_us: ended_at.as_micros(),
                policy_version_started: play.policy_version_started,
                policy_version_ended: ended_on,
            },
            content_hash: ContentHash::default(),
        };
        trajectory.content_hash = content_hash(&trajectory);
        trajectory
    }
}
