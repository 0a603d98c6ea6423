//! Requests to one HTTP server, over as many connections as there are requests.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use crate::{Error, ErrorKind};

/// Where an HTTP server is, and how to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// `http://host:port` or `https://…`, with a path in front of the endpoints' own if there is one.
    pub url: String,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
}

impl std::fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.api_key.as_ref().map(|_| "…");
        f.debug_struct("HttpTarget").field("url", &self.url).field("api_key", &key).finish()
    }
}

/// A pool of connections to one server. It has no limit: how many requests are under way is decided above,
/// and each has a connection.
#[derive(Clone)]
pub(crate) struct Link {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    target: Arc<HttpTarget>,
}

/// A connection is made within this time, or the server is lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Servers close connections that were idle for 5 s (uvicorn's default); one that is used at that moment
/// fails, so they are not used for as long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// Of a refusal's text, this much is read.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;

impl Link {
    /// # Errors
    ///
    /// The URL is none, or not of a server.
    pub(crate) fn new(target: HttpTarget) -> Result<Self, Error> {
        let url = target.url.trim_end_matches('/').to_owned();
        let uri: Uri = url.parse().map_err(|error| {
            Error::new(ErrorKind::Refused, format!("{url:?} is no URL ({error})"))
        })?;
        if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            let message = format!("{url:?} should begin with http://HOST or https://HOST");
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(hyper_rustls_provider())
            .map_err(|error| Error::new(ErrorKind::Unsupported, error.to_string()))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Ok(Self { client, target: Arc::new(HttpTarget { url, ..target }) })
    }

    /// The server's address.
    pub(crate) fn url(&self) -> &str {
        &self.target.url
    }

    /// Sends a request; the answer's body is still to be read.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Incoming), Error> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.target.url))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.target.api_key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Error::new(ErrorKind::Refused, error.to_string()))?;
        let answer = self.client.request(request).await.map_err(|error| self.lost(&error))?;
        let (head, body) = answer.into_parts();
        Ok((head.status, body))
    }

    /// Sends a request and reads an answer of at most `bytes_max`; one that is no success is an error.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        bytes_max: u64,
    ) -> Result<Bytes, Error> {
        let (status, body) = self.send(method, path, body).await?;
        if status.is_success() {
            self.read(body, bytes_max).await
        } else {
            Err(self.refusal(path, status, body).await)
        }
    }

    /// Reads a whole body.
    pub(crate) async fn read(&self, mut body: Incoming, bytes_max: u64) -> Result<Bytes, Error> {
        if body.size_hint().lower() > bytes_max {
            return Err(too_long(bytes_max));
        }
        let mut first = Bytes::new();
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| self.lost(&error))?.into_data() else { continue };
            if (first.len() + rest.len() + data.len()) as u64 > bytes_max {
                return Err(too_long(bytes_max));
            }
            // Most answers come in one piece, which is not copied.
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest = std::mem::take(&mut first).into();
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.into() })
    }

    /// An answer that is no success, as an error.
    pub(crate) async fn refusal(&self, path: &str, status: StatusCode, body: Incoming) -> Error {
        let text = self.read(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
        refused(path, status, &text)
    }

    /// The connection broke.
    pub(crate) fn lost(&self, error: &dyn std::error::Error) -> Error {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Error::new(ErrorKind::Lost, format!("{}: {message}", self.target.url))
    }
}

fn hyper_rustls_provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn too_long(bytes_max: u64) -> Error {
    Error::new(ErrorKind::Nonsense, format!("an answer of more than {bytes_max} bytes"))
}

/// What a status that is no success says about the request.
fn refused(path: &str, status: StatusCode, text: &[u8]) -> Error {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => ErrorKind::Busy,
        status if status.is_server_error() => ErrorKind::Lost,
        _ => ErrorKind::Refused,
    };
    Error::new(kind, format!("{path} answered {status}: {}", said(text)))
}

/// What an error's body says, in a line.
fn said(text: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        error: Option<Inner>,
    }
    #[derive(serde::Deserialize)]
    struct Inner {
        message: String,
    }
    const SHOWN_MAX: usize = 300;
    let message = serde_json::from_slice::<Body>(text).ok().and_then(|it| it.error);
    let message =
        message.map_or_else(|| String::from_utf8_lossy(text).into_owned(), |it| it.message);
    let line: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN_MAX).collect()
}
