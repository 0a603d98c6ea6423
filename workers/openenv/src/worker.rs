//! The worker: its event queue, and the seam's two calls.

use std::{
    io::ErrorKind,
    sync::Arc,
    time::{Duration, Instant},
};

use envmill_protocol::{Command, Event, ServerId};
use envmill_workers::{Wake, Waker, Worker};
use mio::{Events, Poll, Token};

use crate::{Metrics, Options, OptionsError, Server, gathering::Gathering, sessions::Sessions};

/// How many sockets' news one look at the event queue takes: 12 KiB of memory in the kernel's form.
/// Beyond this a system call is shared by so many that its cost is nothing; and the news of this
/// many are dealt with before the engine sees the first answer.
const READINESS_MAX: usize = 1024;

/// The token of the waker. No socket's key comes to this.
const WAKE: Token = Token(usize::MAX);

/// Steps sessions on any number of remote OpenEnv servers, from the one thread that calls it.
///
/// Requests are written as they are submitted; answers are read, and connections made, inside
/// [`completions`](Worker::completions), which is also the only place that waits. One step costs one
/// write, one read and a share of one look at the event queue; where many requests are outstanding,
/// answers are left to gather for a moment, so that a look finds several.
#[derive(Debug)]
pub struct OpenEnvWorker {
    poll: Poll,
    readiness: Events,
    waker: Arc<mio::Waker>,
    sessions: Sessions,
    gathering: Gathering,
}

impl OpenEnvWorker {
    /// A worker for these servers. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// When an option cannot be used; the message says what to change.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKE)?);
        let registry = poll.registry().try_clone()?;
        let gathering = Gathering::new(options.gather_max, Instant::now());
        let sessions = Sessions::new(options, registry, Arc::clone(&waker))?;
        let readiness = Events::with_capacity(READINESS_MAX);
        Ok(Self { poll, readiness, waker, sessions, gathering })
    }

    /// Replaces a server, for instance by itself on another port after a restart. Sessions that
    /// stand or are being opened stay where they are.
    ///
    /// # Errors
    ///
    /// When there is no such server or the new one cannot be used; nothing has changed then.
    pub fn set_server(&mut self, id: ServerId, server: &Server) -> Result<(), OptionsError> {
        self.sessions.set_server(id, server)
    }

    /// The counts as they stand.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.sessions.metrics()
    }
}

impl Worker for OpenEnvWorker {
    fn submit(&mut self, batch: &mut Vec<Command>) {
        for command in batch.drain(..) {
            self.sessions.command(command);
        }
    }

    fn completions(&mut self, events: &mut Vec<Event>, wait: Duration) {
        let wait = self.sessions.wait_at_most(wait);
        let held_back = self.gathering.hold_back(self.sessions.outstanding()).min(wait);
        if !held_back.is_zero() {
            hold_back(held_back);
        }
        let wait = wait.saturating_sub(held_back);
        match self.poll.poll(&mut self.readiness, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The queue is ours and open, so that this cannot come from outside.
            Err(error) => tracing::error!(%error, "the event queue failed"),
        }
        self.sessions.begin_turn();
        for readiness in &self.readiness {
            if readiness.token() != WAKE {
                self.sessions.turn(readiness);
            }
        }
        self.sessions.end_turn();
        self.gathering.came(self.sessions.events().len(), Instant::now());
        events.append(self.sessions.events());
    }

    fn waker(&self) -> Waker {
        Waker::new(Arc::new(Handle(Arc::clone(&self.waker))))
    }
}

#[expect(clippy::disallowed_methods, reason = "at most `gather_max`, after which a wake is seen")]
fn hold_back(time: Duration) {
    std::thread::sleep(time);
}

struct Handle(Arc<mio::Waker>);

impl Wake for Handle {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            tracing::error!(%error, "the event queue could not be woken");
        }
    }
}
