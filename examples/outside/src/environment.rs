//! The environment: a number is thought of, and guesses are told whether it is higher or lower.

use std::ops::Range;

use bytes::Bytes;
use envmill_native::{BatchEnv, Columns, Invalid, JsonEdge, Moment, Reset, Schemas};
use serde::Deserialize;

/// Numbers that are thought of are below this.
pub const NUMBERS: u32 = 1024;

/// Action `{"guess": 512}`, observation `{"hint": "lower", "numbers": 1024}`; the reward is 1 for the right
/// guess, which ends the episode, and 0 for any other.
#[derive(Default)]
pub struct Guessing {
    secrets: Vec<u32>,
    guesses: Vec<u32>,
}

impl BatchEnv for Guessing {
    type Action = u32;
    type Start = ();
    type Element = f32;

    const OBSERVATION_WIDTH: usize = 0;

    fn rows(&self) -> usize {
        self.secrets.len()
    }

    fn resize(&mut self, rows: usize) {
        self.secrets.resize(rows, 0);
        self.guesses.resize(rows, 0);
    }

    fn reset_range(
        &mut self,
        rows: Range<usize>,
        which: &[u8],
        resets: &[Reset<()>],
        _: &mut [f32],
    ) {
        for (index, row) in rows.enumerate().filter(|(index, _)| which[*index] != 0) {
            // Without a seed another number than the last.
            let seed = resets[index].seed.unwrap_or(u64::from(self.secrets[row]) + 1);
            let mixed = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            self.secrets[row] = (mixed >> 32) as u32 % NUMBERS;
        }
    }

    fn step_range(&mut self, rows: Range<usize>, actions: &[u32], out: &mut Columns<'_, f32>) {
        for (index, row) in rows.enumerate() {
            self.guesses[row] = actions[index];
            let is_found = self.secrets[row] == actions[index];
            out.rewards[index] = f64::from(u8::from(is_found));
            out.terminated[index] = u8::from(is_found);
        }
        out.truncated.fill(0);
        out.failed.fill(0);
        out.delays_ns.fill(0);
    }
}

#[derive(Deserialize)]
struct Action {
    guess: u32,
}

#[derive(Default, Deserialize)]
struct Parameters {
    seed: Option<u64>,
}

fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Invalid> {
    serde_json::from_slice(text).map_err(|error| {
        let mut invalid = Invalid::default();
        invalid.push("value_error", "", error.to_string(), &String::from_utf8_lossy(text));
        invalid
    })
}

impl JsonEdge for Guessing {
    fn decode_action(&self, text: &[u8]) -> Result<u32, Invalid> {
        read(text).map(|Action { guess }| guess)
    }

    fn decode_reset(&self, text: &[u8]) -> Result<Reset<()>, Invalid> {
        let Parameters { seed } = if text.is_empty() { Parameters::default() } else { read(text)? };
        Ok(Reset { seed, start: () })
    }

    fn write_observation(&self, row: usize, _: &[f32], moment: Moment, out: &mut Vec<u8>) {
        let hint = match moment {
            Moment::Reset => "guess",
            Moment::Step { .. } => match self.guesses[row].cmp(&self.secrets[row]) {
                std::cmp::Ordering::Less => "higher",
                std::cmp::Ordering::Equal => "found",
                std::cmp::Ordering::Greater => "lower",
            },
        };
        out.extend_from_slice(format!(r#""hint":"{hint}","numbers":{NUMBERS}"#).as_bytes());
    }

    fn write_metadata(&self, _: usize, _: Moment, _: &mut Vec<u8>) {}

    fn write_state(&self, _: usize, _: &mut Vec<u8>) {}

    fn schemas(&self) -> Schemas {
        Schemas {
            action: Bytes::from_static(
                br#"{"type":"object","properties":{"guess":{"type":"integer"}},"required":["guess"]}"#,
            ),
            observation: Bytes::from_static(
                br#"{"type":"object","properties":{"hint":{"type":"string"},"numbers":{"type":"integer"}}}"#,
            ),
            state: Bytes::from_static(br#"{"type":"object"}"#),
        }
    }
}
