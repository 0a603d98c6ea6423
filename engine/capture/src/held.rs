//! What is kept of an open episode's calls: of prompts, requests and conversations what others do not have.

use std::{collections::VecDeque, sync::Arc};

use envmill_chat::{Conversation, Message};
use envmill_inference::RequestId;
use envmill_protocol::{
    Generated,
    record::{shorten_prompt, whole_prompt},
};

use crate::{
    Kept,
    episode::{Node, Record},
    key::Digest,
    texts::Texts,
};

/// So many conversations are kept as they are, those that ended last; others are put together again from their
/// ids should a call continue them. One that goes on from call to call is one.
const CONVERSATIONS_MAX: usize = 16;

/// The calls of an episode.
#[derive(Default)]
pub(crate) struct Held {
    records: Vec<Record>,
    /// Their ids: a prompt is what it adds to the call that `parent` names, which had ended when it began.
    ids: Vec<Generated>,
    requests: Texts,
    points: Vec<Option<Point>>,
    /// Those of which the conversation is kept, the latest last.
    kept: VecDeque<usize>,
}

/// What may be continued: a call up to its answer.
struct Point {
    /// As long as it is kept.
    conversation: Option<Arc<Conversation>>,
    /// The chat that it is of.
    chat: Digest,
    said: Arc<Message>,
    /// What the conversation takes.
    bytes: usize,
}

/// A call that another one continues.
pub(crate) struct Past {
    pub(crate) talk: Talk,
    pub(crate) chat: Digest,
    pub(crate) said: Arc<Message>,
}

/// A conversation up to an answer.
pub(crate) enum Talk {
    AsItIs(Arc<Conversation>),
    /// The ids of its prompt, and of the answer.
    Ids(Vec<u32>, Vec<u32>),
}

impl Held {
    /// Adds a call that begins now. Gives its index.
    pub(crate) fn begin(&mut self, mut record: Record) -> usize {
        let index = self.records.len();
        let prompt_token_ids = std::mem::take(&mut record.prompt).to_vec();
        let has_ended = |it: &usize| self.records[*it].end.is_some();
        let base = record.parent.or_else(|| (0..index).rev().find(has_ended));
        let parent = base.and_then(|it| u32::try_from(it).ok());
        let mut ids = Generated { prompt_token_ids, parent, ..Generated::default() };
        self.shorten(&mut ids);
        self.ids.push(ids);
        self.requests.push(std::mem::replace(&mut record.request, Kept::none()));
        self.points.push(None);
        self.records.push(record);
        index
    }

    fn shorten(&self, ids: &mut Generated) {
        if ids.parent.is_some() {
            // One that is too long to be counted stays whole.
            let _ = shorten_prompt(&self.ids, ids);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Record> {
        self.records.get(index)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Record> {
        self.records.get_mut(index)
    }

    /// A call has ended: what was sampled may be shared from now on. `seen` is the prompt that the inference
    /// engine has seen, if it says so.
    pub(crate) fn ended(&mut self, index: usize, seen: Option<&[u32]>) {
        let (Some(record), Some(_)) = (self.records.get_mut(index), self.ids.get(index)) else {
            return;
        };
        let sampled = std::mem::take(&mut record.outcome.token_ids);
        // It has the whole prompt once more.
        let finished = record.outcome.finished.as_mut();
        finished.map(|it| it.prompt.take());
        if let Some(seen) = seen.filter(|it| *it != whole_prompt(&self.ids, index)) {
            let parent = self.ids[index].parent;
            let prompt_token_ids = seen.to_vec();
            let mut ids = Generated { prompt_token_ids, parent, ..Generated::default() };
            let _ = shorten_prompt(&self.ids[..index], &mut ids);
            self.ids[index] = ids;
        }
        self.ids[index].token_ids.extend(sampled);
    }

    /// A call has an answer, which others may continue.
    pub(crate) fn answered(&mut self, index: usize, node: Node) {
        let Node { conversation, chat, said } = node;
        let Some(point) = self.points.get_mut(index) else { return };
        let (bytes, said) = (conversation.bytes(), said.into());
        *point = Some(Point { conversation: Some(conversation.into()), chat, said, bytes });
        // Whoever else continues the one before begins with its ids.
        let parent = self.records[index].parent;
        self.kept.retain(|it| Some(*it) != parent);
        self.kept.push_back(index);
        let oldest = (self.kept.len() > CONVERSATIONS_MAX).then(|| self.kept.pop_front()).flatten();
        for dropped in parent.into_iter().chain(oldest) {
            if let Some(Some(point)) = self.points.get_mut(dropped) {
                point.conversation = None;
            }
        }
    }

    /// What was said in answer to a call that may be continued.
    pub(crate) fn said(&self, index: usize) -> Option<&Message> {
        Some(&*self.points.get(index)?.as_ref()?.said)
    }

    /// A call that another one continues.
    pub(crate) fn past(&self, index: usize) -> Option<Past> {
        let Point { conversation, chat, said, .. } = self.points.get(index)?.as_ref()?;
        let talk = match conversation {
            Some(conversation) => Talk::AsItIs(Arc::clone(conversation)),
            None => Talk::Ids(self.prompt(index), self.sampled(index).to_vec()),
        };
        Some(Past { talk, chat: *chat, said: Arc::clone(said) })
    }

    /// The whole prompt of a call.
    pub(crate) fn prompt(&self, index: usize) -> Vec<u32> {
        whole_prompt(&self.ids, index)
    }

    /// What was sampled for a call, whether it has ended or not.
    pub(crate) fn sampled(&self, index: usize) -> &[u32] {
        let running = self.records.get(index).map_or(&[][..], |it| &it.outcome.token_ids[..]);
        let ended = self.ids.get(index).map_or(&[][..], |it| &it.token_ids[..]);
        if running.is_empty() { ended } else { running }
    }

    /// Bytes that all this takes in memory: ids, logarithms, requests, answers, and the conversations that are
    /// kept.
    pub(crate) fn bytes(&self) -> usize {
        let ids: u64 = self.ids.iter().map(Generated::bytes).sum();
        let outcomes = self.records.iter().map(|it| {
            let outcome = &it.outcome;
            size_of_val(&outcome.token_ids[..])
                + size_of_val(&outcome.logprobs[..])
                + size_of_val(&outcome.versions[..])
                + outcome.top_logprobs.bytes()
        });
        let records = self
            .records
            .iter()
            .map(|it| size_of::<Record>() + it.response.bytes() + it.sampling.len());
        let points = self
            .points
            .iter()
            .flatten()
            .map(|it| it.said.bytes() + if it.conversation.is_some() { it.bytes } else { 0 });
        usize::try_from(ids).unwrap_or(usize::MAX)
            + self.requests.bytes()
            + outcomes.sum::<usize>()
            + records.sum::<usize>()
            + points.sum::<usize>()
    }

    /// Gives the requests of those calls that still run, which are over now.
    pub(crate) fn end_all(&mut self) -> Vec<RequestId> {
        let runs = |it: &usize| self.records[*it].end.is_none();
        let running: Vec<_> = (0..self.records.len()).filter(runs).collect();
        running.iter().for_each(|it| self.ended(*it, None));
        running.into_iter().map(|it| self.records[it].id).collect()
    }

    /// The calls, and their requests.
    pub(crate) fn take_records(&mut self) -> (Vec<Record>, Texts) {
        (std::mem::take(&mut self.records), std::mem::take(&mut self.requests))
    }
}
