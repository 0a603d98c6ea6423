//! The content hash: what was played, never when, where or on which attempt.

use std::fmt;

use crate::{
    Observed,
    record::{End, Trajectory},
};

/// A 128-bit hash of a trajectory's content; shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 16]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The hash of what was played: task, seed, reset parameters, actions, observations, metadata,
/// rewards as received, tokens and the end with its cause. Timings, placement, ids and attempts do
/// not count, so the same play has the same hash over every path.
///
/// BLAKE3, cut to 128 bits, over each part's length (u64, little-endian) and bytes in that order.
#[must_use]
pub fn content_hash(trajectory: &Trajectory) -> ContentHash {
    let mut parts = Parts::new();
    parts.bytes(trajectory.task_id.as_bytes());
    parts.bytes(trajectory.seed.map(u64::to_le_bytes).as_ref().map_or(&[], |seed| &seed[..]));
    parts.bytes(&trajectory.reset_parameters);
    match &trajectory.reset {
        Some(observed) => parts.observed(observed),
        None => parts.bytes(b"no reset"),
    }
    parts.number(trajectory.steps.len());
    for step in &trajectory.steps {
        parts.bytes(&step.action);
        parts.observed(&step.observed);
    }
    let tokens = &trajectory.tokens;
    parts.number(tokens.token_ids.len());
    for id in &tokens.token_ids {
        parts.raw(&id.to_le_bytes());
    }
    parts.bytes(&tokens.loss_mask);
    parts.number(tokens.logprobs.len());
    for logprob in &tokens.logprobs {
        parts.raw(&logprob.to_le_bytes());
    }
    parts.bytes(trajectory.end.name().as_bytes());
    match &trajectory.end {
        // A failure's message may name a port or a time; its kind does not.
        End::Failed(failure) => parts.bytes(failure.kind.name().as_bytes()),
        end => parts.bytes(end.cause().as_bytes()),
    }
    parts.hash()
}

/// A hash of an observation as it was received, to compare the first ones of a group by: 64 bits of
/// its BLAKE3 hash.
#[must_use]
pub fn observation_hash(observation: &[u8]) -> u64 {
    let mut short = [0; 8];
    short.copy_from_slice(&blake3::hash(observation).as_bytes()[..8]);
    u64::from_be_bytes(short)
}

/// How much is gathered before it is hashed, in bytes: BLAKE3 is several times faster on pieces of
/// many kilobytes than on the hundred bytes of one part.
const PIECE_BYTES: usize = 32 * 1024;

/// The parts of a record on their way into the hash.
struct Parts {
    hasher: blake3::Hasher,
    /// At most [`PIECE_BYTES`].
    gathered: Vec<u8>,
}

impl Parts {
    fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), gathered: Vec::with_capacity(PIECE_BYTES) }
    }

    fn raw(&mut self, mut bytes: &[u8]) {
        while self.gathered.len() + bytes.len() >= PIECE_BYTES {
            let (fits, rest) = bytes.split_at(PIECE_BYTES - self.gathered.len());
            self.gathered.extend_from_slice(fits);
            self.hasher.update(&self.gathered);
            self.gathered.clear();
            bytes = rest;
        }
        self.gathered.extend_from_slice(bytes);
    }

    fn number(&mut self, n: usize) {
        self.raw(&(n as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.raw(bytes);
    }

    fn observed(&mut self, observed: &Observed) {
        self.bytes(&observed.observation);
        self.bytes(&observed.reward.raw);
        self.bytes(&observed.metadata);
    }

    fn hash(mut self) -> ContentHash {
        self.hasher.update(&self.gathered);
        let mut short = [0; 16];
        short.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
        ContentHash(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Ended, Failure, FailureKind, PolicyVersion, Reward,
        record::{Attempt, Cancellation, Provenance, Step, Timing, Tokens, Truncation},
    };

    fn observed(observation: &'static str, reward: &'static str) -> Observed {
        Observed {
            observation: observation.into(),
            reward: Reward::from_raw(reward.into()),
            ..Observed::default()
        }
    }

    fn played() -> Trajectory {
        let step = |action: &'static str, observed| Step {
            action: action.into(),
            observed,
            environment_us: 1,
            policy_us: 2,
        };
        Trajectory {
            trajectory_id: "a".into(),
            job_id: "b".into(),
            group_id: 0,
            sample_index: 0,
            task_id: "task".into(),
            environment: "maze".into(),
            branch_id: 0,
            parent_branch: None,
            agent_id: 0,
            seed: Some(7),
            reset_parameters: r#"{"seed":7}"#.into(),
            provenance: Provenance::default(),
            attempts: Vec::new(),
            reset: Some(observed("{}", "null")),
            steps: vec![
                step(r#"{"n":1}"#, observed(r#"{"x":1}"#, "0.5")),
                step(r#"{"n":2}"#, observed(r#"{"x":2}"#, "1.0")),
            ],
            reward: Some(1.5),
            reward_components: Vec::new(),
            end: End::Completed { mapped: true },
            tokens: Tokens {
                token_ids: vec![1, 2],
                prompt_len: 1,
                loss_mask: vec![0, 1],
                logprobs: vec![0.0, -0.5],
                policy_versions: Vec::new(),
            },
            generations: Vec::new(),
            turns: Vec::new(),
            messages: "".into(),
            sampling: "".into(),
            blobs: Vec::new(),
            metrics: Vec::new(),
            timing: Timing::default(),
            content_hash: ContentHash::default(),
        }
    }

    fn hash_after(change: impl FnOnce(&mut Trajectory)) -> ContentHash {
        let mut trajectory = played();
        change(&mut trajectory);
        content_hash(&trajectory)
    }

    #[test]
    fn when_where_and_on_which_attempt_do_not_count() {
        let elsewhere = hash_after(|it| {
            it.trajectory_id = "z".into();
            it.job_id = "y".into();
            it.group_id = 9;
            it.sample_index = 3;
            it.provenance = Provenance {
                server: "ws://elsewhere".into(),
                session_id: "s".into(),
                episode_in_session: 5,
                environment_fingerprint: "f".into(),
            };
            it.attempts = vec![Attempt {
                server: "ws://gone".into(),
                started_us: 1,
                ended_us: 2,
                steps: 1,
                cause: "disconnected".into(),
                message: "gone".into(),
            }];
            it.steps[0].environment_us = 77;
            it.steps[1].policy_us = 78;
            it.timing.ended_us = 79;
            it.timing.policy_version_ended = PolicyVersion(3);
            it.metrics = vec![("seconds".into(), 1.0)];
            it.content_hash = ContentHash([1; 16]);
        });
        assert_eq!(elsewhere, content_hash(&played()));
        assert_eq!(elsewhere.to_string().len(), 32);
    }

    #[test]
    fn a_failure_counts_by_its_kind_and_not_by_its_words() {
        let failed = |kind, message: &str| {
            let failure = Failure::lost(kind, message);
            hash_after(|it| it.end = End::Failed(failure))
        };
        let disconnected = failed(FailureKind::Disconnected, "port 4711");
        assert_eq!(disconnected, failed(FailureKind::Disconnected, "port 4712"));
        assert_ne!(disconnected, failed(FailureKind::Closed { code: 1000 }, "port 4711"));
    }

    #[test]
    fn every_part_of_the_play_counts() {
        let mut hashes = vec![
            content_hash(&played()),
            hash_after(|it| it.task_id = "other".into()),
            hash_after(|it| it.seed = Some(8)),
            hash_after(|it| it.seed = None),
            hash_after(|it| it.reset_parameters = "".into()),
            hash_after(|it| it.reset = None),
            hash_after(|it| it.reset = Some(Observed::default())),
            hash_after(|it| it.steps[0].action = r#"{"n": 1}"#.into()),
            hash_after(|it| it.steps[1].observed.observation = r#"{"x":3}"#.into()),
            hash_after(|it| it.steps[1].observed.reward = Reward::from_raw("1".into())),
            hash_after(|it| it.steps[1].observed.reward = Reward::from_raw("null".into())),
            hash_after(|it| it.steps[1].observed.reward = Reward::default()),
            hash_after(|it| it.steps[1].observed.metadata = "{}".into()),
            hash_after(|it| it.steps.swap(0, 1)),
            hash_after(|it| drop(it.steps.pop())),
            hash_after(|it| it.tokens.token_ids[1] = 3),
            hash_after(|it| it.tokens.loss_mask[1] = 0),
            hash_after(|it| it.tokens.logprobs[1] = -0.25),
            hash_after(|it| it.tokens.logprobs.clear()),
            hash_after(|it| it.end = End::Completed { mapped: false }),
            hash_after(|it| it.end = End::Truncated(Truncation::MaxSteps)),
            hash_after(|it| it.end = End::Truncated(Truncation::Environment)),
            hash_after(|it| it.end = End::Cancelled(Cancellation::Drained)),
            hash_after(|it| it.end = End::Stale),
            hash_after(|it| it.end = End::Filtered("short".into())),
        ];
        let all = hashes.len();
        hashes.sort_by_key(|hash| hash.0);
        hashes.dedup();
        assert_eq!(hashes.len(), all);
    }

    #[test]
    fn gathering_does_not_change_the_hash() {
        for length in [0, 1, PIECE_BYTES - 9, PIECE_BYTES - 8, 3 * PIECE_BYTES + 1] {
            let text: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            let mut parts = Parts::new();
            parts.bytes(&text);
            parts.bytes(b"end");
            let mut whole = (length as u64).to_le_bytes().to_vec();
            whole.extend_from_slice(&text);
            whole.extend_from_slice(&3u64.to_le_bytes());
            whole.extend_from_slice(b"end");
            assert_eq!(parts.hash().0, blake3::hash(&whole).as_bytes()[..16]);
        }
    }

    #[test]
    fn bytes_do_not_move_between_parts() {
        let left = hash_after(|it| {
            it.steps[0].action = "ab".into();
            it.steps[0].observed.observation = "c".into();
        });
        let right = hash_after(|it| {
            it.steps[0].action = "a".into();
            it.steps[0].observed.observation = "bc".into();
        });
        assert_ne!(left, right);
    }

    #[test]
    fn how_a_step_says_that_it_ended_counts_through_the_end() {
        let said = hash_after(|it| it.steps[1].observed.ended = Some(Ended::Terminated));
        assert_eq!(said, content_hash(&played()));
    }
}
