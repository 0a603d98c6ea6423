//! Objects: which fields are written, and how often.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    compile::{Compiler, Conjunction},
    error::SchemaError,
    leaf::{largest, smallest},
    node::{Extra, Field, NodeId, Object, Presence},
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
    let typed = is_dictionary && values.iter().any(|value| value.is_object());
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
    let limit = if keys.is_empty() { room } else { room.min(keys.len() as u64) };
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

/// The keys that `propertyNames` lists; empty where any key will do.
fn keys<'a>(
    compiler: &Compiler<'a>,
    schemas: &[&'a Map<String, Value>],
    path: &str,
) -> Result<Box<[Box<[u8]>]>, SchemaError> {
    if schemas.iter().any(|schema| schema.contains_key("patternProperties")) {
        return Err(SchemaError::Keyword {
            path: path.into(),
            keyword: "patternProperties".into(),
        });
    }
    let mut rules = schemas.iter().filter_map(|schema| schema.get("propertyNames"));
    let Some(rule) = rules.next() else { return Ok(Box::default()) };
    let rule = rule
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| compiler.resolve(reference))
        .unwrap_or(rule);
    match (rule.get("enum").or_else(|| rule.get("const")), rules.next()) {
        (Some(Value::Array(values)), None) => {
            Ok(values.iter().filter_map(Value::as_str).map(key).collect())
        }
        (Some(Value::String(only)), None) => Ok(Box::new([key(only)])),
        _ => Err(SchemaError::Keyword { path: path.into(), keyword: "propertyNames".into() }),
    }
}

fn key(name: &str) -> Box<[u8]> {
    let mut key = Value::from(name).to_string().into_bytes();
    key.push(b':');
    key.into()
}
