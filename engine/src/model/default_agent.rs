//! The agent of a run that names none.

use envmill_agent::AgentOptions;
use serde_json::{Value, json};

/// An agent that says its text in the one field of the action that takes text, if there is one.
pub(super) fn for_schema(schema: &[u8]) -> Result<AgentOptions, String> {
    let schema: Value =
        serde_json::from_slice(schema).map_err(|error| format!("the action schema: {error}"))?;
    let field = text_field(&schema).ok_or_else(|| {
        "its actions have not one field of text that the model's words could go into".to_owned()
    })?;
    let options = json!({"action": {"parser": {"text": {"field": field}}}});
    serde_json::from_value(options).map_err(|error| error.to_string())
}

/// The one required field of text, or the one field of text.
fn text_field(schema: &Value) -> Option<&str> {
    let properties = schema.get("properties")?.as_object()?;
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|it| it.iter().any(|it| it.as_str() == Some(name)));
    let is_text = |it: &Value| it.get("type").and_then(Value::as_str) == Some("string");
    let texts = || properties.iter().filter(|it| is_text(it.1)).map(|it| it.0.as_str());
    let only = |mut names: Box<dyn Iterator<Item = &str> + '_>| -> Option<String> {
        let first = names.next()?;
        names.next().is_none().then(|| first.to_owned())
    };
    let name =
        only(Box::new(texts().filter(|it| is_required(it)))).or_else(|| only(Box::new(texts())))?;
    properties.get_key_value(&name).map(|it| it.0.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_into_the_one_field_of_text() {
        let schema = br#"{"type":"object","properties":{"metadata":{"type":"object"},
            "message":{"type":"string"},"note":{"type":"string"}},"required":["message"]}"#;
        let options = for_schema(schema).unwrap();
        assert!(format!("{:?}", options.action).contains("message"));
        assert!(for_schema(br#"{"properties":{"action":{"type":"integer"}}}"#).is_err());
        assert!(for_schema(b"[]").is_err());
        let one = br#"{"properties":{"text":{"type":"string"}}}"#;
        assert!(for_schema(one).is_ok());
    }
}
