//! What a frontend knows of the model, and the engine is not told otherwise.

use std::{fs, io::Read as _, path::Path};

use serde::Deserialize;

use crate::{Error, ErrorKind};

/// A `config.json` larger than this is none.
const LARGEST: u64 = 4 << 20;

/// What has to be known of a model to ask `EngineCore` for tokens: it checks nothing itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// The tokens that end a turn, the most usual first; may be empty.
    pub eos_token_ids: Vec<u32>,
    /// Token ids are below this.
    pub vocab_size: u32,
    /// Prompt and sampled tokens are at most so many together. The engine may be started with less; the
    /// smaller one counts.
    pub max_model_len: u32,
}

#[derive(Deserialize)]
struct Config {
    vocab_size: Option<u32>,
    max_position_embeddings: Option<u32>,
    #[serde(default)]
    eos_token_id: Ids,
    /// Of models that also take images.
    text_config: Option<Box<Config>>,
}

#[derive(Default, Deserialize)]
struct GenerationConfig {
    #[serde(default)]
    eos_token_id: Ids,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
    #[default]
    None,
}

impl ModelFacts {
    /// Reads them from a model's folder: `config.json`, and `generation_config.json` where there is one.
    /// Reads files, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`]: a file cannot be read, or does not say what is needed.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let config: Config = read(&folder.join("config.json"))?
            .ok_or_else(|| refused(format!("there is no config.json in {}", folder.display())))?;
        let generation: GenerationConfig =
            read(&folder.join("generation_config.json"))?.unwrap_or_default();
        let text = config.text_config.as_deref();
        let missing = |what| refused(format!("{}: config.json has no {what}", folder.display()));
        let mut facts = Self {
            eos_token_ids: Vec::new(),
            vocab_size: config
                .vocab_size
                .or(text.and_then(|it| it.vocab_size))
                .ok_or_else(|| missing("vocab_size"))?,
            max_model_len: config
                .max_position_embeddings
                .or(text.and_then(|it| it.max_position_embeddings))
                .ok_or_else(|| missing("max_position_embeddings"))?,
        };
        facts.add(&config.eos_token_id);
        if let Some(text) = text {
            facts.add(&text.eos_token_id);
        }
        facts.add(&generation.eos_token_id);
        Ok(facts)
    }

    fn add(&mut self, ids: &Ids) {
        let ids = match ids {
            Ids::One(id) => std::slice::from_ref(id),
            Ids::Many(ids) => ids,
            Ids::None => &[],
        };
        for id in ids {
            if !self.eos_token_ids.contains(id) {
                self.eos_token_ids.push(*id);
            }
        }
    }
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Refused, message)
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, Error> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(format!("{}: {error}", path.display()))),
    };
    let mut text = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut text)
        .map_err(|error| refused(format!("{}: {error}", path.display())))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| refused(format!("{}: {error}", path.display())))
}
