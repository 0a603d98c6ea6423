//! Where the model's words end and the end of its turn begins.

use crate::{Model, TokenError};

/// How the template closes the model's turns.
#[derive(Default)]
pub(crate) struct Closing {
    /// The text behind the model's words.
    pub(crate) text: String,
    /// Its ids.
    pub(crate) ids: Vec<u32>,
    /// Whether it begins with a token that text never merges with.
    pub(crate) is_special: bool,
}

/// A turn of the model, split at its end.
pub(crate) struct Ending {
    /// Its text.
    pub(crate) words: String,
    /// The text of what it has sampled of the turn's end.
    pub(crate) closed: String,
    /// How many of the template's closing ids that is.
    pub(crate) closing_ids: usize,
}

impl Closing {
    /// Splits the model's ids into its words and as much of the end of its turn as it has sampled.
    pub(crate) fn split(&self, model: &Model, ids: &[u32]) -> Result<Ending, TokenError> {
        if self.is_special {
            for count in (1..=self.ids.len()).rev() {
                if let Some(words) = ids.strip_suffix(&self.ids[..count]) {
                    return Ok(Ending {
                        words: model.decode_behind(words)?,
                        closed: model.decode_behind(&self.ids[..count])?,
                        closing_ids: count,
                    });
                }
            }
        }
        if let [words @ .., last] = ids
            && model.eos_ids().contains(last)
        {
            return Ok(Ending {
                words: model.decode_behind(words)?,
                closed: model.decode_behind(&[*last])?,
                closing_ids: self.ids.len(),
            });
        }
        let text = model.decode_behind(ids)?;
        let written = [self.text.as_str(), self.text.trim_end()];
        let written =
            written.into_iter().find(|closed| !closed.is_empty() && text.ends_with(closed));
        match written.filter(|_| !self.is_special) {
            Some(closed) => Ok(Ending {
                words: text[..text.len() - closed.len()].to_owned(),
                closed: closed.to_owned(),
                closing_ids: self.ids.len(),
            }),
            None => Ok(Ending { words: text, closed: String::new(), closing_ids: 0 }),
        }
    }
}
