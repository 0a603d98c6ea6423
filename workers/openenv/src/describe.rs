//! What a server says about itself over HTTP, asked before any session is opened.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::{
    Agent, Body,
    http::{Response, header::CONTENT_TYPE},
};

use crate::{Options, OptionsError, Server, options::Target, tls::Authorities};

/// How long one HTTP request may take, from the name's resolution to the last byte: a Python server with
/// much to do takes its time for its `/openapi.json`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long its connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How many digits of the hash make a fingerprint.
const FINGERPRINT_DIGITS: usize = 32;

/// A server's own description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The JSON Schema of an action: the text of one JSON value, a slice of `schema`.
    pub action_schema: Bytes,
    /// The answer to `/schema`: the text of one JSON object.
    pub schema: Bytes,
    /// What tells this environment from a changed one: 32 hexadecimal digits of BLAKE3 over the
    /// answers to `/schema` and `/openapi.json`.
    pub fingerprint: String,
}

/// Why a server could not be asked, or what is wrong with its answer. Each message says what was
/// found and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// The server's URL or headers, or the file of authorities, cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// No HTTP answer: the name, the connection, TLS or the time failed.
    #[error("{url} cannot be reached: {problem}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why, and what to do.
        problem: String,
    },
    /// Another status than 200.
    #[error("{url} answered {status}: {problem}")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
        /// What it may mean.
        problem: String,
    },
    /// An answer that is longer than any that is taken.
    #[error(
        "{url} does not answer like an OpenEnv server: its answer is longer than {bytes_max} bytes"
    )]
    TooLarge {
        /// What was asked.
        url: String,
        /// The longest that is taken.
        bytes_max: u64,
    },
    /// An answer that is not what OpenEnv servers give.
    #[error("{url} does not answer like an OpenEnv server: {problem}")]
    NotOpenEnv {
        /// What was asked.
        url: String,
        /// What was found.
        problem: String,
    },
}

impl DescribeError {
    /// Whether an answer was larger than one may be: asking for less may help. Our own servers in front of others
    /// say so with a status, others have no limit of theirs.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Status { status: 413, .. })
    }
}

/// Asks a server for its schemas, waiting for the answers.
///
/// Only `/schema` and `/openapi.json` are asked for: both are cheap, where other endpoints build
/// a whole environment and hold all its sessions up.
///
/// # Errors
///
/// When there is no answer within 10 s, or it is not that of an OpenEnv server.
pub fn describe(server: &Server, options: &Options) -> Result<Description, DescribeError> {
    let asker = Asker::new(server, options)?;
    let schema = asker.required("/schema")?;
    let action_schema = action_schema(&schema).map_err(|problem| DescribeError::NotOpenEnv {
        url: asker.target.address.http("/schema"),
        problem,
    })?;
    // Part of what FastAPI serves, and not of what OpenEnv demands.
    let openapi = asker.optional("/openapi.json")?;
    let fingerprint = fingerprint(&schema, &openapi);
    Ok(Description { action_schema, schema, fingerprint })
}

/// Asks a server whether it is up (`/health`), waiting for the answer.
///
/// # Errors
///
/// When there is no answer within 10 s, or it is not 200. While a server starts, that is
/// [`Unreachable`](DescribeError::Unreachable).
pub fn ready(server: &Server, options: &Options) -> Result<(), DescribeError> {
    Asker::new(server, options)?.required("/health").map(drop)
}

/// Asks a server for its metadata (`/metadata`), waiting for the answer: the text of one JSON object, or
/// empty where it has none. It builds a whole environment for that, so this is asked once.
///
/// # Errors
///
/// As [`describe`].
pub fn metadata(server: &Server, options: &Options) -> Result<Bytes, DescribeError> {
    Asker::new(server, options)?.optional("/metadata")
}

pub(crate) struct Asker {
    agent: Agent,
    pub(crate) target: Target,
}

impl Asker {
    pub(crate) fn new(server: &Server, options: &Options) -> Result<Self, DescribeError> {
        let authorities = Authorities::load(options.ca_file.as_deref())?;
        let target = Target::new(server, &authorities)?;
        let mut config = Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Sessions go straight to the server, so this must too: else it says nothing about them.
            .proxy(None)
            .user_agent(concat!("envmill/", env!("CARGO_PKG_VERSION")));
        if target.address.is_secure() {
            config = config.tls_config(authorities.blocking());
        }
        Ok(Self { agent: config.build().into(), target })
    }

    pub(crate) fn required(&self, endpoint: &str) -> Result<Bytes, DescribeError> {
        self.answer(endpoint, None)
    }

    /// The answer to a `POST` of this JSON, or to a `GET`.
    pub(crate) fn answer(
        &self,
        endpoint: &str,
        json: Option<&str>,
    ) -> Result<Bytes, DescribeError> {
        let url = self.target.address.http(endpoint);
        let (status, html, body) = self.ask(endpoint, json)?;
        match status {
            200 if html => {
                let problem =
                    "it answered with a web page; a hosted Space that sleeps or is being \
                               built does so: open the URL in a browser until the environment runs"
                        .into();
                Err(DescribeError::NotOpenEnv { url, problem })
            }
            200 => Ok(body),
            _ => Err(DescribeError::Status { url, status, problem: meaning(status).into() }),
        }
    }

    fn optional(&self, endpoint: &str) -> Result<Bytes, DescribeError> {
        match self.required(endpoint) {
            Err(DescribeError::Status { status: 404 | 405 | 501, .. }) => Ok(Bytes::new()),
            result => result,
        }
    }

    fn ask(&self, endpoint: &str, json: Option<&str>) -> Result<(u16, bool, Bytes), DescribeError> {
        let url = self.target.address.http(endpoint);
        let fail = |error: &ureq::Error| DescribeError::Unreachable {
            url: url.clone(),
            problem: problem(error, self.target.address.is_secure()),
        };
        let headers = &self.target.headers;
        let response = if let Some(json) = json {
            let request = self.agent.post(&url).header(CONTENT_TYPE, "application/json");
            headers
                .iter()
                .fold(request, |request, (name, value)| request.header(name, value))
                .send(json)
        } else {
            let request = self.agent.get(&url);
            headers
                .iter()
                .fold(request, |request, (name, value)| request.header(name, value))
                .call()
        };
        let mut response = response.map_err(|error| fail(&error))?;
        let html = is_html(&response);
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let status = response.status().as_u16();
        if let (300..=399, Some(location)) = (status, location) {
            let problem =
                format!("it points to {location}; redirects are not followed, so use that URL");
            return Err(DescribeError::Status { url, status, problem });
        }
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
        match body {
            Ok(body) => Ok((status, html, body.into())),
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                Err(DescribeError::TooLarge { url, bytes_max: BODY_BYTES_MAX })
            }
            Err(error) => Err(fail(&error)),
        }
    }
}

fn is_html(response: &Response<Body>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/html"))
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 | 403 => "it wants to know who asks; give it an Authorization header",
        404 | 405 => "is this an OpenEnv server, and is the path right?",
        413 => "the answer is larger than one may be",
        429 | 503 => "it is busy or starting; try again later",
        500.. => "the server failed; its own log says why",
        _ => "is this an OpenEnv server?",
    }
}

const NAME_HINT: &str = "; is the name right?";

fn problem(error: &ureq::Error, secure: bool) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    let hint = match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "; is the server running there?"
        }
        ureq::Error::Timeout(_) => "; is the server overloaded, or another service on this port?",
        ureq::Error::HostNotFound => NAME_HINT,
        // What the system's resolver says has no kind of its own.
        ureq::Error::Io(_) if text.contains("failed to lookup address") => NAME_HINT,
        _ if text.contains("UnknownIssuer") => {
            "; its certificate is from an authority that is not known here: if it is your own, name \
             its file as trusted"
        }
        _ if secure && text.contains("InvalidContentType") => {
            "; if the server is not encrypted, its URL begins with http"
        }
        _ => "",
    };
    text + hint
}

#[derive(Deserialize)]
struct Schemas<'a> {
    #[serde(borrow)]
    action: Option<&'a RawValue>,
}

fn action_schema(schema: &Bytes) -> Result<Bytes, String> {
    let parsed: Schemas<'_> =
        serde_json::from_slice(schema).map_err(|error| format!("it is not JSON: {error}"))?;
    let action = parsed.action.ok_or("it names no schema of an action")?;
    Ok(schema.slice_ref(action.get().as_bytes()))
}

fn fingerprint(schema: &[u8], openapi: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [schema, openapi] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut digits = hasher.finalize().to_hex().to_string();
    digits.truncate(FINGERPRINT_DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_action_schema_is_lifted_out_as_it_is() {
        let schema = Bytes::from_static(br#"{"action": {"type" : "object"}, "state": {}}"#);
        assert_eq!(action_schema(&schema).unwrap(), r#"{"type" : "object"}"#);
        for wrong in ["{}", "[]", "hello", ""] {
            assert!(action_schema(&Bytes::from_static(wrong.as_bytes())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fingerprints_tell_both_parts_apart() {
        let both = fingerprint(b"ab", b"c");
        assert_eq!(both.len(), FINGERPRINT_DIGITS);
        assert_ne!(both, fingerprint(b"a", b"bc"));
        assert_eq!(both, fingerprint(b"ab", b"c"));
    }
}
