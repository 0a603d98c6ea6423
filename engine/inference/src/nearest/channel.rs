//! The channel.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use envmill_protocol::PolicyVersion;
use tokio::runtime::Handle;

use crate::{
    Answer, Capabilities, Control, Error, ErrorKind, Generation, Inference, Load, Request,
    RequestId, VllmHttp,
};

use super::search::{Found, Way, search};

/// vLLM by the URL of its HTTP server, over the fastest channel that the server offers to the same engine
/// on this host: the shared memory of Envmill's plug-in ([`VllmMemory`](crate::VllmMemory)) where it has
/// that, else HTTP.
///
/// The server is asked by [`choose`](Self::choose), and again whenever it was lost: one that is started
/// again may offer something else. Whatever it offers is tried first, so that a socket which nobody answers,
/// or another vLLM does, costs a warning and nothing else.
#[derive(Clone)]
pub struct VllmNearest {
    inner: Arc<Inner>,
}

struct Inner {
    http: VllmHttp,
    runtime: Handle,
    used: Mutex<Used>,
    /// What was last set as its version, over whichever channel.
    version: AtomicU64,
}

/// What is used now.
struct Used {
    engine: Arc<dyn Inference>,
    way: Way,
    /// The server has said what it offers, and was not lost since.
    settled: bool,
}

impl VllmNearest {
    /// A channel that speaks HTTP until the server was asked. Its work is done on `runtime`.
    #[must_use]
    pub fn new(http: VllmHttp, runtime: Handle) -> Self {
        let used = Used {
            engine: Arc::new(http.clone()),
            way: Way::Http { instead: None },
            settled: false,
        };
        let version = AtomicU64::new(0);
        Self { inner: Arc::new(Inner { http, runtime, used: Mutex::new(used), version }) }
    }

    /// How the server is spoken with now.
    #[must_use]
    pub fn way(&self) -> Way {
        self.inner.used().way.clone()
    }

    /// Asks the server what it offers, and uses the fastest of it from now on. Where nobody answers, that is
    /// HTTP, until somebody does.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, it changes nothing.
    pub async fn choose(&self) -> Way {
        let Inner { http, runtime, .. } = &*self.inner;
        let (mut settled, url) = (true, http.link().url());
        let mut engine: Arc<dyn Inference> = Arc::new(http.clone());
        let version = PolicyVersion(self.inner.version.load(Ordering::Acquire));
        let way = match search(http.link(), runtime).await {
            Found::Memory(memory, socket) => {
                memory.is_at(version);
                engine = Arc::new(memory);
                Way::Memory { socket }
            }
            Found::Nothing => Way::Http { instead: None },
            Found::NotHere(why) => Way::Http { instead: Some(why) },
            Found::Broken(why) => {
                tracing::warn!("{url} offers a faster channel, which cannot be used: {why}");
                Way::Http { instead: Some(why) }
            }
            Found::Nobody(error) => {
                tracing::debug!("{url} does not say which channels it has yet: {error}");
                settled = false;
                Way::Http { instead: None }
            }
        };
        if !matches!(way, Way::Memory { .. }) {
            http.is_at(version);
        }
        if settled {
            tracing::info!("{url} is spoken with over {way}");
        }
        *self.inner.used() = Used { engine, way: way.clone(), settled };
        way
    }
}

impl Inner {
    fn used(&self) -> MutexGuard<'_, Used> {
        // Held for a look only.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> Arc<dyn Inference> {
        Arc::clone(&self.used().engine)
    }
}

impl Inference for VllmNearest {
    fn capabilities(&self) -> Capabilities {
        self.inner.engine().capabilities()
    }

    fn generate(&self, request: Request) -> Generation {
        self.inner.engine().generate(request)
    }

    fn abort(&self, requests: &[RequestId]) {
        // What is under way elsewhere was lost with that channel.
        self.inner.engine().abort(requests);
    }

    fn control(&self, control: Control) -> Answer<'_, ()> {
        Box::pin(async move {
            let set = match &control {
                Control::SetVersion(version) => Some(*version),
                _ => None,
            };
            self.inner.engine().control(control).await?;
            if let Some(PolicyVersion(version)) = set {
                self.inner.version.store(version, Ordering::Release);
            }
            Ok(())
        })
    }

    /// Asks how busy it is. A [`Pool`](crate::Pool) does each second, so that a server which was lost is
    /// found here to be back, or to have another channel.
    fn load(&self) -> Answer<'_, Option<Load>> {
        Box::pin(async move {
            let settled = self.inner.used().settled;
            if !settled {
                self.choose().await;
            }
            match self.inner.engine().load().await {
                Err(Error { kind: ErrorKind::Lost, .. }) if settled => {
                    self.choose().await;
                    self.inner.engine().load().await
                }
                load => load,
            }
        })
    }
}
