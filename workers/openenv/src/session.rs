//! A session that stands, whatever its transport.

use std::io;

use envmill_protocol::{Event, Failure, Generation, Request, Slot};
use mio::event::Event as Readiness;

use crate::{desk::Desk, lingering::Closing, link::Traffic, mcp_http::McpHttp, socket::Socket};

/// What has become of a session in its turn.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It stands, and all that has arrived is dealt with.
    Waits,
    /// It stands, and more may have arrived.
    Continues,
    /// It stands, but its connection is gone and it has a request to make.
    Reconnects,
    /// It is gone, and its events say so.
    Over(Over),
}

/// The end of a session.
#[derive(Debug)]
pub(crate) struct Over {
    /// Why, where no request was outstanding. The slot's next command may already be on its way, and
    /// is then to be answered with this.
    pub(crate) idle: Option<Box<Failure>>,
}

/// A session that stands.
#[derive(Debug)]
pub(crate) enum Session {
    /// On a WebSocket.
    Socket(Socket),
    /// By HTTP requests.
    McpHttp(Box<McpHttp>),
}

impl Session {
    pub(crate) fn slot(&self) -> Slot {
        match self {
            Self::Socket(socket) => socket.slot(),
            Self::McpHttp(http) => http.slot(),
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.is_busy(),
            Self::McpHttp(http) => http.is_busy(),
        }
    }

    /// Takes note of what the event queue says.
    pub(crate) fn notice(&mut self, readiness: &Readiness) {
        match self {
            Self::Socket(socket) => socket.link().notice(readiness),
            Self::McpHttp(http) => http.notice(readiness),
        }
    }

    pub(crate) fn take_traffic(&mut self) -> Traffic {
        match self {
            Self::Socket(socket) => socket.link().take_traffic(),
            Self::McpHttp(http) => http.take_traffic(),
        }
    }

    /// Sends a request, unless one is outstanding.
    pub(crate) fn send(
        &mut self,
        generation: Generation,
        request: &Request,
        desk: &mut Desk,
        events: &mut Vec<Event>,
    ) -> Turn {
        match self {
            Self::Socket(socket) => socket.send(generation, request, desk, events),
            Self::McpHttp(http) => http.send(generation, request, desk, events),
        }
    }

    /// Deals with what the event queue said about its connection.
    pub(crate) fn turn(&mut self, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        match self {
            Self::Socket(socket) => socket.turn(desk, events),
            Self::McpHttp(http) => http.turn(desk, events),
        }
    }

    /// Makes sure that a silent connection still stands.
    pub(crate) fn ping(&mut self, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        match self {
            Self::Socket(socket) => socket.ping(desk, events),
            Self::McpHttp(_) => Turn::Waits,
        }
    }

    /// Says goodbye, and leaves the connection to linger; `None` where there is none to say it on.
    pub(crate) fn close(self, desk: &mut Desk) -> io::Result<Option<Closing>> {
        match self {
            Self::Socket(socket) => socket.close(desk).map(Some),
            Self::McpHttp(mut http) => http.close(),
        }
    }
}
