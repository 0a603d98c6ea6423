//! What a worker counts.

use crate::link::Traffic;

/// A worker's counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Sessions whose WebSocket stands, idle ones included.
    pub sockets_open: usize,
    /// The most there were at once.
    pub sockets_open_peak: usize,
    /// Sessions that are being opened.
    pub sockets_opening: usize,
    /// Closed sessions whose server has not closed its end yet. At most 1,024, each for at most 2 s.
    pub sockets_closing: usize,
    /// Sessions that wait for the answer to a reset, a step, a state or a tool call.
    pub requests_in_flight: usize,
    /// The most there were at once.
    pub requests_in_flight_peak: usize,
    /// Bytes received, TLS and WebSocket framing included.
    pub bytes_in: u64,
    /// Bytes sent, counted likewise.
    pub bytes_out: u64,
}

impl Metrics {
    pub(crate) fn opened(&mut self) {
        self.sockets_open += 1;
        self.sockets_open_peak = self.sockets_open_peak.max(self.sockets_open);
    }

    pub(crate) fn requests(&mut self, before: bool, after: bool) {
        match (before, after) {
            (false, true) => {
                self.requests_in_flight += 1;
                self.requests_in_flight_peak =
                    self.requests_in_flight_peak.max(self.requests_in_flight);
            }
            (true, false) => self.requests_in_flight -= 1,
            (true, true) | (false, false) => {}
        }
    }

    pub(crate) fn traffic(&mut self, traffic: Traffic) {
        self.bytes_in += traffic.bytes_in;
        self.bytes_out += traffic.bytes_out;
    }
}
