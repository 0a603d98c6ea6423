//! Appended ids against what rendering everything would give.

use std::sync::Arc;

use crate::goldens::{fixtures, template};
use envmill_chat::{
    Branch, Chat, ChatOptions, Continuation, Continuity, Conversation, Drift, Json, Message, Model,
    Rewrites, ToolCall, Why,
};

pub(crate) fn chat(tokenizer: &str, name: &str, rewrites: Rewrites, tools: bool) -> Arc<Chat> {
    let model = Arc::new(Model::load(fixtures().join(tokenizer)).unwrap());
    let tool = r#"{"type":"function","function":{"name":"look_up","description":"Looks up.",
        "parameters":{"type":"object","properties":{"what":{"type":"string"}}}}}"#;
    let options = ChatOptions {
        template_source: Some(template(name)),
        rewrites,
        tools: if tools { vec![Json::parse(tool).unwrap(); 3] } else { vec![] },
        ..ChatOptions::default()
    };
    Arc::new(Chat::new(model, options).unwrap())
}

pub(crate) fn start() -> Vec<Message> {
    vec![Message::system("You play a game."), Message::user("Which way?")]
}

pub(crate) fn text(conversation: &Conversation, chat: &Chat) -> String {
    chat.model().decode(conversation.prompt(), false).unwrap()
}

/// What the ids sampled in a branch are.
pub(crate) fn sampled(branch: &Branch) -> Vec<u32> {
    let marked = branch.tokens.iter().zip(&branch.loss_mask);
    marked.filter(|(_, mask)| **mask == 1).map(|(id, _)| *id).collect()
}

pub(crate) fn is_whole(branch: &Branch) {
    assert_eq!(branch.tokens.len(), branch.loss_mask.len());
    let mut at = 0;
    for span in &branch.spans {
        assert_eq!(span.start, at);
        assert!(span.end > span.start);
        at = span.end;
    }
    assert_eq!(at, branch.tokens.len());
}

const CHATML_END: &str = "<|im_end|>";

#[test]
fn what_is_sampled_stays_and_what_is_observed_follows() {
    let chat = chat("bytes", "chatml", Rewrites::Fork, true);
    assert_eq!(chat.continuity(), &Continuity::Windowed);
    assert_eq!(chat.closing(), "<|im_end|>\n");
    let mut conversation = chat.begin(start()).unwrap();
    let first = conversation.prompt().to_vec();
    let model = chat.model();
    // "north" in ids that no tokenizer would choose.
    let mut odd: Vec<u32> =
        "north".chars().flat_map(|c| model.encode(&c.to_string()).unwrap()).collect();
    assert_ne!(odd, model.encode("north").unwrap());
    odd.push(model.token_id(CHATML_END).unwrap());
    conversation.sampled(&odd);
    assert_eq!(conversation.words().unwrap(), "north");
    let continuation = conversation.observe(&[Message::user("A wall.")]).unwrap();
    let delta =
        model.encode("\n<|im_start|>user\nA wall.<|im_end|>\n<|im_start|>assistant\n").unwrap();
    assert_eq!(continuation, Continuation::Appended { tokens: delta.len(), kept: None });
    assert_eq!(conversation.prompt(), [first.clone(), odd.clone(), delta].concat());
    assert_eq!(text(&conversation, &chat), chat.render(conversation.messages()).unwrap());
    let branch = conversation.into_branch();
    is_whole(&branch);
    assert_eq!(sampled(&branch), odd);
    let roles: Vec<_> = branch.spans.iter().map(|span| (span.role.as_str(), span.end)).collect();
    let said = first.len() + odd.len() + 1;
    assert_eq!(
        roles,
        [("prompt", first.len()), ("assistant", said), ("user", branch.tokens.len())]
    );
}

#[test]
fn a_missing_end_of_turn_is_added_and_never_doubled() {
    let chat = chat("bytes", "chatml", Rewrites::Fork, false);
    let model = chat.model();
    let words = model.encode("go north").unwrap();
    let end = model.encode("<|im_end|>").unwrap();
    let line = model.encode("\n").unwrap();
    let whole = [words.clone(), end, line].concat();
    for given in [&whole[..words.len()], &whole[..words.len() + 1], &whole[..]] {
        let mut conversation = chat.begin(start()).unwrap();
        let first = conversation.prompt().len();
        conversation.sampled(given);
        conversation.observe(&[Message::user("A wall.")]).unwrap();
        assert_eq!(conversation.prompt()[first..first + whole.len()], whole);
        assert_eq!(conversation.branch().sampled(), given.len());
        assert_eq!(text(&conversation, &chat), chat.render(conversation.messages()).unwrap());
        assert_eq!(conversation.branch().spans[1].end, first + whole.len());
        is_whole(conversation.branch());
    }
}

#[test]
fn a_turn_may_be_sampled_in_pieces_and_end_within_a_letter() {
    let chat = chat("bytes", "chatml", Rewrites::Fork, false);
    let ids = chat.model().encode("go 東").unwrap();
    let mut conversation = chat.begin(start()).unwrap();
    for id in &ids[..ids.len() - 1] {
        conversation.sampled(&[*id]);
    }
    let continuation = conversation.observe(&[Message::user("A wall.")]).unwrap();
    assert!(matches!(continuation, Continuation::Appended { kept: None, .. }), "{continuation:?}");
    assert_eq!(sampled(conversation.branch()), ids[..ids.len() - 1]);
}

#[test]
fn another_end_of_turn_forks_or_is_kept() {
    for (rewrites, forks) in [(Rewrites::Fork, 1), (Rewrites::Keep, 0)] {
        let chat = chat("bytes", "chatml", rewrites, false);
        let mut conversation = chat.begin(start()).unwrap();
        let ids = chat.model().encode("north<|endoftext|>").unwrap();
        conversation.sampled(&ids);
        assert_eq!(conversation.words().unwrap(), "north");
        match conversation.observe(&[Message::user("A wall.")]).unwrap() {
            Continuation::Forked { why, ended, .. } => {
                assert_eq!(why, Why::Ending);
                assert_eq!(sampled(&ended), ids);
                assert_eq!(conversation.branch().sampled(), 0);
                assert_eq!(
                    text(&conversation, &chat),
                    chat.render(conversation.messages()).unwrap()
                );
            }
            Continuation::Appended { kept, .. } => assert_eq!(kept, Some(Why::Ending)),
        }
        assert_eq!(conversation.forks(), forks);
    }
}

#[test]
fn reasoning_that_the_template_strips_forks_at_the_next_question_only() {
    let chat = chat("bytes", "thinking", Rewrites::Fork, false);
    assert_eq!(chat.continuity(), &Continuity::Windowed);
    let ids = chat.model().encode("<think>\nWalls?\n</think>\n\nnorth<|im_end|>").unwrap();
    let mut conversation = chat.begin(start()).unwrap();
    for _ in 0..3 {
        conversation.sampled(&ids);
        let continuation = conversation.observe(&[Message::new("tool", "A wall.")]).unwrap();
        assert!(
            matches!(continuation, Continuation::Appended { kept: None, .. }),
            "{continuation:?}"
        );
    }
    assert_eq!(text(&conversation, &chat), chat.render(conversation.messages()).unwrap());
    // This one says nothing that would be stripped; those before it did.
    let short = chat.model().encode("east<|im_end|>").unwrap();
    conversation.sampled(&short);
    let continuation = conversation.observe(&[Message::user("And now?")]).unwrap();
    let Continuation::Forked { why, ended, .. } = continuation else { panic!("{continuation:?}") };
    assert_eq!((why, ended.number, conversation.forks()), (Why::Past, 0, 1));
    assert_eq!(ended.sampled(), 3 * ids.len() + short.len());
    assert_eq!(text(&conversation, &chat), chat.render(conversation.messages()).unwrap());
    // From there on it is appended to again.
    conversation.sampled(&ids);
    let continuation = conversation.observe(&[Message::new("tool", "A wall.")]).unwrap();
    assert!(matches!(continuation, Continuation::Appended { kept: None, .. }), "{continuation:?}");
}

#[test]
fn what_is_trimmed_forks_or_is_kept() {
    for (rewrites, expected) in
        [(Rewrites::Fork, None), (Rewrites::KeepWhitespace, Some(Some(Why::Whitespace)))]
    {
        let chat = chat("bytes", "headers", rewrites, false);
        let mut conversation = chat.begin(start()).unwrap();
        conversation.sampled(&chat.model().encode(" north \n<|eot_id|>").unwrap());
        let continuation = conversation.observe(&[Message::user("A wall.")]).unwrap();
        match (continuation, expected) {
            (Continuation::Forked { why, .. }, None) => assert_eq!(why, Why::Whitespace),
            (Continuation::Appended { kept, .. }, Some(expected)) => assert_eq!(kept, expected),
            (continuation, _) => panic!("{continuation:?}"),
        }
    }
}

#[test]
fn what_is_stripped_may_be_kept() {
    let chat = chat("bytes", "thinking", Rewrites::Keep, false);
    let model = chat.model();
    let mut conversation = chat.begin(start()).unwrap();
    let first = conversation.prompt().to_vec();
    let ids = model.encode("<think>\nWalls?\n</think>\n\nnorth<|im_end|>").unwrap();
    let delta =
        model.encode("\n<|im_start|>user\nA wall.<|im_end|>\n<|im_start|>assistant\n").unwrap();
    let mut expected = first;
    for why in [Why::Words, Why::Past] {
        conversation.sampled(&ids);
        let continuation = conversation.observe(&[Message::user("A wall.")]).unwrap();
        let tokens = delta.len();
        // The first time it is the last words that would change, and then those before them, too.
        assert_eq!(
            continuation,
            Continuation::Appended { tokens, kept: Some(Why::Words) },
            "{why:?}"
        );
        expected.extend(ids.iter().chain(&delta));
        assert_eq!(conversation.prompt(), expected);
    }
    assert_eq!(conversation.forks(), 0);
}

#[test]
fn a_template_may_be_shown_calls_instead_of_their_text() {
    let chat = chat("bytes", "inst", Rewrites::Fork, true);
    let model = chat.model();
    let mut conversation = chat.begin(vec![Message::user("What is it?")]).unwrap();
    let spoken =
        r#"[TOOL_CALLS] [{"name": "look_up", "arguments": {"what": "it"}, "id": "abcdefghi"}]"#;
    let ids = model.encode(&format!("{spoken}<|im_end|>")).unwrap();
    conversation.sampled(&ids);
    let call = ToolCall {
        id: "abcdefghi".to_owned(),
        name: "look_up".to_owned(),
        arguments: r#"{"what": "it"}"#.to_owned(),
    };
    let said = Message {
        role: "assistant".to_owned(),
        tool_calls: vec![call.clone()],
        ..Message::default()
    };
    conversation.said_as(said);
    let continuation = conversation.observe(&[Message::tool(&call, "3")]).unwrap();
    assert!(matches!(continuation, Continuation::Appended { kept: None, .. }), "{continuation:?}");
    assert_eq!(sampled(conversation.branch()), ids);
    assert_eq!(text(&conversation, &chat), chat.render(conversation.messages()).unwrap());
    // Other spaces in the JSON are other words than the template's.
    let mut conversation = chat.begin(vec![Message::user("What is it?")]).unwrap();
    conversation
        .sampled(&model.encode(&format!("{}<|im_end|>", spoken.replace(": ", ":"))).unwrap());
    conversation.said_as(Message {
        role: "assistant".to_owned(),
        tool_calls: vec![call.clone()],
        ..Message::default()
    });
    let continuation = conversation.observe(&[Message::tool(&call, "3")]).unwrap();
    assert!(
        matches!(continuation, Continuation::Forked { why: Why::Words, .. }),
        "{continuation:?}"
    );
}

#[test]
fn a_late_change_is_found_by_the_audits() {
    let late = "{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content if messages | length < 40 or not loop.first else '(gone)' }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}";
    let model = Arc::new(Model::load(fixtures().join("bytes")).unwrap());
    let options = ChatOptions { template_source: Some(late.to_owned()), ..ChatOptions::default() };
    let chat = Arc::new(Chat::new(model, options).unwrap());
    assert_eq!(chat.continuity(), &Continuity::Windowed);
    let mut conversation = chat.begin(start()).unwrap();
    let ids = chat.model().encode("north<|im_end|>").unwrap();
    for turn in 0..40 {
        conversation.sampled(&ids);
        conversation.observe(&[Message::user("A wall.")]).unwrap();
        let is_right = text(&conversation, &chat) == chat.render(conversation.messages()).unwrap();
        // The audit of turn 32 finds it; from then on nothing is taken for granted.
        assert_eq!(is_right, !(18..32).contains(&turn), "{turn}");
        assert_eq!(conversation.forks(), u32::from(turn >= 32), "{turn}");
    }
}

#[test]
fn conversations_of_many_threads_share_a_chat() {
    let chat = chat("bytes", "chatml", Rewrites::Fork, true);
    let play = || {
        let mut conversation = chat.begin(start()).unwrap();
        for turn in 0..10 {
            conversation.sampled(&chat.model().encode("north<|im_end|>").unwrap());
            conversation.observe(&[Message::user(format!("Wall {turn}."))]).unwrap();
        }
        conversation.into_branch()
    };
    let branches = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(play)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(branches.iter().all(|branch| branch == &branches[0]));
}

#[test]
fn the_engines_prompt_counts() {
    let chat = chat("bytes", "chatml", Rewrites::Fork, false);
    let mut conversation = chat.begin(start()).unwrap();
    let ours = conversation.prompt().to_vec();
    assert_eq!(conversation.engine_prompt(&ours), Drift::None);
    let mut theirs = ours.clone();
    theirs[3] += 1;
    assert_eq!(conversation.engine_prompt(&theirs), Drift::Prompt { at: 3 });
    assert_eq!((conversation.prompt(), conversation.drifts()), (&theirs[..], 1));
    is_whole(conversation.branch());
    conversation.sampled(&chat.model().encode("north<|im_end|>").unwrap());
    conversation.observe(&[Message::user("A wall.")]).unwrap();
    assert!(conversation.prompt().starts_with(&theirs));
    let mut other = conversation.prompt().to_vec();
    other.remove(theirs.len());
    let Drift::Forked { ended } = conversation.engine_prompt(&other) else { panic!("no fork") };
    assert!(ended.sampled() > 0);
    assert_eq!((conversation.prompt(), conversation.forks()), (&other[..], 1));
    assert_eq!(conversation.branch().sampled(), 0);
}

#[test]
fn a_tokenizer_that_begins_texts_with_a_space_does_not_within_them() {
    for name in ["inst", "simple_observation"] {
        let chat = chat("pieces", name, Rewrites::Fork, false);
        let model = chat.model();
        let mut conversation = chat.begin(vec![Message::user("Which way?")]).unwrap();
        let mut ids = model.encode("[INST] north").unwrap().split_off(1);
        if name == "inst" {
            ids.extend(model.encode("</s>").unwrap());
        }
        conversation.sampled(&ids);
        let continuation = conversation.observe(&[Message::user("A wall.")]).unwrap();
        assert!(
            matches!(continuation, Continuation::Appended { kept: None, .. }),
            "{continuation:?}"
        );
        assert_eq!(text(&conversation, &chat), chat.render(conversation.messages()).unwrap());
    }
}

#[test]
fn refusals_leave_the_conversation_as_it_was() {
    let chat = chat("bytes", "turns", Rewrites::Fork, false);
    let mut conversation = chat.begin(start()).unwrap();
    assert!(conversation.observe(&[Message::user("x")]).is_err());
    conversation.sampled(&chat.model().encode("north<end_of_turn>").unwrap());
    let before = conversation.branch().clone();
    assert!(conversation.observe(&[]).is_err());
    let error = conversation.observe(&[Message::assistant("x")]).unwrap_err();
    assert!(error.to_string().contains("must alternate"), "{error}");
    assert_eq!(conversation.branch(), &before);
    conversation.observe(&[Message::user("A wall.")]).unwrap();
}

#[test]
fn templates_that_count_are_compared_in_full() {
    let counting = "{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content if loop.revindex < 6 else '(gone)' }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}";
    let model = Arc::new(Model::load(fixtures().join("bytes")).unwrap());
    let options =
        ChatOptions { template_source: Some(counting.to_owned()), ..ChatOptions::default() };
    let chat = Arc::new(Chat::new(model, options).unwrap());
    assert!(matches!(chat.continuity(), Continuity::Compared { .. }));
    let mut conversation = chat.begin(start()).unwrap();
    for turn in 0..5 {
        conversation.sampled(&chat.model().encode("north<|im_end|>").unwrap());
        let continuation = conversation.observe(&[Message::user("A wall.")]).unwrap();
        assert_eq!(matches!(continuation, Continuation::Forked { .. }), turn > 0, "{turn}");
        assert_eq!(text(&conversation, &chat), chat.render(conversation.messages()).unwrap());
    }
}

#[test]
fn a_turn_goes_on_in_the_ids_of_another_engine() {
    let chat = chat("bytes", "chatml", Rewrites::Fork, false);
    let model = chat.model();
    let mut conversation = chat.begin(start()).unwrap();
    let first = conversation.prompt().to_vec();
    // One letter at a time, and the engine that goes on sees the word as the tokenizer has it.
    for letter in ["n", "o", "r"] {
        conversation.sampled(&model.encode(letter).unwrap());
    }
    let theirs = [first, model.encode("nor").unwrap()].concat();
    let Drift::Forked { ended } = conversation.engine_prompt(&theirs) else { panic!("no fork") };
    assert_eq!(ended.sampled(), 3);
    conversation.sampled(&model.encode("th<|im_end|>").unwrap());
    assert_eq!(conversation.words().unwrap(), "north");
    conversation.observe(&[Message::user("A wall.")]).unwrap();
    assert_eq!(text(&conversation, &chat), chat.render(conversation.messages()).unwrap());
}

#[test]
fn calls_that_the_template_writes_otherwise_are_kept_once() {
    let chat = chat("bytes", "chatml", Rewrites::Keep, true);
    let mut conversation = chat.begin(start()).unwrap();
    let model = chat.model();
    // Other spaces in the JSON than the template's.
    let said = "<tool_call>\n{\"name\":\"look_up\",\"arguments\":{}}\n</tool_call>";
    let call = ToolCall { id: "1".into(), name: "look_up".into(), arguments: "{}".into() };
    conversation.sampled(&model.encode(&format!("{said}{CHATML_END}")).unwrap());
    conversation.said_as(Message { tool_calls: vec![call.clone()], ..Message::assistant("") });
    let before = conversation.prompt().to_vec();
    let continuation = conversation.observe(&[Message::tool(&call, "found")]).unwrap();
    let delta = "\n<|im_start|>user\n<tool_response>\nfound\n</tool_response><|im_end|>\n\
                 <|im_start|>assistant\n";
    let delta = model.encode(delta).unwrap();
    assert_eq!(
        continuation,
        Continuation::Appended { tokens: delta.len(), kept: Some(Why::Words) }
    );
    assert_eq!(conversation.prompt(), [before, delta].concat());
}
