//! A scorer that is a server: batches by `POST`, as JSON.

use std::time::Duration;

use envmill_openenv::{OptionsError, tls_config};
use ureq::{
    Agent,
    http::{
        HeaderMap, HeaderValue,
        header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
    },
};

use super::HttpSource;
use crate::callable::{Caller, Fault, Remedy};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How much is shown of an answer that is none.
const EXCERPT_BYTES_MAX: usize = 500;

pub(super) struct HttpCaller {
    agent: Agent,
    url: String,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl HttpCaller {
    /// Asks nobody yet. No proxy is used, and redirects are not followed: what says who asks goes to its
    /// server only.
    ///
    /// # Errors
    ///
    /// There are no certificates where the options say.
    pub(super) fn new(server: &HttpSource, timeout: Duration) -> Result<Self, OptionsError> {
        let HttpSource { url, connections: _, authorization, ca } = server;
        let mut config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("envmill/", env!("CARGO_PKG_VERSION")));
        if url.starts_with("https") {
            config = config.tls_config(tls_config(ca.as_deref())?);
        }
        let (url, authorization) = (url.clone(), authorization.clone());
        Ok(Self { agent: config.build().into(), url, authorization, timeout })
    }

    fn fault(&self, error: &ureq::Error) -> Fault {
        let Self { url, timeout, .. } = self;
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Fault::new(Remedy::Again(None), format!("{url} cannot be reached in time"))
            }
            ureq::Error::Timeout(_) => Fault::new(
                Remedy::AgainInHalves,
                format!("{url} has not answered within {timeout:?}"),
            ),
            ureq::Error::BodyExceedsLimit(most) => {
                Fault::new(Remedy::Halves, format!("{url} answered more than {most} bytes"))
            }
            error => Fault::new(Remedy::Again(None), format!("{url} cannot be asked: {error}")),
        }
    }
}

impl Caller for HttpCaller {
    fn call(&mut self, batch: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut request = self.agent.post(&self.url).header(CONTENT_TYPE, "application/json");
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let mut response = request.send(batch).map_err(|error| self.fault(&error))?;
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.fault(&error))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let end = body.len().min(EXCERPT_BYTES_MAX);
        let excerpt = String::from_utf8_lossy(&body[..end]);
        let message = format!("{} answered {}: {excerpt}", self.url, response.status());
        Err(Fault::new(remedy(status, response.headers()), message))
    }
}

/// What may help against a status.
fn remedy(status: u16, headers: &HeaderMap) -> Remedy {
    match status {
        400 | 413 | 422 => Remedy::Halves,
        // Frameworks answer so when something in the batch has raised an exception, and for much else.
        500 => Remedy::AgainInHalves,
        408 | 425 | 429 | 501.. => {
            let after =
                headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
            Remedy::Again(after.map(Duration::from_secs))
        }
        _ => Remedy::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_may_help() {
        let mut headers = HeaderMap::new();
        assert_eq!(remedy(404, &headers), Remedy::Nothing);
        assert_eq!(remedy(302, &headers), Remedy::Nothing);
        assert_eq!(remedy(422, &headers), Remedy::Halves);
        assert_eq!(remedy(500, &headers), Remedy::AgainInHalves);
        assert_eq!(remedy(503, &headers), Remedy::Again(None));
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(remedy(429, &headers), Remedy::Again(Some(Duration::from_secs(7))));
        headers.insert(RETRY_AFTER, "Fri, 31 Dec 1999 23:59:59 GMT".parse().unwrap());
        assert_eq!(remedy(429, &headers), Remedy::Again(None));
    }
}
