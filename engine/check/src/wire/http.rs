//! Requests without a session.

use std::{sync::Arc, time::Duration};

use rustls::crypto::aws_lc_rs;
use serde_json::Value;
use ureq::{
    Agent,
    http::header::CONTENT_TYPE,
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::{peer::Peer, trouble::Trouble};

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What came of a request.
#[derive(Clone, Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl HttpAnswer {
    /// The body, if it is JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }
}

/// Asks a server over HTTP; no proxy is used, and redirects are not followed.
pub(crate) struct Http {
    agent: Agent,
    peer: Peer,
}

impl Http {
    pub(crate) fn new(peer: &Peer) -> Self {
        let roots: Vec<_> = peer
            .roots
            .iter()
            .chain(webpki_root_certs::TLS_SERVER_ROOT_CERTS)
            .map(|der| Certificate::from_der(der).to_owned())
            .collect();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots));
        let config = Agent::config_builder()
            .timeout_global(Some(peer.timeout()))
            .timeout_connect(Some(Duration::from_secs(10).min(peer.timeout())))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .proxy(None)
            .user_agent(concat!("envmill/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build());
        Self { agent: config.build().into(), peer: peer.clone() }
    }

    /// `GET path`.
    pub(crate) fn get(&self, path: &str) -> Result<HttpAnswer, Trouble> {
        let mut request = self.agent.get(self.peer.url("http", path));
        for (name, value) in &self.peer.headers {
            request = request.header(name, value);
        }
        self.finish(request.call())
    }

    /// `POST path` with JSON.
    pub(crate) fn post(&self, path: &str, json: &str) -> Result<HttpAnswer, Trouble> {
        let mut request =
            self.agent.post(self.peer.url("http", path)).header(CONTENT_TYPE, "application/json");
        for (name, value) in &self.peer.headers {
            request = request.header(name, value);
        }
        self.finish(request.send(json))
    }

    fn finish(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<HttpAnswer, Trouble> {
        let trouble = |error: ureq::Error| match error {
            ureq::Error::Timeout(_) => Trouble::Silent(self.peer.timeout()),
            error => Trouble::Connect(error.to_string()),
        };
        let mut answer = answer.map_err(trouble)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = String::from_utf8_lossy(&body.map_err(trouble)?).into_owned();
        Ok(HttpAnswer { status, body })
    }
}
