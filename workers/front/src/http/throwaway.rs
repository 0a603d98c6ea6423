//! Environments that are made for one request and thrown away after it.

use std::sync::Arc;

use axum::{http::StatusCode, response::Response};
use envmill_protocol::{FailureKind, Outcome, Request};

use super::{
    Routes,
    answer::{detail, plain},
};

impl Routes {
    /// One request to a fresh environment; `None` if the front is closing. Waits while as many are
    /// there as may.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the environment is closed when what it does is done.
    pub(super) async fn ask_fresh(&self, request: Request) -> Option<Outcome> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        let hold = self.surroundings.hub.open_uncounted(permit);
        match hold.answer().await? {
            Outcome::Opened => {}
            outcome => return Some(outcome),
        }
        hold.ask(request);
        hold.answer().await
    }
}

/// The answer where an environment gave none.
pub(super) fn failed(outcome: Option<&Outcome>) -> Response {
    match outcome {
        Some(Outcome::Failed(failure)) if failure.kind == FailureKind::Capacity => {
            detail(StatusCode::SERVICE_UNAVAILABLE, &failure.message)
        }
        Some(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        None => plain(StatusCode::SERVICE_UNAVAILABLE, "Shutting down"),
    }
}
