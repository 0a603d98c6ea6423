//! From a JSON Schema, as pydantic writes them, to the tree that is drawn from.
//!
//! A value must satisfy a *conjunction* of schemas: `$ref` and `allOf` add members to it, and
//! `anyOf` and `oneOf` turn it into alternatives. What is left is one list of plain constraints for
//! each alternative, which `leaf.rs` turns into a node.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{
    error::SchemaError,
    leaf,
    node::{Node, NodeId, Tree},
    numbers,
};

/// The most nodes a schema may come to. Far above any real one; bounds what a hostile server can
/// make of nested alternatives.
const NODES_MAX: usize = 20_000;
/// The most nested `$ref`, `allOf`, alternatives, properties and items.
const NESTING_MAX: usize = 200;

/// Compiles the schemas found in one document.
pub(super) struct Compiler<'a> {
    document: &'a Value,
    pub(super) tree: Tree,
    known: HashMap<Key, NodeId>,
    nesting: usize,
}

/// What identifies a conjunction: the addresses of its members and of the alternatives already
/// chosen from, and the properties that must be there.
type Key = (Vec<usize>, Vec<usize>, Vec<String>);

/// Schemas that hold together.
#[derive(Clone, Default)]
pub(super) struct Conjunction<'a> {
    pub(super) schemas: Vec<&'a Value>,
    chosen: Vec<usize>,
    /// Properties that are written though they may be left out: they tell alternatives apart.
    pub(super) forced: Vec<&'a str>,
}

impl<'a> Conjunction<'a> {
    pub(super) fn of(schemas: Vec<&'a Value>) -> Self {
        Self { schemas, ..Self::default() }
    }
}

impl<'a> Compiler<'a> {
    /// `document` is what `$ref` pointers are resolved in.
    pub(super) fn new(document: &'a Value) -> Self {
        Self { document, tree: Tree::default(), known: HashMap::new(), nesting: 0 }
    }

    pub(super) fn compile(
        &mut self,
        conjunction: Conjunction<'a>,
        path: &str,
    ) -> Result<NodeId, SchemaError> {
        let mut flat = Vec::new();
        for schema in &conjunction.schemas {
            self.flatten(schema, &mut flat, 0, path)?;
        }
        let key = key(&flat, &conjunction);
        if let Some(&id) = self.known.get(&key) {
            return Ok(id);
        }
        if self.tree.nodes.len() >= NODES_MAX || self.nesting >= NESTING_MAX {
            return Err(SchemaError::TooLarge { path: path.into() });
        }
        let id = self.add(Node::Never);
        self.known.insert(key, id);
        self.nesting += 1;
        let node = self.node(&flat, conjunction, path);
        self.nesting -= 1;
        self.tree.nodes[id.0 as usize] = node?;
        Ok(id)
    }

    pub(super) fn add(&mut self, node: Node) -> NodeId {
        self.tree.nodes.push(node);
        NodeId((self.tree.nodes.len() - 1) as u32)
    }

    fn node(
        &mut self,
        flat: &[&'a Map<String, Value>],
        conjunction: Conjunction<'a>,
        path: &str,
    ) -> Result<Node, SchemaError> {
        for schema in flat {
            for keyword in ["anyOf", "oneOf"] {
                if let Some(Value::Array(alternatives)) = schema.get(keyword)
                    && !conjunction.chosen.contains(&address(alternatives))
                {
                    let path = format!("{path}/{keyword}");
                    return self.alternatives(schema, alternatives, conjunction, &path);
                }
            }
        }
        leaf::node(self, flat, &conjunction, path)
    }

    /// One node for each alternative that can be drawn from. The alternatives of `oneOf` are taken
    /// to exclude each other, as those of discriminated unions do.
    fn alternatives(
        &mut self,
        schema: &'a Map<String, Value>,
        alternatives: &'a Vec<Value>,
        mut conjunction: Conjunction<'a>,
        path: &str,
    ) -> Result<Node, SchemaError> {
        conjunction.chosen.push(address(alternatives));
        conjunction.forced.extend(
            schema.get("discriminator").and_then(|d| d.get("propertyName")).and_then(Value::as_str),
        );
        let mut ids = Vec::new();
        let mut first_error = None;
        let decimal = is_decimal(alternatives);
        for (index, alternative) in alternatives.iter().enumerate() {
            if decimal && names_type(alternative, "string") {
                continue;
            }
            let mut with = conjunction.clone();
            with.schemas.push(alternative);
            match self.compile(with, &format!("{path}/{index}")) {
                Ok(id) if decimal => {
                    let node = match &self.tree.nodes[id.0 as usize] {
                        Node::Number(span) => numbers::plain(span),
                        _ => None,
                    };
                    ids.push(node.map_or(id, |node| self.add(node)));
                }
                Ok(id) => ids.push(id),
                Err(error @ SchemaError::TooLarge { .. }) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match (ids.len(), first_error) {
            (0, Some(error)) => Err(error),
            (0, None) => Err(SchemaError::NoValue { path: path.into() }),
            _ => Ok(Node::AnyOf { alternatives: ids.into(), shortest: 0 }),
        }
    }

    /// Follows `$ref` and `allOf` until only plain schemas are left.
    fn flatten(
        &self,
        schema: &'a Value,
        flat: &mut Vec<&'a Map<String, Value>>,
        nesting: usize,
        path: &str,
    ) -> Result<(), SchemaError> {
        if nesting > NESTING_MAX {
            return Err(SchemaError::TooLarge { path: path.into() });
        }
        let map = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Object(map) => map,
            _ => return Err(SchemaError::NoValue { path: path.into() }),
        };
        if flat.iter().any(|known| std::ptr::eq(*known, map)) {
            return Ok(());
        }
        flat.push(map);
        if let Some(reference) = map.get("$ref") {
            let target = reference.as_str().and_then(|text| self.resolve(text));
            let Some(target) = target else {
                return Err(SchemaError::Reference {
                    path: path.into(),
                    reference: reference.to_string(),
                });
            };
            self.flatten(target, flat, nesting + 1, path)?;
        }
        if let Some(Value::Array(all)) = map.get("allOf") {
            for (index, member) in all.iter().enumerate() {
                self.flatten(member, flat, nesting + 1, &format!("{path}/allOf/{index}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn resolve(&self, reference: &str) -> Option<&'a Value> {
        let pointer = reference.strip_prefix('#')?;
        self.document.pointer(pointer)
    }
}

fn key(flat: &[&Map<String, Value>], conjunction: &Conjunction<'_>) -> Key {
    let mut members: Vec<usize> = flat.iter().map(|map| std::ptr::from_ref(*map).addr()).collect();
    let mut chosen = conjunction.chosen.clone();
    let mut forced: Vec<String> = conjunction.forced.iter().map(|&name| name.into()).collect();
    members.sort_unstable();
    chosen.sort_unstable();
    forced.sort_unstable();
    (members, chosen, forced)
}

fn address(alternatives: &Vec<Value>) -> usize {
    std::ptr::from_ref(alternatives).addr()
}

fn names_type(schema: &Value, name: &str) -> bool {
    schema.get("type").and_then(Value::as_str) == Some(name)
}

/// Whether this is how pydantic describes a `Decimal`: a number, or the text of one, of which it
/// says at most a pattern. Such a text is no text to draw.
fn is_decimal(alternatives: &[Value]) -> bool {
    let count = |name| alternatives.iter().filter(|schema| names_type(schema, name)).count();
    let free_text = |schema: &Value| {
        let says_more =
            |key: &String| !matches!(key.as_str(), "type" | "pattern" | "title" | "description");
        schema.as_object().is_some_and(|schema| !schema.keys().any(says_more))
    };
    (count("number"), count("string")) == (1, 1)
        && count("null") + 2 == alternatives.len()
        && alternatives.iter().all(|schema| !names_type(schema, "string") || free_text(schema))
}
