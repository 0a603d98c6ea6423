//! A generation under way.

use tokio::{runtime::Handle, sync::mpsc};

use crate::{Chunk, Error, Outcome};

/// A generation under way: its chunks as they come. Dropping it aborts the generation.
pub struct Generation {
    chunks: mpsc::UnboundedReceiver<Result<Chunk, Error>>,
    /// Called on drop, if the generation has not ended by then.
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

/// The channel's end of a [`Generation`].
#[derive(Clone, Debug)]
pub struct Feed(mpsc::UnboundedSender<Result<Chunk, Error>>);

impl Generation {
    /// A generation, and the end that feeds it. A channel that needs to be told of an abort waits for
    /// [`Feed::dropped`], or gives a function with [`on_drop`](Self::on_drop).
    ///
    /// What lies between is bounded by the request: no more tokens than were asked for.
    #[must_use]
    pub fn new() -> (Feed, Self) {
        let (sender, chunks) = mpsc::unbounded_channel();
        (Feed(sender), Self { chunks, on_drop: None })
    }

    /// One that `play` feeds on a runtime, until its end or until nobody wants it any more: then the future is
    /// dropped where it stands.
    pub(crate) fn played<F>(runtime: &Handle, play: impl FnOnce(Feed) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (feed, generation) = Self::new();
        runtime.spawn(async move {
            tokio::select! {
                () = feed.dropped() => {}
                result = play(feed.clone()) => if let Err(error) = result {
                    feed.fail(error);
                },
            }
        });
        generation
    }

    /// One that has failed before it began.
    #[must_use]
    pub fn failed(error: Error) -> Self {
        let (feed, generation) = Self::new();
        feed.fail(error);
        generation
    }

    /// `told` is called when this is dropped before its end.
    #[must_use]
    pub fn on_drop(mut self, told: impl FnOnce() + Send + 'static) -> Self {
        self.on_drop = Some(Box::new(told));
        self
    }

    /// The next chunk; `None` after the last, and after an error.
    ///
    /// # Cancel safety
    ///
    /// No chunk is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        let chunk = self.chunks.recv().await;
        if chunk.as_ref().is_none_or(|it| it.as_ref().map_or(true, |it| it.finished.is_some())) {
            self.on_drop = None;
        }
        chunk
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// What ended the generation, if not the engine's own word. What was sampled before is lost then; use
    /// [`next`](Self::next) to keep it.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future aborts the generation.
    pub async fn whole(mut self) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        while let Some(chunk) = self.next().await {
            if outcome.push(chunk?)? {
                return Ok(outcome);
            }
        }
        Err(Error::new(crate::ErrorKind::Lost, "the generation has no end"))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if let Some(told) = self.on_drop.take() {
            told();
        }
    }
}

impl Feed {
    /// A chunk. Nobody may be there any more; then it goes nowhere.
    pub fn chunk(&self, chunk: Chunk) {
        // The receiver's end was dropped: the generation is aborted, and nobody misses the chunk.
        let _ = self.0.send(Ok(chunk));
    }

    /// The end of the generation, by an error.
    pub fn fail(&self, error: Error) {
        // As above.
        let _ = self.0.send(Err(error));
    }

    /// Waits until nobody wants the generation any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn dropped(&self) {
        self.0.closed().await;
    }

    /// Nobody wants the generation any more.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.0.is_closed()
    }
}
