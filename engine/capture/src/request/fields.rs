//! A body's fields.

use std::collections::HashMap;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::refusal::Refusal;

/// The fields of a body, each read when it is asked for.
#[derive(Deserialize)]
pub(super) struct Fields<'a>(#[serde(borrow)] HashMap<String, &'a RawValue>);

/// What would change what is sampled, and cannot be done; with the values that ask for nothing.
const NOT_DONE: [(&str, &[&str]); 21] = [
    ("frequency_penalty", &["0", "0.0"]),
    ("presence_penalty", &["0", "0.0"]),
    ("repetition_penalty", &["1", "1.0"]),
    ("logit_bias", &["{}"]),
    ("bad_words", &["[]"]),
    ("allowed_token_ids", &[]),
    ("use_beam_search", &["false"]),
    ("functions", &["[]"]),
    ("function_call", &[r#""none""#, r#""auto""#]),
    ("audio", &[]),
    ("prediction", &[]),
    ("guided_json", &[]),
    ("guided_regex", &[]),
    ("guided_choice", &[]),
    ("guided_grammar", &[]),
    ("structured_outputs", &[]),
    ("continue_final_message", &["false"]),
    ("add_generation_prompt", &["true"]),
    ("echo", &["false"]),
    ("suffix", &[r#""""#]),
    ("best_of", &["1"]),
];

impl<'a> Fields<'a> {
    /// Refuses what would change what is sampled and is not known here: to leave it out silently would make
    /// the harness see another model than it asked for.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        let fields: Self = serde_json::from_slice(body).map_err(|error| {
            let message = format!("We could not parse the JSON body of your request: {error}");
            Refusal::invalid(StatusCode::BAD_REQUEST, message, None)
        })?;
        for (name, neutral) in NOT_DONE {
            let Some(raw) = fields.raw(name) else { continue };
            let text: String = raw.get().split_ascii_whitespace().collect();
            if !neutral.contains(&text.as_str()) {
                return Err(Refusal::bad(name, format!("{name} cannot be had here: leave it out")));
            }
        }
        Ok(fields)
    }

    /// A field as it is written; `None` where it is null, too.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|it| it.get() != "null")
    }

    pub(super) fn get<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        self.raw(name).map(|it| parse(name, it)).transpose()
    }

    pub(super) fn is(&self, name: &str) -> Result<bool, Refusal> {
        Ok(self.get(name)?.unwrap_or(false))
    }
}

/// Reads the value of a field.
pub(super) fn parse<'a, T: Deserialize<'a>>(name: &str, raw: &'a RawValue) -> Result<T, Refusal> {
    serde_json::from_str(raw.get()).map_err(|error| Refusal::bad(name, error.to_string()))
}
