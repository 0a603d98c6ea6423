//! What an answer is held to: a format, or calls of tools.

use envmill_inference::{Constraint, JsonSchema};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Calls, fields::Fields, schema};
use crate::{CaptureOptions, refusal::Refusal};

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    json_schema: Option<Named<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    kind: String,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
}

/// What `response_format` asks for.
pub(super) fn format(
    fields: &Fields<'_>,
    options: &CaptureOptions,
) -> Result<Option<Constraint>, Refusal> {
    const NAME: &str = "response_format";
    let Some(format) = fields.get::<Format<'_>>(NAME)? else { return Ok(None) };
    let constraint = match format.kind.as_str() {
        "text" => return Ok(None),
        "json_object" => Constraint::JsonObject,
        "json_schema" => {
            let schema = format.json_schema.and_then(|it| it.schema);
            let missing = || Refusal::bad(NAME, "there is no schema in its json_schema");
            held_to(NAME, schema.ok_or_else(missing)?.get())?
        }
        other => {
            let message = format!("{other:?} is none of text, json_object and json_schema");
            return Err(Refusal::bad(NAME, message));
        }
    };
    allowed(NAME, options)?;
    Ok(Some(constraint))
}

/// What `tools` and `tool_choice` ask for, where a format is wanted besides.
pub(super) fn calls(
    fields: &Fields<'_>,
    format: Option<Constraint>,
    options: &CaptureOptions,
) -> Result<(Calls, Option<Constraint>), Refusal> {
    const NAME: &str = "tool_choice";
    let tools: Vec<&RawValue> = fields.get("tools")?.unwrap_or_default();
    let choice = fields.raw(NAME).map(RawValue::get);
    let choice = match choice {
        Some(r#""none""#) => return Ok((Calls::None, format)),
        None | Some(r#""auto""#) if tools.is_empty() => return Ok((Calls::None, format)),
        None | Some(r#""auto""#) if format.is_some() => {
            let message = "what is held to a format calls no tools: take one of them out, or set \
                           tool_choice";
            return Err(Refusal::bad("response_format", message));
        }
        None | Some(r#""auto""#) => return Ok((Calls::Written, None)),
        Some(choice) => choice,
    };
    let tools = schema::tools(&tools)?;
    let (calls, schema) = if choice == r#""required""# {
        if tools.is_empty() {
            return Err(Refusal::bad(NAME, "there is no tool in tools"));
        }
        let parallel = fields.get("parallel_tool_calls")?.unwrap_or(true);
        (Calls::Listed, schema::listed(&tools, parallel)?)
    } else {
        let choice = choice_of(choice)?;
        let tool = tools.iter().find(|it| it.name == choice.name);
        let missing = || Refusal::bad(NAME, format!("there is no tool {:?}", choice.name));
        let schema = schema::arguments(tool.ok_or_else(missing)?).to_owned();
        (Calls::Named(choice.name), schema)
    };
    allowed(NAME, options)?;
    Ok((calls, Some(held_to("tools", &schema)?)))
}

fn choice_of(choice: &str) -> Result<Function, Refusal> {
    let name = "tool_choice";
    let refused =
        || Refusal::bad(name, "it is none of \"auto\", \"none\", \"required\" and a function");
    let choice: Choice = serde_json::from_str(choice).map_err(|_| refused())?;
    choice.function.filter(|_| choice.kind == "function").ok_or_else(refused)
}

fn held_to(name: &str, schema: &str) -> Result<Constraint, Refusal> {
    let schema = JsonSchema::new(schema).map_err(|error| Refusal::bad(name, error.message))?;
    Ok(Constraint::JsonSchema(schema))
}

/// What is held to something is not sampled from the model's own distribution.
fn allowed(name: &str, options: &CaptureOptions) -> Result<(), Refusal> {
    if options.sampling_of_calls {
        return Ok(());
    }
    let message = format!(
        "calls sample from the model's own distribution here, and {name} would change it: leave it out"
    );
    Err(Refusal::bad(name, message))
}
