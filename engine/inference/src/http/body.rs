//! What is sent: JSON, written by hand, because a prompt is thousands of numbers.

use crate::{Request, Sampling, TOP_LOGPROBS_MAX};

/// The body for `/inference/v1/generate`.
pub(super) fn generate(request: &Request, stream: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(request.prompt.len() * 6 + 512);
    body.extend_from_slice(b"{\"request_id\":\"");
    body.extend_from_slice(request.id.to_string().as_bytes());
    body.extend_from_slice(b"\",\"token_ids\":");
    numbers(&mut body, &request.prompt);
    body.extend_from_slice(b",\"sampling_params\":{");
    // The sampled token counts as one of them: it has the last one's place where it is none of them.
    let top = request.sampling.top_logprobs;
    sampling(&mut body, request, if top > 0 { (top + 1).min(TOP_LOGPROBS_MAX) } else { 0 });
    // Strings that end a generation are looked for in text, and only then is text made.
    flag(&mut body, "detokenize", !request.sampling.stop.is_empty());
    body.push(b'}');
    finish(body, stream)
}

/// The body for `/v1/completions`.
pub(super) fn completions(request: &Request, model: &str, stream: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(request.prompt.len() * 6 + 512);
    body.extend_from_slice(b"{\"model\":");
    text(&mut body, model);
    body.extend_from_slice(b",\"request_id\":\"");
    body.extend_from_slice(request.id.to_string().as_bytes());
    body.extend_from_slice(b"\",\"prompt\":");
    numbers(&mut body, &request.prompt);
    body.extend_from_slice(b",\"return_token_ids\":true,");
    sampling(&mut body, request, request.sampling.top_logprobs);
    if request.sampling.top_logprobs > 0 {
        // The most likely tokens are otherwise known by their texts, which several may share.
        flag(&mut body, "return_tokens_as_token_ids", true);
    }
    finish(body, stream)
}

/// The end of both.
fn finish(mut body: Vec<u8>, stream: bool) -> Vec<u8> {
    if stream {
        body.extend_from_slice(b",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    }
    body.push(b'}');
    body
}

/// The parameters that both have, under the same names. `top`: so many of the most likely tokens are asked for.
fn sampling(body: &mut Vec<u8>, request: &Request, top: u32) {
    let Sampling {
        temperature,
        top_p,
        top_k,
        min_p,
        min_tokens,
        stop_token_ids,
        stop,
        ignore_eos,
        logprobs,
        top_logprobs: _,
        constraint,
    } = &*request.sampling;
    body.extend_from_slice(b"\"max_tokens\":");
    number(body, request.max_tokens);
    body.extend_from_slice(format!(",\"temperature\":{temperature},\"top_p\":{top_p}").as_bytes());
    if let Some(top_k) = top_k {
        body.extend_from_slice(b",\"top_k\":");
        number(body, *top_k);
    }
    if *min_p > 0.0 {
        body.extend_from_slice(format!(",\"min_p\":{min_p}").as_bytes());
    }
    if *min_tokens > 0 {
        body.extend_from_slice(b",\"min_tokens\":");
        number(body, *min_tokens);
    }
    if let Some(seed) = request.seed {
        // vLLM takes seeds that fit 64 bits with a sign.
        body.extend_from_slice(format!(",\"seed\":{}", seed >> 1).as_bytes());
    }
    if !stop_token_ids.is_empty() {
        body.extend_from_slice(b",\"stop_token_ids\":");
        numbers(body, stop_token_ids);
    }
    if !stop.is_empty() {
        body.extend_from_slice(b",\"stop\":[");
        for (index, it) in stop.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            text(body, it);
        }
        body.extend_from_slice(b"],\"include_stop_str_in_output\":true");
    }
    if *ignore_eos {
        flag(body, "ignore_eos", true);
    }
    if *logprobs {
        // With 0, that of the sampled token alone.
        body.extend_from_slice(b",\"logprobs\":");
        number(body, top);
    }
    if let Some(constraint) = constraint {
        body.extend_from_slice(b",\"structured_outputs\":");
        body.extend_from_slice(constraint.to_json().as_bytes());
    }
}

fn flag(body: &mut Vec<u8>, name: &str, value: bool) {
    body.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
}

fn text(body: &mut Vec<u8>, text: &str) {
    // A string is always JSON, and a Vec takes all that is written.
    let _ = serde_json::to_writer(body, text);
}

fn number(body: &mut Vec<u8>, number: u32) {
    body.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn numbers(body: &mut Vec<u8>, numbers: &[u32]) {
    body.push(b'[');
    let mut buffer = itoa::Buffer::new();
    for (index, it) in numbers.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(buffer.format(*it).as_bytes());
    }
    body.push(b']');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{Constraint, Deliver, JsonSchema, RequestId};

    use super::*;

    fn request(sampling: Sampling) -> Request {
        Request {
            id: RequestId(7),
            prompt: Arc::from([1, 22, 4095]),
            messages: None,
            sampling: Arc::new(sampling),
            max_tokens: 16,
            seed: Some(u64::MAX),
            affinity: None,
            deliver: Deliver::Whole,
        }
    }

    #[test]
    fn bodies_are_json() {
        let odd = Sampling {
            temperature: 0.7,
            top_p: 0.9,
            top_k: Some(40),
            min_p: 0.05,
            min_tokens: 2,
            stop_token_ids: vec![2, 3],
            stop: vec!["\"quoted\"\n".to_owned(), "é".to_owned()],
            ignore_eos: true,
            ..Sampling::default()
        };
        for sampling in [Sampling::default(), odd] {
            let request = request(sampling.clone());
            let body: serde_json::Value =
                serde_json::from_slice(&generate(&request, true)).unwrap();
            assert_eq!(body["request_id"], "envmill-7");
            assert_eq!(body["token_ids"], serde_json::json!([1, 22, 4095]));
            assert_eq!(body["sampling_params"]["seed"], i64::MAX);
            assert_eq!(body["sampling_params"]["logprobs"], 0);
            assert_eq!(body["stream"], true);
            let body: serde_json::Value =
                serde_json::from_slice(&completions(&request, "a \"model\"", false)).unwrap();
            assert_eq!(body["model"], "a \"model\"");
            assert_eq!(body["prompt"], serde_json::json!([1, 22, 4095]));
            assert_eq!(body["max_tokens"], 16);
            if !sampling.stop.is_empty() {
                assert_eq!(body["stop"], serde_json::json!(sampling.stop));
            }
            assert!(body.get("structured_outputs").is_none());
        }
    }

    #[test]
    fn the_most_likely_tokens_and_a_constraint_are_asked_for() {
        let schema = JsonSchema::new(r#"{"type": "object"}"#).unwrap();
        let sampling = |top_logprobs| Sampling {
            top_logprobs,
            constraint: Some(Constraint::JsonSchema(schema.clone())),
            ..Sampling::default()
        };
        for (top, asked) in [(0, 0), (3, 4), (20, 20)] {
            let request = request(sampling(top));
            let body: serde_json::Value =
                serde_json::from_slice(&generate(&request, false)).unwrap();
            let parameters = &body["sampling_params"];
            assert_eq!(parameters["logprobs"], asked);
            assert_eq!(parameters["structured_outputs"]["json"]["type"], "object");
            let body: serde_json::Value =
                serde_json::from_slice(&completions(&request, "m", false)).unwrap();
            assert_eq!(body["logprobs"], top);
            assert_eq!(body["return_tokens_as_token_ids"] == true, top > 0);
            assert_eq!(body["structured_outputs"]["json"]["type"], "object");
        }
    }
}
