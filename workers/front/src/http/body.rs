//! Bodies of requests as FastAPI reads them: one JSON object, whose fields pydantic looks at.

use std::borrow::Cow;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use envmill_protocol::openenv::server::VIOLATIONS_MAX;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    answer::{detail, json},
    integer,
};

/// An object and what is found wrong with it, for one answer.
pub(super) struct Fields<'a> {
    /// The whole object.
    object: &'a RawValue,
    /// The fields that were asked for.
    known: Vec<(String, &'a RawValue)>,
    /// Others, in the order in which their keys first came: at most [`VIOLATIONS_MAX`].
    extra: Vec<(String, &'a RawValue)>,
    /// The list so far, as JSON.
    wrong: Vec<u8>,
    count: usize,
}

impl<'a> Fields<'a> {
    /// Reads a body, of which these fields are looked at.
    ///
    /// # Errors
    ///
    /// FastAPI's answer to a body that is missing, no JSON by its type or its text, or no object.
    pub(super) fn read(
        headers: &HeaderMap,
        body: &'a [u8],
        names: &[&str],
    ) -> Result<Self, Box<Response>> {
        let refuse = |kind, location, message, input: &str| {
            let mut wrong = Vec::new();
            violation(&mut wrong, kind, location, message, input);
            Err(Box::new(unprocessable(&wrong)))
        };
        if body.is_empty() {
            return refuse("missing", r#"["body"]"#, "Field required", "null");
        }
        let Ok(text) = str::from_utf8(body) else {
            let message = "There was an error parsing the body";
            return Err(Box::new(detail(StatusCode::BAD_REQUEST, message)));
        };
        let no_object = |input: &str| {
            let message = "Input should be a valid dictionary or object to extract fields from";
            refuse("model_attributes_type", r#"["body"]"#, message, input)
        };
        if !is_json(headers) {
            return no_object(&quoted(text));
        }
        let object: &RawValue = match serde_json::from_str(text) {
            Ok(object) => object,
            Err(error) => return Err(Box::new(unprocessable(&no_json(text, &error)))),
        };
        if !object.get().starts_with('{') {
            return no_object(object.get());
        }
        let mut fields =
            Self { object, known: Vec::new(), extra: Vec::new(), wrong: Vec::new(), count: 0 };
        let mut deserializer = serde_json::Deserializer::from_str(object.get());
        match deserializer.deserialize_map(Collecting { fields: &mut fields, names }) {
            Ok(()) => Ok(fields),
            Err(error) => Err(Box::new(unprocessable(&no_json(text, &error)))),
        }
    }

    /// The value of a field, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.known.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// A field that must be there; if it is not, that is wrong.
    pub(super) fn required(&mut self, name: &str) -> Option<&'a RawValue> {
        let value = self.get(name);
        if value.is_none() {
            let object = self.object.get();
            self.wrong("missing", name, "Field required", object);
        }
        value
    }

    /// A string that must be there, as its JSON text.
    pub(super) fn string(&mut self, name: &str) -> Option<&'a str> {
        let text = self.required(name)?.get();
        if text.starts_with('"') {
            return Some(text);
        }
        self.wrong("string_type", name, "Input should be a valid string", text);
        None
    }

    /// An integer that must be there, as its JSON text.
    pub(super) fn integer(&mut self, name: &str) -> Option<String> {
        let value = self.required(name)?;
        self.integer_in(name, value)
    }

    /// An integer that may be missing or `null`, which both are `null`.
    pub(super) fn optional_integer(&mut self, name: &str) -> Option<String> {
        match self.get(name) {
            Some(value) if value.get() != "null" => self.integer_in(name, value),
            _ => Some("null".into()),
        }
    }

    pub(super) fn integer_in(&mut self, name: &str, value: &RawValue) -> Option<String> {
        integer::lax(value)
            .map_err(|(kind, message)| self.wrong(kind, name, message, value.get()))
            .ok()
    }

    /// No other fields than those that were asked for.
    pub(super) fn no_others(&mut self) {
        for (key, value) in std::mem::take(&mut self.extra) {
            self.wrong("extra_forbidden", &key, "Extra inputs are not permitted", value.get());
        }
    }

    /// Something is wrong with a field; `input` is the text of a JSON value.
    pub(super) fn wrong(&mut self, kind: &str, name: &str, message: &str, input: &str) {
        self.count += 1;
        if self.count > VIOLATIONS_MAX {
            return;
        }
        if !self.wrong.is_empty() {
            self.wrong.push(b',');
        }
        let location = format!(r#"["body",{}]"#, quoted(name));
        violation(&mut self.wrong, kind, &location, message, input);
    }

    /// The same, of a number that is out of bounds: pydantic names the bound.
    pub(super) fn out_of_bounds(
        &mut self,
        kind: &str,
        name: &str,
        message: &str,
        input: &str,
        bound: &str,
    ) {
        self.wrong(kind, name, message, input);
        if self.count <= VIOLATIONS_MAX {
            self.wrong.pop();
            self.wrong.extend_from_slice(br#","ctx":"#);
            self.wrong.extend_from_slice(bound.as_bytes());
            self.wrong.push(b'}');
        }
    }

    /// Whether all is well.
    ///
    /// # Errors
    ///
    /// The answer that names what is wrong: at most [`VIOLATIONS_MAX`] things.
    pub(super) fn check(&self) -> Result<(), Box<Response>> {
        if self.count == 0 { Ok(()) } else { Err(Box::new(unprocessable(&self.wrong))) }
    }
}

/// Whether the body is JSON by its type, as FastAPI demands of one that is to be read as JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    let Some((main, sub)) = essence.split_once('/') else { return false };
    let sub = sub.to_ascii_lowercase();
    main.eq_ignore_ascii_case("application") && (sub == "json" || sub.ends_with("+json"))
}

fn unprocessable(list: &[u8]) -> Response {
    let body: Bytes = [b"{\"detail\":[", list, b"]}"].concat().into();
    json(StatusCode::UNPROCESSABLE_ENTITY, body)
}

fn no_json(text: &str, error: &serde_json::Error) -> Vec<u8> {
    let before: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let mut wrong = Vec::new();
    let location = format!(r#"["body",{}]"#, before + error.column().saturating_sub(1));
    violation(&mut wrong, "json_invalid", &location, "JSON decode error", "{}");
    wrong.pop();
    let told = quoted(&error.to_string());
    wrong.extend_from_slice(format!(r#","ctx":{{"error":{told}}}}}"#).as_bytes());
    wrong
}

/// Appends an entry of the list; `location` and `input` are JSON.
fn violation(out: &mut Vec<u8>, kind: &str, location: &str, message: &str, input: &str) {
    let (kind, message) = (quoted(kind), quoted(message));
    for part in [
        r#"{"type":"#,
        &kind,
        r#","loc":"#,
        location,
        r#","msg":"#,
        &message,
        r#","input":"#,
        input,
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'}');
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Collects the fields of an object: of a repeated key the last value counts, as in Python.
struct Collecting<'f, 'a> {
    fields: &'f mut Fields<'a>,
    names: &'f [&'f str],
}

impl<'de> Visitor<'de> for Collecting<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { fields: Fields { known, extra, .. }, names } = self;
        while let Some((key, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
            let is_known = names.contains(&&*key);
            let entries = if is_known { &mut *known } else { &mut *extra };
            let room = is_known || entries.len() < VIOLATIONS_MAX;
            match entries.iter_mut().find(|(other, _)| *other == key) {
                Some(entry) => entry.1 = value,
                None if room => entries.push((key.into_owned(), value)),
                None => {}
            }
        }
        Ok(())
    }
}
