//! An environment that does nothing but take time, send bytes and fail, as told.

use std::{ops::Range, time::Duration};

use serde_json::json;

use crate::{BatchEnv, Columns, Invalid, JsonEdge, Moment, Reset, Schemas, json as text, random};

/// The exponent of the tail: a slowed step takes `u^(-1/1.5)` times as long, `u` uniform in (0, 1].
const TAIL_EXPONENT: f64 = 1.5;

/// The most that the tail slows a step: this many times.
const TAIL_FACTOR_MAX: f64 = 100.0;

/// The largest action value.
const VALUE_MAX: i64 = 255;

/// What [`Synthetic`] simulates. All draws come from the episode's seed.
#[derive(Clone, Debug, PartialEq)]
pub struct SyntheticOptions {
    /// How long a step takes before jitter and tail. At most an hour.
    pub step: Duration,
    /// Each step's time is multiplied by a factor uniform in `[1 - jitter, 1 + jitter]`; in `[0, 1]`.
    pub jitter: f64,
    /// The probability that a step is slowed by a Pareto factor (exponent 1.5, at most 100); in
    /// `[0, 1]`.
    pub tail: f64,
    /// The length of the observation's `payload`, in bytes. At most 64 MiB.
    pub payload_bytes: usize,
    /// The probability that a step fails with an error of the environment; in `[0, 1]`.
    pub fail_rate: f64,
    /// The mean length of an episode: lengths are uniform in `1..=2 × mean - 1`. At least 1.
    pub episode_steps: u32,
}

impl Default for SyntheticOptions {
    fn default() -> Self {
        Self {
            step: Duration::ZERO,
            jitter: 0.0,
            tail: 0.0,
            payload_bytes: 0,
            fail_rate: 0.0,
            episode_steps: 50,
        }
    }
}

/// A stand-in for any environment: step time with jitter and a heavy tail, payload size, failure rate
/// and episode length by option. Observation `{"step", "value", "payload"}`, reward 1.
#[derive(Debug)]
pub struct Synthetic {
    options: SyntheticOptions,
    random: Vec<u64>,
    steps: Vec<u32>,
    lengths: Vec<u32>,
    values: Vec<u8>,
}

impl Synthetic {
    /// An environment of these options, without rows.
    #[must_use]
    pub const fn new(options: SyntheticOptions) -> Self {
        Self {
            options,
            random: Vec::new(),
            steps: Vec::new(),
            lengths: Vec::new(),
            values: Vec::new(),
        }
    }

    fn begin(&mut self, row: usize, seed: Option<u64>) {
        let mut random = seed.map_or(self.random[row], random::seeded);
        let mean = self.options.episode_steps.max(1);
        let lengths = (u64::from(mean) * 2 - 1) as f64;
        self.lengths[row] = 1 + (random::unit(&mut random) * lengths) as u32;
        self.steps[row] = 0;
        self.values[row] = 0;
        self.random[row] = random;
    }
}

impl BatchEnv for Synthetic {
    /// A number from 0 to 255 that comes back in the observation.
    type Action = u8;
    type Start = ();
    type Element = f32;

    const OBSERVATION_WIDTH: usize = 0;

    fn rows(&self) -> usize {
        self.random.len()
    }

    fn resize(&mut self, rows: usize) {
        let old = self.rows();
        self.random.resize(rows, 0);
        self.steps.resize(rows, 0);
        self.lengths.resize(rows, 0);
        self.values.resize(rows, 0);
        for row in old..rows {
            self.begin(row, Some(row as u64));
        }
    }

    fn reset_range(
        &mut self,
        rows: Range<usize>,
        which: &[u8],
        resets: &[Reset<()>],
        _observations: &mut [f32],
    ) {
        for (i, row) in rows.enumerate() {
            if which[i] != 0 {
                self.begin(row, resets[i].seed);
            }
        }
    }

    fn step_range(&mut self, rows: Range<usize>, actions: &[u8], out: &mut Columns<'_, f32>) {
        let SyntheticOptions { step, jitter, tail, fail_rate, .. } = self.options;
        let step_ns = step.as_nanos() as f64;
        for (i, row) in rows.enumerate() {
            let random = &mut self.random[row];
            // Always the same draws in the same order: one option does not shift another's.
            let (jittered, tailed, stretch, failed) = (
                random::unit(random),
                random::unit(random),
                random::unit(random),
                random::unit(random),
            );
            let factor = if tailed < tail {
                (1.0 - stretch).powf(-1.0 / TAIL_EXPONENT).min(TAIL_FACTOR_MAX)
            } else {
                1.0
            };
            let failed = u8::from(failed < fail_rate);
            self.steps[row] = self.steps[row].saturating_add(1);
            self.values[row] = actions[i];
            out.delays_ns[i] = (step_ns * (1.0 + jitter * (jittered * 2.0 - 1.0)) * factor) as u64;
            out.failed[i] = failed;
            out.rewards[i] = 1.0;
            out.terminated[i] = u8::from(self.steps[row] >= self.lengths[row]);
        }
        out.truncated.fill(0);
    }
}

impl JsonEdge for Synthetic {
    fn decode_action(&self, action: &[u8]) -> Result<u8, Invalid> {
        let mut chosen = 0;
        text::object(action, |key, value, invalid| match key {
            "value" => match text::integer(key, value, invalid) {
                Some(number @ 0..=VALUE_MAX) => chosen = number as u8,
                Some(number) if number < 0 => {
                    let message = "Input should be greater than or equal to 0";
                    invalid.push("greater_than_equal", key, message, value);
                }
                Some(_) => {
                    let message = "Input should be less than or equal to 255";
                    invalid.push("less_than_equal", key, message, value);
                }
                None => {}
            },
            "metadata" => text::metadata(value, invalid),
            _ => text::extra(key, value, invalid),
        })?;
        Ok(chosen)
    }

    fn decode_reset(&self, parameters: &[u8]) -> Result<Reset<()>, Invalid> {
        let mut reset = Reset::default();
        text::object(parameters, |key, value, _| {
            if key == "seed" {
                reset.seed = text::seed(value);
            }
        })?;
        Ok(reset)
    }

    fn write_observation(&self, row: usize, _: &[f32], _: Moment, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"step\":");
        text::write_u64(self.steps[row].into(), out);
        out.extend_from_slice(b",\"value\":");
        text::write_u64(self.values[row].into(), out);
        out.extend_from_slice(b",\"payload\":\"");
        let digits = random::mix(self.random[row]).to_le_bytes();
        let block = digits.map(|byte| b'a' + (byte & 15));
        let start = out.len();
        let end = start + self.options.payload_bytes;
        while out.len() < end {
            // Doubling what is there keeps large payloads at the speed of a copy.
            let have = out.len() - start;
            if have == 0 {
                out.extend_from_slice(&block[..block.len().min(end - start)]);
            } else {
                out.extend_from_within(start..start + have.min(end - out.len()));
            }
        }
        out.push(b'"');
    }

    fn write_metadata(&self, _row: usize, moment: Moment, out: &mut Vec<u8>) {
        if matches!(moment, Moment::Step { ended: true, .. }) {
            out.extend_from_slice(b"\"truncated\":false");
        }
    }

    fn write_state(&self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"episode_steps\":");
        text::write_u64(self.lengths[row].into(), out);
    }

    fn failure(&self, row: usize) -> String {
        format!("synthetic failure at step {}", self.steps[row])
    }

    fn schemas(&self) -> Schemas {
        Schemas::new(
            "Synthetic",
            json!({ "value": {
                "default": 0,
                "description": "Comes back in the observation",
                "maximum": VALUE_MAX,
                "minimum": 0,
                "title": "Value",
                "type": "integer",
            }}),
            &[],
            json!({
                "step": { "default": 0, "title": "Step", "type": "integer" },
                "value": { "default": 0, "title": "Value", "type": "integer" },
                "payload": { "default": "", "title": "Payload", "type": "string" },
            }),
            json!({ "episode_steps": {
                "default": 0,
                "description": "Length of the current episode",
                "title": "Episode Steps",
                "type": "integer",
            }}),
        )
    }
}
