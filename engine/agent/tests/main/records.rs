//! What decisions tell for the record, beside tokens.

use envmill_protocol::{Decision, GeneratedKind, record::Truncation};
use serde_json::{Value, json};

use crate::puppet::Rig;

/// The messages that a decision adds.
fn messages(decision: &Decision) -> Vec<Value> {
    let text = String::from_utf8(decision.spoken.messages.to_vec()).unwrap();
    serde_json::from_str(&format!("[{text}]")).unwrap()
}

/// Who says what in them.
fn said(decision: &Decision) -> Vec<(String, String)> {
    let word = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    messages(decision).iter().map(|it| (word(&it["role"]), word(&it["content"]))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn calls_of_tools_are_told_as_the_template_sees_them() {
    let options = json!({
        "system": "You look around.",
        "action": {"parser": {"tool_calls": {"format": "hermes"}}},
        "tools": {"answer_field": "answer"},
        "sampling": {"temperature": 0.7, "stop": ["é"]},
        "limits": {"turn_tokens": 500},
    });
    let calls = "<tool_call>\n{\"name\": \"look\", \"arguments\": {}}\n</tool_call>\n\
                 <tool_call>\n{\"name\": \"go\", \"arguments\": {\"to\": 1}}\n</tool_call>";
    let mut rig = Rig::new(options, true, &[calls, "A door."]);
    let first = rig.turn(r#"{"text":"Where are you?"}"#);
    let [generated] = &first.generations[..] else { panic!("{first:?}") };
    assert_eq!((&*generated.tool, &*generated.finish_reason), ("look,go", "stop"));
    let told = said(&first);
    assert_eq!(told[..2], pairs(&[("system", "You look around."), ("user", "Where are you?")]));
    let names: Vec<_> = messages(&first)[2]["tool_calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["function"]["name"].clone())
        .collect();
    assert_eq!(names, ["look", "go"]);
    let sampling: Value = serde_json::from_slice(&first.spoken.sampling).unwrap();
    assert_eq!(first.spoken.sampling, sampling_text());
    assert_eq!((&sampling["max_tokens"], &sampling["stop"]), (&json!(500), &json!(["é"])));
    // The second call is a step of its own, without the model.
    let second = rig.turn(r#"{"result":"a wall"}"#);
    assert!(second.generations.is_empty() && second.spoken.messages.is_empty(), "{second:?}");
    let third = rig.turn(r#"{"result":"a door"}"#);
    assert_eq!(third.action.as_deref(), Ok(&b"{\"answer\":\"A door.\"}"[..]));
    assert_eq!((third.generations.len(), &*third.generations[0].tool), (1, ""));
    let told = said(&third);
    let roles: Vec<_> = told.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(roles, ["tool", "tool", "assistant"]);
    assert!(told[0].1.contains("a wall") && told[1].1.contains("a door"), "{told:?}");
    assert_eq!(told[2].1, "A door.");
}

/// To the digit as a file has it.
const fn sampling_text() -> &'static str {
    "{\"temperature\":0.7,\"top_p\":1.0,\"top_k\":null,\"min_p\":0.0,\"min_tokens\":0,\"max_tokens\":500,\
     \"stop_token_ids\":[],\"stop\":[\"é\"],\"ignore_eos\":false}"
}

#[test]
fn what_was_thrown_away_is_in_generations_only() {
    let options =
        json!({"action": {"parser": {"json": {}}}, "malformed": {"again": 1, "reply": null}});
    let mut rig = Rig::new(options, true, &["Hm.", "{\"a\":1}", "{\"a\":2}", "So.", "So!"]);
    let first = rig.turn(r#"{"text":"Go."}"#);
    let kinds: Vec<_> = first.generations.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [GeneratedKind::Discarded, GeneratedKind::Agent]);
    assert_eq!(said(&first), pairs(&[("user", "Go."), ("assistant", "{\"a\":1}")]));
    let second = rig.turn(r#"{"text":"And?"}"#);
    assert_eq!(said(&second), pairs(&[("user", "And?"), ("assistant", "{\"a\":2}")]));
    // The last words stand there, though they are no action.
    let third = rig.turn(r#"{"text":"Well?"}"#);
    assert_eq!(third.action.as_ref().unwrap_err().truncates, Some(Truncation::Malformed));
    assert_eq!(said(&third), pairs(&[("user", "Well?"), ("assistant", "So!")]));
}

#[test]
fn where_only_text_is_known_it_is_told() {
    let malformed = json!({"again": 1, "reply": "No."});
    let options = json!({"action": {"parser": {"json": {}}}, "malformed": malformed});
    let mut rig = Rig::new(options, false, &["Hm.", "{\"a\":1}", "{\"a\":2}"]);
    let first = rig.turn(r#"{"text":"Go."}"#);
    let told = [("user", "Go."), ("assistant", "Hm."), ("user", "No."), ("assistant", "{\"a\":1}")];
    assert_eq!(said(&first), pairs(&told));
    assert!(first.generations.iter().all(|it| it.finish_reason == "stop"));
    let second = rig.turn(r#"{"text":"And?"}"#);
    assert_eq!(said(&second), pairs(&[("user", "And?"), ("assistant", "{\"a\":2}")]));
}

#[test]
fn messages_can_be_left_out() {
    let options = json!({"action": {"parser": {"json": {}}}, "messages": false});
    let mut rig = Rig::new(options, true, &["{\"a\":1}"]);
    let first = rig.turn(r#"{"text":"Go."}"#);
    assert!(first.spoken.messages.is_empty() && !first.spoken.sampling.is_empty());
}
