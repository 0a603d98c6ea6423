//! Which calls continue which, by what their messages say.

use envmill_chat::Message;

use crate::key::Digest;

/// The digests of a list of messages: of the first, of the first two, and so on.
pub(crate) struct Trail(Vec<Digest>);

impl Trail {
    pub(crate) fn of(messages: &[Message]) -> Self {
        let mut last = Digest::default();
        let step = |message| {
            last = then(&last, message);
            last
        };
        Self(messages.iter().map(step).collect())
    }

    /// The digest of the first so many messages, at least one.
    pub(crate) fn until(&self, count: usize) -> Option<&Digest> {
        self.0.get(count.checked_sub(1)?)
    }

    /// The digest of all messages and an answer to them.
    pub(crate) fn answered(&self, answer: &Message) -> Digest {
        then(&self.0.last().copied().unwrap_or_default(), answer)
    }
}

/// The digest of the messages that a call's conversation is known by: who it is that speaks there.
pub(crate) fn identity(model: &str, messages: &[Message]) -> Digest {
    let first = messages.iter().take_while(|it| it.role == "system");
    let seed = *blake3::hash(model.as_bytes()).as_bytes();
    first.fold(seed, |last, message| then(&last, message))
}

/// Two messages are the same if a harness may have handed one back as the other: reasoning may be left
/// out, no content is empty content, an answer may have been trimmed, and arguments may have been parsed
/// and written again.
fn then(last: &Digest, message: &Message) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(last);
    let mut field = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    field(&message.role);
    let content = message.content.as_deref().unwrap_or("");
    field(if message.is_assistant() { content.trim() } else { content });
    field(message.tool_call_id.as_deref().unwrap_or(""));
    field(message.name.as_deref().unwrap_or(""));
    for call in &message.tool_calls {
        field(&call.id);
        field(&call.name);
        match serde_json::from_str::<serde_json::Value>(&call.arguments) {
            Ok(arguments) => field(&arguments.to_string()),
            Err(_) => field(&call.arguments),
        }
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use envmill_chat::ToolCall;

    use super::*;

    #[test]
    fn an_answer_is_known_again_however_it_is_handed_back() {
        let call = |arguments: &str| ToolCall {
            id: "1".to_owned(),
            name: "look".to_owned(),
            arguments: arguments.to_owned(),
        };
        let said = Message {
            reasoning: Some("hm".to_owned()),
            tool_calls: vec![call(r#"{"a": 1}"#)],
            ..Message::assistant("Let me see. ")
        };
        let back =
            Message { tool_calls: vec![call(r#"{"a":1}"#)], ..Message::assistant("Let me see.") };
        let asked = [Message::user("Where?")];
        let trail = Trail::of(&[asked[0].clone(), back.clone(), Message::user("And?")]);
        assert_eq!(trail.until(2), Some(&Trail::of(&asked).answered(&said)));
        assert_eq!((trail.until(0), trail.until(4)), (None, None));
        let other = Message { tool_calls: vec![call(r#"{"a":2}"#)], ..back };
        assert_ne!(Trail::of(&asked).answered(&other), Trail::of(&asked).answered(&said));
    }

    #[test]
    fn where_one_message_ends_and_another_begins_matters() {
        let of = |texts: &[&str]| {
            let messages: Vec<_> = texts.iter().map(|it| Message::user(*it)).collect();
            Trail::of(&messages).answered(&Message::assistant(""))
        };
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
    }
}
