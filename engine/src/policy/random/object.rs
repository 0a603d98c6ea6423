//! Objects: which fields are written, and how often.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    compile::{Compiler, Conjunction},
    error::SchemaError,
    leaf::{largest, smallest},
    node::{Extra, Field, Keys, Node, NodeId, Object, Presence},
    pattern::Pattern,
};

/// How many keys above its minimum a dictionary gets at most.
const SPARE_KEYS: u64 = 2;
/// The largest minimum number of keys that is still drawn.
const KEYS_MAX: u64 = 1 << 12;

pub(super) fn node<'a>(
    compiler: &mut Compiler<'a>,
    schemas: &[&'a Map<String, Value>],
    forced: &[&str],
    path: &str,
) -> Result<Object, SchemaError> {
    let names = names(schemas);
    let required: BTreeSet<&str> = schemas
        .iter()
        .filter_map(|schema| schema.get("required")?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut fields = Vec::new();
    for name in names.iter().copied().chain(required.iter().copied().filter(|n| !names.contains(n)))
    {
        let must = required.contains(name) || forced.contains(&name);
        let path = format!("{path}/properties/{}", name.replace('~', "~0").replace('/', "~1"));
        let members = members(schemas, name);
        let constant = members.iter().any(|member| is_constant(member));
        match compiler.compile(Conjunction::of(members), &path) {
            Ok(node) => fields.push(Field {
                name: name.into(),
                key: key(name),
                node,
                presence: if must || constant { Presence::Always } else { Presence::Sometimes },
            }),
            // What cannot be drawn and may be left out is left out.
            Err(error) if must || matches!(error, SchemaError::TooLarge { .. }) => {
                return Err(error);
            }
            Err(_) => {}
        }
    }
    let bounds = fit_to_bounds(&mut fields, schemas, path)?;
    let extra = extra(compiler, schemas, bounds, names.is_empty(), path)?;
    Ok(Object { fields: fields.into(), extra })
}

/// Every declared property, sorted: the order of drawing must not depend on how JSON is parsed.
fn names<'a>(schemas: &[&'a Map<String, Value>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for schema in schemas {
        if let Some(Value::Object(properties)) = schema.get("properties") {
            names.extend(properties.keys().map(String::as_str));
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Everything that is said about one property.
fn members<'a>(schemas: &[&'a Map<String, Value>], name: &str) -> Vec<&'a Value> {
    schemas
        .iter()
        .filter_map(|schema| {
            schema
                .get("properties")
                .and_then(|properties| properties.get(name))
                .or_else(|| schema.get("additionalProperties"))
        })
        .collect()
}

/// Whether there is one value only; such a field tells the members of a union apart.
fn is_constant(schema: &Value) -> bool {
    schema.get("const").is_some()
        || matches!(schema.get("enum"), Some(Value::Array(values)) if values.len() == 1)
}

/// Makes the number of fields agree with `minProperties` and `maxProperties`; returns how many
/// further keys there must and may be.
fn fit_to_bounds(
    fields: &mut [Field],
    schemas: &[&Map<String, Value>],
    path: &str,
) -> Result<(u64, u64), SchemaError> {
    let min = largest(schemas, "minProperties").unwrap_or(0);
    let max = smallest(schemas, "maxProperties").unwrap_or(u64::MAX);
    let mut always = fields.iter().filter(|f| f.presence == Presence::Always).count() as u64;
    if always > max {
        return Err(SchemaError::NoValue { path: path.into() });
    }
    for field in fields.iter_mut().filter(|field| field.presence == Presence::Sometimes) {
        if always < min {
            field.presence = Presence::Always;
            always += 1;
        }
    }
    let optional = fields.iter().filter(|f| f.presence == Presence::Sometimes).count() as u64;
    if always + optional > max {
        for field in fields.iter_mut().filter(|field| field.presence == Presence::Sometimes) {
            field.presence = Presence::Never;
        }
        return Ok((min.saturating_sub(always), max - always));
    }
    Ok((min.saturating_sub(always), max - always - optional))
}

fn extra<'a>(
    compiler: &mut Compiler<'a>,
    schemas: &[&'a Map<String, Value>],
    (min, room): (u64, u64),
    is_dictionary: bool,
    path: &str,
) -> Result<Option<Extra>, SchemaError> {
    let values: Vec<&Value> =
        schemas.iter().filter_map(|schema| schema.get("additionalProperties")).collect();
    // Keys of their own are given only to dictionaries with a type of value; a free-form object
    // stays empty.
    let patterned = values_by_pattern(schemas);
    let typed =
        is_dictionary && (patterned.is_some() || values.iter().any(|value| value.is_object()));
    let values = patterned.map_or(values, |(_, value)| vec![value]);
    if min == 0 && !typed {
        return Ok(None);
    }
    if min > KEYS_MAX {
        return Err(SchemaError::TooLarge { path: path.into() });
    }
    let keys = match keys(compiler, schemas, path) {
        Ok(keys) => keys,
        Err(error) if min > 0 => return Err(error),
        Err(_) => return Ok(None),
    };
    let limit = match &keys {
        Keys::Listed(keys) => room.min(keys.len() as u64),
        Keys::Digits | Keys::Drawn(_) => room,
    };
    if min > limit {
        return Err(SchemaError::NoValue { path: path.into() });
    }
    let path = format!("{path}/additionalProperties");
    let node: NodeId = match compiler.compile(Conjunction::of(values), &path) {
        Ok(node) => node,
        Err(error) if min > 0 => return Err(error),
        Err(_) => return Ok(None),
    };
    let spare = if typed { SPARE_KEYS } else { 0 };
    Ok(Some(Extra { keys, node, min: min as u32, max: limit.min(min + spare) as u32 }))
}

/// The one pattern of keys and the schema of their values, where keys are given by pattern.
fn values_by_pattern<'a>(schemas: &[&'a Map<String, Value>]) -> Option<(&'a str, &'a Value)> {
    let patterns =
        schemas.iter().find_map(|schema| schema.get("patternProperties")?.as_object())?;
    patterns.iter().next().map(|(pattern, value)| (pattern.as_str(), value))
}

/// What `propertyNames` and `patternProperties` say about keys.
fn keys<'a>(
    compiler: &mut Compiler<'a>,
    schemas: &[&'a Map<String, Value>],
    path: &str,
) -> Result<Keys, SchemaError> {
    if let Some((pattern, _)) = values_by_pattern(schemas) {
        let pattern = Pattern::new(pattern, 0, u64::MAX).ok_or_else(|| SchemaError::Keyword {
            path: path.into(),
            keyword: "patternProperties".into(),
        })?;
        return Ok(Keys::Drawn(compiler.add(Node::Patterned(Box::new(pattern)))));
    }
    let rules: Vec<&Value> =
        schemas.iter().filter_map(|schema| schema.get("propertyNames")).collect();
    let [rule] = rules[..] else {
        let keyword = "propertyNames".into();
        return if rules.is_empty() {
            Ok(Keys::Digits)
        } else {
            Err(SchemaError::Keyword { path: path.into(), keyword })
        };
    };
    let followed = rule
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| compiler.resolve(reference))
        .unwrap_or(rule);
    match (followed.get("enum"), followed.get("const")) {
        (Some(Value::Array(values)), _) => Ok(Keys::Listed(values.iter().map(key_of).collect())),
        (_, Some(only)) => Ok(Keys::Listed(Box::new([key_of(only)]))),
        _ => {
            let path = format!("{path}/propertyNames");
            let id = compiler.compile(Conjunction::of(vec![rule, text_schema()]), &path)?;
            Ok(Keys::Drawn(id))
        }
    }
}

/// Keys are texts, whatever else a schema of them says or leaves out.
fn text_schema() -> &'static Value {
    static TEXT: std::sync::LazyLock<Value> =
        std::sync::LazyLock::new(|| serde_json::json!({"type": "string"}));
    &TEXT
}

/// A value as a key: a text as it is, a number or truth value as its JSON.
fn key_of(value: &Value) -> Box<[u8]> {
    match value {
        Value::String(name) => key(name),
        other => key(&other.to_string()),
    }
}

fn key(name: &str) -> Box<[u8]> {
    let mut key = Value::from(name).to_string().into_bytes();
    key.push(b':');
    key.into()
}
