//! Outliers: servers that fail or dawdle unlike the rest of their pool.
//!
//! Every few seconds the servers of a pool are compared over what happened since the last time. One
//! that is far off gets no new sessions for a while, and the sessions it has are not used again. Then
//! it is probed: it gets one session, and if the attempt on that goes well it is back. At most a
//! bounded share of a pool is out at a time, those that are down included, so a pool that is bad as a
//! whole is left alone.

use std::time::Duration;

use envmill_protocol::{FailureKind, Phase, ServerId, Slot};

use crate::{Core, EjectionOptions, Note, Outlier, Outputs, Time};

/// Pools of fewer servers have nothing to compare by.
const POOL_MIN: usize = 3;
/// A mean of binary logarithms is kept in parts of this.
const LOG_PARTS: u64 = 16;

/// Whether a server gets sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    /// As its limit allows.
    #[default]
    Well,
    /// None until then, and then one.
    Ejected { until: Time },
    /// It has got that one.
    Probed { slot: Slot },
}

/// How a server does, since the last comparison.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Health {
    trust: Trust,
    attempts: u32,
    failed: u32,
    steps: u32,
    /// The sum of the binary logarithms of the steps' nanoseconds.
    log_sum: u64,
    /// Ejections in a row.
    in_a_row: u32,
    /// What its mean logarithm must not exceed to be let back, if it was ejected for that.
    log_limit: Option<u64>,
    pub(crate) ejections: u64,
}

impl Health {
    pub(crate) const fn trust(&self) -> Trust {
        self.trust
    }

    pub(crate) const fn is_well(&self) -> bool {
        matches!(self.trust, Trust::Well)
    }

    /// A step was answered. On the path of every step.
    pub(crate) fn stepped(&mut self, took: Duration) {
        self.steps = self.steps.wrapping_add(1);
        self.log_sum += u64::from((took.as_nanos() | 1).ilog2());
    }

    /// It gets a session; after a rest, this is the probe.
    pub(crate) const fn session_given(&mut self, slot: Slot) {
        if let Trust::Ejected { .. } = self.trust {
            self.trust = Trust::Probed { slot };
            self.begin_anew();
        }
    }

    const fn begin_anew(&mut self) {
        self.attempts = 0;
        self.failed = 0;
        self.steps = 0;
        self.log_sum = 0;
    }

    fn failed_share(&self, options: &EjectionOptions) -> Option<u64> {
        let enough = self.attempts >= options.attempts_min.max(1);
        enough.then(|| u64::from(self.failed) * 100 / u64::from(self.attempts))
    }

    /// The mean binary logarithm of a step's nanoseconds, in parts.
    fn log_mean(&self, least: u32) -> Option<u64> {
        (self.steps >= least.max(1)).then(|| self.log_sum * LOG_PARTS / u64::from(self.steps))
    }
}

impl Core {
    /// Compares the servers of each pool, if it is time.
    pub(crate) fn compare_servers(&mut self, outputs: &mut Outputs) {
        if self.now < self.compare_at {
            return;
        }
        self.compare_at = self.now + self.options.ejection.interval;
        if self.options.ejection.percent_max == 0 {
            return;
        }
        for environment in 0..self.pools.len() {
            if self.pools[environment].len() >= POOL_MIN {
                self.compare_pool(environment, outputs);
            }
        }
        for server in &mut self.servers {
            if server.health.is_well() {
                server.health.begin_anew();
            }
        }
    }

    fn compare_pool(&mut self, environment: usize, outputs: &mut Outputs) {
        let options = self.options.ejection;
        let pool = &self.pools[environment];
        let health = |server: u32| &self.servers[server as usize].health;
        let well = || pool.iter().copied().filter(|&server| health(server).is_well());
        let failed = |server| health(server).failed_share(&options);
        let slow = |server| health(server).log_mean(options.steps_min);
        // What is exceeded, by how much, by which server.
        let mut outliers: Vec<(Outlier, u64, u32)> = Vec::new();
        if let Some(median) = median(well().filter_map(failed)) {
            let limit = median + u64::from(options.failure_points);
            outliers.extend(well().filter_map(|server| {
                let over = failed(server)?.checked_sub(limit + 1)?;
                Some((Outlier::Failures, over, server))
            }));
        }
        let mut log_limit = None;
        if let Some(median) = median(well().filter_map(slow)) {
            let factor = u64::from(options.slower.max(2).ilog2()) * LOG_PARTS;
            let nanos = u64::try_from(options.slow_min.as_nanos()).unwrap_or(u64::MAX);
            let limit = (median + factor).max(u64::from((nanos | 1).ilog2()) * LOG_PARTS);
            log_limit = Some(limit);
            outliers.extend(well().filter_map(|server| {
                let over = slow(server)?.checked_sub(limit + 1)?;
                Some((Outlier::Latency, over, server))
            }));
        }
        // The worst first, failures before slowness.
        outliers.sort_by_key(|&(why, over, server)| (why, std::cmp::Reverse(over), server));
        for (why, _, server) in outliers {
            let limit = log_limit.filter(|_| why == Outlier::Latency);
            self.eject(ServerId(server), environment, why, limit, outputs);
        }
    }

    fn eject(
        &mut self,
        server: ServerId,
        environment: usize,
        why: Outlier,
        log_limit: Option<u64>,
        outputs: &mut Outputs,
    ) {
        let pool = &self.pools[environment];
        let is_out = |&&server: &&u32| {
            let server = &self.servers[server as usize];
            !server.health.is_well() || server.admission.status().down
        };
        let out = pool.iter().filter(is_out).count() as u64;
        let may_be_out = pool.len() as u64 * u64::from(self.options.ejection.percent_max) / 100;
        let known = &self.servers[server.0 as usize];
        if !known.health.is_well() || known.admission.status().down || out >= may_be_out {
            return;
        }
        self.servers[server.0 as usize].health.log_limit = log_limit;
        self.rest(server, Some(why), outputs);
        for slot in std::mem::take(&mut self.idle[environment]) {
            if self.is_idle_session(slot) && self.sessions[slot.0 as usize].server == server {
                self.close(slot, outputs);
            } else {
                self.idle[environment].push(slot);
            }
        }
    }

    /// Sends a server to rest, for twice as long as the last time in a row.
    fn rest(&mut self, server: ServerId, why: Option<Outlier>, outputs: &mut Outputs) {
        let options = self.options.ejection;
        let health = &mut self.servers[server.0 as usize].health;
        let rest = options.rest.saturating_mul(1 << health.in_a_row.min(16)).min(options.rest_max);
        health.in_a_row += 1;
        health.trust = Trust::Ejected { until: self.now + rest };
        health.begin_anew();
        if let Some(why) = why {
            health.ejections += 1;
            self.counts.ejections += 1;
            outputs.notes.push(Note::ServerEjected { server, why, rest });
        }
        self.wake();
    }

    /// An attempt on the server's session has ended. Failures that are the policy's say nothing
    /// about the server.
    pub(crate) fn attempt_ended(
        &mut self,
        server: ServerId,
        slot: Slot,
        failure: Option<FailureKind>,
        outputs: &mut Outputs,
    ) {
        if matches!(
            failure,
            Some(
                FailureKind::Policy
                    | FailureKind::Driver
                    | FailureKind::Deadline(Phase::Policy | Phase::Episode)
            )
        ) {
            return;
        }
        let health = &mut self.servers[server.0 as usize].health;
        health.attempts = health.attempts.saturating_add(1);
        health.failed = health.failed.saturating_add(u32::from(failure.is_some()));
        if health.trust != (Trust::Probed { slot }) {
            return;
        }
        let is_slow = health
            .log_limit
            .is_some_and(|limit| health.log_mean(1).is_some_and(|mean| mean > limit));
        if failure.is_some() || is_slow {
            return self.rest(server, None, outputs);
        }
        health.trust = Trust::Well;
        health.in_a_row = 0;
        health.begin_anew();
        outputs.notes.push(Note::ServerReturned(server));
        self.wake();
    }

    /// A session is gone. If it was a probe that told nothing, another one is sent; after a refusal,
    /// when the server's own pause is over.
    pub(crate) fn probe_gone(&mut self, server: ServerId, slot: Slot) {
        let health = &mut self.servers[server.0 as usize].health;
        if health.trust == (Trust::Probed { slot }) {
            health.trust = Trust::Ejected { until: self.now };
            self.wake();
        }
    }

    /// A server went down. If those of its pool that are left are all ejected, they are better than
    /// none.
    pub(crate) fn relieve(&mut self, server: ServerId) {
        let environment = self.servers[server.0 as usize].options.environment as usize;
        let pool = &self.pools[environment];
        let serves = |&server: &u32| {
            let server = &self.servers[server as usize];
            server.health.is_well() && !server.admission.status().down
        };
        if pool.iter().any(serves) {
            return;
        }
        for &server in pool {
            let health = &mut self.servers[server as usize].health;
            if let Trust::Ejected { until } = &mut health.trust {
                *until = (*until).min(self.now);
            }
        }
        self.wake();
    }
}

/// The median; of an even number of values, the smaller of the two in the middle. `None` of fewer
/// than two.
fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    if values.len() < 2 {
        return None;
    }
    values.get((values.len() - 1) / 2).copied()
}
