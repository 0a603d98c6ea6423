//! Calls of tools, as families of models write them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Parsed, ToolFormat, json, xml};
use crate::ToolCall;

/// Calls in one turn; a model that makes more has lost its way.
pub(super) const CALLS: usize = 128;

/// Reads calls.
#[derive(Debug)]
pub(super) struct Calls {
    format: ToolFormat,
    /// The parameters' schemas by tool.
    tools: HashMap<String, Value>,
}

/// A call before it has an id.
pub(super) struct Call {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) arguments: String,
}

#[derive(Deserialize)]
struct Wire<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'a RawValue>,
    id: Option<String>,
}

impl Calls {
    pub(super) fn new(format: ToolFormat, tools: &[Value]) -> Self {
        let parameters = |tool: &Value| {
            let tool = tool.get("function").unwrap_or(tool);
            let name = tool.get("name")?.as_str()?.to_owned();
            let parameters = tool.get("parameters").or(tool.get("input_schema"));
            Some((name, parameters.cloned().unwrap_or_default()))
        };
        Self { format, tools: tools.iter().filter_map(parameters).collect() }
    }

    pub(super) fn read(&self, text: &str, turn: u32) -> Result<Parsed, String> {
        let calls = match self.format {
            ToolFormat::Hermes => self.hermes(text),
            ToolFormat::Llama => llama(text),
            ToolFormat::Mistral => mistral(text),
            ToolFormat::Xml => xml::calls(text, |name| self.parameters(name)),
        }?;
        if calls.is_empty() {
            return Ok(Parsed::Text(text.trim().to_owned()));
        }
        if calls.len() > CALLS {
            return Err(format!("more than {CALLS} calls in one turn"));
        }
        let mut named = Vec::with_capacity(calls.len());
        for (index, call) in calls.into_iter().enumerate() {
            if !self.tools.is_empty() && !self.tools.contains_key(&call.name) {
                return Err(format!("there is no tool {:?}", call.name));
            }
            // Nine letters and digits, because some templates want exactly that.
            let id = || format!("t{:05}c{index:02x}", turn % 100_000);
            let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(id);
            named.push(ToolCall { id, name: call.name, arguments: call.arguments });
        }
        Ok(Parsed::ToolCalls(named))
    }

    fn parameters(&self, tool: &str) -> Option<&Value> {
        self.tools.get(tool)
    }

    fn hermes(&self, text: &str) -> Result<Vec<Call>, String> {
        let mut calls = Vec::new();
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once("<tool_call>") {
            if calls.len() > CALLS {
                break;
            }
            // The end may be missing: it may have been the stop string.
            let (inside, after) = behind.split_once("</tool_call>").unwrap_or((behind, ""));
            if inside.trim_start().starts_with("<function=") {
                calls.extend(xml::calls(inside, |name| self.parameters(name))?);
            } else {
                let found = json::object(inside)?;
                if !found.rest.trim().is_empty() {
                    return Err("something stands behind a call's JSON".to_owned());
                }
                calls.push(call(found.text)?);
            }
            rest = after;
        }
        Ok(calls)
    }
}

/// Nothing but calls; one or several, with semicolons between.
fn llama(text: &str) -> Result<Vec<Call>, String> {
    let mut rest = text.trim();
    let tagged = rest.strip_prefix("<|python_tag|>");
    let is_tagged = tagged.is_some();
    rest = tagged.unwrap_or(rest).trim_start();
    for end in ["<|eom_id|>", "<|eot_id|>"] {
        rest = rest.strip_suffix(end).unwrap_or(rest).trim_end();
    }
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let found = match json::object(rest) {
            Ok(found) if is_tagged || found.value.get("name").is_some() => found,
            // A text that happens to begin with a brace.
            Ok(_) if calls.is_empty() => return Ok(Vec::new()),
            Ok(_) => return Err("a call has no name".to_owned()),
            Err(_) if calls.is_empty() && !is_tagged && !rest.starts_with("{\"name\"") => {
                return Ok(Vec::new());
            }
            Err(why) => return Err(why),
        };
        calls.push(call(found.text)?);
        rest = found.rest.trim_start();
        rest = rest.strip_prefix(';').unwrap_or(rest).trim_start();
    }
    Ok(calls)
}

fn mistral(text: &str) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    let Some((_, mut rest)) = text.split_once("[TOOL_CALLS]") else { return Ok(calls) };
    if rest.trim_start().starts_with('[') {
        let (value, end) = json::value(rest)?;
        if !value.is_array() {
            return Err("the calls are not a list".to_owned());
        }
        let list: Vec<&RawValue> =
            serde_json::from_str(&rest[..end]).map_err(|error| error.to_string())?;
        return list.into_iter().map(|raw| call(raw.get())).collect();
    }
    loop {
        let (head, behind) = rest
            .split_once("[ARGS]")
            .or_else(|| rest.find('{').map(|at| rest.split_at(at)))
            .ok_or("a call has no arguments")?;
        let (name, id) = match head.split_once("[CALL_ID]") {
            Some((name, id)) => (name, Some(id.trim().to_owned())),
            None => (head, None),
        };
        if name.trim().is_empty() {
            return Err("a call has no name".to_owned());
        }
        let found = json::object(behind)?;
        calls.push(Call { id, name: name.trim().to_owned(), arguments: found.text.to_owned() });
        let Some((_, next)) = found.rest.split_once("[TOOL_CALLS]") else { return Ok(calls) };
        rest = next;
    }
}

/// A call as an object.
fn call(text: &str) -> Result<Call, String> {
    let wire: Wire<'_> = serde_json::from_str(text)
        .map_err(|error| format!("a call is not as it should be: {error}"))?;
    let arguments = wire.arguments.map_or("{}", RawValue::get);
    // Some write the object as a text.
    let arguments = match serde_json::from_str::<String>(arguments) {
        Ok(text) => text,
        Err(_) => arguments.to_owned(),
    };
    if !serde_json::from_str::<Value>(&arguments).is_ok_and(|value| value.is_object()) {
        return Err(format!("the arguments of {:?} are not a JSON object", wire.name));
    }
    Ok(Call { id: wire.id, name: wire.name, arguments })
}
