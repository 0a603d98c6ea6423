//! Spans, over OTLP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envmill_protocol::{
    Trajectory,
    record::{Attempt, End},
};
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanBuilder, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};

/// How long the last spans may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An exporter with its queue. Endpoint, headers, sampling, the queue's length and the service's name are
/// those of OpenTelemetry's environment variables.
#[derive(Clone, Debug)]
pub(super) struct Exported {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Exported {
    /// Within a runtime, which has to run for spans to be sent.
    pub(super) fn start() -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder().with_tonic().build()?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("envmill");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("envmill");
        Ok(Self { provider, tracer })
    }

    /// An episode is a trace of its own: a span from its start to its end, and one for each attempt.
    pub(super) fn tell(&self, record: &Trajectory) {
        let timing = &record.timing;
        let at = |us: u64| time(timing.run_started_unix_us.saturating_add(us));
        let mut episode = self.tracer.build_with_context(
            SpanBuilder::from_name("episode")
                .with_start_time(at(timing.started_us))
                .with_attributes(attributes(record)),
            &Context::new(),
        );
        if let End::Failed(failure) = &record.end {
            episode.set_status(Status::error(failure.message.clone()));
        }
        let within = Context::new().with_remote_span_context(episode.span_context().clone());
        for attempt in &record.attempts {
            let mut span = self.tracer.build_with_context(
                SpanBuilder::from_name("attempt")
                    .with_start_time(at(attempt.started_us))
                    .with_attributes(attributes_of_attempt(attempt)),
                &within,
            );
            if !attempt.cause.is_empty() {
                span.set_status(Status::error(attempt.message.clone()));
            }
            span.end_with_timestamp(at(attempt.ended_us));
        }
        episode.end_with_timestamp(at(timing.ended_us));
    }

    pub(super) async fn finish(self) {
        let shutting = move || self.provider.shutdown_with_timeout(PATIENCE);
        match tokio::task::spawn_blocking(shutting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(error) => tracing::error!(%error, "the last spans were not sent"),
        }
    }
}

fn time(unix_us: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_micros(unix_us)).unwrap_or(UNIX_EPOCH)
}

fn number(key: &'static str, value: u64) -> KeyValue {
    KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX))
}

fn attributes(record: &Trajectory) -> Vec<KeyValue> {
    let total = |of: fn(&envmill_protocol::record::Step) -> u32| {
        record.steps.iter().map(|step| u64::from(of(step))).sum()
    };
    let mut attributes = vec![
        KeyValue::new("envmill.trajectory_id", record.trajectory_id.clone()),
        KeyValue::new("envmill.job_id", record.job_id.clone()),
        KeyValue::new("envmill.environment", record.environment.clone()),
        number("envmill.group_id", record.group_id),
        number("envmill.sample_index", record.sample_index.into()),
        number("envmill.steps", record.steps.len() as u64),
        number("envmill.environment_us", total(|step| step.environment_us)),
        number("envmill.policy_us", total(|step| step.policy_us)),
        KeyValue::new("envmill.end", record.end.name()),
        KeyValue::new("envmill.cause", record.end.cause()),
    ];
    if !record.task_id.is_empty() {
        attributes.push(KeyValue::new("envmill.task_id", record.task_id.clone()));
    }
    attributes.extend(record.reward.map(|reward| KeyValue::new("envmill.reward", reward)));
    attributes
}

fn attributes_of_attempt(attempt: &Attempt) -> Vec<KeyValue> {
    vec![
        KeyValue::new("envmill.server", attempt.server.clone()),
        KeyValue::new("envmill.cause", attempt.cause.clone()),
        number("envmill.steps", attempt.steps.into()),
    ]
}
