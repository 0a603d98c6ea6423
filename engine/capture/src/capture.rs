//! The endpoint.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
    time::{Duration, Instant, UNIX_EPOCH},
};

use axum::Router;
use envmill_chat::Model;
use envmill_inference::Inference;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{
    CaptureOptions, Captured, Key, chats::Chats, episode::Episode, key::Digest, routes, server,
};

/// Why harnesses cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The inference engine is asked in text.
    #[error(
        "this channel to an inference engine does not speak token ids, which is what is recorded"
    )]
    Text,
    /// The model has no template, or one that does not parse.
    #[error("the model cannot be talked to: {0}")]
    Chat(String),
}

/// Why no episode was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// As many are open as may be.
    #[error("{0} episodes are open, which is the limit (open_episodes): close one first")]
    Full(usize),
    /// The operating system gives no random bits.
    #[error("no random bits for a key: {0}")]
    Random(String),
}

/// An endpoint that captures harnesses. Clones are the same one.
#[derive(Clone)]
pub struct Capture(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) model: Arc<Model>,
    pub(crate) engine: Arc<dyn Inference>,
    pub(crate) options: Arc<CaptureOptions>,
    pub(crate) chats: Chats,
    /// As many calls are rendered and tokenised at once as there are processors.
    pub(crate) preparing: Arc<Semaphore>,
    /// Seconds since 1970.
    pub(crate) started: u64,
    episodes: Mutex<HashMap<Digest, Arc<Episode>>>,
}

impl Capture {
    /// An endpoint in front of an inference engine that samples from this model.
    ///
    /// # Errors
    ///
    /// If the engine does not speak token ids, or the model has no template that can be used.
    pub fn new(
        model: Arc<Model>,
        engine: Arc<dyn Inference>,
        options: CaptureOptions,
    ) -> Result<Self, CaptureError> {
        if !engine.capabilities().token_ids {
            return Err(CaptureError::Text);
        }
        let chats = Chats::new(Arc::clone(&model), options.chat(), options.limits.tool_sets);
        chats.of(None, None).map_err(|refusal| CaptureError::Chat(refusal.message))?;
        Ok(Self(Arc::new(Inner {
            model,
            engine,
            options: Arc::new(options),
            chats,
            preparing: Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))),
            started: UNIX_EPOCH.elapsed().map_or(0, |it| it.as_secs()),
            episodes: Mutex::default(),
        })))
    }

    /// Opens an episode, whose harness uses the key as its API key. After `limit` no calls are taken any
    /// more, and those under way end; what was captured is kept until [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// If too many episodes are open.
    pub fn open(&self, limit: Option<Duration>) -> Result<Key, OpenError> {
        let key = Key::random().map_err(|error| OpenError::Random(error.to_string()))?;
        let digest = Key::digest(key.as_str());
        let mut affinity = [0; 8];
        affinity.copy_from_slice(&digest[..8]);
        let deadline = limit.and_then(|it| Instant::now().checked_add(it));
        let limits = self.0.options.limits.clone();
        let episode = Episode::new(deadline, u64::from_le_bytes(affinity), limits);
        let mut episodes = self.0.episodes();
        if episodes.len() >= self.0.options.limits.open_episodes {
            return Err(OpenError::Full(episodes.len()));
        }
        episodes.insert(digest, Arc::new(episode));
        Ok(key)
    }

    /// Ends an episode: its key is worth nothing from here on, calls under way end, and what the harness
    /// did is given. `None`: it is closed already.
    #[must_use]
    pub fn close(&self, key: &Key) -> Option<Captured> {
        let episode = self.0.episodes().remove(&Key::digest(key.as_str()))?;
        let (captured, running) = episode.close();
        self.0.engine.abort(&running);
        Some(captured)
    }

    /// How many episodes are open.
    #[must_use]
    pub fn episodes(&self) -> usize {
        self.0.episodes().len()
    }

    /// Bytes that what is captured of an open episode takes in memory; `None`: it is closed.
    #[must_use]
    pub fn bytes(&self, key: &Key) -> Option<usize> {
        let episode = self.0.episodes().get(&Key::digest(key.as_str())).cloned()?;
        Some(episode.bytes())
    }

    /// The endpoint's routes, for a server of one's own.
    pub fn router(&self) -> Router {
        routes::router(Arc::clone(&self.0))
    }

    /// Serves harnesses until `shutdown` is ready; then their connections are cut.
    ///
    /// # Errors
    ///
    /// None by now: what single connections do wrong is never an error here.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        server::serve(listener, self.router(), &self.0.options.limits, shutdown).await;
        Ok(())
    }
}

impl Inner {
    fn episodes(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Episode>>> {
        self.episodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open episode of a key.
    pub(crate) fn episode(&self, key: &str) -> Option<Arc<Episode>> {
        let episode = self.episodes().get(&Key::digest(key)).cloned()?;
        episode.deadline.is_none_or(|it| Instant::now() < it).then_some(episode)
    }
}
