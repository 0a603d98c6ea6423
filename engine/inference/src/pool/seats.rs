//! Which replica gets a request: the decisions, without I/O.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{ErrorKind, Load};

use super::PoolOptions;

/// How a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It takes requests.
    Ready,
    /// It failed, and is left alone for a while.
    Ejected,
    /// Its weights are unknown after a failed update: it gets nothing before it was restarted.
    Untrusted,
    /// It is being removed: what it has goes on, and it gets no more.
    Leaving,
}

/// A replica, as it can be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaStatus {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// Requests that it has.
    pub in_flight: u32,
    /// Their tokens: prompts, and what they may sample yet.
    pub outstanding_tokens: u64,
    /// How many requests it may have; `None`: any number.
    pub limit: Option<u32>,
    /// What it last said of itself.
    pub load: Option<Load>,
    /// Requests that failed there.
    pub failures: u64,
}

/// Names a replica for as long as it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SeatId(pub(super) u64);

/// One replica.
#[derive(Debug)]
pub(super) struct Seat {
    id: SeatId,
    name: String,
    leaving: bool,
    untrusted: bool,
    /// It was lost since weights were loaded: it gets them again before anything else.
    pub(super) stale: bool,
    in_flight: u32,
    outstanding: u64,
    /// How many requests it takes without a queue of its own; learned.
    learned: Option<f64>,
    load: Option<Load>,
    /// Failures since the last success.
    row: u32,
    failures: u64,
    ejected_until: Option<Instant>,
    /// It has been of no use since then.
    down_since: Option<Instant>,
}

/// So many odd answers in a row are no accident.
const ODD_MAX: u32 = 3;

/// Keys that are remembered; the oldest are forgotten first.
const KEYS_MAX: usize = 1 << 17;

/// A replica takes at least so many requests, however its load looks.
const LEARNED_MIN: f64 = 8.0;

/// A replica's own queue may be so long, or this share of what it runs, before it gets fewer.
const QUEUE_MIN: u64 = 4;
const QUEUE_SHARE: f64 = 0.1;
const KV_CACHE_FULL: f64 = 0.97;

/// All replicas of a pool.
#[derive(Debug, Default)]
pub(super) struct Seats {
    seats: Vec<Seat>,
    next: u64,
    /// Where the last request of a key went.
    sticky: HashMap<u64, SeatId>,
    /// Keys in the order in which they came.
    keys: VecDeque<u64>,
}

impl Seats {
    pub(super) fn add(&mut self, name: String, stale: bool) -> SeatId {
        let id = SeatId(self.next);
        self.next += 1;
        self.seats.push(Seat {
            id,
            name,
            leaving: false,
            untrusted: false,
            stale,
            in_flight: 0,
            outstanding: 0,
            learned: None,
            load: None,
            row: 0,
            failures: 0,
            ejected_until: None,
            down_since: None,
        });
        id
    }

    /// Lets a replica go: at once if it has nothing, else with the last request.
    pub(super) fn leave(&mut self, name: &str) -> bool {
        let Some(seat) = self.seats.iter_mut().find(|it| it.name == name && !it.leaving) else {
            return false;
        };
        seat.leaving = true;
        self.seats.retain(|it| !it.leaving || it.in_flight > 0);
        true
    }

    /// The replica for a request of so many tokens; it has it from now on.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        tokens: u64,
        key: Option<u64>,
        options: &PoolOptions,
    ) -> Option<SeatId> {
        let open = |it: &&Seat| it.open(now, options);
        let least = self.seats.iter().filter(open).min_by_key(|it| (it.outstanding, it.id.0))?;
        let (mut id, least) = (least.id, least.outstanding);
        if let Some(key) = key {
            let home = self.sticky.get(&key).copied();
            let home = home.and_then(|home| self.seats.iter().find(|it| it.id == home));
            if let Some(home) = home.filter(open) {
                #[allow(clippy::cast_precision_loss, reason = "a threshold")]
                let far = home.outstanding as f64 > options.spill_factor * least as f64
                    && home.outstanding > least.saturating_add(options.spill_tokens);
                if !far {
                    id = home.id;
                }
            }
            if self.sticky.insert(key, id).is_none() {
                self.keys.push_back(key);
                if self.keys.len() > KEYS_MAX
                    && let Some(old) = self.keys.pop_front()
                {
                    self.sticky.remove(&old);
                }
            }
        }
        let seat = self.seats.iter_mut().find(|it| it.id == id)?;
        seat.in_flight += 1;
        seat.outstanding += tokens;
        Some(id)
    }

    /// A request of so many tokens has left a replica.
    pub(super) fn leave_with(&mut self, id: SeatId, tokens: u64) {
        if let Some(seat) = self.seat(id) {
            seat.in_flight = seat.in_flight.saturating_sub(1);
            seat.outstanding = seat.outstanding.saturating_sub(tokens);
        }
        self.seats.retain(|it| !it.leaving || it.in_flight > 0);
    }

    /// A request was answered.
    pub(super) fn succeeded(&mut self, id: SeatId) {
        if let Some(seat) = self.seat(id) {
            seat.row = 0;
            seat.ejected_until = None;
            seat.down_since = None;
        }
    }

    /// A request failed. `weights`: replicas were given weights since they were started.
    pub(super) fn failed(
        &mut self,
        id: SeatId,
        kind: ErrorKind,
        weights: bool,
        now: Instant,
        options: &PoolOptions,
    ) -> Option<&str> {
        let seat = self.seat(id)?;
        seat.failures += 1;
        let ejected = seat.ejected_until.is_some_and(|until| until > now);
        let eject = match kind {
            // The request's fault.
            ErrorKind::Refused | ErrorKind::Unsupported => return None,
            // Gone: everything else that it gets fails as well.
            ErrorKind::Lost => {
                seat.stale |= weights;
                true
            }
            ErrorKind::Busy => true,
            ErrorKind::Nonsense | ErrorKind::Silent => seat.row + 1 >= ODD_MAX,
        };
        // Many requests fail at once when it goes; they are one failure.
        if ejected {
            return None;
        }
        seat.row = seat.row.saturating_add(1);
        if eject {
            let doubled = 1u32.checked_shl(seat.row.min(16) - 1).unwrap_or(u32::MAX);
            let rest = options.ejected_min.saturating_mul(doubled).min(options.ejected_max);
            seat.ejected_until = Some(now + rest);
            seat.down_since = seat.down_since.or(Some(now));
        }
        eject.then_some(&seat.name)
    }

    /// Its weights are unknown.
    pub(super) fn distrust(&mut self, id: SeatId, now: Instant) {
        if let Some(seat) = self.seat(id) {
            seat.untrusted = true;
            seat.down_since = seat.down_since.or(Some(now));
        }
    }

    /// What a replica says of itself; true if it has to be given the pool's weights before it is used.
    pub(super) fn loaded(&mut self, id: SeatId, load: Option<Load>, options: &PoolOptions) {
        let Some(seat) = self.seat(id) else { return };
        let restarted = match (seat.load.and_then(|it| it.started), load.and_then(|it| it.started))
        {
            (Some(before), Some(now)) => before != now,
            _ => false,
        };
        if restarted {
            // It has the weights that it was started with, and those it is known to have.
            seat.stale |= seat.untrusted;
            seat.untrusted = false;
        }
        seat.load = load;
        if options.in_flight_max.is_some() {
            return;
        }
        let Some(load) = load else { return };
        #[allow(clippy::cast_precision_loss, reason = "counts of requests")]
        let (running, waiting) = (load.running as f64, load.waiting as f64);
        let queue = (running * QUEUE_SHARE).max(QUEUE_MIN as f64);
        if load.kv_cache > KV_CACHE_FULL || waiting > queue {
            let learned = seat.learned.unwrap_or_else(|| f64::from(seat.in_flight));
            seat.learned = Some((running + queue).min(learned).max(LEARNED_MIN));
        } else if let Some(learned) = &mut seat.learned
            && f64::from(seat.in_flight) >= *learned * 0.9
        {
            *learned = *learned * 1.1 + 1.0;
        }
    }

    /// Those that are lost and may be tried again now, with the pool's weights first.
    pub(super) fn to_restore(&self, now: Instant) -> Vec<SeatId> {
        let due = |it: &&Seat| {
            it.stale
                && !it.untrusted
                && !it.leaving
                && it.ejected_until.is_none_or(|until| until <= now)
        };
        self.seats.iter().filter(due).map(|it| it.id).collect()
    }

    /// The pool's weights were given to one that had been lost.
    pub(super) fn restored(&mut self, id: SeatId) {
        if let Some(seat) = self.seat(id) {
            seat.stale = false;
            seat.down_since = None;
        }
    }

    /// Since when all replicas have been of no use; `None` while one is, or where there is none.
    pub(super) fn dark_since(&self) -> Option<Instant> {
        let mut last = None;
        for seat in self.seats.iter().filter(|it| !it.leaving) {
            last = last.max(Some(seat.down_since?));
        }
        last
    }

    /// When a replica that is left alone now may be tried again.
    pub(super) fn next_opening(&self, now: Instant) -> Option<Duration> {
        let times = self.seats.iter().filter_map(|it| it.ejected_until);
        times.filter(|it| *it > now).min().map(|it| it - now)
    }

    pub(super) fn status(&self, now: Instant, options: &PoolOptions) -> Vec<ReplicaStatus> {
        let status = |it: &Seat| ReplicaStatus {
            name: it.name.clone(),
            standing: match it {
                it if it.leaving => Standing::Leaving,
                it if it.untrusted => Standing::Untrusted,
                it if it.stale || it.ejected_until.is_some_and(|until| until > now) => {
                    Standing::Ejected
                }
                _ => Standing::Ready,
            },
            in_flight: it.in_flight,
            outstanding_tokens: it.outstanding,
            limit: it.limit(options),
            load: it.load,
            failures: it.failures,
        };
        self.seats.iter().map(status).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn has(&self, id: SeatId) -> bool {
        self.seats.iter().any(|it| it.id == id)
    }

    pub(super) fn is_trusted(&self, id: SeatId) -> bool {
        self.seats.iter().any(|it| it.id == id && !it.untrusted)
    }

    fn seat(&mut self, id: SeatId) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|it| it.id == id)
    }
}

impl Seat {
    fn open(&self, now: Instant, options: &PoolOptions) -> bool {
        if self.leaving || self.untrusted || self.stale {
            return false;
        }
        match self.ejected_until {
            Some(until) if until > now => false,
            // One request tries whether it is well again.
            Some(_) => self.in_flight == 0,
            None => self.limit(options).is_none_or(|limit| self.in_flight < limit),
        }
    }

    fn limit(&self, options: &PoolOptions) -> Option<u32> {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small and positive"
        )]
        options.in_flight_max.or_else(|| self.learned.map(|it| it as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(count: u32) -> (Seats, Vec<SeatId>) {
        let mut seats = Seats::default();
        let ids = (0..count).map(|it| seats.add(format!("r{it}"), false)).collect();
        (seats, ids)
    }

    #[test]
    fn the_least_outstanding_tokens_are_next() {
        let (mut seats, ids) = seats(3);
        let (now, options) = (Instant::now(), PoolOptions::default());
        let mut choose = |tokens| seats.choose(now, tokens, None, &options).unwrap();
        assert_eq!(
            [choose(1000), choose(10), choose(500), choose(10)],
            [ids[0], ids[1], ids[2], ids[1]]
        );
    }

    #[test]
    fn a_key_stays_until_its_replica_is_far_busier() {
        let (mut seats, ids) = seats(2);
        let now = Instant::now();
        let options = PoolOptions { spill_tokens: 1000, ..PoolOptions::default() };
        assert_eq!(seats.choose(now, 400, Some(1), &options), Some(ids[0]));
        assert_eq!(seats.choose(now, 400, Some(1), &options), Some(ids[0]), "800 is not far");
        assert_eq!(seats.choose(now, 400, Some(1), &options), Some(ids[0]));
        assert_eq!(seats.choose(now, 400, Some(1), &options), Some(ids[1]), "1,200 is");
        seats.leave_with(ids[0], 1200);
        assert_eq!(seats.choose(now, 1, Some(1), &options), Some(ids[1]), "and there it stays");
    }

    #[test]
    fn one_that_is_lost_is_tried_again_by_one_request() {
        let (mut seats, ids) = seats(2);
        let (now, options) = (Instant::now(), PoolOptions::default());
        assert_eq!(seats.choose(now, 1, None, &options), Some(ids[0]));
        seats.leave_with(ids[0], 1);
        seats.failed(ids[0], ErrorKind::Lost, false, now, &options);
        for _ in 0..10 {
            assert_eq!(seats.choose(now, 1, None, &options), Some(ids[1]));
        }
        let later = now + options.ejected_min * 2;
        assert_eq!(seats.choose(later, 1, None, &options), Some(ids[0]), "the trial");
        assert_eq!(seats.choose(later, 1, None, &options), Some(ids[1]));
        seats.leave_with(ids[0], 1);
        seats.succeeded(ids[0]);
        assert_eq!(seats.choose(later, 1, None, &options), Some(ids[0]));
        assert_eq!(seats.choose(later, 1, None, &options), Some(ids[0]));
    }

    #[test]
    fn all_are_of_no_use_since_the_last_of_them_was_lost() {
        let (mut seats, ids) = seats(2);
        let (now, options) = (Instant::now(), PoolOptions::default());
        let after = |seconds| now + Duration::from_secs(seconds);
        seats.failed(ids[0], ErrorKind::Lost, false, after(1), &options);
        assert_eq!(seats.dark_since(), None);
        seats.failed(ids[1], ErrorKind::Lost, false, after(2), &options);
        seats.failed(ids[0], ErrorKind::Lost, false, after(9), &options);
        assert_eq!(seats.dark_since(), Some(after(2)));
        seats.succeeded(ids[0]);
        assert_eq!(seats.dark_since(), None);
    }

    #[test]
    fn one_that_was_lost_with_weights_waits_for_them() {
        let (mut seats, ids) = seats(1);
        let (now, options) = (Instant::now(), PoolOptions::default());
        seats.failed(ids[0], ErrorKind::Lost, true, now, &options);
        let later = now + options.ejected_max;
        assert_eq!(seats.choose(later, 1, None, &options), None);
        assert_eq!(seats.to_restore(later), ids);
        seats.restored(ids[0]);
        assert_eq!(seats.choose(later, 1, None, &options), Some(ids[0]));
    }

    #[test]
    fn an_update_that_failed_is_forgiven_by_a_restart_only() {
        let (mut seats, ids) = seats(1);
        let (now, options) = (Instant::now(), PoolOptions::default());
        let load = |started| Some(Load { started: Some(started), ..Load::default() });
        seats.loaded(ids[0], load(1), &options);
        seats.distrust(ids[0], now);
        seats.loaded(ids[0], load(1), &options);
        assert_eq!(seats.status(now, &options)[0].standing, Standing::Untrusted);
        assert!(seats.to_restore(now).is_empty());
        seats.loaded(ids[0], load(2), &options);
        assert_eq!(seats.choose(now, 1, None, &options), None, "it has old weights");
        assert_eq!(seats.to_restore(now), ids);
    }

    #[test]
    fn the_limit_follows_the_replicas_own_queue() {
        let (mut seats, ids) = seats(1);
        let (now, options) = (Instant::now(), PoolOptions::default());
        let load = |running, waiting| Some(Load { running, waiting, ..Load::default() });
        for _ in 0..100 {
            assert!(seats.choose(now, 1, None, &options).is_some());
        }
        seats.loaded(ids[0], load(40, 60), &options);
        assert_eq!(seats.status(now, &options)[0].limit, Some(44));
        assert_eq!(seats.choose(now, 1, None, &options), None);
        seats.loaded(ids[0], load(40, 0), &options);
        assert_eq!(seats.status(now, &options)[0].limit, Some(49));
    }

    #[test]
    fn one_that_leaves_keeps_what_it_has() {
        let (mut seats, ids) = seats(2);
        let (now, options) = (Instant::now(), PoolOptions::default());
        assert_eq!(seats.choose(now, 1, None, &options), Some(ids[0]));
        assert!(seats.leave("r0"));
        assert!(!seats.leave("r0"));
        assert_eq!(seats.status(now, &options).len(), 2);
        assert_eq!(seats.choose(now, 1, None, &options), Some(ids[1]));
        seats.leave_with(ids[0], 1);
        assert_eq!(seats.status(now, &options).len(), 1);
    }
}
