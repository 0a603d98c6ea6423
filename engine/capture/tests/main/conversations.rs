//! Which calls continue which, and by which ids.

use envmill_capture::{Begun, CaptureOptions, End, Kept};
use envmill_chat::Rewrites;
use envmill_protocol::{
    GeneratedKind,
    record::{Conversation, whole_prompt},
};
use serde_json::{Value, json};

use crate::{
    client::{Client, system, user},
    rig::{self, Rig},
};

fn client(rig: &Rig, key: &envmill_capture::Key) -> Client {
    Client { address: rig.address, key: key.as_str().to_owned() }
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "look_up", "description": "Looks up.",
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}}}}])
}

#[test]
fn a_conversation_is_one_sequence_of_ids() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let mut messages = vec![system("You play."), user("Where?")];
    for next in ["And then?", "say Enough.", "Bye"] {
        messages.push(client.said(&messages));
        messages.push(user(next));
    }
    messages.push(client.said(&messages));
    let captured = rig.capture.close(&key).unwrap();
    assert_eq!((captured.branches, captured.auxiliary, captured.refused), (1, 0, 0));
    let begun: Vec<_> = captured.calls.iter().map(|it| it.begun).collect();
    assert_eq!(begun, [Begun::Anew, Begun::Continued, Begun::Continued, Begun::Continued]);
    let parents: Vec<_> = captured.generations.iter().map(|it| it.parent).collect();
    assert_eq!(parents, [None, Some(0), Some(1), Some(2)]);
    // What the engine has seen and sampled is what is recorded, in one sequence.
    let seen = rig.mock.seen.lock().unwrap();
    for (index, (prompt, sampled)) in seen.iter().enumerate() {
        let generated = &captured.generations[index];
        assert_eq!(&whole_prompt(&captured.generations, index), prompt);
        assert_eq!(&generated.token_ids, sampled);
        assert_eq!((&*generated.finish_reason, generated.step), ("stop", None));
        assert_eq!(generated.policy_versions[0].version.0, 3);
    }
    let whole = Conversation::of(&captured.generations, &[]);
    assert_eq!((whole.branch, whole.turns.len()), (0, 8));
    let (prompt, sampled) = seen.last().unwrap();
    assert_eq!(whole.tokens.token_ids, [prompt.clone(), sampled.clone()].concat());
    let text = rig.mock.model.decode(&whole.tokens.token_ids, false).unwrap();
    assert!(text.contains("You said \"Where?\", é漢🙂.<|im_end|>\n<|im_start|>user\nAnd then?"));
    assert_eq!(messages[6]["content"], "Enough.");
    assert!(rig.capture.close(&key).is_none());
}

#[test]
fn calls_of_tools_and_their_answers_continue() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let more = json!({"tools": tools()});
    let mut messages = vec![user("call")];
    let said = client.said_with(&messages, more.clone());
    assert_eq!(said["content"], "Let me see.");
    let calls = said["tool_calls"].as_array().unwrap();
    assert_eq!(calls[0]["function"], json!({"name": "look_up", "arguments": "{\"what\": \"é\"}"}));
    let ids: Vec<_> = calls.iter().map(|it| it["id"].clone()).collect();
    assert_ne!(ids[0], ids[1]);
    // A harness that has read the arguments and written them again.
    messages.push(json!({"role": "assistant", "content": "Let me see.", "tool_calls": [
        {"id": ids[0], "type": "function",
         "function": {"name": "look_up", "arguments": "{\"what\":\"\\u00e9\"}"}},
        {"id": ids[1], "type": "function", "function": {"name": "look_up", "arguments": "{}"}},
    ]}));
    for id in ids {
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "found"}));
    }
    client.said_with(&messages, more);
    // Without tools nothing is looked for.
    let plain = client.said(&[user("call")]);
    assert!(plain["content"].as_str().unwrap().contains("<tool_call>"));
    let captured = rig.capture.close(&key).unwrap();
    assert_eq!(captured.calls[1].begun, Begun::Continued);
    let [first, second] = [0, 1].map(|it| captured.generations[it].clone());
    assert_eq!((&*first.tool, &*second.tool), ("look_up,look_up", ""));
    // All of the first is at the beginning of the second, which keeps the rest.
    assert_eq!(second.prompt_shared as usize, first.length());
    let rest = rig.mock.model.decode(&second.prompt_token_ids, false).unwrap();
    let response = "\n<tool_response>\nfound\n</tool_response>";
    let wanted =
        format!("\n<|im_start|>user{response}{response}<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(rest, wanted);
}

#[test]
fn a_template_that_wants_to_see_calls_is_shown_them() {
    let strict = "{%- for m in messages %}{%- if m.role == 'tool' and not \
                  messages[loop.index0 - 1].tool_calls %}{{ raise_exception('no call') }}{%- endif \
                  %}{%- endfor %}";
    let mut options = rig::options();
    options.template_source = options.template_source.map(|it| format!("{strict}{it}"));
    let rig = Rig::with(options, std::time::Duration::ZERO);
    let key = rig.open();
    let client = client(&rig, &key);
    let more = json!({"tools": tools()});
    let said = client.said_with(&[user("call tightly")], more.clone());
    assert_eq!(said["content"], Value::Null);
    let id = &said["tool_calls"][0]["id"];
    let found = json!({"role": "tool", "tool_call_id": id, "content": "found"});
    client.said_with(&[user("call tightly"), said.clone(), found], more);
    let captured = rig.capture.close(&key).unwrap();
    assert_eq!(captured.calls[1].begun, Begun::Continued);
    let text = rig.mock.model.decode(&whole_prompt(&captured.generations, 1), false).unwrap();
    // Once in the instructions, once as it was said.
    assert_eq!(text.matches("</tool_call>").count(), 2, "{text}");
}

#[test]
fn what_was_edited_is_a_branch_and_who_else_speaks_is_auxiliary() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let title = client.said(&[system("You find titles."), user("x")]);
    let mut messages = vec![system("You play."), user("Where?")];
    messages.push(client.said(&messages));
    messages.push(user("on"));
    client.said(&messages);
    // The same messages again, and a past that was edited.
    client.said(&messages);
    messages[2]["content"] = "Something else.".into();
    client.said(&messages);
    client.said(&[system("You find titles."), user("x"), title]);
    let body = json!({"messages": [system("You play."), user("aside")]}).to_string();
    let (status, _) =
        client.ask("POST", "/v1/chat/completions", "x-envmill-kind: auxiliary\r\n", &body);
    assert_eq!(status, 200);
    let captured = rig.capture.close(&key).unwrap();
    let kinds: Vec<_> = captured.calls.iter().map(|it| it.kind).collect();
    use GeneratedKind::{Agent, Auxiliary};
    assert_eq!(kinds, [Auxiliary, Agent, Agent, Agent, Agent, Auxiliary, Auxiliary]);
    let parents: Vec<_> = captured.calls.iter().map(|it| it.parent).collect();
    assert_eq!(parents, [None, None, Some(1), Some(1), None, None, None]);
    assert_eq!((captured.branches, captured.auxiliary), (3, 3));
}

#[test]
fn other_tools_are_another_beginning_of_the_same_conversation() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let mut messages = vec![user("Where?")];
    messages.push(client.said(&messages));
    messages.push(user("on"));
    client.said_with(&messages, json!({"tools": tools()}));
    let captured = rig.capture.close(&key).unwrap();
    let second = &captured.calls[1];
    assert_eq!(
        (second.begun, second.parent, second.kind),
        (Begun::Anew, Some(0), GeneratedKind::Agent)
    );
}

#[test]
fn reasoning_is_answered_apart_and_stays_in_sight_or_goes() {
    for rewrites in [Rewrites::Keep, Rewrites::Fork] {
        let template = include_str!("../../../chat/tests/fixtures/templates/thinking.jinja");
        let options =
            CaptureOptions { template_source: Some(template.into()), rewrites, ..rig::options() };
        let rig = Rig::with(options, std::time::Duration::ZERO);
        let key = rig.open();
        let client = client(&rig, &key);
        let said = client.said(&[user("think")]);
        assert_eq!(
            (&said["content"], &said["reasoning_content"]),
            (&json!("Yes 🙂."), &json!("Hm, 漢."))
        );
        // Harnesses hand back what they know.
        let back = json!({"role": "assistant", "content": said["content"]});
        client.said(&[user("think"), back, user("on")]);
        // Reasoning that was changed is another past.
        let changed =
            json!({"role": "assistant", "content": said["content"], "reasoning_content": "No."});
        client.said(&[user("think"), changed, user("on")]);
        let captured = rig.capture.close(&key).unwrap();
        assert_eq!(captured.calls[1].parent, Some(0));
        assert_eq!((captured.calls[2].parent, captured.calls[2].begun), (None, Begun::Anew));
        let prompt = &whole_prompt(&captured.generations, 1);
        let text = rig.mock.model.decode(prompt, false).unwrap();
        match rewrites {
            Rewrites::Keep => {
                assert_eq!(captured.calls[1].begun, Begun::Continued);
                assert!(text.contains("Hm, 漢."), "{text}");
            }
            _ => {
                assert!(matches!(captured.calls[1].begun, Begun::Forked(_)));
                assert!(!text.contains("Hm"), "{text}");
                assert_eq!(captured.branches, 3);
            }
        }
    }
}

#[test]
fn what_a_call_asks_for_reaches_the_engine() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let more = json!({"temperature": 0.25, "seed": 7, "max_tokens": 3, "stop": ["END"],
        "logprobs": true, "return_token_ids": true, "messages": [user("say abcdef")]});
    let (_, answer) = client.chat(&more);
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("length"), &json!("abc"))
    );
    assert_eq!(
        choice["logprobs"]["content"][1],
        json!({"token": "b", "logprob": -0.5, "bytes": [98], "top_logprobs": []})
    );
    let captured = rig.capture.close(&key).unwrap();
    let generated = &captured.generations[0];
    assert_eq!(choice["token_ids"], json!(generated.token_ids));
    assert_eq!(answer["prompt_token_ids"], json!(generated.prompt_token_ids));
    assert_eq!(answer["usage"]["total_tokens"], generated.prompt_token_ids.len() + 3);
    let request = rig.mock.requests.lock().unwrap()[0].clone();
    assert_eq!(
        (request.sampling.temperature, request.seed, request.max_tokens),
        (0.25, Some(7), 3)
    );
    assert_eq!(request.sampling.stop, ["END"]);
    assert!(matches!(captured.calls[0].end, End::Answered(envmill_inference::Finish::Length)));
}

#[test]
fn a_hundred_calls_take_about_what_the_last_takes() {
    let options = CaptureOptions { context_tokens: 1 << 20, ..rig::options() };
    let rig = Rig::with(options, std::time::Duration::ZERO);
    let key = rig.open();
    let client = client(&rig, &key);
    let more = json!({"tools": tools()});
    let mut messages = vec![system("Be brief.")];
    let (mut takes, mut asked) = (Vec::new(), 0);
    for turn in 0..100 {
        messages.push(user(&format!("{turn} {}", "x".repeat(200))));
        asked = json!({"messages": messages, "tools": tools()}).to_string().len();
        messages.push(client.said_with(&messages, more.clone()));
        takes.push(rig.capture.bytes(&key).unwrap());
    }
    // Prompts, requests and conversations in full would take the square of that.
    assert!(takes[99] < 40 * asked, "{} for a last request of {asked}", takes[99]);
    assert!(takes[99] < 3 * takes[49], "{} after {}", takes[99], takes[49]);
    let captured = rig.capture.close(&key).unwrap();
    assert_eq!((captured.calls.len(), captured.branches), (100, 1));
    // It is not more when the episode is closed, when its last conversation is not needed any more.
    assert!(captured.bytes() < takes[99], "{} after {}", captured.bytes(), takes[99]);
    for (call, count) in [(0, 2), (49, 100), (99, 200)] {
        let Kept::Json(request) = captured.request(call) else { panic!() };
        let request: Value = serde_json::from_slice(&request).unwrap();
        assert_eq!(request["messages"], json!(messages[..count]), "call {call}");
    }
    let seen = rig.mock.seen.lock().unwrap();
    for (index, (prompt, sampled)) in seen.iter().enumerate() {
        assert_eq!(whole_prompt(&captured.generations, index), *prompt, "call {index}");
        assert_eq!(captured.generations[index].token_ids, *sampled, "call {index}");
    }
}

#[test]
fn a_call_that_many_others_have_continued_is_continued_again() {
    let rig = Rig::new();
    let key = rig.open();
    let client = client(&rig, &key);
    let mut messages = vec![user("say one")];
    messages.push(client.said(&messages));
    let first = messages.clone();
    for turn in 0..40 {
        messages.push(user(&format!("say {turn}")));
        messages.push(client.said(&messages));
        // Another branch, of which nobody says more.
        let aside = [&messages[..], &[user("say aside")]].concat();
        client.said(&aside);
    }
    // By now none of these is kept as it was.
    let again = [&first[..], &[user("say again")]].concat();
    client.said(&again);
    let captured = rig.capture.close(&key).unwrap();
    let last = captured.calls.last().unwrap();
    assert_eq!((last.begun, last.parent), (Begun::Continued, Some(0)));
    let generated = captured.generations.last().unwrap();
    assert_eq!(generated.prompt_shared as usize, captured.generations[0].length());
    assert!(captured.calls[1..].iter().all(|it| it.begun == Begun::Continued));
    let seen = rig.mock.seen.lock().unwrap();
    for (index, (prompt, _)) in seen.iter().enumerate() {
        assert_eq!(whole_prompt(&captured.generations, index), *prompt, "call {index}");
    }
}
