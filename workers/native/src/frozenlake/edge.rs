//! FrozenLake as JSON.

use serde_json::json;

use super::FrozenLake;
use crate::{Invalid, JsonEdge, Moment, Reset, Schemas, json as text};

impl JsonEdge for FrozenLake {
    fn decode_action(&self, action: &[u8]) -> Result<u8, Invalid> {
        let mut direction = None;
        let mut seen = false;
        text::object(action, |key, value, invalid| match key {
            "action" => {
                seen = true;
                match text::integer(key, value, invalid) {
                    Some(number @ 0..=3) => direction = Some(number as u8),
                    Some(_) => invalid.push("enum", key, "Input should be 0, 1, 2 or 3", value),
                    None => {}
                }
            }
            "metadata" => text::metadata(value, invalid),
            _ => text::extra(key, value, invalid),
        })?;
        if !seen {
            return Err(text::missing("action", action));
        }
        Ok(direction.unwrap_or_default())
    }

    fn decode_reset(&self, parameters: &[u8]) -> Result<Reset<Option<u8>>, Invalid> {
        let mut reset = Reset::default();
        text::object(parameters, |key, value, invalid| match key {
            "seed" => reset.seed = text::seed(value),
            "state" if value != "null" => match text::integer(key, value, invalid) {
                Some(cell) if (0..i64::from(self.cells_count())).contains(&cell) => {
                    reset.start = Some(cell as u8);
                }
                Some(_) => {
                    let last = self.cells_count() - 1;
                    let message = format!("Input should be a cell from 0 to {last}");
                    invalid.push("less_than_equal", key, message, value);
                }
                None => {}
            },
            _ => {}
        })?;
        Ok(reset)
    }

    fn write_observation(&self, _: usize, observation: &[u8], _: Moment, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"state\":");
        text::write_u64(observation.first().copied().unwrap_or_default().into(), out);
    }

    fn write_metadata(&self, _row: usize, moment: Moment, out: &mut Vec<u8>) {
        if let Moment::Step { ended: true, truncated } = moment {
            out.extend_from_slice(b"\"truncated\":");
            out.extend_from_slice(if truncated { b"true" } else { b"false" });
        }
    }

    fn write_state(&self, _row: usize, out: &mut Vec<u8>) {
        let map = self.options.map;
        out.extend_from_slice(b",\"map\":[");
        for (i, row) in map.letters().chunks(usize::from(map.side())).enumerate() {
            out.extend_from_slice(if i == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(row);
            out.push(b'"');
        }
        out.extend_from_slice(b"],\"slippery\":");
        out.extend_from_slice(if self.options.slippery { b"true" } else { b"false" });
        out.extend_from_slice(b",\"steps_max\":");
        text::write_u64(map.steps_max().into(), out);
    }

    fn schemas(&self) -> Schemas {
        Schemas::new(
            "FrozenLake",
            json!({ "action": {
                "description": "0 goes left, 1 down, 2 right, 3 up",
                "enum": [0, 1, 2, 3],
                "title": "Action",
                "type": "integer",
            }}),
            &["action"],
            json!({ "state": {
                "description": "The cell: row times side plus column",
                "maximum": self.cells_count() - 1,
                "minimum": 0,
                "title": "State",
                "type": "integer",
            }}),
            json!({
                "map": {
                    "description": "S start, F frozen, H hole, G goal",
                    "items": { "type": "string" },
                    "title": "Map",
                    "type": "array",
                },
                "slippery": {
                    "description": "Whether a move may go to either side of where it was meant",
                    "title": "Slippery",
                    "type": "boolean",
                },
                "steps_max": {
                    "default": self.options.map.steps_max(),
                    "description": "Steps after which an episode is truncated",
                    "title": "Steps Max",
                    "type": "integer",
                },
            }),
        )
    }
}
