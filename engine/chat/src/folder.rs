//! What a model's folder says beside its tokenizer.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::LoadError;

/// The name of the template that is used where none is named.
pub(crate) const DEFAULT: &str = "default";
/// The name of the one that is used where there are tools, if it exists.
pub(crate) const TOOL_USE: &str = "tool_use";

/// The special tokens with a name that templates know.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
    #[serde(default)]
    added_tokens_decoder: BTreeMap<String, AddedToken>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// A token that the configuration adds to the tokenizer's.
#[derive(Deserialize)]
pub(crate) struct AddedToken {
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) lstrip: bool,
    #[serde(default)]
    pub(crate) rstrip: bool,
    #[serde(default)]
    pub(crate) normalized: bool,
    #[serde(default)]
    pub(crate) single_word: bool,
    #[serde(default)]
    pub(crate) special: bool,
}

/// What was read.
#[derive(Default)]
pub(crate) struct Folder {
    /// Special tokens by name.
    pub(crate) specials: BTreeMap<String, String>,
    /// Templates by name.
    pub(crate) templates: BTreeMap<String, String>,
    /// Tokens of the configuration, by id.
    pub(crate) added: BTreeMap<u32, AddedToken>,
    /// Ids that end a turn.
    pub(crate) eos: Vec<u32>,
}

impl Folder {
    pub(crate) fn read(folder: &Path) -> Result<Self, LoadError> {
        let config: TokenizerConfig =
            json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
        let map: BTreeMap<String, Value> =
            json(&folder.join("special_tokens_map.json"))?.unwrap_or_default();
        let mut found = Self::default();
        for name in NAMED {
            let token = config
                .others
                .get(name)
                .and_then(content)
                .or_else(|| map.get(name).and_then(content));
            if let Some(token) = token {
                found.specials.insert(name.to_owned(), token);
            }
        }
        for (id, token) in config.added_tokens_decoder {
            let id = id.parse().map_err(|_| LoadError::Config {
                file: folder.join("tokenizer_config.json"),
                why: format!("added_tokens_decoder has the key {id:?}, which is no token id"),
            })?;
            found.added.insert(id, token);
        }
        found.templates = templates(folder, config.chat_template)?;
        found.eos = eos(folder)?;
        Ok(found)
    }
}

/// From the least to the most binding: the configuration's, then files beside it.
fn templates(
    folder: &Path,
    configured: Option<Templates>,
) -> Result<BTreeMap<String, String>, LoadError> {
    let mut found = BTreeMap::new();
    match configured {
        Some(Templates::One(template)) => {
            found.insert(DEFAULT.to_owned(), template);
        }
        Some(Templates::Named(named)) => {
            found.extend(named.into_iter().map(|one| (one.name, one.template)));
        }
        None => {}
    }
    let old: Option<BTreeMap<String, Value>> = json(&folder.join("chat_template.json"))?;
    if let Some(Value::String(template)) = old.and_then(|mut old| old.remove("chat_template")) {
        found.insert(DEFAULT.to_owned(), template);
    }
    if let Some(template) = text(&folder.join("chat_template.jinja"))? {
        found.insert(DEFAULT.to_owned(), template);
    }
    for entry in
        fs::read_dir(folder.join("additional_chat_templates")).into_iter().flatten().flatten()
    {
        let path = entry.path();
        let name = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
        if let (Some(name), Some("jinja")) = (name, path.extension().and_then(|end| end.to_str()))
            && let Some(template) = text(&path)?
        {
            found.insert(name, template);
        }
    }
    Ok(found)
}

/// The generation's configuration is the one that engines follow; older folders have none.
fn eos(folder: &Path) -> Result<Vec<u32>, LoadError> {
    for file in ["generation_config.json", "config.json"] {
        let config: Option<BTreeMap<String, Value>> = json(&folder.join(file))?;
        let Some(config) = config else { continue };
        let text = config.get("text_config").and_then(|text| text.get("eos_token_id"));
        let ids = match config.get("eos_token_id").or(text) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(ids)) => ids.iter().map(Value::as_u64).collect::<Option<Vec<_>>>(),
            Some(id) => id.as_u64().map(|id| vec![id]),
        };
        let ids = ids.and_then(|ids| ids.into_iter().map(|id| u32::try_from(id).ok()).collect());
        return ids.ok_or_else(|| LoadError::Config {
            file: folder.join(file),
            why: "eos_token_id is neither a token id nor a list of them".to_owned(),
        });
    }
    Ok(Vec::new())
}

/// A special token is written as a text, or as an object around it.
fn content(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

fn json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, LoadError> {
    let Some(text) = text(file)? else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| LoadError::Config { file: file.to_owned(), why: error.to_string() })
}

fn text(file: &Path) -> Result<Option<String>, LoadError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LoadError::Read { file: file.to_owned(), error }),
    }
}
