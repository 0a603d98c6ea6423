//! Spans, as a collector gets them.

use std::sync::{Arc, Mutex};

use envmill_client::{Event, RolloutsOptions, wire};
use envmill_testing::{Watchdog, wait_until};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, status::StatusCode},
};
use tonic::{Request, Response, Status, transport::Server};

use super::rig::Service;
use crate::rig::BOUND;

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources.into_iter().flat_map(|it| it.scope_spans).flat_map(|it| it.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|it| it.key == key)?;
    found.value.clone()?.value
}

#[test]
fn episodes_are_spans_where_somebody_collects_them() {
    let _watchdog = Watchdog::start("traces", BOUND);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = Collector::default();
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = TraceServiceServer::new(collector.clone());
        tokio::spawn(Server::builder().add_service(server).serve_with_incoming(incoming));
        address
    });
    let mut service = Service::with_variables(
        "[environments.short]\nenv = \"native:cartpole\"\n",
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}"))],
    );
    runtime.block_on(async {
        let job = wire::SubmitJob {
            name: "traced".into(),
            environment: "short".into(),
            episodes: 5,
            ..wire::SubmitJob::default()
        };
        let mut rollouts = service.client().submit(job, RolloutsOptions::default()).await.unwrap();
        let mut count = 0;
        while count < 5 {
            if let Event::Delivered(it) = rollouts.next().await.unwrap().unwrap()
                && matches!(it.record, wire::Record::Trajectory(_))
            {
                count += 1;
            }
        }
    });
    // Its end sends what waits.
    assert_eq!(service.end().code(), Some(0));
    wait_until("all spans are there", BOUND, || collector.0.lock().unwrap().len() >= 10);
    let spans = collector.0.lock().unwrap();
    let named = |name: &'static str| spans.iter().filter(move |span| span.name == name);
    assert_eq!((named("episode").count(), named("attempt").count()), (5, 5));
    for episode in named("episode") {
        assert!(episode.parent_span_id.is_empty());
        assert!(episode.end_time_unix_nano > episode.start_time_unix_nano);
        let is = |key, value: &str| {
            assert_eq!(attribute(episode, key), Some(Value::StringValue(value.into())));
        };
        is("envmill.environment", "short");
        is("envmill.end", "completed");
        assert!(matches!(attribute(episode, "envmill.steps"), Some(Value::IntValue(1..))));
        assert!(matches!(attribute(episode, "envmill.reward"), Some(Value::DoubleValue(_))));
        assert!(episode.status.as_ref().is_none_or(|it| it.code != StatusCode::Error as i32));
        let attempts: Vec<_> =
            named("attempt").filter(|it| it.parent_span_id == episode.span_id).collect();
        let [attempt] = attempts[..] else { panic!("{attempts:?}") };
        assert_eq!(attempt.trace_id, episode.trace_id);
        assert!(attempt.start_time_unix_nano >= episode.start_time_unix_nano);
    }
}
