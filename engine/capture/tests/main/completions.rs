//! Prompts that no template is around.

use envmill_capture::{Begun, Key};
use envmill_protocol::record::{Conversation, whole_prompt};
use serde_json::{Value, json};

use crate::{
    client::{Client, code},
    rig::Rig,
};

fn client(rig: &Rig, key: &Key) -> Client {
    Client { address: rig.address, key: key.as_str().to_owned() }
}

#[test]
fn a_prompt_that_begins_with_what_was_sampled_continues_it() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let asked = json!({"prompt": "say yes", "return_token_ids": true, "logprobs": 1});
    let (status, answer) = client.complete(&asked);
    assert_eq!((status, &answer["object"]), (200, &json!("text_completion")), "{answer}");
    let choice = &answer["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("yes"), &json!("stop")));
    let logprobs = &choice["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap()[..3], [json!("y"), json!("e"), json!("s")]);
    assert_eq!(logprobs["text_offset"].as_array().unwrap()[..3], [json!(0), json!(1), json!(2)]);
    assert_eq!(logprobs["token_logprobs"][0], -0.5);
    assert_eq!(logprobs["top_logprobs"][0], json!({"y": -0.5, "z": -0.25}));
    let ids = |name: &str| -> Vec<u32> { serde_json::from_value(choice[name].clone()).unwrap() };
    let next = [ids("prompt_token_ids"), ids("token_ids"), rig.mock.ids("say no")].concat();
    // Other beginnings, and a prompt that is cut in the midst of what was sampled.
    let cut = ids("prompt_token_ids").len() + 1;
    for prompt in [next.clone(), next[1..].to_vec(), next[..cut].to_vec()] {
        assert_eq!(client.complete(&json!({"prompt": prompt})).0, 200);
    }
    let captured = rig.capture.close(&key).unwrap();
    let parents: Vec<_> = captured.calls.iter().map(|it| (it.parent, it.begun)).collect();
    let anew = (None, Begun::Anew);
    assert_eq!(parents, [anew, (Some(0), Begun::Continued), anew, anew]);
    let second = &captured.generations[1];
    assert_eq!(second.prompt_shared as usize, captured.generations[0].length());
    assert_eq!(whole_prompt(&captured.generations, 1), next);
    assert_eq!(rig.mock.requests.lock().unwrap()[1].max_tokens, 16);
    let whole = Conversation::of(&captured.generations[..2], &[]);
    assert_eq!(whole.turns.len(), 4);
    let trace: Value = serde_json::from_str(&crate::trace::text(&captured)).unwrap();
    assert_eq!(trace["turns"][1]["response"]["object"], "text_completion");
    assert_eq!(trace["turns"][1]["metadata"]["sampling"]["max_tokens"], 16);
}

#[test]
fn several_prompts_are_continued_several_times() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let mut asked = json!({"prompt": ["say a", "say b"], "n": 2, "seed": 1});
    let (_, answer) = client.complete(&asked);
    let of = |it: &Value| (it["index"].as_u64().unwrap(), it["text"].clone());
    let said: Vec<_> = answer["choices"].as_array().unwrap().iter().map(of).collect();
    let wanted = ["a", "a", "b", "b"].map(Value::from);
    assert_eq!(said, (0..).zip(wanted.clone()).collect::<Vec<_>>());
    let prompts: usize =
        ["say a", "say b"].map(|it| rig.mock.model.encode(it).unwrap().len()).iter().sum();
    assert_eq!(answer["usage"]["prompt_tokens"], prompts);
    // The same in pieces.
    asked["stream"] = true.into();
    asked["logprobs"] = 0.into();
    asked["stream_options"] = json!({"include_usage": true});
    let events = client.events("/v1/completions", &asked);
    let (usage, pieces) = events.split_last().unwrap();
    let mut said = [const { String::new() }; 4];
    let mut told = 0;
    for piece in pieces {
        assert_eq!(piece["object"], "text_completion");
        let choice = &piece["choices"][0];
        said[choice["index"].as_u64().unwrap() as usize].push_str(choice["text"].as_str().unwrap());
        told += choice["logprobs"]["tokens"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(said.map(Value::from), wanted);
    assert_eq!(usage["usage"]["completion_tokens"], told);
    assert_eq!(usage["usage"]["prompt_tokens"], prompts);
    assert_eq!(rig.capture.close(&key).unwrap().calls.len(), 8);
}

#[test]
fn what_cannot_be_continued_is_refused() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let long = "x".repeat(40_000);
    for (body, status, what) in [
        (json!({}), 400, "prompt"),
        (json!({"prompt": "say a", "echo": true}), 400, "echo"),
        (json!({"prompt": long}), 400, "context_length_exceeded"),
        (json!({"prompt": "busy"}), 429, "rate_limit_exceeded"),
        (json!({"prompt": "lost", "stream": true}), 502, ""),
    ] {
        let (got, answer) = client.complete(&body);
        assert_eq!((got, code(&answer)), (status, what), "{answer}");
    }
}

#[test]
fn stop_texts_are_no_part_of_it() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let (_, answer) = client.complete(&json!({"prompt": "say a <think> END b", "stop": "END"}));
    assert_eq!(answer["choices"][0]["text"], "a <think> ");
}
