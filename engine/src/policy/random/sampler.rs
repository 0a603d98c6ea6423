//! One environment's actions.

use bytes::{Bytes, BytesMut};
use envmill_openenv::Tool;
use envmill_protocol::PolicyError;
use serde_json::{Value, value::RawValue};

use super::{
    compile::{Compiler, Conjunction},
    draw::{Drawing, TooFewValues, separate},
    error::SchemaError,
    legal::{LegalActions, Placed, place},
    node::{Node, NodeId, Object, Presence, Tree},
    rng::Rng,
    tools,
};

/// Where an environment has this few actions in all, each is rendered once and then only counted
/// as shared.
const SHARED_ACTIONS_MAX: usize = 256;
/// Actions are cut from chunks of this many bytes: one allocation for hundreds of small actions.
/// An action kept in a record keeps its chunk.
const CHUNK_BYTES: usize = 4096;

/// Draws actions that an action schema allows.
///
/// Budget: 0.3 µs for an action of a few fields, no allocation for one of a few that there are.
#[derive(Debug)]
pub struct Sampler {
    tree: Tree,
    root: NodeId,
    /// The objects that an action can be.
    objects: Vec<NodeId>,
    /// Every action there is, if they are few and equally likely.
    all: Vec<Bytes>,
    legal: LegalActions,
    scratch: Vec<u8>,
    chunk: BytesMut,
}

impl Sampler {
    /// Compiles the text of one JSON Schema (draft 2020-12 as pydantic writes it).
    ///
    /// # Errors
    ///
    /// [`SchemaError`] names the place in the schema that nothing can be drawn from, and the remedy.
    pub fn compile(schema: &[u8]) -> Result<Self, SchemaError> {
        Self::of_document(&parse(schema)?)
    }

    /// Compiles an action schema whose actions may call `tools`. Where there is no tool whose
    /// arguments can be drawn, what the schema itself allows is drawn.
    ///
    /// # Errors
    ///
    /// As for [`compile`](Self::compile).
    pub fn compile_with_tools(schema: &[u8], tools: &[Tool]) -> Result<Self, SchemaError> {
        let document = parse(schema)?;
        match tools::with_tools(&document, tools) {
            Some(with_tools) => Self::of_document(&with_tools),
            None => Self::of_document(&document),
        }
    }

    /// Whether the actions of this schema may be calls of tools, so that it is worth asking for
    /// these.
    #[must_use]
    pub fn takes_tools(schema: &[u8]) -> bool {
        parse(schema).is_ok_and(|document| tools::takes_tools(&document))
    }

    /// Whether an action of this schema is never a call of a tool, so that tools, where the environment has
    /// some, are called beside its actions.
    #[must_use]
    pub fn has_tools_beside(schema: &[u8]) -> bool {
        parse(schema).is_ok_and(|document| tools::are_beside(&document))
    }

    fn of_document(document: &Value) -> Result<Self, SchemaError> {
        let mut compiler = Compiler::new(document);
        let root = compiler.compile(Conjunction::of(vec![document]), "")?;
        let mut tree = compiler.tree;
        let mut objects = Vec::new();
        collect_objects(&tree, root, &mut objects);
        for &id in &objects {
            if let Node::Object(object) = &mut tree.nodes[id.0 as usize] {
                drop_metadata(object);
            }
        }
        tree.finish();
        if objects.is_empty() || !is_object(&tree, root, 0) {
            return Err(SchemaError::NotAnObject);
        }
        if tree.height(root) == super::node::ENDLESS {
            return Err(SchemaError::NoValue { path: String::new() });
        }
        let all = all(&tree, root).unwrap_or_default();
        Ok(Self {
            tree,
            root,
            objects,
            all,
            legal: LegalActions::new(),
            scratch: Vec::new(),
            chunk: BytesMut::new(),
        })
    }

    /// An action for one turn: the text of one JSON object. `observation` is the text of what the
    /// environment showed last.
    ///
    /// # Errors
    ///
    /// Says why the schema or the legal actions give none.
    pub fn draw(&mut self, seed: u64, step: u32, observation: &[u8]) -> Result<Bytes, PolicyError> {
        let mut rng = Rng::for_turn(seed, step);
        let listed = self.legal.listed(observation);
        if !listed.is_empty() {
            let legal = listed[rng.index(listed.len())];
            return self.complete(legal, &mut rng);
        }
        if !self.all.is_empty() {
            return Ok(self.all[rng.index(self.all.len())].clone());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let drawn = Drawing { tree: &self.tree, rng: &mut rng }.root(self.root, &mut scratch);
        let action = self.cut(&scratch);
        self.scratch = scratch;
        drawn.map_err(too_few).map(|()| action)
    }

    /// The action that a legal one stands for.
    fn complete(&mut self, legal: &RawValue, rng: &mut Rng) -> Result<Bytes, PolicyError> {
        let legal = legal.get().trim();
        let (object, given, mut text) = match place(&self.tree, &self.objects, legal)? {
            Placed::Whole => return Ok(Bytes::copy_from_slice(legal.as_bytes())),
            Placed::Members(object, names) => {
                let open = legal.strip_suffix('}').unwrap_or(legal).trim_end();
                (object, names, open.as_bytes().to_vec())
            }
            Placed::Field(object, field) => {
                let text = [b"{", &*field.key, legal.as_bytes()].concat();
                (object, vec![field.name.to_string()], text)
            }
        };
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let depth = self.tree.height(self.root).saturating_add(1);
        Drawing { tree: &self.tree, rng }
            .fields(object, depth, &given, &mut text)
            .map_err(too_few)?;
        text.push(b'}');
        Ok(Bytes::from(text))
    }

    fn cut(&mut self, text: &[u8]) -> Bytes {
        if text.len() >= CHUNK_BYTES {
            return Bytes::copy_from_slice(text);
        }
        if self.chunk.capacity() < text.len() {
            self.chunk = BytesMut::with_capacity(CHUNK_BYTES);
        }
        self.chunk.extend_from_slice(text);
        self.chunk.split().freeze()
    }
}

fn parse(schema: &[u8]) -> Result<Value, SchemaError> {
    serde_json::from_slice(schema).map_err(|error| SchemaError::Json(error.to_string()))
}

fn too_few(_: TooFewValues) -> PolicyError {
    PolicyError::new(
        "a set in the action schema asks for more different elements than could be drawn; \
         give an action with --policy 'constant:{...}'",
    )
}

/// Every OpenEnv action has free-form `metadata`, which means nothing to the environment.
fn drop_metadata(object: &mut Object) {
    let mut fields = std::mem::take(&mut object.fields).into_vec();
    fields.retain(|field| &*field.name != "metadata" || field.presence == Presence::Always);
    object.fields = fields.into();
}

fn collect_objects(tree: &Tree, id: NodeId, objects: &mut Vec<NodeId>) {
    match tree.node(id) {
        Node::Object(_) if !objects.contains(&id) => objects.push(id),
        Node::AnyOf { alternatives, .. } if objects.len() < NESTED_MAX => {
            for &alternative in alternatives {
                if alternative != id {
                    collect_objects(tree, alternative, objects);
                }
            }
        }
        _ => {}
    }
}

/// Whether nothing but objects can be drawn.
fn is_object(tree: &Tree, id: NodeId, depth: usize) -> bool {
    match tree.node(id) {
        Node::Object(_) => true,
        Node::Literal(text) => text.starts_with(b"{"),
        Node::Choice(texts) => texts.iter().all(|text| text.starts_with(b"{")),
        Node::AnyOf { alternatives, .. } => {
            depth < NESTED_MAX && alternatives.iter().all(|&id| is_object(tree, id, depth + 1))
        }
        _ => false,
    }
}

/// Unions of unions, at most this deep.
const NESTED_MAX: usize = 64;

/// Every action, each as likely as the others; `None` where they are many or not equally likely.
fn all(tree: &Tree, root: NodeId) -> Option<Vec<Bytes>> {
    let Node::Object(object) = tree.node(root) else { return None };
    if object.extra.is_some() {
        return None;
    }
    let mut texts = vec![b"{".to_vec()];
    for field in &object.fields {
        let values = match field.presence {
            Presence::Never => continue,
            Presence::Sometimes => return None,
            Presence::Always => values(tree.node(field.node))?,
        };
        if texts.len() * values.len() > SHARED_ACTIONS_MAX {
            return None;
        }
        texts = texts
            .iter()
            .flat_map(|text| values.iter().map(move |value| (text, value)))
            .map(|(text, value)| {
                let mut text = text.clone();
                separate(&mut text);
                text.extend_from_slice(&field.key);
                text.extend_from_slice(value);
                text
            })
            .collect();
    }
    Some(texts.into_iter().map(|text| Bytes::from([&text[..], b"}"].concat())).collect())
}

fn values(node: &Node) -> Option<Vec<Vec<u8>>> {
    match node {
        Node::Literal(text) => Some(vec![text.to_vec()]),
        Node::Choice(texts) => Some(texts.iter().map(|text| text.to_vec()).collect()),
        Node::Boolean => Some(vec![b"false".to_vec(), b"true".to_vec()]),
        Node::Integer { low, step, count, .. } if *count <= SHARED_ACTIONS_MAX as u64 => Some(
            (0..*count)
                .map(|k| low.wrapping_add_unsigned(k * step).to_string().into_bytes())
                .collect(),
        ),
        _ => None,
    }
}
