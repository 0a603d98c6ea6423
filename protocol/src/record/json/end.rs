//! The end of an episode as JSON: a kind, a cause, and for a failure what else it says.

use std::time::Duration;

use serde::Deserialize;

use super::write::Object;
use crate::{SessionFate, record::End};

/// The twin of [`End`].
#[derive(Deserialize)]
pub(super) struct EndTwin {
    kind: String,
    cause: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    session_lost: bool,
    retry_after_ns: Option<u64>,
}

pub(super) fn write(out: &mut Vec<u8>, end: &End) {
    let mut object = Object::open(out);
    object.string("kind", end.name());
    object.string("cause", &end.cause());
    if let End::Failed(failure) = end {
        object.string("message", &failure.message);
        object.field("session_lost", &(failure.session == SessionFate::Lost));
        if let Some(wait) = failure.retry_after {
            let nanoseconds = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            object.field("retry_after_ns", &nanoseconds);
        }
    }
    object.close();
}

impl EndTwin {
    /// The end, or the text that is not known.
    pub(super) fn end(self) -> Result<End, String> {
        let Self { kind, cause, message, session_lost, retry_after_ns } = self;
        let retry_after = retry_after_ns.map(Duration::from_nanos);
        End::from_words(&kind, &cause, message, session_lost, retry_after)
            .ok_or_else(|| format!("{kind}: {cause}"))
    }
}
