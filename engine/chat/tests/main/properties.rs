//! Random conversations with templates in the manner of nine families.

use std::sync::Arc;

use envmill_chat::{Chat, Continuation, Continuity, Message, Rewrites, Why};
use proptest::prelude::*;

use crate::conversations::{chat, is_whole, sampled, start, text};

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
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Where ids were appended, they are the text that rendering everything gives; where the
    /// conversation forked, appending would have given another.
    #[test]
    fn appending_is_rendering(
        which in 0..TEMPLATES.len(),
        is_pieces: bool,
        has_tools: bool,
        has_system: bool,
        end in 0..4_u8,
        turns in prop::collection::vec((words(), observation()), 1..20),
    ) {
        let chat = chats(is_pieces, which, has_tools);
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

fn chats(pieces: bool, which: usize, tools: bool) -> Arc<Chat> {
    use std::sync::OnceLock;
    static CHATS: OnceLock<[Vec<[Arc<Chat>; 2]>; 2]> = OnceLock::new();
    let all = CHATS.get_or_init(|| {
        ["bytes", "pieces"].map(|tokenizer| {
            let both = |name: &&str| {
                [false, true].map(|tools| chat(tokenizer, name, Rewrites::Fork, tools))
            };
            TEMPLATES.iter().map(both).collect()
        })
    });
    all[usize::from(pieces)][which][usize::from(tools)].clone()
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
