//! How things stand, for those who ask and those who are attached; and what time alone brings.

use std::time::Instant;

use envmill_core::JobStatus;
use envmill_delivery::JobKey;
use envmill_wire::{self as wire, drive_response::Response};

use super::{Hub, job::episodes, outputs::version};
use crate::{
    Order, Snapshot,
    ledger::Ending,
    metrics::{Of, OfServer},
    refusal::Refusal,
    sampling::Sampling,
};
use prometheus_client::metrics::{family::Family, gauge::Gauge};

/// The most tasks that are told of at one time.
const TASKS_TOLD_MAX: usize = 1024;

impl Hub {
    /// What time alone brings.
    pub(super) fn tick(&mut self) {
        self.lose_patience();
        let snapshots = self.snapshots();
        let keys: Vec<JobKey> = self.jobs.keys().copied().collect();
        for key in keys {
            let is_attached = self.streams.values().any(|it| it.attached.contains_key(&key));
            let Some(job) = self.jobs.get_mut(&key) else { continue };
            job.begun.tick();
            if is_attached {
                job.seen_at = Instant::now();
                self.tell_progress(key, &snapshots);
            } else if job.settled_at.is_some_and(|at| at.elapsed() >= self.options.forget_after) {
                self.forget(key);
            } else if job.seen_at.elapsed() >= self.options.abandon_after {
                tracing::warn!(job = job.id, "its trainer has not come back; it is given up");
                self.forget(key);
            }
        }
    }

    /// Drops a job with everything that is owed of it.
    pub(super) fn forget(&mut self, key: JobKey) {
        self.order(key, Order::Cancel);
        self.delivery.forget(key);
        if let Some(job) = self.jobs.remove(&key) {
            self.ids.remove(&job.id);
            if let Some(desk) = job.desk {
                desk.close();
            }
        }
        let removed = |stream: &mut super::Stream| stream.attached.remove(&key);
        let left: Vec<_> = self.streams.values_mut().filter_map(removed).collect();
        for attachment in left {
            self.unseat(attachment.consumer);
        }
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.environments.iter().map(|it| it.player.snapshot()).collect()
    }

    fn tell_progress(&mut self, key: JobKey, snapshots: &[Snapshot]) {
        let Some(progress) = self.progress(key, snapshots) else { return };
        let Some(job) = self.jobs.get_mut(&key) else { return };
        if job.told.as_ref() == Some(&progress) {
            return;
        }
        job.told = Some(progress.clone());
        for stream in self.streams.values() {
            if stream.attached.contains_key(&key) && !stream.outbox.is_behind() {
                stream.outbox.send(Response::Progress(progress.clone()));
            }
        }
    }

    fn progress(&self, key: JobKey, snapshots: &[Snapshot]) -> Option<wire::Progress> {
        let job = self.jobs.get(&key)?;
        let standing = self.delivery.standing(key)?;
        let snapshot = job.environment.and_then(|at| snapshots.get(at));
        let status = snapshot.and_then(|it| it.jobs.iter().find(|(its, _)| *its == key));
        let status = status.map(|(_, status)| *status).unwrap_or_default();
        let account = job.account();
        Some(wire::Progress {
            job_id: job.id.clone(),
            unstarted: status.unstarted,
            in_flight: in_flight(&status),
            recorded: episodes(&account) + account.groups,
            waiting: standing.waiting_items,
            numbered: standing.last_number,
            paused: job.is_paused(),
            version: Some(version(standing.version)),
            so_far: Some(account),
            reserved_bytes: status.reserved_bytes,
            waits_for_memory: status.waits_for_memory,
            unacknowledged: standing.unacknowledged_items,
        })
    }

    pub(super) fn status(&self) -> wire::StatusResponse {
        let snapshots = self.snapshots();
        let jobs = self.jobs.values().filter_map(|job| {
            let standing = self.delivery.standing(job.key)?;
            Some(wire::JobStatus {
                progress: self.progress(job.key, &snapshots),
                name: job.asked.name.clone(),
                environment: job.asked.environment.clone(),
                ranks: standing.ranks,
                ended: standing.has_ended,
                has_policy: job.desk.as_ref().is_some_and(crate::Desk::has_seat),
            })
        });
        let memories = || snapshots.iter().map(|it| it.memory);
        wire::StatusResponse {
            engine_version: env!("CARGO_PKG_VERSION").into(),
            incarnation: self.incarnation,
            uptime_s: self.began.elapsed().as_secs_f64(),
            draining: self.is_draining,
            journal_failure: self.journal_failure.clone(),
            journal_bytes: self.options.journal_bytes(),
            resident_bytes: self.delivery.resident_bytes(),
            jobs: jobs.collect(),
            reserved_bytes: memories().map(|it| it.reserved).sum(),
            steps_bytes_max: self
                .environments
                .iter()
                .fold(0, |sum: u64, it| sum.saturating_add(it.steps_bytes_max)),
            jobs_waiting_for_memory: memories().map(|it| it.jobs_waiting).sum(),
        }
    }

    pub(super) fn tasks(&self, it: &wire::TasksRequest) -> Result<wire::TasksResponse, Refusal> {
        let job = self.ids.get(&it.job_id).and_then(|key| self.jobs.get(key));
        let job = job.ok_or_else(|| Refusal::no_job(&it.job_id))?;
        let sampling = job.sampling.as_ref().ok_or_else(|| {
            let id = &it.job_id;
            Refusal::state(format!("`{id}` keeps no account of tasks: submit it with `sampling`"))
        })?;
        let count = if it.count == 0 { TASKS_TOLD_MAX } else { it.count as usize };
        let from = usize::try_from(it.from).unwrap_or(usize::MAX);
        Ok(wire::TasksResponse {
            total: sampling.len() as u64,
            tasks: sampling.statuses(from, count.min(TASKS_TOLD_MAX)),
        })
    }

    pub(super) fn list_environments(&self) -> wire::ListEnvironmentsResponse {
        let environments = self.environments.iter().map(|it| {
            let snapshot = it.player.snapshot();
            let server = |(name, status): &(String, envmill_core::AdmissionStatus)| wire::Server {
                name: name.clone(),
                sessions: status.admitted + status.opening,
                admitted: status.admitted,
                learned_limit: status.limit,
                down: status.down,
                ejected: status.ejected,
            };
            wire::Environment {
                name: it.name.clone(),
                sessions_max: it.sessions_max,
                sessions: snapshot.sessions,
                servers: snapshot.servers.iter().map(server).collect(),
                action_schema: it.action_schema.clone(),
                steps_bytes_max: it.steps_bytes_max,
                reserved_bytes: snapshot.memory.reserved,
            }
        });
        wire::ListEnvironmentsResponse { environments: environments.collect() }
    }

    /// Brings the gauges up to date.
    pub(super) fn measure(&self) {
        let metrics = &self.metrics;
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.incarnation.set(number(self.incarnation));
        metrics.streams.set(self.streams.len() as i64);
        metrics.journal_bytes.set(number(self.options.journal_bytes()));
        metrics.journal_failing.set(i64::from(!self.journal_failure.is_empty()));
        metrics.resident_bytes.set(number(self.delivery.resident_bytes()));
        metrics.shared_bytes.set(number(self.rings.bytes()));
        for (at, it) in self.environments.iter().enumerate() {
            let of = Of { environment: it.name.clone() };
            let set = |family: &Family<Of, Gauge>, value: u64| {
                family.get_or_create(&of).set(number(value));
            };
            let snapshot = it.player.snapshot();
            let statuses = || snapshot.jobs.iter().map(|(_, status)| status);
            let jobs = || self.jobs.values().filter(move |job| job.environment == Some(at));
            let standings = || jobs().filter_map(|job| self.delivery.standing(job.key));
            set(&metrics.jobs, standings().filter(|it| !it.has_ended).count() as u64);
            set(&metrics.paused, jobs().filter(|job| job.is_paused()).count() as u64);
            set(&metrics.unstarted, statuses().map(|status| status.unstarted).sum());
            set(&metrics.in_flight, statuses().map(in_flight).sum());
            set(&metrics.scoring, statuses().map(|status| status.scoring).sum());
            set(&metrics.waiting, standings().map(|it| it.waiting_items).sum());
            set(&metrics.unacknowledged, standings().map(|it| it.unacknowledged_items).sum());
            set(&metrics.waiting_bytes, standings().map(|it| it.waiting_bytes).sum());
            let samplings = || jobs().filter_map(|job| job.sampling.as_ref());
            set(&metrics.tasks_less, samplings().map(Sampling::visited_less).sum());
            set(&metrics.sessions, snapshot.sessions.into());
            set(&metrics.sessions_max, it.sessions_max.into());
            set(&metrics.steps, snapshot.steps);
            set(&metrics.steps_bytes_max, it.steps_bytes_max);
            set(&metrics.reserved, snapshot.memory.reserved);
            set(&metrics.waiting_for_memory, snapshot.memory.jobs_waiting.into());
            for (server, status) in &snapshot.servers {
                let of = OfServer { environment: it.name.clone(), server: server.clone() };
                let sessions = i64::from(status.admitted + status.opening);
                metrics.server_sessions.get_or_create(&of).set(sessions);
                metrics.server_down.get_or_create(&of).set(status.down.into());
                if let Some(limit) = status.limit {
                    metrics.server_limit.get_or_create(&of).set(limit.into());
                }
            }
        }
    }

    /// Begins nothing new. What has not begun waits for the next start of the engine.
    pub(super) fn drain(&mut self) -> wire::DrainResponse {
        self.is_draining = true;
        let jobs = self.jobs.values().filter(|job| job.wants_end() == Ending::None);
        for job in jobs {
            self.order(job.key, Order::Hold);
        }
        let snapshots = self.snapshots();
        let statuses = snapshots.iter().flat_map(|it| &it.jobs).map(|(_, status)| status);
        // What pauses waits for a trainer, and would for ever.
        let in_flight = statuses.filter(|status| !status.is_paused).map(in_flight).sum();
        wire::DrainResponse { in_flight }
    }
}

/// Episodes that have begun and are not recorded.
const fn in_flight(status: &JobStatus) -> u64 {
    status.waiting + status.delayed + status.active + status.scoring
}
