//! Ids become text as they come.

use envmill_chat::{Model, TokenError};

/// Ids of the prompt that the first sampled ones are decoded behind: some tokenizers write a text's start
/// differently.
const BEFORE: usize = 6;

/// Turns ids into text without ever giving half a character.
pub(crate) struct Decoder {
    /// The ids that are still looked at: those given last, and those behind them.
    ids: Vec<u32>,
    /// How many of them were given as text.
    given: usize,
    /// Ends of turn, of which nobody knows yet whether they are the end.
    held: Vec<u32>,
}

impl Decoder {
    pub(crate) fn behind(prompt: &[u32]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(BEFORE)..].to_vec();
        Self { given: ids.len(), ids, held: Vec::new() }
    }

    /// The text that ids add, as far as it is certain.
    pub(crate) fn push(&mut self, model: &Model, ids: &[u32]) -> Result<String, TokenError> {
        let ends = ids.iter().rev().take_while(|it| model.eos_ids().contains(it)).count();
        let (ids, held) = ids.split_at(ids.len() - ends);
        if !ids.is_empty() {
            self.ids.append(&mut self.held);
            self.ids.extend_from_slice(ids);
        }
        self.held.extend_from_slice(held);
        self.text(model, false)
    }

    /// The text that is left when no more ids come. `is_turn`: the ids ended with the end of a turn,
    /// which is no text.
    pub(crate) fn end(&mut self, model: &Model, is_turn: bool) -> Result<String, TokenError> {
        if !is_turn {
            self.ids.append(&mut self.held);
        }
        self.text(model, true)
    }

    fn text(&mut self, model: &Model, is_last: bool) -> Result<String, TokenError> {
        if self.given == self.ids.len() {
            return Ok(String::new());
        }
        let before = model.decode(&self.ids[..self.given], false)?;
        let after = model.decode(&self.ids, false)?;
        // A character whose bytes are not all there yet is shown as this.
        if after.ends_with('\u{fffd}') && !is_last {
            return Ok(String::new());
        }
        let text = after.strip_prefix(&before).unwrap_or_default().to_owned();
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        Ok(text)
    }
}
