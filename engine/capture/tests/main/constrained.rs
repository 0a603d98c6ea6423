//! Answers that are held to something.

use std::sync::atomic::Ordering;

use envmill_capture::{Begun, Key};
use serde_json::{Value, json};

use crate::{
    client::{Client, code, user},
    rig::Rig,
};

fn client(rig: &Rig, key: &Key) -> Client {
    Client { address: rig.address, key: key.as_str().to_owned() }
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object",
        "properties": {"what": {"type": "string"}}}}}])
}

#[test]
fn a_call_that_had_to_be_made_is_one_and_its_answer_continues() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let named = json!({"type": "function", "function": {"name": "look_up"}});
    for (choice, finish) in [(json!("required"), "tool_calls"), (named, "stop")] {
        let mut body =
            json!({"messages": [user("hello")], "tools": tools(), "tool_choice": choice});
        let (status, answer) = client.chat(&body);
        assert_eq!(status, 200, "{answer}");
        let said = &answer["choices"][0];
        assert_eq!(
            (&said["finish_reason"], &said["message"]["content"]),
            (&json!(finish), &Value::Null)
        );
        let call = &said["message"]["tool_calls"][0];
        assert_eq!(call["function"], json!({"name": "look_up", "arguments": "{\"what\": \"é\"}"}));
        let found = json!({"role": "tool", "tool_call_id": call["id"], "content": "found"});
        client
            .said_with(&[user("hello"), said["message"].clone(), found], json!({"tools": tools()}));
        // Nothing of it is content on its way.
        body["stream"] = true.into();
        let events = client.events("/v1/chat/completions", &body);
        let deltas: Vec<_> = events.iter().map(|it| &it["choices"][0]["delta"]).collect();
        assert!(deltas.iter().all(|it| it["content"].as_str().unwrap_or("").is_empty()));
        let calls: Vec<_> = deltas.iter().filter(|it| !it["tool_calls"].is_null()).collect();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["tool_calls"][0]["function"]["name"], "look_up");
    }
    let captured = rig.capture.close(&key).unwrap();
    let begun: Vec<_> = captured.calls.iter().map(|it| it.begun).collect();
    let (anew, continued) = (Begun::Anew, Begun::Continued);
    assert_eq!(begun, [anew, continued, anew, anew, continued, anew]);
    assert_eq!(captured.generations[0].tool, "look_up");
    let sampling: Value = serde_json::from_slice(&captured.calls[0].sampling).unwrap();
    let schema = &sampling["structured_outputs"]["json"];
    assert_eq!(schema["items"]["anyOf"][0]["properties"]["name"]["enum"][0], "look_up");
    let sampling: Value = serde_json::from_slice(&captured.calls[1].sampling).unwrap();
    assert!(sampling["temperature"].is_number() && sampling.get("structured_outputs").is_none());
}

#[test]
fn a_call_that_is_cut_is_content() {
    let rig = Rig::new();
    let key = rig.open();
    let body = json!({"messages": [user("hello")], "tools": tools(), "tool_choice": "required",
        "max_tokens": 9});
    let (_, answer) = client(&rig, &key).chat(&body);
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["message"]["content"], "[{\"name\":");
}

#[test]
fn json_is_content() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let schema =
        json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}});
    for format in [json!({"type": "json_object"}), schema] {
        let said = client.said_with(&[user("hello")], json!({"response_format": format}));
        assert_eq!(said["content"], "{\"what\": \"é\"}");
        let (_, answer) = client.complete(&json!({"prompt": "say a", "response_format": format}));
        assert_eq!(answer["choices"][0]["text"], "{\"what\": \"é\"}");
    }
}

#[test]
fn what_the_engine_cannot_do_is_refused_by_name() {
    let rig = Rig::new();
    rig.mock.is_plain.store(true, Ordering::SeqCst);
    let key = rig.open();
    let client = client(&rig, &key);
    let messages = [user("hello")];
    let format = json!({"type": "json_object"});
    for (body, param) in [
        (json!({"logprobs": true, "top_logprobs": 1}), "top_logprobs"),
        (json!({"response_format": format}), "response_format"),
        (json!({"tools": tools(), "tool_choice": "required"}), "tool_choice"),
    ] {
        let mut body = body;
        body["messages"] = json!(messages);
        let (status, answer) = client.chat(&body);
        assert_eq!((status, code(&answer)), (400, param), "{answer}");
    }
    let (status, answer) = client.complete(&json!({"prompt": "say a", "logprobs": 1}));
    assert_eq!((status, code(&answer)), (400, "logprobs"), "{answer}");
    assert_eq!(client.complete(&json!({"prompt": "say a", "logprobs": 0})).0, 200);
    assert_eq!(rig.mock.requests.lock().unwrap().len(), 1);
}
