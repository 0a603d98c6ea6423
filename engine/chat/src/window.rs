//! A history, condensed: short, however long the conversation, and still everything that a template
//! can react to.

use std::collections::HashMap;

use minijinja::Value;
use regex::Regex;

use crate::{Message, ToolCall};

/// Kinds of rounds that are told apart. A conversation that has had more is compared in full.
const ROUNDS: usize = 24;
/// Markers of a text that are kept, and how often the same one.
const MARKERS: usize = 16;
const SAME_MARKER: usize = 2;
/// Messages in a row of one role and shape that are kept.
const RUN: usize = 2;
/// Longest whitespace at the edge of a text that is kept.
const EDGE: usize = 3;

/// What a template could look for in a message: the markup among its own string constants.
pub(crate) struct Markers(Option<Regex>);

impl Markers {
    pub(crate) fn of(template: &str, specials: &[String]) -> Self {
        let mut texts: Vec<String> = specials.to_vec();
        texts.extend(["<think>", "</think>"].map(str::to_owned));
        if let Ok(constants) = Regex::new(r#"'([^'\n]{2,48})'|"([^"\n]{2,48})""#) {
            for found in constants.captures_iter(template) {
                let text = found.get(1).or(found.get(2)).map_or("", |text| text.as_str());
                let text = text.replace("\\n", "\n");
                texts.push(text.trim().to_owned());
            }
        }
        let is_markup =
            |text: &String| text.len() > 1 && text.contains(['<', '>', '[', ']', '{', '|', '#']);
        texts.retain(is_markup);
        // The longest first: one may begin with another.
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        texts.dedup();
        let escaped: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
        Self(Regex::new(&escaped.join("|")).ok().filter(|_| !texts.is_empty()))
    }

    /// A text with its markers and the whitespace around them; whatever else it says is an `x`.
    fn shape(&self, text: &str) -> String {
        let mut out = String::new();
        let mut from = 0;
        let mut kept = 0;
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for found in self.0.iter().flat_map(|markers| markers.find_iter(text)) {
            let count = seen.entry(found.as_str()).or_default();
            if kept == MARKERS {
                break;
            }
            if *count == SAME_MARKER {
                continue;
            }
            *count += 1;
            kept += 1;
            condense_plain(&mut out, &text[from..found.start()]);
            out.push_str(found.as_str());
            from = found.end();
        }
        condense_plain(&mut out, &text[from..]);
        out
    }

    fn condense(&self, message: &Message) -> Message {
        // Some templates want ids of nine characters.
        let call = |_: &ToolCall| ToolCall {
            id: "x00000000".to_owned(),
            name: "x".to_owned(),
            arguments: r#"{"x": "x"}"#.to_owned(),
        };
        Message {
            role: message.role.clone(),
            content: message.content.as_deref().map(|text| self.shape(text)),
            reasoning: message.reasoning.as_deref().map(|text| self.shape(text)),
            tool_calls: message.tool_calls.iter().take(RUN).map(call).collect(),
            tool_call_id: message.tool_call_id.as_ref().map(|_| "x00000000".to_owned()),
            name: message.name.as_ref().map(|_| "x".to_owned()),
        }
    }
}

fn condense_plain(out: &mut String, text: &str) {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        out.extend(text.chars().take(EDGE));
        return;
    }
    let start = text.len() - text.trim_start().len();
    out.extend(text[..start].chars().take(EDGE));
    out.push('x');
    out.extend(text[text.trim_end().len()..].chars().take(EDGE));
}

/// The condensed history: what came before the first answer, and each kind of round since, the most
/// recent last.
#[derive(Clone, Default)]
pub(crate) struct Window {
    head: Round,
    rounds: Vec<Round>,
    is_full: bool,
}

/// An answer of the model and what came after it.
#[derive(Clone, Default)]
struct Round {
    key: String,
    messages: Vec<Value>,
    last: Option<(Message, usize)>,
}

impl Round {
    fn push(&mut self, message: Message) {
        let run = match &self.last {
            Some((last, run)) if *last == message => run + 1,
            _ => 1,
        };
        if run <= RUN {
            self.messages.push(message.to_value());
            self.key.push_str(&message.to_json());
        }
        self.last = Some((message, run));
    }
}

impl Window {
    /// Of the messages of a conversation's start.
    pub(crate) fn new(markers: &Markers, messages: &[Message]) -> Self {
        let mut window = Self::default();
        let mut rest = messages;
        let first = rest.iter().position(Message::is_assistant).unwrap_or(rest.len());
        for message in &rest[..first] {
            window.head.push(markers.condense(message));
        }
        rest = &rest[first..];
        while let [said, after @ ..] = rest {
            let end = after.iter().position(Message::is_assistant).unwrap_or(after.len());
            window.push(markers, said, &after[..end]);
            rest = &after[end..];
        }
        window
    }

    /// Adds a round. One like it that was there goes, because the order of the latest counts.
    pub(crate) fn push(&mut self, markers: &Markers, said: &Message, after: &[Message]) {
        let mut round = Round::default();
        round.push(markers.condense(said));
        for message in after {
            round.push(markers.condense(message));
        }
        self.rounds.retain(|other| other.key != round.key);
        self.is_full |= self.rounds.len() == ROUNDS;
        if !self.is_full {
            self.rounds.push(round);
        }
    }

    /// Whether there have been too many kinds of rounds to stand for the history.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Says the same of two histories only if they are condensed to the same.
    pub(crate) fn key(&self) -> String {
        let mut key = self.head.key.clone();
        for round in &self.rounds {
            key.push('\n');
            key.push_str(&round.key);
        }
        key
    }

    pub(crate) fn messages(&self) -> Vec<Value> {
        let rounds = self.rounds.iter().flat_map(|round| &round.messages);
        self.head.messages.iter().chain(rounds).cloned().collect()
    }
}
