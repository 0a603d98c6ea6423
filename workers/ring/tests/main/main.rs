//! Tests over real memfds, sockets and processes.

mod round_trips;
