//! Keys, bounds, and ends.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::Shutdown,
    sync::atomic::Ordering,
    time::Duration,
};

use envmill_capture::{CaptureOptions, End, Kept, OpenError};
use envmill_protocol::GeneratedKind;
use envmill_testing::wait_until;
use serde_json::{Value, json};

use crate::{
    client::{Client, code, user},
    rig::{self, Rig},
};

const SOON: Duration = Duration::from_secs(60);

fn client(rig: &Rig, key: &str) -> Client {
    Client { address: rig.address, key: key.to_owned() }
}

fn ask(text: &str) -> Value {
    json!({"messages": [user(text)]})
}

fn limited(change: impl FnOnce(&mut CaptureOptions)) -> Rig {
    let mut options = rig::options();
    change(&mut options);
    Rig::with(options, Duration::ZERO)
}

#[test]
fn only_the_keys_of_open_episodes_are_let_in() {
    let rig = Rig::new();
    let key = rig.open();
    let good = client(&rig, key.as_str());
    assert_eq!(good.ask("GET", "/v1/models", "", "").1["data"][0]["id"], "envmill");
    for wrong in ["", "sk-envmill-0", "sk-envmill-00000000000000000000000000000000"] {
        let wrong = client(&rig, wrong);
        for (status, answer) in [wrong.chat(&ask("x")), wrong.ask("GET", "/v1/models", "", "")] {
            assert_eq!((status, code(&answer)), (401, "invalid_api_key"));
        }
    }
    let _ = rig.capture.close(&key);
    assert_eq!(good.chat(&ask("x")).0, 401);
    let expired = rig.capture.open(Some(Duration::ZERO)).unwrap();
    assert_eq!(client(&rig, expired.as_str()).chat(&ask("x")).0, 401);
    assert_eq!(rig.capture.close(&expired).unwrap().calls.len(), 0);
    assert_eq!(rig.capture.episodes(), 0);
}

#[test]
fn what_cannot_be_answered_is_refused_in_the_shape_of_the_api() {
    let rig = limited(|it| {
        it.context_tokens = 200;
        it.limits.body_bytes = 4000;
        it.limits.messages = 2;
    });
    let key = rig.open();
    let client = client(&rig, key.as_str());
    for (method, path) in
        [("POST", "/v1/embeddings"), ("GET", "/v1/chat/completions"), ("GET", "/")]
    {
        let (status, answer) = client.ask(method, path, "", "");
        assert_eq!((status, code(&answer)), (404, "unknown_url"));
    }
    let long = "x".repeat(300);
    let longer = "x".repeat(5000);
    for (body, status, what) in [
        (ask(&long), 400, "context_length_exceeded"),
        (ask(&longer), 413, ""),
        (json!({"messages": [user("a"), user("b"), user("c")]}), 400, "messages"),
        (json!({"messages": [user("a")], "n": 0}), 400, "n"),
        (ask("busy"), 429, "rate_limit_exceeded"),
        (ask("lost"), 502, ""),
        (json!({"messages": [user("lost")], "stream": true}), 502, ""),
    ] {
        let (got, answer) = client.chat(&body);
        assert_eq!((got, code(&answer)), (status, what), "{answer}");
    }
    let captured = rig.capture.close(&key).unwrap();
    assert_eq!((captured.refused, captured.calls.len(), captured.generations.len()), (4, 3, 0));
    assert!(captured.calls.iter().all(|it| matches!(it.end, End::Failed(_))));
}

#[test]
fn a_generation_that_breaks_in_the_middle_is_an_event() {
    let rig = Rig::new();
    let key = rig.open();
    let body = json!({"messages": [user("say break")], "stream": true});
    let mut stream =
        client(&rig, key.as_str()).send("POST", "/v1/chat/completions", "", &body.to_string());
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""content":"b""#) && text.contains("gone in the middle"), "{text}");
    assert!(!text.contains("[DONE]"));
    let captured = rig.capture.close(&key).unwrap();
    assert_eq!(captured.generations[0].kind, GeneratedKind::Discarded);
    assert_eq!(captured.generations[0].token_ids.len(), 2);
}

#[test]
fn when_the_client_hangs_up_the_generation_is_aborted() {
    let rig = Rig::new();
    let key = rig.open();
    for stream in [true, false] {
        let body = json!({"messages": [user("slow")], "stream": stream}).to_string();
        let sent = client(&rig, key.as_str()).send("POST", "/v1/chat/completions", "", &body);
        let count = if stream { 1 } else { 2 };
        wait_until("a call has begun", SOON, || rig.mock.requests.lock().unwrap().len() == count);
        if stream {
            let mut lines = BufReader::new(&sent).lines();
            assert!(lines.any(|it| it.unwrap().contains(r#""content":"w""#)));
        }
        sent.shutdown(Shutdown::Both).unwrap();
        wait_until("it is given up", SOON, || rig.mock.dropped.load(Ordering::SeqCst) == count);
    }
    let captured = rig.capture.close(&key).unwrap();
    assert!(captured.calls.iter().all(|it| it.end == End::HungUp), "{:?}", captured.calls);
    assert_eq!(captured.generations[0].kind, GeneratedKind::Discarded);
}

#[test]
fn an_episodes_end_ends_its_calls() {
    let rig = Rig::new();
    for limit in [None, Some(Duration::from_secs(3))] {
        // Its time begins here.
        let key = rig.capture.open(limit).unwrap();
        let body = json!({"messages": [user("slow")], "stream": true}).to_string();
        let sent = client(&rig, key.as_str()).send("POST", "/v1/chat/completions", "", &body);
        let mut lines = BufReader::new(sent).lines();
        assert!(lines.any(|it| it.unwrap().contains(r#""content":"w""#)));
        let closed = limit.is_none().then(|| rig.capture.close(&key).unwrap());
        assert!(lines.any(|it| it.unwrap().contains("has ended")));
        let captured = closed.unwrap_or_else(|| rig.capture.close(&key).unwrap());
        assert_eq!(captured.calls[0].end, End::Closed);
        assert!(!captured.generations[0].token_ids.is_empty());
    }
    wait_until("both are given up", SOON, || rig.mock.dropped.load(Ordering::SeqCst) == 2);
}

#[test]
fn there_is_room_for_so_much_and_no_more() {
    let rig = limited(|it| {
        it.limits.open_episodes = 1;
        it.limits.calls = 3;
        it.limits.calls_at_once = 1;
        it.limits.kept_bytes = 60;
    });
    let key = rig.open();
    assert!(matches!(rig.capture.open(None), Err(OpenError::Full(1))));
    let client = client(&rig, key.as_str());
    let slow = json!({"messages": [user("slow")], "stream": true}).to_string();
    let sent = client.send("POST", "/v1/chat/completions", "", &slow);
    let mut lines = BufReader::new(&sent).lines();
    assert!(lines.any(|it| it.unwrap().contains(r#""content":"w""#)));
    let (status, answer) = client.chat(&ask("x"));
    assert_eq!((status, code(&answer)), (429, "rate_limit_exceeded"));
    sent.shutdown(Shutdown::Both).unwrap();
    wait_until("it is given up", SOON, || rig.mock.dropped.load(Ordering::SeqCst) == 1);
    wait_until("there is room", SOON, || client.chat(&ask("x")).0 == 200);
    assert_eq!(client.chat(&ask("x")).0, 200);
    let (status, answer) = client.chat(&ask("x"));
    assert_eq!((status, code(&answer)), (403, "episode_full"));
    let captured = rig.capture.close(&key).unwrap();
    assert!(matches!(captured.request(1), Kept::Json(_)));
    assert!(matches!(captured.calls[1].response, Kept::TooLong(_)));

    let rig = limited(|it| it.limits.episode_bytes = 1000);
    let key = rig.open();
    let client = Client { address: rig.address, key: key.as_str().to_owned() };
    assert_eq!(client.chat(&ask(&"x".repeat(1000))).0, 200);
    assert_eq!(client.chat(&ask("x")).0, 403);
}
