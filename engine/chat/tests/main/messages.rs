//! Messages as JSON, observations as messages, and a model's folder.

use std::fs;

use envmill_chat::{LoadError, Message, Model, Observe, ObserveOptions, ToolCall};

use crate::goldens::fixtures;

#[test]
fn messages_have_the_common_json() {
    let call = r#"{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"b\": 1, \"a\": 2}"}}]}"#;
    let message = Message::from_json(call).unwrap();
    assert_eq!(message.tool_calls[0].arguments, r#"{"b": 1, "a": 2}"#);
    assert_eq!((message.content.as_deref(), message.reasoning.as_deref()), (None, Some("hm")));
    assert_eq!(message.to_json(), call);
    let object = call.replace(r#""{\"b\": 1, \"a\": 2}""#, r#"{"b": 1, "a": 2}"#);
    assert_eq!(Message::from_json(&object).unwrap(), message);
    let answer = Message::tool(&message.tool_calls[0], "3");
    assert_eq!(answer.to_json(), r#"{"role":"tool","content":"3","tool_call_id":"c1","name":"f"}"#);
    assert_eq!(Message::from_json(&answer.to_json()).unwrap(), answer);
    let nameless = Message::tool(&ToolCall::default(), "3");
    assert_eq!(nameless.tool_call_id, None);
    let parts =
        r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#;
    assert_eq!(Message::from_json(parts).unwrap(), Message::user("ab"));
    let image = r#"{"role":"user","content":[{"type":"image_url","image_url":{}}]}"#;
    assert!(Message::from_json(image).unwrap_err().to_string().contains("image_url"));
    assert!(Message::list_from_json("[{}]").is_err());
}

fn told(options: &str, observation: &str) -> String {
    let options: ObserveOptions = serde_json::from_str(options).unwrap();
    Observe::new(options).unwrap().text(observation, Some(0.5), 3).unwrap()
}

#[test]
fn observations_are_told_by_their_text_or_their_json() {
    assert_eq!(told("{}", r#""a wall""#), "a wall");
    assert_eq!(told("{}", r#"{"message": "m", "text": "t"}"#), "t");
    assert_eq!(told("{}", r#"{"text": 1, "response": "r"}"#), "r");
    let odd = "{ \"b\" : [1.50, 2] ,\n \"a\": \"x \\\" y \\\\\" , \"c\":\t\" {\" }";
    assert_eq!(told("{}", odd), r#"{"b":[1.50,2],"a":"x \" y \\","c":" {"}"#);
    assert_eq!(told("{}", "[1, 2]"), "[1,2]");
}

#[test]
fn observations_are_told_by_a_template() {
    let template = r#"{"template": "{{ turn }}: {{ observation.board | join('/') }} ({{ reward }}) {{ observation.x.strip() }} {{ observation.flag }} {{ observation | tojson }}"}"#;
    let board = r#"{"board": ["xo", "ox"], "x": " y ", "flag": true}"#;
    assert_eq!(told(template, board), format!("3: xo/ox (0.5) y True {board}"));
    let options: ObserveOptions = serde_json::from_str(template).unwrap();
    let observe = Observe::new(options).unwrap();
    let error = observe.message("{}", None, 0).unwrap_err().to_string();
    assert!(error.contains("does the observation have the fields"), "{error}");
    assert!(observe.message("{", None, 0).is_err());
    let wrong = ObserveOptions { template: Some("{{".to_owned()), ..ObserveOptions::default() };
    assert!(Observe::new(wrong).is_err());
}

#[test]
fn long_observations_lose_their_middle() {
    assert_eq!(told(r#"{"max_chars": 5}"#, r#""äöüßé""#), "äöüßé");
    let told = told(r#"{"max_chars": 5}"#, r#""äöüßé123""#);
    assert_eq!(told, "äöü\n[... 3 characters left out ...]\n23");
}

#[test]
fn a_folder_that_lacks_something_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = |folder: &std::path::Path| Model::load(folder).map(|_| ()).unwrap_err();
    let missing = error(folder.path());
    assert!(matches!(missing, LoadError::NoTokenizer(_)));
    assert!(missing.to_string().contains("save_pretrained"), "{missing}");
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(error(folder.path()), LoadError::Config { .. }));
    fs::copy(fixtures().join("bytes/tokenizer.json"), folder.path().join("tokenizer.json"))
        .unwrap();
    fs::write(folder.path().join("config.json"), r#"{"eos_token_id": "x"}"#).unwrap();
    assert!(error(folder.path()).to_string().contains("eos_token_id"));
}

#[test]
fn a_folder_in_all_its_forms() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::copy(fixtures().join("bytes/tokenizer.json"), folder.path().join("tokenizer.json"))
        .unwrap();
    let plain = Model::load(folder.path()).unwrap();
    assert_eq!((plain.eos_ids(), plain.template(None, true)), (&[][..], None));
    let next = plain.vocab_size();
    write(
        "tokenizer_config.json",
        &format!(
            r#"{{"eos_token": {{"content": "<|eot_id|>"}}, "bos_token": "<s>", "unk_token": null,
            "chat_template": [{{"name": "default", "template": "a"}}, {{"name": "tool_use", "template": "b"}}],
            "added_tokens_decoder": {{"{next}": {{"content": "<|new|>", "special": true}}}}}}"#
        ),
    );
    write("config.json", r#"{"eos_token_id": [1, 2], "text_config": {"eos_token_id": 3}}"#);
    let model = Model::load(folder.path()).unwrap();
    let [eot, new] = ["<|eot_id|>", "<|new|>"].map(|token| model.token_id(token).unwrap());
    assert_eq!((model.eos_ids(), new as usize), (&[1, 2, eot][..], next));
    assert_eq!(model.encode("a<|new|>").unwrap().last(), Some(&new));
    assert_eq!(model.decode(&[new, eot], false).unwrap(), "<|new|><|eot_id|>");
    assert_eq!(model.decode(&[new, eot], true).unwrap(), "");
    assert_eq!(model.specials()["bos_token"], "<s>");
    assert_eq!((model.template(None, false), model.template(None, true)), (Some("a"), Some("b")));
    write("chat_template.jinja", "c");
    write("generation_config.json", r#"{"eos_token_id": 5}"#);
    fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    write("additional_chat_templates/own.jinja", "d");
    let model = Model::load(folder.path()).unwrap();
    assert_eq!(
        (model.template(None, false), model.template(Some("own"), true)),
        (Some("c"), Some("d"))
    );
    assert_eq!(model.eos_ids(), [5, eot]);
}
