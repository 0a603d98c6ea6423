//! The sampler tree: what is left of a schema once it has been compiled for drawing.

use super::pattern::Pattern;

/// A node's place in [`Tree::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(pub(super) u32);

/// Compiled from one schema; may have cycles where the schema has.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    /// How many levels the smallest value of each node has; [`ENDLESS`] where there is none.
    pub(super) heights: Vec<u32>,
}

/// The height of what cannot be drawn in finite size.
pub(super) const ENDLESS: u32 = u32::MAX;

#[derive(Debug)]
pub(super) enum Node {
    /// Nothing can be drawn (a part that did not compile, and the place of one that is about to).
    Never,
    /// Always this text.
    Literal(Box<[u8]>),
    /// One of these texts.
    Choice(Box<[Box<[u8]>]>),
    /// `low + k * step` for `k` in `0..count`; `bounded` if the schema said both ends.
    Integer {
        low: i64,
        step: u64,
        count: u64,
        bounded: bool,
    },
    Number(Span),
    /// `k * of`, rounded to the digits that `of` has, for `k` in `low..low + count`.
    Multiple {
        of: f64,
        decimals: u32,
        low: i64,
        count: u64,
        bounded: bool,
    },
    Boolean,
    /// Lower-case letters, this many at least and at most.
    Text {
        min: u32,
        max: u32,
    },
    Formatted(Format),
    /// A text that matches a pattern.
    Patterned(Box<Pattern>),
    /// A text that is the JSON of this.
    Embedded(NodeId),
    Array(Array),
    Object(Object),
    /// One of these, and the one to take where depth must end.
    AnyOf {
        alternatives: Box<[NodeId]>,
        shortest: usize,
    },
}

/// An interval of numbers.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) low: f64,
    pub(super) high: f64,
    /// Whether the ends themselves are out of bounds.
    pub(super) open: (bool, bool),
    /// Whether the schema said both ends.
    pub(super) bounded: bool,
}

/// Strings of a certain form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    DateTime,
    Date,
    Time,
    Duration,
    Uuid,
    Email,
    Hostname,
    Ipv4,
    Ipv6,
    Ipv4Network,
    Ipv6Network,
    Uri,
    Directory,
    File,
    Base64,
}

#[derive(Debug)]
pub(super) struct Array {
    /// The first elements, each by its own schema.
    pub(super) prefix: Box<[NodeId]>,
    /// All further elements.
    pub(super) rest: Option<NodeId>,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) unique: bool,
}

#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) fields: Box<[Field]>,
    pub(super) extra: Option<Extra>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    /// The name as JSON, with its colon.
    pub(super) key: Box<[u8]>,
    pub(super) node: NodeId,
    pub(super) presence: Presence,
}

/// How often a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Always,
    /// Every other time.
    Sometimes,
    /// Left to the environment's default; known, so that a legal action can fill it.
    Never,
}

/// Keys that no property names.
#[derive(Debug)]
pub(super) struct Extra {
    pub(super) keys: Keys,
    pub(super) node: NodeId,
    pub(super) min: u32,
    pub(super) max: u32,
}

/// What the keys of a dictionary are.
#[derive(Debug)]
pub(super) enum Keys {
    /// The digits from 0 on: whatever a key is in the environment, these are among it.
    Digits,
    /// These, as JSON with their colons.
    Listed(Box<[Box<[u8]>]>),
    /// Drawn from a node that gives texts.
    Drawn(NodeId),
}

impl Tree {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(super) fn height(&self, id: NodeId) -> u32 {
        self.heights[id.0 as usize]
    }

    /// Finishes a compiled tree: measures heights, and leaves to their defaults the optional fields
    /// whose values the schema does not bound.
    pub(super) fn finish(&mut self) {
        let bounded = self.bounded();
        for node in &mut self.nodes {
            if let Node::Object(object) = node {
                for field in &mut object.fields {
                    if field.presence == Presence::Sometimes && !bounded[field.node.0 as usize] {
                        field.presence = Presence::Never;
                    }
                }
            }
        }
        self.measure();
        for index in 0..self.nodes.len() {
            if let Node::AnyOf { alternatives, .. } = &self.nodes[index] {
                let best = (0..alternatives.len()).min_by_key(|&i| self.height(alternatives[i]));
                if let Node::AnyOf { shortest, .. } = &mut self.nodes[index] {
                    *shortest = best.unwrap_or(0);
                }
            }
        }
    }

    /// Which nodes have values that the schema itself keeps within bounds. The largest solution:
    /// recursion alone makes nothing unbounded, since depth is limited.
    fn bounded(&self) -> Vec<bool> {
        let mut bounded = vec![true; self.nodes.len()];
        loop {
            let mut changed = false;
            for (index, node) in self.nodes.iter().enumerate() {
                let is = |id: &NodeId| bounded[id.0 as usize];
                let now = match node {
                    Node::Never
                    | Node::Text { .. }
                    | Node::Formatted(_)
                    | Node::Patterned(_)
                    | Node::Embedded(_) => false,
                    Node::Literal(_) | Node::Choice(_) | Node::Boolean => true,
                    Node::Integer { bounded, .. } | Node::Multiple { bounded, .. } => *bounded,
                    Node::Number(span) => span.bounded,
                    Node::Array(array) => array.prefix.iter().chain(&array.rest).all(is),
                    Node::Object(object) => {
                        object.extra.as_ref().is_none_or(|extra| extra.max == 0)
                            && object
                                .fields
                                .iter()
                                .filter(|field| field.presence == Presence::Always)
                                .all(|field| is(&field.node))
                    }
                    Node::AnyOf { alternatives, .. } => alternatives.iter().all(is),
                };
                if !now && bounded[index] {
                    bounded[index] = false;
                    changed = true;
                }
            }
            if !changed {
                return bounded;
            }
        }
    }

    fn measure(&mut self) {
        self.heights = vec![ENDLESS; self.nodes.len()];
        loop {
            let mut changed = false;
            for index in 0..self.nodes.len() {
                let height = self.height_now(&self.nodes[index]);
                if height < self.heights[index] {
                    self.heights[index] = height;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn height_now(&self, node: &Node) -> u32 {
        let tallest = |ids: &mut dyn Iterator<Item = NodeId>| {
            ids.map(|id| self.height(id)).max().unwrap_or(0).saturating_add(1)
        };
        match node {
            Node::Never => ENDLESS,
            Node::Literal(_)
            | Node::Choice(_)
            | Node::Integer { .. }
            | Node::Number(_)
            | Node::Multiple { .. }
            | Node::Boolean
            | Node::Text { .. }
            | Node::Formatted(_)
            | Node::Patterned(_) => 1,
            Node::Embedded(id) => self.height(*id).saturating_add(1),
            Node::Array(array) => {
                let fixed = array.prefix.len().min(array.min as usize);
                let rest = array.rest.filter(|_| array.min as usize > fixed);
                tallest(&mut array.prefix[..fixed].iter().copied().chain(rest))
            }
            Node::Object(object) => {
                let fields = object.fields.iter().filter(|f| f.presence == Presence::Always);
                let extra = object.extra.as_ref().filter(|extra| extra.min > 0);
                tallest(&mut fields.map(|f| f.node).chain(extra.map(|extra| extra.node)))
            }
            Node::AnyOf { alternatives, .. } => alternatives
                .iter()
                .map(|&id| self.height(id))
                .min()
                .unwrap_or(ENDLESS)
                .saturating_add(1),
        }
    }
}
