//! A model's tokenizer, its ends of turn and its templates.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tokenizers::{AddedToken, Tokenizer};

use crate::folder::{DEFAULT, Folder, TOOL_USE};

/// Why a folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no tokenizer in it.
    #[error(
        "{} has no tokenizer.json; name the folder of a model in the format of Hugging Face, or write \
         the file with AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)",
        .0.display()
    )]
    NoTokenizer(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{} is not as expected: {why}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A text or ids that the tokenizer fails at.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer failed: {0}")]
pub struct TokenError(String);

/// A model's folder, loaded: text to ids and back.
pub struct Model {
    tokenizer: Tokenizer,
    specials: BTreeMap<String, String>,
    templates: BTreeMap<String, String>,
    eos: Vec<u32>,
    /// Put before text that is to be tokenised as if it stood behind other text.
    anchor: Option<(String, u32)>,
}

impl Model {
    /// Loads `tokenizer.json` and, where they exist, `tokenizer_config.json`,
    /// `special_tokens_map.json`, `chat_template.jinja`, `additional_chat_templates/*.jinja`,
    /// `generation_config.json` and `config.json`.
    ///
    /// # Errors
    ///
    /// If there is no tokenizer, or a file cannot be read or understood.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, LoadError> {
        let folder = folder.as_ref();
        let file = folder.join("tokenizer.json");
        let mut tokenizer = match read_tokenizer(&file) {
            Err(LoadError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LoadError::NoTokenizer(folder.to_owned()));
            }
            read => read?,
        };
        let bad = |why: String| LoadError::Config { file: file.clone(), why };
        let found = Folder::read(folder)?;
        for (id, token) in &found.added {
            if tokenizer.token_to_id(&token.content).is_some() {
                continue;
            }
            let added = AddedToken::from(token.content.clone(), token.special)
                .lstrip(token.lstrip)
                .rstrip(token.rstrip)
                .normalized(token.normalized)
                .single_word(token.single_word);
            tokenizer.add_tokens([added]).map_err(|error| bad(error.to_string()))?;
            let got = tokenizer.token_to_id(&token.content);
            if got != Some(*id) {
                return Err(bad(format!(
                    "tokenizer_config.json adds {:?} as {id}, which is no free id here; save the \
                     tokenizer again with transformers",
                    token.content
                )));
            }
        }
        let mut eos = found.eos;
        let named = found.specials.get("eos_token").and_then(|token| tokenizer.token_to_id(token));
        if let Some(id) = named.filter(|id| !eos.contains(id)) {
            eos.push(id);
        }
        let mut model = Self {
            tokenizer,
            specials: found.specials,
            templates: found.templates,
            eos,
            anchor: None,
        };
        model.anchor = model.find_anchor();
        Ok(model)
    }

    /// Loads a file in the format of `tokenizer.json` and nothing beside it: no templates, and no ends of turn.
    ///
    /// # Errors
    ///
    /// If it cannot be read or understood.
    pub fn of_tokenizer(file: impl AsRef<Path>) -> Result<Self, LoadError> {
        let tokenizer = read_tokenizer(file.as_ref())?;
        let (specials, templates, eos) = Default::default();
        let mut model = Self { tokenizer, specials, templates, eos, anchor: None };
        model.anchor = model.find_anchor();
        Ok(model)
    }

    /// Tokenises a text. Special tokens that are written in it are recognised; none are added.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenError> {
        let encoding = self.tokenizer.encode_fast(text, false);
        encoding
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| TokenError(error.to_string()))
    }

    /// The text of ids, with or without special tokens.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenError> {
        self.tokenizer.decode(ids, skip_special).map_err(|error| TokenError(error.to_string()))
    }

    /// Tokenises a text as it would be tokenised behind a special token. Some tokenizers write the
    /// start of a text differently: with a space in front.
    pub(crate) fn encode_behind(&self, text: &str) -> Result<Vec<u32>, TokenError> {
        let Some((anchor, _)) = &self.anchor else { return self.encode(text) };
        let mut ids = self.encode(&format!("{anchor}{text}"))?;
        ids.remove(0);
        Ok(ids)
    }

    /// The text of ids as it stands behind others, special tokens included.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn decode_behind(&self, ids: &[u32]) -> Result<String, TokenError> {
        let Some((anchor, id)) = &self.anchor else { return self.decode(ids, false) };
        let mut all = Vec::with_capacity(ids.len() + 1);
        all.push(*id);
        all.extend_from_slice(ids);
        let mut text = self.decode(&all, false)?;
        if text.starts_with(anchor.as_str()) {
            text.drain(..anchor.len());
        }
        Ok(text)
    }

    /// A special token after which text is tokenised as it is.
    fn find_anchor(&self) -> Option<(String, u32)> {
        let mut added: Vec<_> = self.tokenizer.get_added_tokens_decoder().into_iter().collect();
        added.sort_by_key(|(id, _)| *id);
        let mut plain = added.into_iter().filter(|(_, token)| {
            token.special && !token.lstrip && !token.rstrip && !token.single_word
        });
        plain.find_map(|(id, token)| {
            let works = self.encode(&token.content).is_ok_and(|ids| ids == [id]);
            works.then_some((token.content, id))
        })
    }

    /// Whether an id is a special token, or another that was added to the vocabulary: text before and
    /// after those is tokenised on its own.
    pub(crate) fn is_added(&self, id: u32) -> bool {
        self.tokenizer.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id)
    }

    /// The texts of all special tokens.
    pub(crate) fn special_texts(&self) -> Vec<String> {
        let added = self.tokenizer.get_added_tokens_decoder().into_values();
        added.filter(|token| token.special).map(|token| token.content).collect()
    }

    /// Whether the vocabulary has this id. Others are left out of [decoded](Self::decode) text.
    #[must_use]
    pub fn has_id(&self, id: u32) -> bool {
        self.tokenizer.id_to_token(id).is_some()
    }

    /// The id of a token, if the vocabulary has it.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The ids with which a turn of the model ends: those of the generation's configuration and the
    /// tokenizer's own.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// How many tokens there are, added ones included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The tokenizer's special tokens by name, such as `bos_token`.
    #[must_use]
    pub fn specials(&self) -> &BTreeMap<String, String> {
        &self.specials
    }

    /// The source of a chat template: the named one; else, with tools, `tool_use`; else `default`.
    #[must_use]
    pub fn template(&self, name: Option<&str>, has_tools: bool) -> Option<&str> {
        let find = |name| self.templates.get(name).map(String::as_str);
        match name {
            Some(name) => find(name),
            None => has_tools.then(|| find(TOOL_USE)).flatten().or_else(|| find(DEFAULT)),
        }
    }

    /// The names of its chat templates.
    pub fn templates(&self) -> impl Iterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }
}

fn read_tokenizer(file: &Path) -> Result<Tokenizer, LoadError> {
    let bytes =
        std::fs::read(file).map_err(|error| LoadError::Read { file: file.to_owned(), error })?;
    let bad = |error: tokenizers::Error| LoadError::Config {
        file: file.to_owned(),
        why: error.to_string(),
    };
    let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(bad)?;
    // A tokenizer may have been saved with these on; ids that were cut or filled up are no prompt.
    tokenizer.with_truncation(None).map_err(bad)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}
