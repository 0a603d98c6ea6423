//! Text that comes in pieces, told apart: reasoning, content, and calls of tools.

use envmill_chat::Message;

use crate::markers::{self, Found};

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Reasoning(String),
    Content(String),
}

/// Tells text apart as it comes. How it is cut into pieces makes no difference to what comes out
/// altogether.
pub(crate) struct Sieve {
    /// The tags of reasoning; none where they are empty.
    tags: Option<[String; 2]>,
    /// What calls of tools begin with; none where they are not looked for.
    calls: &'static [&'static str],
    /// What calls begin with where nothing else was said before.
    first: &'static [&'static str],
    /// What comes may be JSON from its first character on, also where the prompt has begun the reasoning.
    json: bool,
    stop: Vec<String>,
    /// A stop text was found: nothing follows.
    is_stopped: bool,
    place: Place,
    /// Text that may hold the beginning of a stop text.
    unstopped: String,
    /// Text that may hold the beginning of a tag.
    untold: String,
    /// Whitespace, of which nobody knows yet whether something follows that it belongs to.
    space: String,
    /// Whitespace that comes now is dropped.
    begins: bool,
    /// From the beginning of the first call on.
    called: String,
    /// All that was told apart so far.
    said: Message,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Content,
    Reasoning,
    Calls,
}

impl Sieve {
    /// `reasons`: the prompt has begun the reasoning already.
    pub(crate) fn new(tags: &[String; 2], stop: &[String], reasons: bool) -> Self {
        let tags = tags.iter().all(|it| !it.is_empty()).then(|| tags.clone());
        let reasons = reasons && tags.is_some();
        Self {
            tags,
            calls: &[],
            first: &[],
            json: false,
            stop: stop.to_vec(),
            is_stopped: false,
            place: if reasons { Place::Reasoning } else { Place::Content },
            unstopped: String::new(),
            untold: String::new(),
            space: String::new(),
            begins: reasons,
            called: String::new(),
            said: Message { content: None, ..Message::assistant("") },
        }
    }

    /// Looks for calls that begin so: anywhere, or where nothing else was said before.
    pub(crate) fn calls(
        mut self,
        anywhere: &'static [&'static str],
        first: &'static [&'static str],
    ) -> Self {
        self.calls = anywhere;
        self.first = first;
        self
    }

    /// What is held to JSON has no reasoning, unless the inference engine lets it go first.
    pub(crate) fn json(mut self) -> Self {
        self.json = true;
        self
    }

    pub(crate) fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        if self.is_stopped {
            return;
        }
        self.unstopped.push_str(text);
        let until = match markers::find(&self.unstopped, &self.stop) {
            Found::At(at, _) => {
                self.is_stopped = true;
                at
            }
            Found::NotIn(until) => until,
        };
        self.untold.extend(self.unstopped.drain(..until));
        self.tell(false, out);
    }

    /// No more text comes. What calls of tools were written as is given back, if there were any.
    pub(crate) fn end(&mut self, out: &mut Vec<Piece>) -> Option<String> {
        if !self.is_stopped {
            self.untold.push_str(&std::mem::take(&mut self.unstopped));
        }
        self.tell(true, out);
        match self.place {
            Place::Calls => return Some(std::mem::take(&mut self.called)),
            Place::Content if !self.begins => {
                let space = std::mem::take(&mut self.space);
                self.give(&space, out);
            }
            Place::Content | Place::Reasoning => {}
        }
        None
    }

    /// What were no calls after all is content.
    pub(crate) fn uncalled(&mut self, text: &str, out: &mut Vec<Piece>) {
        self.place = Place::Content;
        let text = std::mem::take(&mut self.space) + text;
        self.give(&text, out);
    }

    /// What was said, but for calls.
    pub(crate) fn said(&self) -> &Message {
        &self.said
    }

    fn tell(&mut self, is_last: bool, out: &mut Vec<Piece>) {
        if self.json
            && let Some(first) = self.untold.trim_start().chars().next()
        {
            self.json = false;
            if self.place == Place::Reasoning && matches!(first, '{' | '[') {
                self.place = Place::Content;
            }
        }
        loop {
            let found = self.find();
            let (at, then) = match found {
                Found::NotIn(until) => {
                    let until = if is_last { self.untold.len() } else { until };
                    let text: String = self.untold.drain(..until).collect();
                    self.flow(&text, out);
                    return;
                }
                Found::At(at, index) => (at, self.after(index)),
            };
            let text: String = self.untold.drain(..at).collect();
            self.flow(&text, out);
            if then == Place::Calls {
                // The marker is part of what is read as calls.
                self.place = then;
                continue;
            }
            let tag = self.tags.as_ref().map_or(0, |[open, close]| {
                if then == Place::Reasoning { open.len() } else { close.len() }
            });
            self.untold.drain(..tag);
            self.space.clear();
            self.begins = true;
            self.place = then;
        }
    }

    /// The next marker that matters here.
    fn find(&self) -> Found {
        match (self.place, &self.tags) {
            (Place::Calls, _) | (Place::Reasoning, None) => Found::NotIn(self.untold.len()),
            (Place::Reasoning, Some([_, close])) => markers::find(&self.untold, &[close]),
            (Place::Content, tags) => {
                let open = tags.as_ref().map(|[open, _]| open.as_str());
                let wanted: Vec<&str> =
                    open.into_iter().chain(self.calls.iter().copied()).collect();
                if self.said.content.is_none() && !self.first.is_empty() {
                    let text = self.untold.trim_start();
                    if self.first.iter().any(|it| text.starts_with(it)) {
                        return Found::At(self.untold.len() - text.len(), wanted.len());
                    }
                }
                markers::find(&self.untold, &wanted)
            }
        }
    }

    /// Where the marker of this index leads.
    fn after(&self, index: usize) -> Place {
        match self.place {
            Place::Reasoning => Place::Content,
            Place::Content if index == 0 && self.tags.is_some() => Place::Reasoning,
            Place::Content | Place::Calls => Place::Calls,
        }
    }

    /// Text without markers.
    fn flow(&mut self, text: &str, out: &mut Vec<Piece>) {
        if self.place == Place::Calls {
            self.called.push_str(text);
            return;
        }
        let text = if self.begins { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        let body = text.trim_end();
        if body.is_empty() {
            self.space.push_str(text);
            return;
        }
        self.begins = false;
        let whole = std::mem::take(&mut self.space) + body;
        self.give(&whole, out);
        self.space.push_str(&text[body.len()..]);
    }

    fn give(&mut self, text: &str, out: &mut Vec<Piece>) {
        if text.is_empty() {
            return;
        }
        let is_reasoning = self.place == Place::Reasoning;
        let said = if is_reasoning { &mut self.said.reasoning } else { &mut self.said.content };
        said.get_or_insert_default().push_str(text);
        let text = text.to_owned();
        out.push(if is_reasoning { Piece::Reasoning(text) } else { Piece::Content(text) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, whichever way the text is cut.
    fn told(text: &str, stop: &[&str], reasons: bool) -> (String, String, Option<String>) {
        let tags = ["<think>", "</think>"].map(str::to_owned);
        let stop: Vec<_> = stop.iter().map(|&it| it.to_owned()).collect();
        let mut results = Vec::new();
        for size in [1, 2, 3, 7, 1000] {
            let mut sieve = Sieve::new(&tags, &stop, reasons).calls(&["<tool_call>"], &["{"]);
            let mut out = Vec::new();
            let characters: Vec<char> = text.chars().collect();
            for piece in characters.chunks(size) {
                sieve.push(&piece.iter().collect::<String>(), &mut out);
            }
            let called = sieve.end(&mut out);
            let (mut reasoning, mut content) = (String::new(), String::new());
            for piece in out {
                match piece {
                    Piece::Reasoning(it) => reasoning.push_str(&it),
                    Piece::Content(it) => content.push_str(&it),
                }
            }
            assert_eq!(sieve.said().content.clone().unwrap_or_default(), content);
            results.push((reasoning, content, called));
        }
        assert!(results.windows(2).all(|two| two[0] == two[1]), "{results:?}");
        results.remove(0)
    }

    #[test]
    fn reasoning_content_and_calls_are_told_apart() {
        let plain = |content: &str| (String::new(), content.to_owned(), None);
        assert_eq!(told(" a < b \n", &[], false), plain(" a < b \n"));
        assert_eq!(told("", &[], false), plain(""));
        let (reasoning, content, called) = told("\n<think>\nhm </think>\n\nYes, é. ", &[], false);
        assert_eq!((reasoning.as_str(), content.as_str(), called), ("hm", "Yes, é. ", None));
        let (reasoning, content, called) =
            told("hm\n</think>\n\nSee:\n<tool_call>\n{}</tool_call>\n", &[], true);
        assert_eq!((reasoning.as_str(), content.as_str()), ("hm", "See:"));
        assert_eq!(called.as_deref(), Some("<tool_call>\n{}</tool_call>\n"));
        let (_, content, called) = told(" {\"name\": 1}", &[], false);
        assert_eq!((content.as_str(), called.as_deref()), ("", Some("{\"name\": 1}")));
        assert_eq!(told("x {", &[], false), plain("x {"));
        assert_eq!(told("hm", &[], true), ("hm".to_owned(), String::new(), None));
        assert_eq!(told("stray</think>", &[], false), plain("stray</think>"));
    }

    #[test]
    fn json_is_no_reasoning() {
        let tags = ["<think>", "</think>"].map(str::to_owned);
        let said = |text: &str| {
            let mut sieve = Sieve::new(&tags, &[], true).json().calls(&[], &["["]);
            let mut out = Vec::new();
            for piece in text.split_inclusive(' ') {
                sieve.push(piece, &mut out);
            }
            let called = sieve.end(&mut out);
            (sieve.said().reasoning.clone(), sieve.said().content.clone(), called)
        };
        let text = |it: &str| Some(it.to_owned());
        assert_eq!(said(" { } "), (None, text("{ } "), None));
        assert_eq!(said(" [ 1]"), (None, None, text("[ 1]")));
        assert_eq!(said("hm </think> [ 1]"), (text("hm"), None, text("[ 1]")));
    }

    #[test]
    fn nothing_is_said_from_a_stop_text_on() {
        assert_eq!(told("one END two", &["END"], false).1, "one ");
        assert_eq!(told("one EN", &["END"], false).1, "one EN");
        assert_eq!(told("a b", &["zz", "b"], false).1, "a ");
    }
}
