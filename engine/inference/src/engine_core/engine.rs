//! The channel itself.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    sync::Arc,
};

use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};

use super::{
    EngineCoreOptions,
    calls::Calls,
    handshake,
    life::Phase,
    link::{self, Link},
    sockets::Folder,
    state::Shared,
};
use crate::{
    Answer, Capabilities, Control, Error, ErrorKind, Generation, Inference, Load, Request,
    RequestId, TOP_LOGPROBS_MAX,
};

/// A channel to a vLLM on the same machine that skips its frontend and speaks to its core.
///
/// The engine dials in: bind first, then start it with `--headless` and
/// [`handshake_address`](Self::handshake_address), then wait until it is [`ready`](Self::ready). An engine
/// that dies is lost with all that was under way; one that is started again at the same address is taken
/// up again. An engine that outlives this process is taken up by the next that binds the same folder.
///
/// ```text
/// vllm serve MODEL --headless --data-parallel-size 1 --data-parallel-size-local 1 \
///     --data-parallel-address 127.0.0.1 --data-parallel-rpc-port PORT
/// ```
#[derive(Debug)]
pub struct EngineCore {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl EngineCore {
    /// Binds the sockets that the engine dials.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`]: an address or the folder cannot be used, or is used by another.
    pub fn bind(options: EngineCoreOptions) -> Result<Self, Error> {
        let refused = |what: String| Error::new(ErrorKind::Refused, what);
        let at = options.handshake;
        if !at.ip().is_loopback() {
            return Err(refused(format!(
                "{at} can be reached from elsewhere, and asks for no password"
            )));
        }
        let folder = Arc::new(Folder::new(&options.folder)?);
        let tcp = std::net::TcpListener::bind(at)
            .and_then(|it| it.set_nonblocking(true).map(|()| it))
            .map_err(|error| refused(format!("{at}: {error}")))?;
        let (input, output) = folder.bind()?;
        let runtime = options.runtime.clone();
        // An engine that ran before us, and may still run.
        let known = folder.engine().and_then(|it| handshake::known(&it).ok());
        // Differs from one channel to the next, on which no more depends than whose requests are whose.
        let run = RandomState::new().hash_one(at) as u32;
        let shared = Arc::new(Shared::new(options, run, known));

        let _runtime = runtime.enter();
        let of = |error: std::io::Error| refused(error.to_string());
        let address = tcp.local_addr().map_err(of)?;
        let tcp = TcpListener::from_std(tcp).map_err(of)?;
        let input = UnixListener::from_std(input).map_err(of)?;
        let output = UnixListener::from_std(output).map_err(of)?;
        let link = Link { shared: Arc::clone(&shared), folder: Arc::clone(&folder) };
        let tasks = vec![
            runtime.spawn(link::accept(tcp, link.clone(), link::handshake)),
            runtime.spawn(link::accept(input, link.clone(), link::input)),
            runtime.spawn(link::accept(output, link, link::output)),
        ];
        Ok(Self { shared, folder, address, tasks })
    }

    /// Where the engine says that it has started: the `--data-parallel-address` and
    /// `--data-parallel-rpc-port` of vLLM.
    #[must_use]
    pub const fn handshake_address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the engine is ready. An engine that was lost may be started again, so only one that
    /// cannot be used is an error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`]: the engine's version is not known here.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ready(&self) -> Result<(), Error> {
        let mut phase = self.shared.phase.subscribe();
        let settled = phase
            .wait_for(|it| match it {
                Phase::Ready => true,
                Phase::Starting => false,
                Phase::Down(error) => error.kind == ErrorKind::Unsupported,
            })
            .await
            .map(|it| it.clone());
        match settled {
            Ok(Phase::Down(error)) => Err(error),
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::Lost, "the channel was closed")),
        }
    }

    /// Ends the channel, and waits until its addresses are free. Dropping it ends it, too, a moment later.
    pub async fn close(mut self) {
        for it in std::mem::take(&mut self.tasks) {
            it.abort();
            // It was aborted, which is what it says.
            let _ = it.await;
        }
    }
}

impl Inference for EngineCore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            token_ids: true,
            streaming: true,
            version_spans: true,
            stop_strings: false,
            control: true,
            top_logprobs: TOP_LOGPROBS_MAX,
            constraints: true,
        }
    }

    fn generate(&self, request: Request) -> Generation {
        let (feed, generation) = Generation::new();
        match self.shared.submit(&request, feed) {
            Ok(place) => {
                let shared = Arc::clone(&self.shared);
                generation.on_drop(move || shared.dropped(place))
            }
            Err(error) => Generation::failed(error),
        }
    }

    fn abort(&self, requests: &[RequestId]) {
        self.shared.abort(requests);
    }

    fn control(&self, control: Control) -> Answer<'_, ()> {
        let calls = Calls { shared: Arc::clone(&self.shared), folder: Arc::clone(&self.folder) };
        Box::pin(async move {
            // In a task of its own: what the engine's answer means for it does not depend on whether
            // anybody still waits.
            let called = self.shared.options.runtime.spawn(calls.control(control));
            called
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::Lost, "the channel was closed")))
        })
    }

    fn load(&self) -> Answer<'_, Option<Load>> {
        Box::pin(async move {
            self.shared.up()?;
            let state = self.shared.lock();
            let mut load = state.load;
            if let Some(load) = &mut load
                && state.flights.len() == 0
            {
                // The engine says nothing while it has nothing to do, and all that it does is ours.
                (load.running, load.waiting) = (0, 0);
            }
            Ok(load)
        })
    }
}

impl Drop for EngineCore {
    fn drop(&mut self) {
        for it in &self.tasks {
            it.abort();
        }
        self.shared.given_up(Error::new(ErrorKind::Lost, "the channel was closed"));
        self.folder.remove();
    }
}
