//! OpenEnv's `TrainingTrace`, as OpenEnv reads it.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use envmill_capture::Captured;
use serde_json::{Value, json};

use crate::{
    client::{Client, system, user},
    rig::Rig,
};

/// What OpenEnv makes of it: turns, and tokens to train on.
fn read(trace: &str) -> (usize, usize) {
    let mut child = Command::new(envmill_testing::python().unwrap())
        .arg(envmill_testing::script("training_trace.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(trace.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (turns, tokens) = text.trim().split_once(' ').unwrap();
    (turns.parse().unwrap(), tokens.parse().unwrap())
}

pub(crate) fn text(captured: &Captured) -> String {
    let mut text = Vec::new();
    captured.write_training_trace(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn openenv_reads_what_was_captured() {
    let rig = Rig::new();
    let key = rig.open();
    let client = Client { address: rig.address, key: key.as_str().to_owned() };
    let mut messages = vec![user("Where?")];
    messages.push(client.said(&messages));
    messages.push(user("on"));
    client.said(&messages);
    client.said(&[system("You find titles."), user("x")]);
    let captured = rig.capture.close(&key).unwrap();
    let trace = text(&captured);
    let own: usize = captured.generations[..2].iter().map(|it| it.token_ids.len()).sum();
    assert_eq!(read(&trace), (3, own));
    let trace: Value = serde_json::from_str(&trace).unwrap();
    let second = &trace["turns"][1];
    assert_eq!(second["metadata"]["parent_node_id"], "call-0");
    assert_eq!(second["metadata"]["begun"], "continued");
    assert_eq!(second["request"]["messages"], json!(messages));
    assert_eq!(second["response"]["object"], "chat.completion");
    assert_eq!(trace["turns"][2]["metadata"]["kind"], "auxiliary");
    // An episode of nothing is one, too.
    let nothing = text(&Captured::default());
    assert_eq!(read(&nothing), (0, 0));
}
