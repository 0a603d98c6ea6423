//! Closed sessions whose servers are given a moment to close their end.
//!
//! The end that closes first keeps the connection's port blocked for a minute, and a client has only
//! so many ports. A server that was told goodbye closes at once, so waiting for it costs next to
//! nothing.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    time::{Duration, Instant},
};

use mio::event::Event as Readiness;

use crate::{
    connections::{Connection, Connections, Key},
    desk::Desk,
    link::{Backlog, Link, Traffic},
};

/// How many sockets may linger at once; beyond it the oldest is dropped.
const SOCKETS_MAX: usize = 1024;

/// How long a socket may linger.
const LINGER: Duration = Duration::from_secs(2);

/// How often a lingering socket is read in one turn. A server that was told goodbye and has more to
/// say than this is not waited for.
const READS_PER_TURN: usize = 4;

/// A socket that only waits for the server's end.
#[derive(Debug)]
pub(crate) struct Closing {
    link: Link,
    backlog: Backlog,
}

impl Closing {
    pub(crate) fn new(link: Link, backlog: Backlog) -> Self {
        Self { link, backlog }
    }

    pub(crate) fn take_traffic(&mut self) -> Traffic {
        self.link.take_traffic()
    }

    /// Deals with the socket's news; says whether it has ended.
    pub(crate) fn turn(&mut self, readiness: &Readiness, desk: &mut Desk) -> bool {
        self.link.notice(readiness);
        if self.backlog.flush(&mut self.link).is_err() {
            return true;
        }
        for _ in 0..READS_PER_TURN {
            match self.link.read(&mut desk.incoming) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// The lingering sockets, oldest first. Those that have ended stay in the line until they would have
/// expired, so the line is counted apart from the sockets.
#[derive(Debug, Default)]
pub(crate) struct Lingering {
    line: VecDeque<(Instant, Key)>,
    sockets: usize,
}

impl Lingering {
    /// How many sockets linger.
    pub(crate) const fn len(&self) -> usize {
        self.sockets
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// When the next one expires.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.line.front().map(|(due, _)| *due)
    }

    /// Adds a socket, whose connection is in place.
    pub(crate) fn add(&mut self, key: Key, now: Instant, connections: &mut Connections) {
        self.sockets += 1;
        self.line.push_back((now + LINGER, key));
        while self.sockets > SOCKETS_MAX {
            self.drop_oldest(connections);
        }
    }

    /// Takes note that a socket has ended and is gone.
    pub(crate) fn ended(&mut self) {
        self.sockets -= 1;
        if self.sockets == 0 {
            self.line.clear();
        }
    }

    /// Drops what has lingered long enough.
    pub(crate) fn expire(&mut self, now: Instant, connections: &mut Connections) {
        while self.next().is_some_and(|due| due <= now) {
            self.drop_oldest(connections);
        }
    }

    /// Drops all.
    pub(crate) fn clear(&mut self, connections: &mut Connections) {
        while !self.line.is_empty() {
            self.drop_oldest(connections);
        }
    }

    fn drop_oldest(&mut self, connections: &mut Connections) {
        let Some((_, key)) = self.line.pop_front() else { return };
        if let Some(Connection::Closing(_)) = connections.get_mut(key) {
            connections.remove(key);
            self.sockets -= 1;
        }
    }
}
