//! Why a schema cannot be drawn from.

/// The random policy cannot draw actions from an environment's schema. Every variant names the
/// place in the schema; the remedy is another policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The schema is not JSON.
    #[error("the action schema is not JSON ({0}); {REMEDY}")]
    Json(String),
    /// A keyword that nothing can be drawn from.
    #[error(
        "the random policy cannot draw from `{keyword}`, used by the action schema at `{path}`; \
         {REMEDY}"
    )]
    Keyword {
        /// Where, as a JSON pointer.
        path: String,
        /// Which.
        keyword: String,
    },
    /// A reference that leads nowhere within the document.
    #[error(
        "the action schema refers to {reference} at `{path}`, which it does not hold; {REMEDY}"
    )]
    Reference {
        /// Where, as a JSON pointer.
        path: String,
        /// What it refers to.
        reference: String,
    },
    /// No value satisfies this part, or only endless ones.
    #[error("no value of finite size satisfies the action schema at `{path}`; {REMEDY}")]
    NoValue {
        /// Where, as a JSON pointer.
        path: String,
    },
    /// Actions are objects in OpenEnv.
    #[error(
        "the action schema does not describe a JSON object, as OpenEnv's actions are; {REMEDY}"
    )]
    NotAnObject,
    /// The schema is larger or more deeply nested than any real one.
    #[error("the action schema is too large or too deeply nested at `{path}`; {REMEDY}")]
    TooLarge {
        /// Where, as a JSON pointer.
        path: String,
    },
}

const REMEDY: &str = "give an action with --policy 'constant:{...}'";
