//! How many sessions may wait for their first reply at a time.

use std::time::Duration;

/// Sessions that may wait at the start, for each server.
const START: f64 = 2.0;
/// The most, for each server: below the backlog of common servers (uvicorn's is 2,048).
const MOST: f64 = 512.0;
/// A first reply within this time is fast, and so is one of at most [`FAST_TIMES`] the fastest.
const FAST: Duration = Duration::from_millis(100);
const FAST_TIMES: u32 = 4;

/// A window that grows by one with each first reply that comes fast, and shrinks by a quarter with one that is
/// slow: many at a time on a server that makes thousands of sessions a second, one or two on one that takes
/// seconds for each. The rule is that of a run (`envmill-core`'s admission), which also learns limits; here each
/// session is asked for once, whatever became of the others.
#[derive(Debug)]
pub(crate) struct Window {
    room: f64,
    most: f64,
    fastest: Duration,
    /// Replies that were asked for before the window was last cut do not cut it again.
    cut_at: u64,
}

impl Window {
    pub(crate) fn new(servers: u32, storm: bool) -> Self {
        let servers = f64::from(servers.max(1));
        let (room, most) =
            if storm { (f64::INFINITY, f64::INFINITY) } else { (START * servers, MOST * servers) };
        Self { room, most, fastest: Duration::MAX, cut_at: 0 }
    }

    /// How many may wait.
    pub(crate) fn room(&self) -> usize {
        self.room as usize
    }

    /// A session was admitted at `now_ns`, `took` after it was asked for.
    pub(crate) fn admitted(&mut self, now_ns: u64, took: Duration) {
        self.fastest = self.fastest.min(took);
        if took <= FAST.max(self.fastest.saturating_mul(FAST_TIMES)) {
            self.room = (self.room + 1.0).min(self.most);
        } else if now_ns.saturating_sub(self.cut_at) > took.as_nanos() as u64 {
            self.cut_at = now_ns;
            self.room = (self.room * 0.75).max(1.0);
        }
    }

    /// One failed in another way than by being refused.
    pub(crate) fn failed(&mut self) {
        if self.room.is_finite() {
            self.room = (self.room / 2.0).max(1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_replies_open_the_window_and_slow_ones_close_it() {
        let mut window = Window::new(1, false);
        assert_eq!(window.room(), 2);
        for at in 0..30 {
            window.admitted(at, Duration::from_millis(2));
        }
        assert_eq!(window.room(), 32);
        window.admitted(2_000_000_000, Duration::from_secs(1));
        assert_eq!(window.room(), 24);
        // Of those that waited together, one cuts.
        window.admitted(2_000_000_001, Duration::from_secs(1));
        assert_eq!(window.room(), 24);
        for _ in 0..10 {
            window.failed();
        }
        assert_eq!(window.room(), 1);
    }

    #[test]
    fn a_server_that_is_slow_always_is_not_slow() {
        let mut window = Window::new(1, false);
        for at in 0..4 {
            window.admitted(at, Duration::from_secs(3));
        }
        assert_eq!(window.room(), 6);
    }

    #[test]
    fn a_storm_has_no_window() {
        assert_eq!(Window::new(1, true).room(), usize::MAX);
    }
}
