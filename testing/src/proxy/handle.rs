//! The proxy's thread, and the handle on it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    net::{TcpListener, TcpSocket},
    select,
    sync::watch,
    time::sleep,
};

use super::{
    fault::{Effect, Fault, Plan},
    relay::relay,
};

/// How many connections may wait to be accepted: as many as a storm of sessions brings.
const BACKLOG: u32 = 4096;

/// How long to wait after a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// A proxy on a loopback port, on a thread of its own. Dropping it closes all its connections.
///
/// Each connection gets its [`Fault`] from the [`Plan`] in force when it is accepted;
/// [`strike`](Self::strike) and [`freeze`](Self::freeze) hit those that are open. It holds two
/// sockets and about 32 KiB for each connection, and was made for some thousands of them.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    live: watch::Sender<Live>,
    thread: Option<JoinHandle<()>>,
}

/// What has been seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// How many times a fault has struck: once for each connection and effect, and once for each
    /// frame where frames are struck.
    pub struck: u64,
}

#[derive(Debug)]
struct Shared {
    plan: Mutex<Planned>,
    tally: Tally,
}

#[derive(Debug)]
struct Planned {
    target: SocketAddr,
    plan: Plan,
    /// How many connections this plan has had.
    connections: u64,
}

/// Orders that reach connections which are open already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    pub(super) frozen: bool,
    pub(super) stopped: bool,
    /// The effect that was ordered last, and only at the change that ordered it.
    pub(super) ordered: Option<Effect>,
}

/// Counts events.
#[derive(Debug, Default)]
pub(super) struct Tally {
    accepted: AtomicU64,
    ended: AtomicU64,
    struck: AtomicU64,
}

impl Tally {
    pub(super) fn struck(&self) {
        self.struck.fetch_add(1, Ordering::Relaxed);
    }
}

impl FaultProxy {
    /// A proxy in front of `target` that lets everything pass.
    ///
    /// # Errors
    ///
    /// When the machine has no port or no thread left.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            // Sockets register with the runtime that is entered.
            let _entered = runtime.enter();
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).context("no free loopback port")?;
            socket.listen(BACKLOG)?
        };
        let address = listener.local_addr()?;
        let planned = Planned { target, plan: Plan::Always(Fault::Pass), connections: 0 };
        let shared = Arc::new(Shared { plan: Mutex::new(planned), tally: Tally::default() });
        let (live, orders) = watch::channel(Live::default());
        let thread = thread::Builder::new().name("fault-proxy".into()).spawn({
            let shared = Arc::clone(&shared);
            move || runtime.block_on(accept(listener, shared, orders))
        })?;
        Ok(Self { address, shared, live, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections accepted from now on follow this plan, counted from its first.
    pub fn set_plan(&self, plan: Plan) {
        let mut planned = self.shared.planned();
        planned.plan = plan;
        planned.connections = 0;
    }

    /// Connections accepted from now on all get this fault.
    pub fn set(&self, fault: Fault) {
        self.set_plan(Plan::Always(fault));
    }

    /// Connections accepted from now on go to another server, as if a name had come to mean another
    /// address.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.planned().target = target;
    }

    /// Does this to every open connection, as soon as nothing holds it back there.
    pub fn strike(&self, effect: Effect) {
        self.live.send_modify(|live| live.ordered = Some(effect));
    }

    /// Stops all forwarding, on open and on new connections; what arrives stays in the sockets.
    pub fn freeze(&self) {
        self.live.send_modify(|live| (live.frozen, live.ordered) = (true, None));
    }

    /// Lets everything that [`freeze`](Self::freeze) held back go on.
    pub fn thaw(&self) {
        self.live.send_modify(|live| (live.frozen, live.ordered) = (false, None));
    }

    /// What has been seen so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let tally = &self.shared.tally;
        // In this order, so that a connection which ends now is not counted as ended before it began.
        let ended = tally.ended.load(Ordering::SeqCst);
        let accepted = tally.accepted.load(Ordering::SeqCst);
        Counts { accepted, open: accepted - ended, struck: tally.struck.load(Ordering::SeqCst) }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.live.send_modify(|live| live.stopped = true);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add to it here.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn planned(&self) -> MutexGuard<'_, Planned> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> (SocketAddr, Fault) {
        let mut planned = self.planned();
        let fault = planned.plan.fault(planned.connections);
        planned.connections += 1;
        (planned.target, fault)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut orders: watch::Receiver<Live>) {
    let live = orders.clone();
    loop {
        let client = select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => client,
                // Out of descriptors, most likely: others will end.
                Err(_) => { sleep(ACCEPT_AGAIN).await; continue }
            },
            _ = orders.wait_for(|live| live.stopped) => return,
        };
        let (target, fault) = shared.next();
        shared.tally.accepted.fetch_add(1, Ordering::SeqCst);
        let (shared, live) = (Arc::clone(&shared), live.clone());
        tokio::spawn(async move {
            relay(client, target, fault, live, &shared.tally).await;
            shared.tally.ended.fetch_add(1, Ordering::SeqCst);
        });
    }
}
