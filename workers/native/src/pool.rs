//! An environment together with the columns it is lent: rows that sessions act on one by one and
//! that are stepped in ranges.

use std::{mem, ops::Range, time::Duration};

use bytes::Bytes;
use envmill_protocol::{Ended, Failure, FailureKind, Observed, Reward};

use crate::{Columns, Invalid, JsonEdge, Moment, Reset, json};

/// What a range of rows can do, whatever the environment: one virtual call a range or a row, never
/// one in the hot loop.
pub(crate) trait Rows: Send {
    /// Grows to `rows` rows.
    fn grow(&mut self, rows: usize);

    /// Puts the reset that `text` describes into the row's column.
    fn stage_reset(&mut self, row: usize, text: &[u8]) -> Result<(), Invalid>;

    /// Stages the reset of a session that has not been given any: drawn from `seed`.
    fn stage_default(&mut self, row: usize, seed: u64);

    /// Puts the action that `text` describes into the row's column.
    fn stage_action(&mut self, row: usize, text: &[u8]) -> Result<(), Invalid>;

    /// Resets every row of the range as staged.
    fn reset(&mut self, rows: Range<usize>);

    /// Steps every row of the range with the staged actions.
    fn step(&mut self, rows: Range<usize>);

    /// What the row's last reset shows.
    fn observed_reset(&mut self, row: usize) -> Observed;

    /// What the row's last step shows, or how it failed; and after how long.
    fn observed_step(&mut self, row: usize) -> (Result<Observed, Failure>, Duration);

    /// Appends the environment's members of the state object, each with a leading comma.
    fn write_state(&self, row: usize, out: &mut Vec<u8>);
}

/// The columns belong to the pool; the environment is lent them for each call.
pub(crate) struct Pool<E: JsonEdge> {
    environment: E,
    actions: Vec<E::Action>,
    resets: Vec<Reset<E::Start>>,
    /// All ones: a session's reset never masks.
    every: Vec<u8>,
    observations: Vec<E::Element>,
    rewards: Vec<f64>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
    failed: Vec<u8>,
    delays_ns: Vec<u64>,
    scratch: Vec<u8>,
}

/// A scratch buffer that grew beyond this for one large observation is given back.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

impl<E: JsonEdge> Pool<E> {
    pub(crate) fn new(environment: E) -> Self {
        Self {
            environment,
            actions: Vec::new(),
            resets: Vec::new(),
            every: Vec::new(),
            observations: Vec::new(),
            rewards: Vec::new(),
            terminated: Vec::new(),
            truncated: Vec::new(),
            failed: Vec::new(),
            delays_ns: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The row's answer as one allocation: observation, reward and metadata are slices of it.
    fn observed(&mut self, row: usize, moment: Moment, reward: Option<f64>) -> Observed {
        let width = E::OBSERVATION_WIDTH;
        let observation = &self.observations[row * width..(row + 1) * width];
        let mut out = mem::take(&mut self.scratch);
        out.clear();

        out.extend_from_slice(b"{\"metadata\":{");
        let inner = out.len();
        self.environment.write_metadata(row, moment, &mut out);
        let has_metadata = out.len() > inner;
        out.push(b'}');
        let metadata = inner - 1..out.len();
        let before = out.len();
        out.push(b',');
        self.environment.write_observation(row, observation, moment, &mut out);
        if out.len() == before + 1 {
            out.pop();
        }
        out.push(b'}');
        let end = out.len();
        match reward {
            Some(reward) => json::write_f64(reward, &mut out),
            None => out.extend_from_slice(b"null"),
        }

        let whole = Bytes::copy_from_slice(&out);
        if out.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch = out;
        }
        let ended = match moment {
            Moment::Step { ended: true, truncated: true } => Some(Ended::Truncated),
            Moment::Step { ended: true, truncated: false } => Some(Ended::Terminated),
            Moment::Step { .. } | Moment::Reset => None,
        };
        Observed {
            observation: whole.slice(..end).into(),
            reward: Reward {
                value: reward.filter(|reward| reward.is_finite()),
                raw: whole.slice(end..),
            },
            metadata: if has_metadata { whole.slice(metadata) } else { Bytes::new() },
            ended,
        }
    }
}

impl<E: JsonEdge> Rows for Pool<E> {
    fn grow(&mut self, rows: usize) {
        self.environment.resize(rows);
        self.actions.resize_with(rows, Default::default);
        self.resets.resize_with(rows, Default::default);
        self.every.resize(rows, 1);
        self.observations.resize(rows * E::OBSERVATION_WIDTH, E::Element::default());
        self.rewards.resize(rows, 0.0);
        self.terminated.resize(rows, 0);
        self.truncated.resize(rows, 0);
        self.failed.resize(rows, 0);
        self.delays_ns.resize(rows, 0);
    }

    fn stage_reset(&mut self, row: usize, text: &[u8]) -> Result<(), Invalid> {
        self.resets[row] = self.environment.decode_reset(text)?;
        Ok(())
    }

    fn stage_default(&mut self, row: usize, seed: u64) {
        self.resets[row] = Reset { seed: Some(seed), start: E::Start::default() };
    }

    fn stage_action(&mut self, row: usize, text: &[u8]) -> Result<(), Invalid> {
        self.actions[row] = self.environment.decode_action(text)?;
        Ok(())
    }

    fn reset(&mut self, rows: Range<usize>) {
        let width = E::OBSERVATION_WIDTH;
        self.environment.reset_range(
            rows.clone(),
            &self.every[rows.clone()],
            &self.resets[rows.clone()],
            &mut self.observations[rows.start * width..rows.end * width],
        );
    }

    fn step(&mut self, rows: Range<usize>) {
        let width = E::OBSERVATION_WIDTH;
        let mut out = Columns {
            observations: &mut self.observations[rows.start * width..rows.end * width],
            rewards: &mut self.rewards[rows.clone()],
            terminated: &mut self.terminated[rows.clone()],
            truncated: &mut self.truncated[rows.clone()],
            failed: &mut self.failed[rows.clone()],
            delays_ns: &mut self.delays_ns[rows.clone()],
        };
        self.environment.step_range(rows.clone(), &self.actions[rows], &mut out);
    }

    fn observed_reset(&mut self, row: usize) -> Observed {
        let reward = self.environment.reset_reward();
        self.observed(row, Moment::Reset, reward)
    }

    fn observed_step(&mut self, row: usize) -> (Result<Observed, Failure>, Duration) {
        let delay = Duration::from_nanos(self.delays_ns[row]);
        if self.failed[row] != 0 {
            let message = self.environment.failure(row);
            return (Err(Failure::kept(FailureKind::Environment, message)), delay);
        }
        // An episode that ends by itself on its last allowed step has ended by itself.
        let terminated = self.terminated[row] != 0;
        let cut = self.truncated[row] != 0;
        let moment = Moment::Step { ended: terminated || cut, truncated: cut && !terminated };
        let reward = self.rewards[row];
        (Ok(self.observed(row, moment, Some(reward))), delay)
    }

    fn write_state(&self, row: usize, out: &mut Vec<u8>) {
        self.environment.write_state(row, out);
    }
}
