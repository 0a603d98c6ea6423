//! Whether a condensed history tells of a template what the full one tells.

use crate::delta::{self, Verdict};
use crate::window::Window;
use crate::{Chat, Message, ToolCall};

/// Turns of each made-up conversation.
const TURNS: usize = 8;
/// Made-up conversations.
const SCRIPTS: u64 = 8;

/// Plays made-up conversations, and compares at each turn what the condensed history says with what the
/// full one says. Gives the first difference.
pub(crate) fn differs(chat: &Chat) -> Option<String> {
    let mut compared = 0;
    for script in 0..SCRIPTS {
        let mut history = head(script);
        let mut window = Window::new(&chat.markers, &history);
        let mut dice = script.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for turn in 0..TURNS {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let (said, after) = round(script, dice >> 33);
            let words = said.content.clone().unwrap_or_default();
            let full = full(chat, &history, &said, &after, &words);
            let short = short(chat, &window, &said, &after, &words);
            match (full, short) {
                // What the template refuses nobody can continue.
                (None, None) => break,
                (full, short) if full == short => compared += 1,
                _ => {
                    return Some(format!(
                        "turn {turn} of a made-up conversation is continued differently behind a \
                         condensed history than behind the full one"
                    ));
                }
            }
            window.push(&chat.markers, &said, &after);
            history.push(said);
            history.extend(after);
        }
    }
    (compared == 0).then(|| "the template refuses every made-up conversation".to_owned())
}

type Answer = Option<(Verdict, Option<String>)>;

fn full(
    chat: &Chat,
    history: &[Message],
    said: &Message,
    after: &[Message],
    words: &str,
) -> Answer {
    let before = chat.render(history).ok()?;
    let mut all = history.to_vec();
    all.push(said.clone());
    all.extend_from_slice(after);
    let text = chat.render(&all).ok()?;
    let (verdict, delta) = delta::compare(&before, &text, words);
    Some((verdict, delta.map(str::to_owned)))
}

fn short(chat: &Chat, window: &Window, said: &Message, after: &[Message], words: &str) -> Answer {
    let before = chat.render_window(window).ok()?;
    let text = chat.render_round(window, said, after).ok()?;
    let (verdict, delta) = delta::compare(&before, &text, words);
    Some((verdict, delta.map(str::to_owned)))
}

fn head(script: u64) -> Vec<Message> {
    match script % 3 {
        0 => vec![Message::user("What is to be done here?")],
        1 => vec![Message::system("You are asked things."), Message::user("What is it, then?")],
        _ => vec![
            Message::system("You are asked things."),
            Message::user("A first question."),
            Message::assistant("A first answer."),
            Message::user("Another question."),
        ],
    }
}

/// An answer and what follows it. The first scripts keep to one kind each, because a template that
/// refuses another would end them.
fn round(script: u64, dice: u64) -> (Message, Vec<Message>) {
    let call = ToolCall {
        id: "call00001".to_owned(),
        name: "look_up".to_owned(),
        arguments: r#"{"what": "the weather", "days": 3}"#.to_owned(),
    };
    let answers = [
        "A plain answer.",
        "<think>\nThoughts come first.\n</think>\n\nThen an answer.",
        "Thoughts without a beginning.\n</think>\n\nThen an answer.",
        "<tool_call>\n{\"name\": \"look_up\", \"arguments\": {\"what\": \"it\"}}\n</tool_call>",
        "  An answer with space around it. \n",
        "",
    ];
    let kind = usize::try_from(dice % 6).unwrap_or(0);
    let mut said = Message::assistant(answers[kind]);
    let tool = || Message::tool(&call, "What a tool says.");
    let after = match (script, dice / 6 % 5) {
        (0 | 1, _) | (_, 0) => vec![Message::user("A next question.")],
        (2 | 3, _) | (_, 1) => vec![tool()],
        (_, 2) => vec![tool(), tool(), tool()],
        (_, 3) => vec![Message::user("<tool_response>\nWhat a tool says.\n</tool_response>")],
        _ => vec![tool(), Message::user("And a question.")],
    };
    if script == 3 || (script > 5 && (dice / 30).is_multiple_of(2)) {
        said.tool_calls.push(call);
    }
    (said, after)
}
