//! The environment of a harness: an episode's one action says how its program has ended.

use std::ops::Range;

use bytes::Bytes;
use envmill_native::{BatchEnv, Columns, Invalid, JsonEdge, Moment, Reset, Schemas};
use envmill_protocol::Reward;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Episodes of programs. The first step ends each: with the reward that the action says, if any, cut if the
/// action says that, and with an exception of the environment's if the program has failed.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Why the program of a row has failed.
    errors: Vec<Option<String>>,
}

/// How a program has ended. More is in the action, for whoever reads the record.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    /// NaN where it said none.
    reward: f64,
    truncated: bool,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Action<'a> {
    #[serde(rename = "ended")]
    _ended: String,
    #[serde(default, borrow)]
    reward: Option<&'a RawValue>,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    error: Option<String>,
}

/// The schema of an action.
const ACTION: &str = r#"{"additionalProperties":false,"properties":{
"ended":{"description":"How the program has ended","title":"Ended","type":"string"},
"reward":{"description":"What it said that the episode was worth","title":"Reward","type":"number"},
"truncated":{"description":"Whether its time was over","title":"Truncated","type":"boolean"},
"error":{"description":"Why it has failed, if it has","title":"Error","type":"string"},
"output":{"description":"The end of what it printed","title":"Output","type":"string"},
"metadata":{"description":"What else it said","title":"Metadata"}
},"required":["ended"],"title":"HarnessAction","type":"object"}"#;

impl BatchEnv for Ends {
    type Action = End;
    type Start = ();
    type Element = f32;

    const OBSERVATION_WIDTH: usize = 0;

    fn rows(&self) -> usize {
        self.errors.len()
    }

    fn resize(&mut self, rows: usize) {
        self.errors.resize(rows, None);
    }

    fn reset_range(&mut self, _: Range<usize>, _: &[u8], _: &[Reset<()>], _: &mut [f32]) {}

    fn step_range(&mut self, rows: Range<usize>, actions: &[End], out: &mut Columns<'_, f32>) {
        for (i, row) in rows.enumerate() {
            let End { reward, truncated, error } = &actions[i];
            out.rewards[i] = *reward;
            out.terminated[i] = u8::from(!truncated);
            out.truncated[i] = u8::from(*truncated);
            out.failed[i] = u8::from(error.is_some());
            self.errors[row].clone_from(error);
        }
        out.delays_ns.fill(0);
    }
}

impl JsonEdge for Ends {
    fn decode_action(&self, text: &[u8]) -> Result<End, Invalid> {
        let wrong = |problem: String| {
            let mut invalid = Invalid::default();
            invalid.push("model_type", "", problem, "");
            invalid
        };
        // A list would be read, too.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(wrong("an action is an object".into()));
        }
        let text = str::from_utf8(text).map_err(|error| wrong(error.to_string()))?;
        let action: Action<'_> =
            serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let reward = action.reward.map(|it| it.get().to_owned().into());
        let reward = reward.and_then(|it| Reward::from_raw(it).value).unwrap_or(f64::NAN);
        Ok(End { reward, truncated: action.truncated, error: action.error })
    }

    /// Parameters are the program's.
    fn decode_reset(&self, _: &[u8]) -> Result<Reset<()>, Invalid> {
        Ok(Reset::default())
    }

    fn write_observation(&self, _: usize, _: &[f32], _: Moment, _: &mut Vec<u8>) {}

    fn write_metadata(&self, _: usize, _: Moment, _: &mut Vec<u8>) {}

    fn write_state(&self, _: usize, _: &mut Vec<u8>) {}

    fn failure(&self, row: usize) -> String {
        self.errors[row].clone().unwrap_or_default()
    }

    fn schemas(&self) -> Schemas {
        let empty = Bytes::from_static(br#"{"type":"object"}"#);
        Schemas {
            action: Bytes::from_static(ACTION.as_bytes()),
            observation: empty.clone(),
            state: empty,
        }
    }
}

#[cfg(test)]
mod tests {
    use envmill_native::NativeWorker;
    use envmill_workers::{
        Worker,
        conformance::{Subject, run_all},
    };

    use super::*;

    #[test]
    fn rewards_are_numbers_or_missing() {
        let reward = |more: &str| {
            let text = format!("{{\"ended\":\"x\"{more}}}");
            Ends::default().decode_action(text.as_bytes()).unwrap().reward
        };
        assert_eq!(reward(r#","reward":0.5"#).to_bits(), 0.5_f64.to_bits());
        assert_eq!(reward(r#","reward":true"#).to_bits(), 1.0_f64.to_bits());
        for missing in ["", r#","reward":null"#, r#","reward":"1""#, r#","reward":[1]"#] {
            assert!(reward(missing).is_nan(), "{missing}");
        }
    }

    #[test]
    fn the_schema_is_one() {
        let schema: serde_json::Value =
            serde_json::from_slice(&Ends::default().schemas().action).unwrap();
        assert!(jsonschema::is_valid(&schema, &serde_json::json!({"ended": "x", "reward": 1})));
        assert!(!jsonschema::is_valid(&schema, &serde_json::json!({"reward": 1})));
    }

    struct Mounted;

    impl Subject for Mounted {
        fn worker(&self) -> Box<dyn Worker> {
            Box::new(NativeWorker::of(Ends::default()))
        }

        fn action(&self) -> Bytes {
            Bytes::from_static(br#"{"ended":"exit status: 0","reward":1}"#)
        }

        fn refused_action(&self) -> Bytes {
            Bytes::from_static(br#"{"ended":5}"#)
        }

        fn steps_to_end(&self) -> Option<u32> {
            Some(1)
        }
    }

    #[test]
    fn its_sessions_conform() {
        run_all(&Mounted);
    }
}
