//! What an episode's harness did.

use bytes::Bytes;
use envmill_chat::Why;
use envmill_inference::Finish;
use envmill_protocol::{Generated, GeneratedKind, Spoken, record::spoken_in_call};
use serde_json::Value;

use crate::texts::Texts;

/// What an episode's harness did: its calls, and what was generated for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Captured {
    /// What was generated, in the order of the calls. A record takes them as they are: prompts are what they
    /// add to the generations that they continue.
    pub generations: Vec<Generated>,
    /// The calls, in the order in which their generations began.
    pub calls: Vec<Call>,
    /// Sequences of ids that the agent's calls form: 1 where each appended to the one before.
    pub branches: u32,
    /// Calls that are no part of the agent's conversation.
    pub auxiliary: u32,
    /// Calls that were refused before anything was generated: malformed, too long, too many.
    pub refused: u32,
    /// The calls' requests.
    pub(crate) requests: Texts,
}

impl Captured {
    /// The body of a call's request, as it was. It is put together from what is kept of all requests, at about
    /// the cost of a copy; an empty one where there is no such call.
    #[must_use]
    pub fn request(&self, call: usize) -> Kept {
        self.requests.get(call)
    }

    /// Bytes that all this takes in memory: ids, logarithms, requests and answers. Of prompts and requests it is
    /// what others do not have, so that it grows with what the conversations come to, and not with the square
    /// of their turns.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let generations: u64 = self.generations.iter().map(Generated::bytes).sum();
        let calls = self.calls.iter().map(|it| size_of::<Call>() + it.bytes());
        usize::try_from(generations).unwrap_or(usize::MAX)
            + calls.sum::<usize>()
            + self.requests.bytes()
    }

    /// What a record tells beside tokens: the conversation of the agent's last call, and how that asked to
    /// sample. Nothing where that was too long to be kept.
    #[must_use]
    pub fn spoken(&self) -> Spoken {
        let last = self.calls.iter().rposition(|it| it.kind == GeneratedKind::Agent);
        let Some((index, Call { response: Kept::Json(response), sampling, .. })) =
            last.map(|it| (it, &self.calls[it]))
        else {
            return Spoken::default();
        };
        let Kept::Json(request) = self.request(index) else { return Spoken::default() };
        let read = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap_or_default();
        let spoken = spoken_in_call(&read(&request), &read(response));
        // What was in force says more than what was asked for.
        if sampling.is_empty() { spoken } else { Spoken { sampling: sampling.clone(), ..spoken } }
    }
}

/// One call of a harness, or one of the answers that it has asked for. Its request is
/// [`Captured::request`].
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its generation's index in [`Captured::generations`]; `None` where nothing was sampled.
    pub generation: Option<u32>,
    /// The index of the call whose answer its messages contain last.
    pub parent: Option<u32>,
    /// How its prompt came to be.
    pub begun: Begun,
    /// What part it plays.
    pub kind: GeneratedKind,
    /// How it ended.
    pub end: End,
    /// How it was sampled, a constraint included: the text of one JSON object.
    pub sampling: Bytes,
    /// The answer, as one `chat.completion` or `text_completion` also where it was streamed, with this
    /// generation as its only choice; empty where there was none.
    pub response: Kept,
    /// How long it took.
    pub timings: Timings,
}

impl Call {
    /// Bytes that it takes on the heap.
    fn bytes(&self) -> usize {
        let why = if let End::Failed(why) = &self.end { why.len() } else { 0 };
        self.sampling.len() + self.response.bytes() + why
    }
}

/// How a call's prompt came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Its messages were rendered: they continue no earlier call, or with other tools.
    Anew,
    /// Ids were appended to those of the call that it continues.
    Continued,
    /// It continues a call, but the template would write the past differently, and has.
    Forked(Why),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With an answer, whose generation ended so.
    Answered(Finish),
    /// The client was gone before its answer was there. What was sampled until then is discarded.
    HungUp,
    /// The episode ended first.
    Closed,
    /// Without an answer, for this reason.
    Failed(String),
}

impl End {
    /// The word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Answered(finish) => finish.name(),
            Self::HungUp => "hung_up",
            Self::Closed => "closed",
            Self::Failed(_) => "failed",
        }
    }
}

/// JSON, if it was not too long to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The text of one object.
    Json(Bytes),
    /// It had so many bytes.
    TooLong(usize),
}

impl Kept {
    pub(crate) fn of(json: Bytes, most: usize) -> Self {
        if json.len() <= most { Self::Json(json) } else { Self::TooLong(json.len()) }
    }

    pub(crate) const fn none() -> Self {
        Self::Json(Bytes::new())
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::TooLong(_) => 0,
        }
    }
}

/// When things happened in a call, in microseconds by one clock of the engine.
///
/// What the engine adds to the inference engine's own time is `queue_us` and `answer_us` together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the episode's beginning to the request's head.
    pub asked_us: u64,
    /// From there until the prompt was handed to the inference engine: reading, waiting, tokenising.
    pub queue_us: u64,
    /// From there to the first tokens.
    pub first_token_us: u64,
    /// From there, too, to the last.
    pub generation_us: u64,
    /// From the last tokens until the answer was handed to the connection.
    pub answer_us: u64,
}
