//! Generated text, well-formed and not.

use envmill_chat::{ActionOptions, Actions, ActionsError, Parsed, ToolCall};
use proptest::prelude::*;

fn actions(options: &str) -> Actions {
    Actions::new(serde_json::from_str::<ActionOptions>(options).unwrap()).unwrap()
}

fn action(options: &str, text: &str) -> String {
    match actions(options).parse(text, 0) {
        Parsed::Action(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn why(options: &str, text: &str) -> String {
    match actions(options).parse(text, 0) {
        Parsed::Malformed { why } => why,
        other => panic!("{other:?}"),
    }
}

fn calls(options: &str, text: &str) -> Vec<(String, String)> {
    match actions(options).parse(text, 7) {
        Parsed::ToolCalls(calls) => {
            calls.into_iter().map(|call| (call.name, call.arguments)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn call(name: &str, arguments: &str) -> (String, String) {
    (name.to_owned(), arguments.to_owned())
}

const TEXT: &str = r#"{"parser": {"text": {"field": "command"}}}"#;
const JSON: &str = r#"{"parser": {"json": {"schema": {"type": "object", "required": ["move"],
    "properties": {"move": {"enum": ["up", "down"]}, "by": {"type": "integer"}}}}}}"#;
const HERMES: &str = r#"{"parser": {"tool_calls": {"format": "hermes"}}}"#;
const LLAMA: &str = r#"{"parser": {"tool_calls": {"format": "llama"}}}"#;
const MISTRAL: &str = r#"{"parser": {"tool_calls": {"format": "mistral"}}}"#;
const XML: &str = r#"{"parser": {"tool_calls": {"format": "xml", "tools": [{"type": "function",
    "function": {"name": "run", "parameters": {"type": "object", "properties": {
        "code": {"type": "string"}, "times": {"type": "integer"}, "scale": {"type": "number"},
        "fast": {"type": "boolean"}, "list": {"type": "array"}, "maybe": {"type": ["integer", "null"]}
    }}}}]}}}"#;
const REGEX: &str = r#"{"parser": {"regex": {"pattern": "<answer>\\s*(?<row>\\d+),\\s*(?<name>\\w+)\\s*</answer>",
    "fields": {"row": "integer"}}}}"#;

#[test]
fn text_is_a_field() {
    assert_eq!(action(TEXT, " go \"north\"\n"), r#"{"command":"go \"north\""}"#);
    let whole = r#"{"parser": {"text": {"field": "c", "trim": false}}}"#;
    assert_eq!(action(whole, " a "), r#"{"c":" a "}"#);
}

#[test]
fn reasoning_is_cut() {
    assert_eq!(action(TEXT, "<think>left?</think>\n\nright"), r#"{"command":"right"}"#);
    assert_eq!(action(TEXT, "left?\n</think>right"), r#"{"command":"right"}"#);
    assert_eq!(action(TEXT, "<think>a</think>b<think>c</think>d"), r#"{"command":"bd"}"#);
    assert_eq!(action(TEXT, "go<think>a"), r#"{"command":"go"}"#);
    assert_eq!(why(TEXT, "<think>left? or"), "the reasoning does not end");
    let own = r#"{"parser": {"text": {"field": "c"}}, "reasoning": ["[", "]"]}"#;
    assert_eq!(action(own, "[hm]go<think>"), r#"{"c":"go<think>"}"#);
    let none = r#"{"parser": {"text": {"field": "c"}}, "reasoning": ["", ""]}"#;
    assert_eq!(action(none, "<think>go"), r#"{"c":"<think>go"}"#);
}

#[test]
fn json_is_found_in_text_and_fences_and_stays_as_written() {
    for text in [
        r#"{"move": "up",  "by": 1.0}"#,
        "I go up:\n```json\n{\"move\": \"up\",  \"by\": 1.0}\n```\nThat is {it}.",
        "Set {x}: {\"move\": \"up\",  \"by\": 1.0} and {\"move\": \"down\"}",
    ] {
        assert_eq!(action(JSON, text), r#"{"move": "up",  "by": 1.0}"#);
    }
    assert_eq!(why(JSON, "up"), "there is no JSON object in the text");
    assert_eq!(why(JSON, r#"{"by": 1}"#), r#"the object lacks the field "move""#);
    assert_eq!(why(JSON, r#"{"move": "left"}"#), r#"move must be one of ["up","down"]"#);
    assert_eq!(why(JSON, r#"{"move": "up", "by": "1"}"#), "by must be of type integer");
    assert!(why(JSON, r#"{"move": "up""#).starts_with("the JSON is wrong"));
}

#[test]
fn calls_as_hermes_and_qwen_write_them() {
    let two = "Let me see.\n<tool_call>\n{\"name\": \"a\", \"arguments\": {\"x\": 1}}\n</tool_call>\n\
               <tool_call>{\"arguments\": \"{\\\"y\\\": 2}\", \"name\": \"b\"}";
    assert_eq!(calls(HERMES, two), [call("a", r#"{"x": 1}"#), call("b", r#"{"y": 2}"#)]);
    assert_eq!(calls(HERMES, r#"<tool_call>{"name": "a"}</tool_call>"#), [call("a", "{}")]);
    let text = actions(HERMES).parse("<think>so</think> Done. ", 0);
    assert_eq!(text, Parsed::Text("Done.".to_owned()));
    assert!(why(HERMES, "<tool_call>{\"name\": \"a\", </tool_call>").contains("wrong"));
    assert!(
        why(HERMES, r#"<tool_call>{"name": "a", "arguments": [1]}</tool_call>"#)
            .contains("not a JSON")
    );
    assert!(why(HERMES, "<tool_call></tool_call>").contains("no JSON"));
}

#[test]
fn calls_as_llama_writes_them() {
    let one = r#"{"name": "a", "parameters": {"x": "{}"}}"#;
    assert_eq!(calls(LLAMA, one), [call("a", r#"{"x": "{}"}"#)]);
    assert_eq!(calls(LLAMA, &format!("<|python_tag|>{one}; {one}<|eom_id|>")).len(), 2);
    assert_eq!(
        actions(LLAMA).parse("It is {sunny}.", 0),
        Parsed::Text("It is {sunny}.".to_owned())
    );
    assert_eq!(actions(LLAMA).parse("{sunny}", 0), Parsed::Text("{sunny}".to_owned()));
    assert!(why(LLAMA, "<|python_tag|>print(1)").contains("JSON"));
    assert!(why(LLAMA, &one[..20]).contains("JSON"));
}

#[test]
fn calls_as_mistral_writes_them() {
    let list = r#"[TOOL_CALLS] [{"name": "a", "arguments": {"x": 1}, "id": "abcdefghi"}, {"name": "b"}]</s>"#;
    assert_eq!(calls(MISTRAL, list), [call("a", r#"{"x": 1}"#), call("b", "{}")]);
    let Parsed::ToolCalls(named) = actions(MISTRAL).parse(list, 7) else { panic!("no calls") };
    assert_eq!((named[0].id.as_str(), named[1].id.as_str()), ("abcdefghi", "t00007c01"));
    let new = r#"[TOOL_CALLS]a[ARGS]{"x": {}}[TOOL_CALLS]b[CALL_ID]q[ARGS]{}"#;
    assert_eq!(calls(MISTRAL, new), [call("a", r#"{"x": {}}"#), call("b", "{}")]);
    assert_eq!(calls(MISTRAL, r#"[TOOL_CALLS]a{"x": 1}"#), [call("a", r#"{"x": 1}"#)]);
    assert!(why(MISTRAL, "[TOOL_CALLS]a").contains("no arguments"));
    assert!(why(MISTRAL, "[TOOL_CALLS][{").contains("JSON"));
}

#[test]
fn calls_in_tags_are_typed_by_the_tools() {
    let text = "<tool_call>\n<function=run>\n<parameter=code>\nprint(\"<b>\")\n\n</parameter>\n\
                <parameter=times>\n3\n</parameter><parameter=scale>2.5</parameter>\
                <parameter=fast>True</parameter><parameter=list>[1]</parameter>\
                <parameter=maybe>null</parameter><parameter=other>4</parameter></function></tool_call>";
    let [(name, arguments)] = &calls(XML, text)[..] else { panic!("not one") };
    assert_eq!(name, "run");
    let arguments: serde_json::Value = serde_json::from_str(arguments).unwrap();
    let expected = r#"{"code": "print(\"<b>\")\n", "times": 3, "scale": 2.5, "fast": true, "list": [1],
        "maybe": null, "other": "4"}"#;
    assert_eq!(arguments, serde_json::from_str::<serde_json::Value>(expected).unwrap());
    let wrong = "<function=run><parameter=times>many</parameter></function>";
    assert_eq!(why(XML, wrong), r#"run: times must be of type integer, but is "many""#);
    assert!(why(XML, "<function=fly></function>").contains("there is no tool"));
    let open = "<function=run><parameter=times>1<parameter=fast>false";
    assert_eq!(calls(XML, open), [call("run", r#"{"fast":false,"times":1}"#)]);
    // The same within Hermes' tags.
    assert_eq!(calls(HERMES, text).len(), 1);
}

#[test]
fn groups_of_a_pattern_are_fields() {
    let text = "<answer>1, one</answer> or <answer>2, two</answer>";
    assert_eq!(action(REGEX, text), r#"{"name":"one","row":1}"#);
    let last = REGEX.replace("\"fields\"", "\"last\": true, \"fields\"");
    assert_eq!(action(&last, text), r#"{"name":"two","row":2}"#);
    assert!(why(REGEX, "<answer>one</answer>").contains("does not match"));
    assert!(why(REGEX, "<answer>99999999999999999999, x</answer>").contains("no whole number"));
    let fails = |text: &str| Actions::new(serde_json::from_str(text).unwrap()).unwrap_err();
    let error = fails(r#"{"parser": {"regex": {"pattern": "(a)"}}}"#);
    assert!(matches!(error, ActionsError::NoGroup));
    let error =
        fails(r#"{"parser": {"regex": {"pattern": "(?<a>a)", "fields": {"b": "number"}}}}"#);
    assert!(matches!(error, ActionsError::NoSuchGroup(name) if name == "b"));
    assert!(matches!(
        fails(r#"{"parser": {"regex": {"pattern": "("}}}"#),
        ActionsError::Pattern(_)
    ));
}

#[test]
fn options_with_mistakes_are_refused() {
    for wrong in [
        r#"{"parser": {"text": {"field": "a", "trimmed": true}}}"#,
        r#"{"parser": {"tool_calls": {"format": "other"}}}"#,
        r#"{"parser": {"text": {"field": "a"}}, "max": 1}"#,
    ] {
        assert!(serde_json::from_str::<ActionOptions>(wrong).is_err(), "{wrong}");
    }
}

/// Texts that are long and almost right, which is what costs the most.
#[test]
fn work_is_bounded() {
    let pieces = [
        "{\"a\":",
        "{",
        "[",
        "<tool_call>",
        "<tool_call>{\"name\":\"a\"}</tool_call>",
        "<function=run>",
        "<function=run></function>",
        "<function=run><parameter=a>",
        "<parameter=a>",
        "[TOOL_CALLS]",
        "[TOOL_CALLS]a[ARGS]{}",
        "<think>",
        "</think>",
        "<think></think>",
        "<answer>1,",
        "{\"name\":\"a\"};",
        "<answer>1, one</answer>",
    ];
    for piece in pieces {
        let text = format!("<function=run>{}", piece.repeat((1 << 20) / piece.len() - 20));
        for options in [TEXT, JSON, HERMES, LLAMA, MISTRAL, XML, REGEX] {
            let actions = actions(options);
            let before = std::time::Instant::now();
            let _ = actions.parse(&text[14..], 0);
            let _ = actions.parse(&text, 0);
            assert!(before.elapsed().as_secs() < 20, "{piece} {options}");
        }
    }
    assert!(why(TEXT, &"a".repeat((1 << 20) + 1)).contains("1048576 are read"));
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_call>",
            "{\"name\": \"a\", \"arguments\": {}}",
            "{\"name\": \"run\", \"parameters\": {\"x\": [1]}}",
            "[TOOL_CALLS]",
            "[ARGS]",
            "[CALL_ID]",
            "<function=run>",
            "</function>",
            "<parameter=times>",
            "</parameter>",
            "{",
            "}",
            "[",
            "]",
            "\"",
            ";",
            ",",
            ":",
            "<answer>",
            "1, a",
            "</answer>",
            "<|python_tag|>",
            "```json",
            "\n",
            "é",
            "😀",
            ">",
            "<function=",
            "<parameter=",
        ])
        .prop_map(str::to_owned),
        ".{0,12}",
    ];
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// No text makes a parser panic, and what comes out has the form it promises.
    #[test]
    fn any_text_is_parsed(text in text(), turn: u32) {
        for options in [TEXT, JSON, HERMES, LLAMA, MISTRAL, XML, REGEX] {
            match actions(options).parse(&text, turn) {
                Parsed::Action(bytes) => {
                    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                    prop_assert!(value.is_object());
                }
                Parsed::ToolCalls(calls) => {
                    prop_assert!(!calls.is_empty());
                    for ToolCall { id, name, arguments } in calls {
                        prop_assert!(!id.is_empty());
                        prop_assert!(!name.is_empty() || options != XML);
                        let value: serde_json::Value = serde_json::from_str(&arguments).unwrap();
                        prop_assert!(value.is_object());
                    }
                }
                Parsed::Text(_) => {}
                Parsed::Malformed { why } => prop_assert!(!why.is_empty()),
            }
        }
    }
}
