//! Appended ids against what rendering everything would give.

use std::sync::Arc;

use envmill_chat::{
    Branch, Chat, ChatOptions, Continuation, Continuity, Conversation, Drift, Json, Message, Model,
    Rewrites, Why,
};
use proptest::prelude::*;

use crate::goldens::{fixtures, template};

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

fn start() -> Vec<Message> {
    vec![Message::system("You play a game."), Message::user("Which way?")]
}

fn text(conversation: &Conversation, chat: &Chat) -> String {
    chat.model().decode(conversation.prompt(), false).unwrap()
}

/// What the ids sampled in a branch are.
fn sampled(branch: &Branch) -> Vec<u32> {
    let marked = branch.tokens.iter().zip(&branch.loss_mask);
    marked.filter(|(_, mask)| **mask == 1).map(|(id, _)| *id).collect()
}

fn is_whole(branch: &Branch) {
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

const TEMPLATES: [&str; 9] = [
    "chatml",
    "thinking",
    "headers",
    "inst",
    "turns",
    "plain",
    "bars",
    "observation",
    "simple_observation",
];

fn words() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<think>\nWell, then.\n</think>\n\n".to_owned()),
        Just("<think>".to_owned()),
        Just("</think>".to_owned()),
        Just("\n".to_owned()),
        Just(" ".to_owned()),
        Just("<tool_call>\n{\"name\": \"look_up\", \"arguments\": {}}\n</tool_call>".to_owned()),
        Just("<|im_end|>".to_owned()),
        "[a-z]{1,8}",
        "[a-zéß東 .,!?0-9'<>|]{0,20}",
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn observation() -> impl Strategy<Value = Vec<Message>> {
    let message = prop_oneof![
        4 => words().prop_map(Message::user),
        2 => words().prop_map(|text| Message::new("tool", text)),
        1 => words().prop_map(|text| Message::user(format!("<tool_response>{text}</tool_response>"))),
    ];
    prop_oneof![
        4 => message.clone().prop_map(|one| vec![one]),
        1 => prop::collection::vec(message, 1..4),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Where ids were appended, they are the text that rendering everything gives; where the
    /// conversation forked, appending would have given another.
    #[test]
    fn appending_is_rendering(
        which in 0..TEMPLATES.len(),
        has_tools: bool,
        has_system: bool,
        end in 0..4_u8,
        turns in prop::collection::vec((words(), observation()), 1..20),
    ) {
        let chat = chats(which, has_tools);
        let model = chat.model();
        let messages = if has_system { start() } else { vec![Message::user("Which way?")] };
        let mut conversation = chat.begin(messages).unwrap();
        let mut said: Vec<u32> = Vec::new();
        for (words, observed) in turns {
            let mut ids = model.encode(&words).unwrap();
            if end > 0 {
                ids.extend(model.encode(chat.closing().trim_end()).unwrap());
            }
            let history = conversation.messages().to_vec();
            let before = chat.render(&history).unwrap();
            conversation.sampled(&ids);
            said.extend(&ids);
            let words = conversation.words().unwrap();
            let Ok(continuation) = conversation.observe(&observed) else { break };
            let after = chat.render(conversation.messages()).unwrap();
            is_whole(conversation.branch());
            let is_continued = after.strip_prefix(&*before).is_some_and(|rest| rest.starts_with(&*words));
            match continuation {
                Continuation::Appended { kept, .. } => {
                    prop_assert_eq!(kept, None);
                    prop_assert!(is_continued, "appended, though the template rewrites:\n{}", after);
                    prop_assert_eq!(text(&conversation, &chat), after);
                    prop_assert_eq!(sampled(conversation.branch()), said.clone());
                }
                Continuation::Forked { why, ended, .. } => {
                    prop_assert!(why == Why::Ending || !is_continued, "forked without need:\n{}", after);
                    prop_assert_eq!(sampled(&ended), said.clone());
                    prop_assert_eq!(text(&conversation, &chat), after);
                    said.clear();
                }
            }
        }
    }
}

fn chats(which: usize, tools: bool) -> Arc<Chat> {
    use std::sync::OnceLock;
    static CHATS: OnceLock<Vec<[Arc<Chat>; 2]>> = OnceLock::new();
    let all = CHATS.get_or_init(|| {
        let both =
            |name: &&str| [false, true].map(|tools| chat("bytes", name, Rewrites::Fork, tools));
        TEMPLATES.iter().map(both).collect()
    });
    all[which][usize::from(tools)].clone()
}

#[test]
fn the_usual_templates_are_continued_from_a_condensed_history() {
    let closings = TEMPLATES.map(|name| {
        let chat = chat("bytes", name, Rewrites::Fork, false);
        assert_eq!(chat.continuity(), &Continuity::Windowed, "{name}");
        chat.closing().to_owned()
    });
    let [im, eot, turn] = ["<|im_end|>\n", "<|eot_id|>", "<end_of_turn>\n"];
    assert_eq!(closings, [im, im, eot, "<|im_end|>", turn, "<|end|>\n", "</s>", "", ""]);
}
