//! The schemas that calls of tools are held to, as vLLM's frontend makes them.
//!
//! They are put together as texts: the order of a schema's properties is the order in which arguments are
//! sampled, so it stays as the harness has written it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::fields::parse;
use crate::refusal::Refusal;

/// A tool without parameters takes this.
const NOTHING: &str = r#"{"type":"object","properties":{}}"#;

/// A tool that can be called.
pub(super) struct Tool<'a> {
    pub(super) name: String,
    parameters: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
}

/// The functions among tools.
pub(super) fn tools<'a>(tools: &[&'a RawValue]) -> Result<Vec<Tool<'a>>, Refusal> {
    let tool = |raw: &&'a RawValue| {
        let wire: Wire<'a> = parse("tools", raw)?;
        let Some(Function { name, parameters }) = wire.function else {
            return Err(Refusal::bad("tools", "only functions can be called: one has none"));
        };
        Ok(Tool { name, parameters: parameters.filter(|it| !matches!(it.get(), "null" | "{}")) })
    };
    tools.iter().map(tool).collect()
}

/// The schema of a tool's arguments.
pub(super) fn arguments<'a>(tool: &Tool<'a>) -> &'a str {
    tool.parameters.map_or(NOTHING, RawValue::get)
}

/// The schema of a list of calls, each with its `name` and `parameters`; of one alone where they cannot be
/// `parallel`.
pub(super) fn listed(tools: &[Tool<'_>], parallel: bool) -> Result<String, Refusal> {
    // What arguments refer to is looked for at the whole schema's root.
    let mut definitions: Vec<(String, String)> = Vec::new();
    let mut calls = Vec::with_capacity(tools.len());
    for tool in tools {
        let mut fields: Object<'_> = match tool.parameters {
            Some(raw) => parse("tools", raw)?,
            None => Object(Vec::new()),
        };
        let own = fields.0.extract_if(.., |it| it.0 == "$defs").last();
        for (name, schema) in own.map_or(Ok(Object(Vec::new())), |it| parse("tools", it.1))?.0 {
            match definitions.iter().find(|it| it.0 == name) {
                None => definitions.push((name, schema.get().to_owned())),
                Some(known) if known.1 == schema.get() => {}
                Some(_) => {
                    let message = format!("there are two definitions of {name:?} in $defs");
                    return Err(Refusal::bad("tools", message));
                }
            }
        }
        let parameters = match tool.parameters {
            Some(_) => object(fields.0.iter().map(|it| (it.0.as_str(), it.1.get()))),
            None => NOTHING.to_owned(),
        };
        calls.push(format!(
            r#"{{"properties":{{"name":{{"type":"string","enum":[{}]}},"parameters":{parameters}}},"required":["name","parameters"]}}"#,
            text(&tool.name)
        ));
    }
    let items = format!(r#"{{"type":"object","anyOf":[{}]}}"#, calls.join(","));
    let definitions = object(definitions.iter().map(|it| (it.0.as_str(), it.1.as_str())));
    let mut fields = vec![("type", r#""array""#), ("minItems", "1"), ("items", items.as_str())];
    if !parallel {
        fields.push(("maxItems", "1"));
    }
    if definitions != "{}" {
        fields.push(("$defs", definitions.as_str()));
    }
    Ok(object(fields))
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let fields = fields.into_iter().map(|(name, value)| format!("{}:{value}", text(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An object's fields, in their order.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fields).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r##"{"function":{"name":"look \"up\"","parameters":{"type":"object",
        "properties":{"z":{"$ref":"#/$defs/Z"},"a":{"type":"integer"}},"$defs":{"Z":{"type":"null"}}}}}"##;

    fn listed_of(all: &[&str], parallel: bool) -> Result<String, Refusal> {
        let raw: Vec<&RawValue> = all.iter().map(|it| serde_json::from_str(it).unwrap()).collect();
        listed(&tools(&raw)?, parallel)
    }

    #[test]
    fn a_list_of_calls_is_described_as_vllm_does() {
        let schema = listed_of(&[FIRST, r#"{"function":{"name":"wait"}}"#, FIRST], false).unwrap();
        // In the order in which it was written.
        assert!(schema.find(r#""z":"#) < schema.find(r#""a":"#), "{schema}");
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        assert_eq!((&schema["minItems"], &schema["maxItems"]), (&1.into(), &1.into()));
        assert_eq!(schema["$defs"]["Z"]["type"], "null");
        let calls = schema["items"]["anyOf"].as_array().unwrap();
        assert_eq!(calls[0]["properties"]["name"]["enum"][0], "look \"up\"");
        assert!(calls[0]["properties"]["parameters"].get("$defs").is_none());
        assert_eq!(calls[1]["properties"]["parameters"]["type"], "object");
        assert!(!listed_of(&[FIRST], true).unwrap().contains("maxItems"));
    }

    #[test]
    fn tools_that_cannot_be_called_are_refused() {
        let other = FIRST.replace("null", "string");
        for wrong in
            [&[FIRST, &other][..], &["{}"], &[r#"{"function":{"name":"a","parameters":1}}"#]]
        {
            assert!(listed_of(wrong, true).is_err(), "{wrong:?}");
        }
    }
}
