//! The server.

use std::{future::poll_fn, io, net::TcpListener, sync::Arc, time::Duration};

use axum::Router;
use envmill_workers::Worker;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, runtime::Runtime, sync::mpsc, task::JoinSet, time};

use crate::{
    Options, Placement,
    http::{self, Routes},
    hub::Hub,
    named::Directory,
    pace,
    pump::{self, OwnThread},
    session::Surroundings,
};

/// How long a client may take to send the head of a request.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long accepting pauses when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often idle sessions are looked for: four times within the time they may be idle, but neither
/// all the time nor so seldom that what they hold is missed.
const REAP_INTERVAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A server of one environment, in front of a worker that makes its sessions.
pub struct Front {
    options: Options,
    worker: Box<dyn Worker>,
}

/// The runtime that a front runs best on: one thread, for there is little to do beside the kernel's
/// part, and everything that is ready forms one batch.
///
/// # Errors
///
/// If the operating system refuses what the runtime needs.
pub fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Look for new messages after the sessions that have some, not in between.
        .event_interval(1024)
        .on_thread_park(pace::before_waiting)
        .build()
}

impl Front {
    /// A front for `worker`, of which server 0 is used.
    #[must_use]
    pub fn new(options: Options, worker: Box<dyn Worker>) -> Self {
        Self { options, worker }
    }

    /// Serves connections to `listener` (see [`listen`](crate::listen)) until `shutdown` is ready.
    /// Then sessions are closed with code 1012, also those in mid-step, as OpenEnv's servers do on
    /// SIGTERM.
    ///
    /// Must run on a runtime of one thread, such as [`runtime`]'s.
    ///
    /// # Errors
    ///
    /// If the listener or the worker's thread cannot be set up. What single connections do wrong is
    /// never an error here.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let hub = Arc::new(Hub::new(self.options.max_sessions, self.options.session_timeout));
        let options = Arc::new(self.options);
        let _rule = hub.rule();

        // Dropped at the end of this function, whichever way it ends.
        let mut background = JoinSet::new();
        let own_thread = match options.placement {
            Placement::SameThread => {
                background.spawn(pump::same_thread(Arc::clone(&hub), self.worker));
                None
            }
            Placement::OwnThread => {
                let (own_thread, fan_out) = OwnThread::start(Arc::clone(&hub), self.worker)?;
                background.spawn(fan_out);
                let hub = Arc::clone(&hub);
                background.spawn(async move { hub.tell().await });
                Some(own_thread)
            }
        };

        if let Some(timeout) = options.session_timeout {
            background.spawn(reap(Arc::clone(&hub), timeout));
        }

        let (alive, mut all_gone) = mpsc::channel(1);
        let directory = Arc::new(Directory::new(Arc::clone(&hub)));
        let surroundings =
            Surroundings { hub: Arc::clone(&hub), directory, options: Arc::clone(&options) };
        let router = http::router(Routes::new(surroundings, alive));
        accept(listener, &router, shutdown).await;

        hub.close();
        drop(router);
        // Nothing is ever sent: the channel ends when the last session has.
        let _ = time::timeout(options.drain, poll_fn(|cx| all_gone.poll_recv(cx))).await;
        drop(own_thread);
        Ok(())
    }
}

/// Ends sessions that were idle for longer than `timeout`, for ever.
async fn reap(hub: Arc<Hub>, timeout: Duration) {
    let (shortest, longest) = REAP_INTERVAL;
    let mut interval = time::interval((timeout / 4).clamp(shortest, longest));
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        hub.reap();
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    router: &Router,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone()));
                }
                // Out of descriptors, mostly: those in use may be given back.
                Err(_) => time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
}

/// Serves HTTP on a connection until it ends or becomes a session's.
async fn connection(stream: TcpStream, router: Router) {
    // Replies are whole frames; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades()
        .await;
}
