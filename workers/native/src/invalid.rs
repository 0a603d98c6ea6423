//! What is wrong with an action, field by field.

use bytes::Bytes;
use envmill_protocol::{Failure, FailureKind};
use serde::Serialize;
use serde_json::value::RawValue;

/// The longest input echoed in an error, in bytes; longer ones are left out.
const INPUT_BYTES_MAX: usize = 256;

/// The most errors one answer lists.
const ERRORS_MAX: usize = 16;

/// One field that is wrong, in pydantic's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// pydantic's name of the error (`missing`, `int_type`, …).
    pub kind: &'static str,
    /// The path to the field; empty for the value as a whole.
    pub location: Vec<String>,
    /// What is expected, for people.
    pub message: String,
    /// The offending value's JSON text; empty where it is missing or too long to repeat.
    pub input: String,
}

/// Why an action or reset parameters were refused. Lists at most 16 errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invalid {
    errors: Vec<FieldError>,
}

impl Invalid {
    /// Notes one more wrong field.
    pub fn push(
        &mut self,
        kind: &'static str,
        field: &str,
        message: impl Into<String>,
        input: &str,
    ) {
        if self.errors.len() == ERRORS_MAX {
            return;
        }
        let input = if input.len() > INPUT_BYTES_MAX { "" } else { input };
        self.errors.push(FieldError {
            kind,
            location: Some(field.to_owned())
                .filter(|field| !field.is_empty())
                .into_iter()
                .collect(),
            message: message.into(),
            input: input.into(),
        });
    }

    /// The wrong fields.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// `Err(self)` if anything is wrong.
    ///
    /// # Errors
    ///
    /// Itself.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.errors.is_empty() { Ok(value) } else { Err(self) }
    }

    /// As a failure that keeps the session.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let message: Vec<String> = self
            .errors
            .iter()
            .map(|error| match &error.location[..] {
                [] => error.message.clone(),
                location => format!("{}: {}", location.join("."), error.message),
            })
            .collect();
        let mut failure = Failure::kept(FailureKind::Invalid, message.join("; "));
        failure.details = self.details();
        failure
    }

    /// The errors as a JSON array in pydantic's shape.
    fn details(&self) -> Bytes {
        let errors: Vec<Twin<'_>> = self.errors.iter().map(Twin::new).collect();
        serde_json::to_vec(&errors).unwrap_or_default().into()
    }
}

/// An error as it goes over the wire, its keys in pydantic's order.
#[derive(Serialize)]
struct Twin<'a> {
    r#type: &'static str,
    loc: &'a [String],
    msg: &'a str,
    input: &'a RawValue,
    url: String,
}

impl<'a> Twin<'a> {
    fn new(error: &'a FieldError) -> Self {
        Self {
            r#type: error.kind,
            loc: &error.location,
            msg: &error.message,
            input: serde_json::from_str(&error.input).unwrap_or(RawValue::NULL),
            url: format!("https://errors.pydantic.dev/2.14/v/{}", error.kind),
        }
    }
}
