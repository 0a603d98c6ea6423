//! Ids in the order a model saw them, and who wrote which.

/// Which ids a message, or several of one role, came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Who spoke: a message's role; `prompt` for what was rendered as a whole.
    pub role: String,
    /// The first id.
    pub start: usize,
    /// Behind the last id.
    pub end: usize,
}

/// Ids that were only ever appended to. A conversation has one, and another after each fork.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branch {
    /// Its number in its conversation, from 0.
    pub number: u32,
    /// All ids, in the order the model saw them.
    pub tokens: Vec<u32>,
    /// For each id, 1 if the model sampled it in this branch.
    pub loss_mask: Vec<u8>,
    /// The turns: they cover the ids without gaps, in order.
    pub spans: Vec<Span>,
}

impl Branch {
    pub(crate) fn new(number: u32, tokens: &[u32]) -> Self {
        let mut branch = Self { number, ..Self::default() };
        branch.push("prompt", tokens, false);
        branch
    }

    /// Appends ids. Those of the same role as the last ones belong to the same span.
    pub(crate) fn push(&mut self, role: &str, ids: &[u32], is_sampled: bool) {
        if ids.is_empty() {
            return;
        }
        let start = self.tokens.len();
        self.tokens.extend_from_slice(ids);
        self.loss_mask.resize(self.tokens.len(), u8::from(is_sampled));
        match self.spans.last_mut() {
            Some(last) if last.role == role => last.end = self.tokens.len(),
            _ => self.spans.push(Span { role: role.to_owned(), start, end: self.tokens.len() }),
        }
    }

    /// Drops ids from the end.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.loss_mask.truncate(len);
        self.spans.retain(|span| span.start < len);
        if let Some(last) = self.spans.last_mut() {
            last.end = len;
        }
    }

    /// Behind the last sampled id.
    pub(crate) fn sampled_end(&self) -> usize {
        self.loss_mask.iter().rposition(|mask| *mask == 1).map_or(0, |last| last + 1)
    }

    /// How many ids were sampled.
    #[must_use]
    pub fn sampled(&self) -> usize {
        self.loss_mask.iter().filter(|mask| **mask == 1).count()
    }
}
