//! Episodes as spans of OpenTelemetry, where the crate is built with the feature `opentelemetry`.

use envmill_service::Played;
use tokio::runtime::Runtime;

use super::ServeError;

#[cfg(feature = "opentelemetry")]
mod exported;

/// Where spans go, if anywhere. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Traces {
    #[cfg(feature = "opentelemetry")]
    exported: Option<exported::Exported>,
}

impl Traces {
    /// As the environment variables of OpenTelemetry say: nowhere without an endpoint.
    #[cfg_attr(not(feature = "opentelemetry"), expect(clippy::unnecessary_wraps))]
    pub(super) fn start(runtime: &Runtime) -> Result<Self, ServeError> {
        let _entered = runtime.enter();
        let is_wanted = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
            .iter()
            .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        if is_wanted && !cfg!(feature = "opentelemetry") {
            tracing::warn!("this envmill is built without the feature `opentelemetry`: no spans");
        }
        Ok(Self {
            #[cfg(feature = "opentelemetry")]
            exported: is_wanted
                .then(exported::Exported::start)
                .transpose()
                .map_err(|error| ServeError::Traces(error.to_string()))?,
        })
    }

    /// Sends the spans of what was played, or leaves them out where too many wait to be sent.
    pub(super) fn tell(&self, played: &Played) {
        #[cfg(feature = "opentelemetry")]
        if let (Some(exported), Played::Records(records)) = (&self.exported, played) {
            records.iter().for_each(|record| exported.tell(record));
        }
        #[cfg(not(feature = "opentelemetry"))]
        let _ = (self, played);
    }

    /// Waits until what was told is sent, for a few seconds at most. To be called while the runtime runs.
    pub(super) async fn finish(self) {
        #[cfg(feature = "opentelemetry")]
        if let Some(exported) = self.exported {
            exported.finish().await;
        }
    }
}
