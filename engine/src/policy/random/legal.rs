//! Actions that the observation itself lists as legal.

use std::collections::BTreeMap;

use envmill_protocol::PolicyError;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::node::{Field, Node, NodeId, Object, Presence, Tree};

/// Where several fields could take a legal action, the one with the first of these names does.
const USUAL_NAMES: [&str; 3] = ["action", "action_id", "move"];

/// Finds lists of legal actions.
#[derive(Debug)]
pub(super) struct LegalActions {
    key: Finder<'static>,
}

#[derive(Deserialize)]
struct Listing<'a> {
    #[serde(borrow)]
    legal_actions: Vec<&'a RawValue>,
}

impl LegalActions {
    pub(super) fn new() -> Self {
        Self { key: Finder::new(b"\"legal_actions\"") }
    }

    /// The list `legal_actions` at the top of the observation. The text is searched before it is
    /// parsed, so environments without such a list pay for one scan.
    pub(super) fn listed<'a>(&self, observation: &'a [u8]) -> Vec<&'a RawValue> {
        if self.key.find(observation).is_none() {
            return Vec::new();
        }
        serde_json::from_slice::<Listing<'_>>(observation)
            .map_or_else(|_| Vec::new(), |listing| listing.legal_actions)
    }
}

/// What a legal action says about the action to take.
pub(super) enum Placed<'t> {
    /// It holds these fields of the object; the others are drawn.
    Members(&'t Object, Vec<String>),
    /// It is the value of this field; the others are drawn.
    Field(&'t Object, &'t Field),
    /// It is the action.
    Whole,
}

/// Finds the place of a legal action among the objects that an action can be.
pub(super) fn place<'t>(
    tree: &'t Tree,
    objects: &[NodeId],
    legal: &str,
) -> Result<Placed<'t>, PolicyError> {
    let members: Option<Vec<String>> =
        serde_json::from_str::<BTreeMap<String, serde::de::IgnoredAny>>(legal)
            .ok()
            .map(|members| members.into_keys().collect());
    let objects = || {
        objects.iter().filter_map(|&id| match tree.node(id) {
            Node::Object(object) => Some(object),
            _ => None,
        })
    };
    if let Some(members) = members {
        let holds = |object: &Object| {
            members.iter().all(|name| object.fields.iter().any(|field| *field.name == **name))
        };
        if let Some(object) = objects().find(|object| holds(object)) {
            return Ok(Placed::Members(object, members));
        }
        return Ok(objects()
            .find_map(|object| Some(Placed::Field(object, takes(tree, object, legal)?)))
            .unwrap_or(Placed::Whole));
    }
    objects()
        .find_map(|object| Some(Placed::Field(object, takes(tree, object, legal)?)))
        .ok_or_else(|| {
            PolicyError::new(format!(
                "the observation lists legal actions such as {}, but no single field of the action \
                 takes them; give an action with --policy 'constant:{{...}}'",
                legal.chars().take(40).collect::<String>()
            ))
        })
}

/// The field that takes the value: the only one that must be written and fits, else the only one
/// that may be, else the one with a usual name.
fn takes<'t>(tree: &'t Tree, object: &'t Object, value: &str) -> Option<&'t Field> {
    let fitting = |always: bool| -> Vec<&Field> {
        object
            .fields
            .iter()
            .filter(|field| (field.presence == Presence::Always) == always)
            .filter(|field| fits(tree, field.node, value, 0))
            .collect()
    };
    let mut candidates = fitting(true);
    if candidates.is_empty() {
        candidates = fitting(false);
    }
    match candidates[..] {
        [only] => Some(only),
        _ => USUAL_NAMES
            .iter()
            .find_map(|usual| candidates.iter().find(|field| *field.name == **usual).copied()),
    }
}

fn fits(tree: &Tree, id: NodeId, value: &str, depth: u32) -> bool {
    const DEPTH_MAX: u32 = 16;
    let first = value.as_bytes().first().copied().unwrap_or_default();
    let is_number = first == b'-' || first.is_ascii_digit();
    match tree.node(id) {
        Node::Never => false,
        Node::Literal(text) => **text == *value.as_bytes(),
        Node::Choice(texts) => texts.iter().any(|text| **text == *value.as_bytes()),
        Node::Integer { low, step, count, bounded } => match value.parse::<i64>() {
            Ok(value) if *bounded => {
                let offset = i128::from(value) - i128::from(*low);
                offset >= 0
                    && offset % i128::from(*step) == 0
                    && offset / i128::from(*step) < i128::from(*count)
            }
            Ok(_) => true,
            Err(_) => false,
        },
        Node::Number(_) | Node::Multiple { .. } => is_number,
        Node::Boolean => matches!(value, "true" | "false"),
        Node::Text { .. } | Node::Formatted(_) | Node::Patterned(_) | Node::Embedded(_) => {
            first == b'"'
        }
        Node::Array(_) => first == b'[',
        Node::Object(_) => first == b'{',
        Node::AnyOf { alternatives, .. } => {
            depth < DEPTH_MAX && alternatives.iter().any(|&id| fits(tree, id, value, depth + 1))
        }
    }
}
