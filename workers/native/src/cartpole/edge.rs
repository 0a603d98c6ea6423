//! CartPole as JSON.

use serde_json::json;

use super::{CartPole, physics::STEPS_MAX};
use crate::{Invalid, JsonEdge, Moment, Reset, Schemas, json as text};

impl JsonEdge for CartPole {
    fn decode_action(&self, action: &[u8]) -> Result<u8, Invalid> {
        let mut push = None;
        let mut seen = false;
        text::object(action, |key, value, invalid| match key {
            "action" => {
                seen = true;
                match text::integer(key, value, invalid) {
                    Some(direction @ (0 | 1)) => push = Some(direction as u8),
                    Some(_) => invalid.push("enum", key, "Input should be 0 or 1", value),
                    None => {}
                }
            }
            "metadata" => text::metadata(value, invalid),
            _ => text::extra(key, value, invalid),
        })?;
        if !seen {
            return Err(text::missing("action", action));
        }
        Ok(push.unwrap_or_default())
    }

    fn decode_reset(&self, parameters: &[u8]) -> Result<Reset<Option<[f64; 4]>>, Invalid> {
        let mut reset = Reset::default();
        text::object(parameters, |key, value, invalid| match key {
            "seed" => reset.seed = text::seed(value),
            "state" if value != "null" => match serde_json::from_str::<[f64; 4]>(value) {
                Ok(state) => reset.start = Some(state),
                Err(_) => {
                    let message = "Input should be a list of 4 finite numbers";
                    invalid.push("list_type", key, message, value);
                }
            },
            _ => {}
        })?;
        Ok(reset)
    }

    fn write_observation(&self, _: usize, observation: &[f32], _: Moment, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"state\":");
        for (i, number) in observation.iter().enumerate() {
            out.push(if i == 0 { b'[' } else { b',' });
            text::write_f32(*number, out);
        }
        out.push(b']');
    }

    fn write_metadata(&self, _row: usize, moment: Moment, out: &mut Vec<u8>) {
        if let Moment::Step { ended: true, truncated } = moment {
            out.extend_from_slice(b"\"truncated\":");
            out.extend_from_slice(if truncated { b"true" } else { b"false" });
        }
    }

    fn write_state(&self, _row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"steps_max\":");
        text::write_u64(STEPS_MAX.into(), out);
    }

    fn schemas(&self) -> Schemas {
        Schemas::new(
            "CartPole",
            json!({ "action": {
                "description": "0 pushes the cart left, 1 pushes it right",
                "enum": [0, 1],
                "title": "Action",
                "type": "integer",
            }}),
            &["action"],
            json!({ "state": {
                "description": "Position, velocity, angle (radians), angular velocity",
                "items": { "type": "number" },
                "maxItems": 4,
                "minItems": 4,
                "title": "State",
                "type": "array",
            }}),
            json!({ "steps_max": {
                "default": STEPS_MAX,
                "description": "Steps after which an episode is truncated",
                "title": "Steps Max",
                "type": "integer",
            }}),
        )
    }
}
