//! Several continuations of one prompt.

use std::{net::Shutdown, sync::atomic::Ordering, time::Duration};

use envmill_capture::{Begun, CaptureOptions, Captured, End, Kept, Key};
use envmill_protocol::{GeneratedKind, record::whole_prompt};
use envmill_testing::wait_until;
use serde_json::{Value, json};

use crate::{
    client::{Client, code, user},
    rig::{self, Rig},
};

const PATH: &str = "/v1/chat/completions";

fn client(rig: &Rig, key: &Key) -> Client {
    Client { address: rig.address, key: key.as_str().to_owned() }
}

fn picks(more: Value) -> Value {
    let mut body = json!({"messages": [user("pick")], "seed": 7, "n": 3});
    let Value::Object(more) = more else { panic!("{more}") };
    for (name, value) in more {
        body[name.as_str()] = value;
    }
    body
}

fn response(captured: &Captured, call: usize) -> Value {
    let Kept::Json(json) = &captured.calls[call].response else { panic!() };
    serde_json::from_slice(json).unwrap()
}

#[test]
fn each_choice_is_a_branch_of_its_own_that_may_go_on() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let (status, answer) = client.chat(&picks(json!({"logprobs": true, "top_logprobs": 2})));
    assert_eq!(status, 200, "{answer}");
    let choices = answer["choices"].as_array().unwrap();
    let said: Vec<_> = choices.iter().map(|it| it["message"]["content"].clone()).collect();
    assert_eq!(said, ["I pick Some(7).", "I pick Some(9).", "I pick Some(11)."]);
    assert_eq!(choices[2]["index"], 2);
    let told = &choices[1]["logprobs"]["content"];
    assert_eq!(
        (&told[0]["token"], told[0]["top_logprobs"].as_array().unwrap().len()),
        (&json!("I"), 2)
    );
    assert_eq!(told[0]["top_logprobs"][0]["logprob"], -0.25);
    assert_eq!(told[0]["top_logprobs"][1]["token"], "I");
    // The second of them is what the harness goes on with.
    client.said(&[user("pick"), choices[1]["message"].clone(), user("on")]);
    let captured = rig.capture.close(&key).unwrap();
    let parents: Vec<_> = captured.calls.iter().map(|it| it.parent).collect();
    assert_eq!(parents, [None, None, None, Some(1)]);
    assert_eq!(captured.calls[3].begun, Begun::Continued);
    assert_eq!((captured.branches, captured.generations.len()), (3, 4));
    assert!(captured.calls.iter().all(|it| it.kind == GeneratedKind::Agent));
    let seeds: Vec<_> = rig.mock.requests.lock().unwrap().iter().map(|it| it.seed).collect();
    assert_eq!(seeds, [Some(7), Some(9), Some(11), None]);
    // The prompt is recorded once, and counted once.
    let prompt = whole_prompt(&captured.generations, 0).len();
    assert_eq!(whole_prompt(&captured.generations, 2), whole_prompt(&captured.generations, 0));
    assert!(captured.generations[1].prompt_token_ids.is_empty());
    let sampled: usize = captured.generations[..3].iter().map(|it| it.token_ids.len()).sum();
    assert_eq!(answer["usage"]["prompt_tokens"], prompt);
    assert_eq!(answer["usage"]["total_tokens"], prompt + sampled);
    // Each has its own answer.
    let second = response(&captured, 1);
    assert_eq!(second["choices"].as_array().unwrap().len(), 1);
    assert_eq!(second["choices"][0]["index"], 1);
    assert_eq!(second["choices"][0]["message"]["content"], said[1]);
}

#[test]
fn streamed_choices_come_side_by_side() {
    let rig = Rig::new();
    let key = rig.open();
    let body = picks(json!({"stream": true, "stream_options": {"include_usage": true},
        "logprobs": true, "top_logprobs": 1}));
    let events = client(&rig, &key).events(PATH, &body);
    let (usage, pieces) = events.split_last().unwrap();
    let mut said = [const { String::new() }; 3];
    let (mut begun, mut ended, mut told) = (0, 0, 0);
    for piece in pieces {
        let [choice] = piece["choices"].as_array().unwrap().as_slice() else { panic!("{piece}") };
        assert_eq!(piece["usage"], Value::Null);
        begun += usize::from(choice["delta"]["role"] == "assistant");
        ended += usize::from(choice["finish_reason"] == "stop");
        let index = choice["index"].as_u64().unwrap() as usize;
        said[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        told += choice["logprobs"]["content"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(said, ["I pick Some(7).", "I pick Some(9).", "I pick Some(11)."]);
    assert_eq!((begun, ended, usage["choices"].as_array().unwrap().len()), (3, 3, 0));
    assert_eq!(usage["usage"]["completion_tokens"], told);
    assert_eq!(rig.capture.close(&key).unwrap().branches, 3);
}

#[test]
fn where_one_breaks_all_end() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let mut body = json!({"messages": [user("lost")], "n": 2});
    for stream in [true, false] {
        body["stream"] = stream.into();
        assert_eq!(client.chat(&body).0, 502);
    }
    let captured = rig.capture.close(&key).unwrap();
    assert_eq!(captured.calls.len(), 4);
    assert!(captured.calls.iter().all(|it| matches!(it.end, End::Failed(_))), "{captured:?}");
}

#[test]
fn when_the_client_hangs_up_all_are_aborted() {
    let rig = Rig::new();
    let key = rig.open();
    let body = json!({"messages": [user("slow")], "n": 3, "stream": true}).to_string();
    let sent = client(&rig, &key).send("POST", PATH, "", &body);
    let soon = Duration::from_secs(60);
    wait_until("they have begun", soon, || rig.mock.requests.lock().unwrap().len() == 3);
    sent.shutdown(Shutdown::Both).unwrap();
    wait_until("they are given up", soon, || rig.mock.dropped.load(Ordering::SeqCst) == 3);
    let captured = rig.capture.close(&key).unwrap();
    assert!(captured.calls.iter().all(|it| it.end == End::HungUp), "{captured:?}");
}

#[test]
fn each_choice_takes_the_room_of_a_call() {
    let mut options: CaptureOptions = rig::options();
    (options.limits.calls_at_once, options.limits.calls) = (3, 4);
    let rig = Rig::with(options, Duration::ZERO);
    let key = rig.open();
    let client = client(&rig, &key);
    let (status, answer) = client.chat(&picks(json!({"n": 4})));
    assert_eq!((status, code(&answer)), (400, "n"));
    assert_eq!(client.chat(&picks(json!({}))).0, 200);
    let (status, answer) = client.chat(&picks(json!({"n": 2})));
    assert_eq!((status, code(&answer)), (403, "episode_full"));
    assert_eq!(client.chat(&picks(json!({"n": 1}))).0, 200);
    let captured = rig.capture.close(&key).unwrap();
    assert_eq!((captured.refused, captured.calls.len()), (2, 4));
}
