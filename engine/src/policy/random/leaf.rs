//! One node from plain constraints that hold together, by the type they leave.

use serde_json::{Map, Value};

use super::{
    compile::{Compiler, Conjunction},
    draw::SPARE_ELEMENTS,
    error::SchemaError,
    node::{Array, Format, Node},
    numbers, object,
    pattern::Pattern,
};

type Schemas<'s, 'a> = &'s [&'a Map<String, Value>];

const TYPES: [&str; 6] = ["object", "array", "string", "integer", "number", "boolean"];
/// Keywords that narrow values in ways that drawing cannot follow.
const REFUSED: [&str; 8] = [
    "not",
    "if",
    "dependentSchemas",
    "dependentRequired",
    "dependencies",
    "$dynamicRef",
    "$recursiveRef",
    "contains",
];
/// The longest text drawn where the schema sets no limit.
const SPARE_LETTERS: u64 = 8;
/// The largest minimum length of a text or an array that is still drawn.
const LENGTH_MAX: u64 = 1 << 16;

pub(super) fn node<'a>(
    compiler: &mut Compiler<'a>,
    schemas: Schemas<'_, 'a>,
    conjunction: &Conjunction<'a>,
    path: &str,
) -> Result<Node, SchemaError> {
    if let Some(listed) = listed(schemas) {
        let texts: Vec<Box<[u8]>> =
            listed.iter().map(|value| value.to_string().into_bytes().into()).collect();
        return match <[_; 1]>::try_from(texts) {
            Ok([only]) => Ok(Node::Literal(only)),
            Err(texts) if texts.is_empty() => Err(SchemaError::NoValue { path: path.into() }),
            Err(texts) => Ok(Node::Choice(texts.into())),
        };
    }
    for keyword in REFUSED {
        refuse(schemas, keyword, path)?;
    }
    let mut nodes = Vec::new();
    let mut first_error = None;
    for name in types(schemas) {
        match typed(compiler, name, schemas, conjunction, path) {
            Ok(node) => nodes.push(node),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match (nodes.len(), first_error) {
        (0, Some(error)) => Err(error),
        (0, None) => Err(SchemaError::NoValue { path: path.into() }),
        (1, _) => Ok(nodes.remove(0)),
        _ => {
            let alternatives = nodes.into_iter().map(|node| compiler.add(node)).collect();
            Ok(Node::AnyOf { alternatives, shortest: 0 })
        }
    }
}

fn typed<'a>(
    compiler: &mut Compiler<'a>,
    name: &str,
    schemas: Schemas<'_, 'a>,
    conjunction: &Conjunction<'a>,
    path: &str,
) -> Result<Node, SchemaError> {
    match name {
        "null" => Ok(Node::Literal(b"null"[..].into())),
        "boolean" => Ok(Node::Boolean),
        "integer" => numbers::integer(schemas, path),
        "number" => numbers::number(schemas, path),
        "string" => match schemas.iter().find_map(|schema| embedded(schema)) {
            Some(content) => compiler.compile(Conjunction::of(content), path).map(Node::Embedded),
            None => text(schemas, path),
        },
        "array" => array(compiler, schemas, path),
        _ => object::node(compiler, schemas, &conjunction.forced, path).map(Node::Object),
    }
}

/// What a text holds that is JSON itself.
fn embedded(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    let kind = schema.get("contentMediaType").and_then(Value::as_str)?;
    (kind == "application/json").then(|| schema.get("contentSchema").into_iter().collect())
}

/// The values that `const` and `enum` leave; `None` where neither is used.
fn listed<'a>(schemas: Schemas<'_, 'a>) -> Option<Vec<&'a Value>> {
    let mut left: Option<Vec<&Value>> = None;
    for schema in schemas {
        let given: Vec<&Value> = match (schema.get("const"), schema.get("enum")) {
            (Some(value), _) => vec![value],
            (None, Some(Value::Array(values))) => values.iter().collect(),
            _ => continue,
        };
        left = Some(match left {
            None => given,
            Some(before) => before.into_iter().filter(|value| given.contains(value)).collect(),
        });
    }
    let types = types(schemas);
    left.map(|values| values.into_iter().filter(|value| has_type(value, &types)).collect())
}

fn has_type(value: &Value, types: &[&str]) -> bool {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => return types.contains(&"integer") || types.contains(&"number"),
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    types.contains(&name)
}

/// The types that all members allow. Where none says, what their keywords are about; where they
/// are about nothing, small values of any simple type.
fn types(schemas: Schemas<'_, '_>) -> Vec<&'static str> {
    let mut left: Option<Vec<&'static str>> = None;
    for schema in schemas {
        let named: Vec<&str> = match schema.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => continue,
        };
        let allowed =
            |name: &str| named.contains(&name) || (name == "integer" && named.contains(&"number"));
        let all = TYPES.into_iter().chain(["null"]);
        left = Some(match left {
            None => all.filter(|name| allowed(name)).collect(),
            Some(before) => before.into_iter().filter(|name| allowed(name)).collect(),
        });
    }
    match left {
        // A number's values include the integers; one type is enough to draw from.
        Some(mut names) => {
            if names.contains(&"number") {
                names.retain(|name| *name != "integer");
            }
            names
        }
        None => about(schemas),
    }
}

fn about(schemas: Schemas<'_, '_>) -> Vec<&'static str> {
    let uses = |keywords: &[&str]| {
        schemas.iter().any(|schema| keywords.iter().any(|keyword| schema.contains_key(*keyword)))
    };
    if schemas.iter().any(|schema| schema.contains_key("const") || schema.contains_key("enum")) {
        return TYPES.into_iter().chain(["null"]).collect();
    }
    if uses(&["properties", "required", "additionalProperties", "minProperties", "maxProperties"]) {
        vec!["object"]
    } else if uses(&["items", "prefixItems", "minItems", "maxItems", "uniqueItems"]) {
        vec!["array"]
    } else if uses(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) {
        vec!["number"]
    } else if uses(&["minLength", "maxLength", "pattern", "format"]) {
        vec!["string"]
    } else {
        vec!["string", "integer", "boolean", "null"]
    }
}

fn text(schemas: Schemas<'_, '_>, path: &str) -> Result<Node, SchemaError> {
    let min = largest(schemas, "minLength");
    let max = smallest(schemas, "maxLength");
    let bounds = || length_bounds(min.unwrap_or(1), max, SPARE_LETTERS - 1, path);
    let format = schemas.iter().find_map(|schema| {
        match (schema.get("format"), schema.get("contentEncoding")) {
            (_, Some(Value::String(name))) | (Some(Value::String(name)), _) => format(name),
            _ => None,
        }
    });
    let patterns: Vec<&str> =
        schemas.iter().filter_map(|schema| schema.get("pattern")?.as_str()).collect();
    if let Some(first) = patterns.first() {
        // Several that hold together (two layers of annotation) are drawn from only if they agree.
        let agree = patterns.iter().all(|pattern| pattern == first);
        let refused = || SchemaError::Keyword { path: path.into(), keyword: "pattern".into() };
        let compiled = Pattern::new(first, min.unwrap_or(0), max.unwrap_or(u64::MAX));
        return compiled
            .filter(|_| agree)
            .map(|pattern| Node::Patterned(Box::new(pattern)))
            .ok_or_else(refused);
    }
    match format {
        // A text of any form is at least 4 and at most 40 bytes long; lengths beyond that say
        // nothing new, as those of pydantic's URLs do.
        Some(format) if min.unwrap_or(0) <= 4 && max.unwrap_or(u64::MAX) >= 40 => {
            Ok(Node::Formatted(format))
        }
        Some(_) => Err(SchemaError::Keyword {
            path: path.into(),
            keyword: "a format together with a length".into(),
        }),
        None => {
            let (min, max) = match max {
                Some(0) if min.unwrap_or(0) == 0 => (0, 0),
                _ => bounds()?,
            };
            Ok(Node::Text { min, max })
        }
    }
}

fn format(name: &str) -> Option<Format> {
    Some(match name {
        "date-time" => Format::DateTime,
        "date" => Format::Date,
        "time" => Format::Time,
        "duration" => Format::Duration,
        "uuid" | "uuid1" | "uuid3" | "uuid4" | "uuid5" => Format::Uuid,
        "email" | "idn-email" => Format::Email,
        "hostname" | "idn-hostname" => Format::Hostname,
        "ipv4" | "ipvanyaddress" | "ipv4interface" | "ipvanyinterface" => Format::Ipv4,
        "ipv6" | "ipv6interface" => Format::Ipv6,
        "ipv4network" | "ipvanynetwork" => Format::Ipv4Network,
        "ipv6network" => Format::Ipv6Network,
        "uri" | "iri" | "multi-host-uri" => Format::Uri,
        "directory-path" => Format::Directory,
        "file-path" => Format::File,
        "base64" | "base64url" => Format::Base64,
        // Any other format is a note to the reader, as JSON Schema has it.
        _ => return None,
    })
}

fn array<'a>(
    compiler: &mut Compiler<'a>,
    schemas: Schemas<'_, 'a>,
    path: &str,
) -> Result<Node, SchemaError> {
    let mut prefix_schemas: Vec<Vec<&'a Value>> = Vec::new();
    for schema in schemas {
        if let Some(Value::Array(members)) = schema.get("prefixItems") {
            prefix_schemas.resize_with(prefix_schemas.len().max(members.len()), Vec::new);
        }
    }
    let mut rest_schemas = Vec::new();
    for schema in schemas {
        let members: &[Value] = match schema.get("prefixItems") {
            Some(Value::Array(members)) => members,
            _ => &[],
        };
        let items = schema.get("items");
        for (index, into) in prefix_schemas.iter_mut().enumerate() {
            into.extend(members.get(index).or(items));
        }
        rest_schemas.extend(items);
    }
    let mut prefix = Vec::new();
    for (index, schemas) in prefix_schemas.into_iter().enumerate() {
        let path = format!("{path}/prefixItems/{index}");
        prefix.push(compiler.compile(Conjunction::of(schemas), &path)?);
    }
    let min = largest(schemas, "minItems");
    let mut max = smallest(schemas, "maxItems");
    let rest = compiler.compile(Conjunction::of(rest_schemas), &format!("{path}/items"));
    // Without further elements an array ends where its prefix does.
    let rest = match rest {
        Ok(rest) => Some(rest),
        Err(error) if min.unwrap_or(0) > prefix.len() as u64 => return Err(error),
        Err(_) => {
            max = Some(max.unwrap_or(u64::MAX).min(prefix.len() as u64));
            None
        }
    };
    // A tuple is drawn whole.
    let whole = max.unwrap_or(u64::MAX).min(prefix.len() as u64);
    let fewest = min.unwrap_or(0).max(whole);
    let spare = if prefix.is_empty() { u64::from(SPARE_ELEMENTS) } else { 0 };
    let (min, max) = length_bounds(fewest, max, spare, path)?;
    let unique = schemas.iter().any(|schema| schema.get("uniqueItems") == Some(&Value::Bool(true)));
    Ok(Node::Array(Array { prefix: prefix.into(), rest, min, max, unique }))
}

/// Bounds on a length: from `min` to `max`, but no more than `spare` above the minimum.
fn length_bounds(
    min: u64,
    max: Option<u64>,
    spare: u64,
    path: &str,
) -> Result<(u32, u32), SchemaError> {
    let max = max.unwrap_or(u64::MAX).min(min.saturating_add(spare));
    if max < min {
        return Err(SchemaError::NoValue { path: path.into() });
    }
    if min > LENGTH_MAX {
        return Err(SchemaError::TooLarge { path: path.into() });
    }
    Ok((min as u32, max as u32))
}

fn refuse(schemas: Schemas<'_, '_>, keyword: &str, path: &str) -> Result<(), SchemaError> {
    if schemas.iter().any(|schema| schema.contains_key(keyword)) {
        return Err(SchemaError::Keyword { path: path.into(), keyword: keyword.into() });
    }
    Ok(())
}

/// The strictest lower bound.
pub(super) fn largest(schemas: Schemas<'_, '_>, keyword: &str) -> Option<u64> {
    schemas.iter().filter_map(|schema| schema.get(keyword)?.as_u64()).max()
}

/// The strictest upper bound.
pub(super) fn smallest(schemas: Schemas<'_, '_>, keyword: &str) -> Option<u64> {
    schemas.iter().filter_map(|schema| schema.get(keyword)?.as_u64()).min()
}
