//! Calls between tags, with a parameter in each. It only looks like XML: nothing is escaped.

use serde_json::{Map, Value};

use super::calls::{CALLS, Call};
use super::schema;

/// Parameters of one call.
const PARAMETERS: usize = 256;

/// All calls of a text. Parameters are given the types that their tool's schema has; without one they
/// are texts.
pub(super) fn calls<'a>(
    text: &str,
    parameters: impl Fn(&str) -> Option<&'a Value>,
) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once("<function=") {
        if calls.len() == CALLS {
            return Err(format!("more than {CALLS} calls in one turn"));
        }
        let (name, body) = behind.split_once('>').ok_or("a call's tag does not end")?;
        let name = name.trim().trim_matches('"');
        if name.is_empty() || name.contains(['<', '\n']) {
            return Err("a call has no name".to_owned());
        }
        // The end may be missing: it may have been the stop string.
        let (body, after) = body.split_once("</function>").unwrap_or((body, ""));
        let properties = parameters(name).and_then(|schema| schema.get("properties"));
        let arguments = Value::Object(arguments(name, body, properties)?);
        calls.push(Call { id: None, name: name.to_owned(), arguments: arguments.to_string() });
        rest = after;
    }
    Ok(calls)
}

fn arguments(
    tool: &str,
    body: &str,
    properties: Option<&Value>,
) -> Result<Map<String, Value>, String> {
    let mut found = Map::new();
    let mut rest = body;
    while let Some((_, behind)) = rest.split_once("<parameter=") {
        if found.len() == PARAMETERS {
            return Err(format!("{tool}: more than {PARAMETERS} parameters"));
        }
        let (key, behind) = behind.split_once('>').ok_or("a parameter's tag does not end")?;
        let key = key.trim().trim_matches('"');
        // The end is sometimes left out; then the next parameter's start is as good.
        let (value, after) = match behind.split_once("</parameter>") {
            Some((value, after)) if !value.contains("<parameter=") => (value, after),
            _ => behind.split_at(behind.find("<parameter=").unwrap_or(behind.len())),
        };
        // One line break on each side belongs to the tags.
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        let types = schema::types(properties.and_then(|all| all.get(key)?.get("type")));
        let typed = schema::convert(&types, value);
        let typed = typed.ok_or_else(|| {
            let shown: String = value.chars().take(80).collect();
            format!("{tool}: {key} must be of type {}, but is {shown:?}", types.join(" or "))
        })?;
        if found.insert(key.to_owned(), typed).is_some() {
            return Err(format!("{tool}: {key} is given twice"));
        }
        rest = after;
    }
    Ok(found)
}
