//! Token ids as text, by a model's own tokenizer.

use std::path::Path;

use envmill_chat::Model;
use envmill_inspect::TokenText;

use super::InspectError;

/// What says what token ids mean.
pub struct Tokenizer(Model);

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Loads a file in the format of `tokenizer.json`, or the folder of a model with one.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be understood.
    pub fn load(path: &Path) -> Result<Self, InspectError> {
        let model = if path.is_dir() { Model::load(path) } else { Model::of_tokenizer(path) };
        Ok(Self(model.map_err(InspectError::Tokenizer)?))
    }
}

impl TokenText for Tokenizer {
    /// Special tokens are included. An id that is not in the vocabulary is `[id N]`.
    fn text(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        for run in ids.chunk_by(|one, other| self.0.has_id(*one) == self.0.has_id(*other)) {
            if run.first().is_some_and(|id| self.0.has_id(*id)) {
                let decoded = self.0.decode_behind(run);
                text.push_str(&decoded.unwrap_or_else(|error| format!("[{error}]")));
            } else {
                run.iter().for_each(|id| text.push_str(&format!("[id {id}]")));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_the_text_that_they_were_and_unknown_ones_say_so() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("chat/tests/fixtures");
        for name in ["bytes", "pieces"] {
            let model = Model::load(fixtures.join(name)).unwrap();
            let ids = model.encode("go left, then über").unwrap();
            for path in [fixtures.join(name), fixtures.join(name).join("tokenizer.json")] {
                let tokenizer = Tokenizer::load(&path).unwrap();
                let text = tokenizer.text(&ids);
                assert_eq!(text.trim_start(), "go left, then über", "{name}");
                let with = [&ids[..], &[9_999_999]].concat();
                assert_eq!(tokenizer.text(&with), format!("{text}[id 9999999]"));
            }
        }
        let refused = Tokenizer::load(&fixtures.join("goldens.json")).unwrap_err().to_string();
        assert!(refused.contains("goldens.json is not as expected"), "{refused}");
        let refused = Tokenizer::load(&fixtures).unwrap_err().to_string();
        assert!(refused.contains("has no tokenizer.json"), "{refused}");
        let refused = Tokenizer::load(&fixtures.join("none.json")).unwrap_err().to_string();
        assert!(refused.starts_with("--tokenizer: cannot read"), "{refused}");
    }
}
