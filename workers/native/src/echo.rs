//! OpenEnv's echo environment: the message comes back, and longer ones are rewarded more.

use std::{ops::Range, sync::Arc};

use serde_json::json;

use crate::{BatchEnv, Columns, Invalid, JsonEdge, Moment, Reset, Schemas, json as text};

/// What a reset shows.
const READY: &str = "Echo environment ready!";

/// The reward for each character.
const REWARD_PER_CHARACTER: f64 = 0.1;

/// Answers as OpenEnv's `echo_env` does: observation `{"echoed_message", "message_length"}` with the
/// length in characters, reward 0.1 × length (0.0 for a reset), metadata `{"original_message",
/// "step"}`. An episode never ends. The seed changes nothing.
#[derive(Debug, Default)]
pub struct Echo {
    messages: Vec<Arc<str>>,
    lengths: Vec<u32>,
    steps: Vec<u32>,
}

impl BatchEnv for Echo {
    type Action = Arc<str>;
    type Start = ();
    type Element = f32;

    const OBSERVATION_WIDTH: usize = 0;

    fn rows(&self) -> usize {
        self.messages.len()
    }

    fn resize(&mut self, rows: usize) {
        self.messages.resize_with(rows, Arc::default);
        self.lengths.resize(rows, 0);
        self.steps.resize(rows, 0);
    }

    fn reset_range(
        &mut self,
        rows: Range<usize>,
        which: &[u8],
        _resets: &[Reset<()>],
        _observations: &mut [f32],
    ) {
        for (row, _) in rows.zip(which).filter(|(_, which)| **which != 0) {
            self.messages[row] = Arc::default();
            self.lengths[row] = 0;
            self.steps[row] = 0;
        }
    }

    fn step_range(&mut self, rows: Range<usize>, actions: &[Arc<str>], out: &mut Columns<'_, f32>) {
        for (i, row) in rows.enumerate() {
            let length = actions[i].chars().count();
            self.messages[row] = Arc::clone(&actions[i]);
            self.lengths[row] = length as u32;
            self.steps[row] += 1;
            out.rewards[i] = length as f64 * REWARD_PER_CHARACTER;
        }
        out.terminated.fill(0);
        out.truncated.fill(0);
        out.failed.fill(0);
        out.delays_ns.fill(0);
    }
}

impl JsonEdge for Echo {
    fn decode_action(&self, action: &[u8]) -> Result<Arc<str>, Invalid> {
        let mut message = None;
        let mut seen = false;
        text::object(action, |key, value, invalid| match key {
            "message" => {
                seen = true;
                message = text::string(key, value, invalid);
            }
            "metadata" => text::metadata(value, invalid),
            _ => text::extra(key, value, invalid),
        })?;
        if !seen {
            return Err(text::missing("message", action));
        }
        Ok(message.unwrap_or_default().into())
    }

    fn decode_reset(&self, parameters: &[u8]) -> Result<Reset<()>, Invalid> {
        text::object(parameters, |_, _, _| {})?;
        Ok(Reset::default())
    }

    fn write_observation(&self, row: usize, _: &[f32], moment: Moment, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"echoed_message\":");
        text::write_str(if moment == Moment::Reset { READY } else { &self.messages[row] }, out);
        out.extend_from_slice(b",\"message_length\":");
        text::write_u64(self.lengths[row].into(), out);
    }

    fn write_metadata(&self, row: usize, moment: Moment, out: &mut Vec<u8>) {
        if moment == Moment::Reset {
            return;
        }
        out.extend_from_slice(b"\"original_message\":");
        text::write_str(&self.messages[row], out);
        out.extend_from_slice(b",\"step\":");
        text::write_u64(self.steps[row].into(), out);
    }

    fn reset_reward(&self) -> Option<f64> {
        Some(0.0)
    }

    fn write_state(&self, _row: usize, _out: &mut Vec<u8>) {}

    fn schemas(&self) -> Schemas {
        Schemas::new(
            "Echo",
            json!({ "message": {
                "description": "Message to echo back",
                "title": "Message",
                "type": "string",
            }}),
            &["message"],
            json!({
                "echoed_message": {
                    "default": "",
                    "description": "The message that came in",
                    "title": "Echoed Message",
                    "type": "string",
                },
                "message_length": {
                    "default": 0,
                    "description": "Its length in characters",
                    "title": "Message Length",
                    "type": "integer",
                },
            }),
            json!({}),
        )
    }
}
