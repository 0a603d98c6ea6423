//! Figures for Prometheus. `docs/service.md` lists them; a test compares.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::AtomicU64},
};

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use envmill_protocol::Trajectory;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry, Unit},
};
use tokio::net::TcpListener;

use crate::hub::{Address, Word};

type Seconds = Counter<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Of {
    pub(crate) environment: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Ended {
    pub(crate) environment: String,
    pub(crate) end: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Part {
    pub(crate) environment: String,
    pub(crate) part: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct OfServer {
    pub(crate) environment: String,
    pub(crate) server: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Code {
    pub(crate) code: String,
}

/// All of them. What only the hub knows is looked up when somebody asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) incarnation: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) jobs: Family<Of, Gauge>,
    pub(crate) unstarted: Family<Of, Gauge>,
    pub(crate) in_flight: Family<Of, Gauge>,
    pub(crate) scoring: Family<Of, Gauge>,
    pub(crate) paused: Family<Of, Gauge>,
    pub(crate) waiting: Family<Of, Gauge>,
    pub(crate) waiting_bytes: Family<Of, Gauge>,
    pub(crate) unacknowledged: Family<Of, Gauge>,
    pub(crate) sessions: Family<Of, Gauge>,
    pub(crate) sessions_max: Family<Of, Gauge>,
    pub(crate) steps: Family<Of, Gauge>,
    pub(crate) steps_bytes_max: Family<Of, Gauge>,
    pub(crate) reserved: Family<Of, Gauge>,
    pub(crate) waiting_for_memory: Family<Of, Gauge>,
    pub(crate) server_sessions: Family<OfServer, Gauge>,
    pub(crate) server_limit: Family<OfServer, Gauge>,
    pub(crate) server_down: Family<OfServer, Gauge>,
    pub(crate) episodes: Family<Ended, Counter>,
    pub(crate) groups: Family<Of, Counter>,
    pub(crate) groups_unvaried: Family<Of, Counter>,
    pub(crate) tasks_less: Family<Of, Gauge>,
    pub(crate) seconds: Family<Part, Seconds>,
    pub(crate) delivered: Counter,
    pub(crate) redelivered: Counter,
    pub(crate) in_memory: Counter,
    pub(crate) stale: Counter,
    pub(crate) refused: Family<Code, Counter>,
    pub(crate) journal_bytes: Gauge,
    pub(crate) journal_failing: Gauge,
    pub(crate) resident_bytes: Gauge,
    pub(crate) shared_bytes: Gauge,
}

impl Metrics {
    fn registry(&self) -> Registry {
        let mut all = Registry::with_prefix("envmill");
        let mut put = Put(&mut all);
        put.put("incarnation", "How often the store has been opened", &self.incarnation);
        put.put("streams", "Trainers' streams that are open", &self.streams);
        put.put("jobs", "Jobs that have not ended", &self.jobs);
        put.put("episodes_unstarted", "Episodes that have not begun", &self.unstarted);
        put.put(
            "episodes_in_flight",
            "Episodes that have begun and are not recorded",
            &self.in_flight,
        );
        put.put("episodes_scoring", "Of them, those with their scorer", &self.scoring);
        put.put(
            "jobs_paused",
            "Jobs whose episodes may not go on, or that may begin none, for now",
            &self.paused,
        );
        put.put("records_waiting", "Records that may go and are with no consumer", &self.waiting);
        put.put(
            "records_waiting_bytes",
            "Bytes of records that may go and are with no consumer",
            &self.waiting_bytes,
        );
        put.put(
            "records_unacknowledged",
            "Records that were sent and are not acknowledged",
            &self.unacknowledged,
        );
        put.put("sessions", "Sessions that are open", &self.sessions);
        put.put("sessions_max", "The most sessions, as configured", &self.sessions_max);
        put.put("steps", "Steps taken since the start", &self.steps);
        put.put(
            "steps_bytes_max",
            "Bytes of memory for the episodes under way",
            &self.steps_bytes_max,
        );
        put.put("reserved_bytes", "How many of them are reserved", &self.reserved);
        put.put(
            "jobs_waiting_for_memory",
            "Jobs that would begin another group if more memory was free",
            &self.waiting_for_memory,
        );
        put.put("server_sessions", "Sessions that a server holds", &self.server_sessions);
        put.put(
            "server_learned_limit",
            "The most sessions that a server was seen to hold, if it has refused one",
            &self.server_limit,
        );
        put.put("server_down", "1 if a server gives no sessions for now", &self.server_down);
        put.put("episodes", "Episodes that have ended, by how", &self.episodes);
        put.put("groups", "Groups that have ended", &self.groups);
        put.put(
            "groups_unvaried",
            "Groups whose members all had the same reward",
            &self.groups_unvaried,
        );
        put.put(
            "tasks_visited_less",
            "Tasks that are visited less, since their groups do not vary",
            &self.tasks_less,
        );
        put.put("records_delivered", "Records sent for the first time", &self.delivered);
        put.put("records_redelivered", "Records sent again", &self.redelivered);
        put.put("records_in_memory", "Records sent through shared memory", &self.in_memory);
        put.put("records_stale", "Records that were too old when their turn came", &self.stale);
        put.put("requests_refused", "Requests that were refused, by code", &self.refused);
        put.put("journal_bytes", "Bytes of the journal on disk", &self.journal_bytes);
        put.put("journal_failing", "1 if the journal cannot be written", &self.journal_failing);
        put.put("resident_bytes", "Bytes of records in memory", &self.resident_bytes);
        put.put("shared_bytes", "Bytes of memory shared with trainers", &self.shared_bytes);
        all.register_with_unit(
            "episode_time",
            "Time of recorded episodes: in the environment, with the policy, and waiting for either",
            Unit::Seconds,
            self.seconds.clone(),
        );
        all
    }

    /// Counts an episode that is over, and where its time went.
    pub(crate) fn episode(&self, environment: &str, trajectory: &Trajectory) {
        let environment = environment.to_owned();
        let ended = Ended { environment: environment.clone(), end: trajectory.end.name() };
        self.episodes.get_or_create(&ended).inc();
        let steps = &trajectory.steps;
        let played: f64 = steps.iter().map(|step| f64::from(step.environment_us)).sum();
        let decided: f64 = steps.iter().map(|step| f64::from(step.policy_us)).sum();
        let timing = &trajectory.timing;
        let whole = timing.ended_us.saturating_sub(timing.started_us) as f64;
        let waited = (whole - played - decided).max(0.0);
        for (part, us) in [("environment", played), ("policy", decided), ("waiting", waited)] {
            let part = Part { environment: environment.clone(), part };
            self.seconds.get_or_create(&part).inc_by(us / 1e6);
        }
    }
}

struct Put<'a>(&'a mut Registry);

impl Put<'_> {
    fn put(&mut self, name: &str, help: &str, metric: &(impl Metric + Clone)) {
        self.0.register(name, help, metric.clone());
    }
}

/// Answers `GET /metrics` on `listener`.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    hub: Address,
) -> std::io::Result<()> {
    let registry = Arc::new(metrics.registry());
    let show = move || {
        let (registry, hub) = (Arc::clone(&registry), hub.clone());
        async move {
            // The hub brings the gauges up to date; one that has gone has nothing to add.
            let _ = hub.ask(Word::Metrics).await;
            let mut text = String::new();
            if encode(&mut text, &registry).is_err() {
                let _ = writeln!(text, "# the metrics cannot be encoded");
            }
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
    };
    axum::serve(listener, Router::new().route("/metrics", get(show))).await
}
