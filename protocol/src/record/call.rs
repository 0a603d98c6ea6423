//! What a record tells of a call of a model in the form of OpenAI's chat API.

use serde_json::{Map, Value};

use crate::Spoken;

/// What of a request says how to sample.
const SAMPLING: [&str; 13] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "min_tokens",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "seed",
    "response_format",
    "tool_choice",
];

/// The conversation up to a call's answer, and how the call asked to sample; both empty where they are not
/// told.
#[must_use]
pub fn spoken_in_call(request: &Value, response: &Value) -> Spoken {
    let told = |name: &str| Some((name.to_owned(), request.get(name)?.clone()));
    let told: Map<String, Value> = SAMPLING.iter().filter_map(|it| told(it)).collect();
    let sampling = if told.is_empty() { String::new() } else { Value::from(told).to_string() };
    let asked = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let said = &response["choices"][0]["message"];
    let said = Some(said).filter(|it| it.is_object() && !asked.is_empty());
    let messages: Vec<_> = asked.iter().chain(said).map(Value::to_string).collect();
    Spoken { messages: messages.join(",").into(), sampling: sampling.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_tells_its_conversation() {
        let request = json!({"messages": [{"role": "user", "content": "é"}], "top_p": 0.5, "n": 1});
        let response = json!({"choices": [{"message": {"content": "x"}}]});
        let spoken = spoken_in_call(&request, &response);
        assert_eq!(spoken.messages, r#"{"content":"é","role":"user"},{"content":"x"}"#);
        assert_eq!(spoken.sampling, r#"{"top_p":0.5}"#);
        for nothing in [json!(null), json!({}), json!({"messages": 3})] {
            assert_eq!(spoken_in_call(&nothing, &response), Spoken::default());
        }
        assert_eq!(
            spoken_in_call(&request, &json!({})).messages,
            r#"{"content":"é","role":"user"}"#
        );
    }
}
