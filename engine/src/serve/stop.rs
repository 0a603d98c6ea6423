//! How a service is told to end.

use std::sync::Arc;

use tokio::sync::watch;

/// A cloneable handle that asks a service to end: from a signal, from a test.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    /// A handle with which nobody has asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Whether somebody has.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until somebody does.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn asked(&self) {
        // It fails only when there is no sender left, and this is one.
        let _ = self.0.subscribe().wait_for(|is_asked| *is_asked).await;
    }
}
