//! What a server's messages say.

use serde_json::{Map, Value};

use super::trouble::{Trouble, excerpt};

/// What an environment answers to a reset or a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// The observation: an object.
    pub(crate) observation: Value,
    /// A number, a truth value or null.
    pub(crate) reward: Value,
    /// Whether the episode is over.
    pub(crate) done: bool,
}

impl Answer {
    /// The reward as a number; `None` where there is none.
    pub(crate) fn reward(&self) -> Option<f64> {
        match &self.reward {
            Value::Bool(reward) => Some(f64::from(u8::from(*reward))),
            reward => reward.as_f64(),
        }
    }

    /// All of it as one value, with the names of the wire.
    pub(crate) fn to_value(&self) -> Value {
        serde_json::json!({
            "observation": self.observation, "reward": self.reward, "done": self.done
        })
    }
}

/// One message of a server.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// To a reset or a step.
    Observation(Answer),
    /// To a question for the state.
    State(Value),
    /// To JSON-RPC.
    Mcp(Value),
    /// An error.
    Error {
        /// What it is called.
        code: String,
        /// What it says.
        message: String,
    },
    /// A type that is not known here.
    Other(String),
}

impl Reply {
    /// Reads one text frame.
    pub(crate) fn parse(text: &str) -> Result<Self, Trouble> {
        let value: Value = serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
        let wrong = |problem: String| Trouble::Envelope { problem, excerpt: excerpt(text) };
        let Value::Object(envelope) = value else {
            return Err(wrong("it is no object".into()));
        };
        let Some(Value::String(kind)) = envelope.get("type") else {
            return Err(wrong("it has no `type` that is a text".into()));
        };
        let data = envelope.get("data");
        let object = || match data {
            Some(Value::Object(data)) => Ok(data),
            Some(_) => Err(wrong(format!("`data` of a `{kind}` is no object"))),
            None => Err(wrong(format!("a `{kind}` has no `data`"))),
        };
        Ok(match kind.as_str() {
            "observation" => Self::Observation(answer(object()?).map_err(wrong)?),
            "state" => Self::State(Value::Object(object()?.clone())),
            "mcp" => Self::Mcp(Value::Object(object()?.clone())),
            "error" => {
                let data = object()?;
                let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
                let code = text("code").ok_or_else(|| wrong("an error has no `code`".into()))?;
                let message =
                    text("message").ok_or_else(|| wrong("an error has no `message`".into()))?;
                Self::Error { code, message }
            }
            _ => Self::Other(kind.clone()),
        })
    }

    /// For people.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Observation(_) => "an observation".into(),
            Self::State(_) => "a state".into(),
            Self::Mcp(_) => "an mcp message".into(),
            Self::Error { code, message } => format!("error {code} ({})", excerpt(message)),
            Self::Other(kind) => format!("a message of type `{kind}`"),
        }
    }
}

fn answer(data: &Map<String, Value>) -> Result<Answer, String> {
    let observation = match data.get("observation") {
        Some(observation @ Value::Object(_)) => observation.clone(),
        Some(_) => return Err("`data.observation` is no object".into()),
        None => return Err("`data.observation` is missing".into()),
    };
    let reward = match data.get("reward") {
        None => Value::Null,
        Some(reward @ (Value::Null | Value::Bool(_) | Value::Number(_))) => reward.clone(),
        Some(reward) => return Err(format!("`data.reward` is {reward}, which is no number")),
    };
    let done = match data.get("done") {
        Some(Value::Bool(done)) => *done,
        Some(done) => return Err(format!("`data.done` is {done}, not true or false")),
        None => return Err("`data.done` is missing".into()),
    };
    Ok(Answer { observation, reward, done })
}

/// Why a text is no JSON.
fn not_json(text: &str, error: &serde_json::Error) -> Trouble {
    if let Some((literal, at)) = literal(text) {
        let start = (at.saturating_sub(60)..=at).find(|&at| text.is_char_boundary(at));
        let excerpt = excerpt(&text[start.unwrap_or(at)..]);
        return Trouble::NotANumber { literal, excerpt };
    }
    Trouble::NotJson { why: error.to_string(), excerpt: excerpt(text) }
}

/// The first literal outside of texts that Python writes for a number that JSON does not have.
fn literal(text: &str) -> Option<(&'static str, usize)> {
    let bytes = text.as_bytes();
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'N' | b'I' if !is_quoted => {
                for literal in ["NaN", "Infinity"] {
                    if bytes[at..].starts_with(literal.as_bytes()) {
                        return Some((literal, at));
                    }
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_are_read_as_openenv_sends_them() {
        let told = |text: &str| Reply::parse(text).unwrap().told();
        assert_eq!(
            told(r#"{"type":"observation","data":{"observation":{},"reward":null,"done":false}}"#),
            "an observation"
        );
        assert!(told(r#"{"type":"error","data":{"message":"","code":"X"}}"#).contains('X'));
        assert!(told(r#"{"type":"news","data":7}"#).contains("news"));
    }

    #[test]
    fn what_is_wrong_with_an_answer_is_named() {
        for (text, expected) in [
            ("[1]", "no object"),
            ("{", "no JSON"),
            (r#"{"data":{}}"#, "`type`"),
            (r#"{"type":"observation"}"#, "no `data`"),
            (r#"{"type":"observation","data":{"observation":{"x":NaN}}}"#, "literal NaN"),
            (r#"{"type":"state","data":{"x":-Infinity}}"#, "literal Infinity"),
            (
                r#"{"type":"observation","data":{"observation":{},"reward":"1","done":true}}"#,
                "\"1\"",
            ),
            (
                r#"{"type":"observation","data":{"observation":{},"reward":1,"done":1}}"#,
                "`data.done`",
            ),
            (r#"{"type":"observation","data":{"observation":{},"reward":1}}"#, "missing"),
        ] {
            let error = Reply::parse(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
            assert!(error.is_garbled());
        }
        let quoted = r#"{"type":"x","data":"NaN \" Infinity"}"#;
        assert!(Reply::parse(quoted).is_ok());
    }
}
