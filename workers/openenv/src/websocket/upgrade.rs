//! The HTTP exchange that turns a connection into a WebSocket, and what its refusals mean.

use std::{fmt::Write, str, time::Duration};

use envmill_protocol::{Failure, FailureKind};
use tungstenite::{
    handshake::{
        client::{Response, generate_key},
        derive_accept_key,
        machine::TryParse,
    },
    http::header::{HeaderMap, HeaderName},
};

use crate::address::Address;

/// The longest head of an answer that is read, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How much of a refusal's body goes into its message, in characters.
const EXCERPT_CHARACTERS: usize = 120;

/// One upgrade under way: the answer as far as it has come.
#[derive(Debug)]
pub(crate) struct Upgrade {
    accept: String,
    answer: Vec<u8>,
    searched: usize,
}

/// What has become of an upgrade.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// More of the answer is needed.
    Incomplete,
    /// The connection is a WebSocket. What came after the head belongs to it.
    Upgraded {
        /// The bytes after the head.
        rest: Vec<u8>,
    },
}

impl Upgrade {
    /// Starts an upgrade; returns it with the request to send.
    pub(crate) fn request(
        address: &Address,
        path: &str,
        headers: &[(String, String)],
    ) -> (Self, Vec<u8>) {
        let key = generate_key();
        let mut request = String::with_capacity(256);
        // Writing into a string cannot fail.
        let _ = write!(
            request,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nUser-Agent: envmill/{version}\r\n",
            host = address.authority(),
            version = env!("CARGO_PKG_VERSION"),
        );
        for (name, value) in headers {
            let _ = write!(request, "{name}: {value}\r\n");
        }
        request.push_str("\r\n");
        let upgrade =
            Self { accept: derive_accept_key(key.as_bytes()), answer: Vec::new(), searched: 0 };
        (upgrade, request.into_bytes())
    }

    /// Whether nothing of an answer has come yet.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.answer.is_empty()
    }

    /// Takes in more of the answer.
    ///
    /// # Errors
    ///
    /// The refusal, or what is wrong with an answer that is none.
    pub(crate) fn take(&mut self, input: &[u8], address: &Address) -> Result<Verdict, Failure> {
        self.answer.extend_from_slice(input);
        let begins = self.answer.len().min(b"HTTP/1.".len());
        if self.answer[..begins] != b"HTTP/1."[..begins] {
            return Err(Failure::lost(
                FailureKind::NotOpenEnv,
                format!(
                    "{address} does not answer in HTTP but with {:?}: is another service on this port?",
                    excerpt(&self.answer)
                ),
            ));
        }
        // The end of the head is looked for before it is parsed, so that an answer that trickles in
        // byte by byte is not parsed at each byte.
        let from = self.searched.saturating_sub(3);
        self.searched = self.answer.len();
        if !self.answer[from..].windows(4).any(|four| four == b"\r\n\r\n") {
            return if self.answer.len() > HEAD_BYTES_MAX {
                Err(not_openenv(address, "the head of its answer is longer than 64 KiB"))
            } else {
                Ok(Verdict::Incomplete)
            };
        }
        match Response::try_parse(&self.answer) {
            Ok(Some((head, response))) => {
                self.judge(&response, &self.answer[head..], address)?;
                Ok(Verdict::Upgraded { rest: self.answer.split_off(head) })
            }
            Ok(None) => Ok(Verdict::Incomplete),
            Err(error) => Err(not_openenv(address, &error.to_string())),
        }
    }

    fn judge(&self, response: &Response, body: &[u8], address: &Address) -> Result<(), Failure> {
        let headers = response.headers();
        let status = response.status().as_u16();
        if status != 101 {
            return Err(refusal(status, headers, body, address));
        }
        let is = |name, expected: &str| {
            text(headers, name).is_some_and(|value| {
                value.split(',').any(|v| v.trim().eq_ignore_ascii_case(expected))
            })
        };
        if !is(HeaderName::from_static("upgrade"), "websocket")
            || !is(HeaderName::from_static("connection"), "upgrade")
            || text(headers, HeaderName::from_static("sec-websocket-accept")) != Some(&self.accept)
        {
            return Err(not_openenv(address, "its answer to the WebSocket upgrade is not valid"));
        }
        for unasked in ["sec-websocket-extensions", "sec-websocket-protocol"] {
            if headers.contains_key(unasked) {
                return Err(not_openenv(
                    address,
                    &format!("its answer has {unasked}, which was not asked for"),
                ));
            }
        }
        Ok(())
    }
}

fn not_openenv(address: &Address, what: &str) -> Failure {
    Failure::lost(FailureKind::NotOpenEnv, format!("{address}: {what}: is this an OpenEnv server?"))
}

fn refusal(status: u16, headers: &HeaderMap, body: &[u8], address: &Address) -> Failure {
    let page = text(headers, HeaderName::from_static("content-type"))
        .is_some_and(|kind| kind.starts_with("text/html"));
    if status == 200 {
        let what = if page {
            "with a web page instead of a WebSocket: a hosted Space that sleeps or is being built \
             does so; open the URL in a browser until the environment runs, then try again"
        } else {
            "instead of upgrading to a WebSocket: is this an OpenEnv server?"
        };
        return Failure::lost(FailureKind::NotOpenEnv, format!("{address} answered 200 {what}"));
    }
    let remedy = match status {
        300..=399 => match text(headers, HeaderName::from_static("location")) {
            Some(location) => {
                format!(": it points to {location}; redirects are not followed, so use that URL")
            }
            None => ": redirects are not followed".to_owned(),
        },
        401 => ": it wants to know who asks; give it an Authorization header".to_owned(),
        403 => ": the path is wrong (an OpenEnv server answers 403, not 404, to an unknown \
                WebSocket path, a trailing slash included), or the Authorization header is missing \
                or refused"
            .to_owned(),
        404 | 405 => ": is this an OpenEnv server?".to_owned(),
        _ if page || body.is_empty() => String::new(),
        _ => format!(": {}", excerpt(body)),
    };
    let mut failure = Failure::lost(
        FailureKind::UpgradeRefused { status },
        format!("{address} answered the WebSocket upgrade with {status}{remedy}"),
    );
    failure.retry_after = text(headers, HeaderName::from_static("retry-after"))
        .and_then(|seconds| seconds.trim().parse().ok())
        .map(Duration::from_secs);
    failure
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| str::from_utf8(value.as_bytes()).ok())
}

fn excerpt(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(4 * EXCERPT_CHARACTERS)];
    String::from_utf8_lossy(start).trim().chars().take(EXCERPT_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address::parse("http://host:8000").unwrap()
    }

    fn answered(answer: &str) -> Result<Verdict, Failure> {
        let (mut upgrade, _) = Upgrade::request(&address(), "/ws", &[]);
        let answer = answer.replace("{accept}", &upgrade.accept);
        let mut verdict = Ok(Verdict::Incomplete);
        for byte in answer.as_bytes() {
            verdict = upgrade.take(&[*byte], &address());
            if !matches!(verdict, Ok(Verdict::Incomplete)) {
                break;
            }
        }
        verdict
    }

    const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n";

    #[test]
    fn the_request_names_host_path_and_headers() {
        let address = Address::parse("https://me-env.hf.space/base").unwrap();
        let headers = [("Authorization".to_owned(), "Bearer hf_x".to_owned())];
        let (_, request) = Upgrade::request(&address, &address.path("/ws", None), &headers);
        let request = String::from_utf8(request).unwrap();
        assert!(request.starts_with("GET /base/ws HTTP/1.1\r\nHost: me-env.hf.space\r\n"));
        assert!(request.contains("\r\nAuthorization: Bearer hf_x\r\n"));
        assert!(!request.to_ascii_lowercase().contains("extensions"), "no compression is offered");
        assert!(request.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_valid_answer_upgrades() {
        let verdict = answered(&format!("{SWITCHED}\r\n"));
        assert!(matches!(verdict, Ok(Verdict::Upgraded { rest }) if rest.is_empty()));
    }

    #[test]
    fn what_comes_with_the_head_is_kept() {
        let (mut upgrade, _) = Upgrade::request(&address(), "/ws", &[]);
        let answer = format!("{SWITCHED}\r\n\u{81}").replace("{accept}", &upgrade.accept);
        let Ok(Verdict::Upgraded { rest }) = upgrade.take(answer.as_bytes(), &address()) else {
            panic!("not upgraded");
        };
        assert_eq!(rest, "\u{81}".as_bytes());
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (answer, kind, words) in [
            (
                "HTTP/1.1 301 Moved\r\nLocation: https://new/ws\r\n\r\n",
                FailureKind::UpgradeRefused { status: 301 },
                "https://new/ws",
            ),
            (
                "HTTP/1.1 401 No\r\n\r\n",
                FailureKind::UpgradeRefused { status: 401 },
                "Authorization",
            ),
            ("HTTP/1.1 403 No\r\n\r\n", FailureKind::UpgradeRefused { status: 403 }, "path"),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n",
                FailureKind::NotOpenEnv,
                "sleeps",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", FailureKind::NotOpenEnv, "OpenEnv server?"),
            ("SSH-2.0-OpenSSH_9\r\n", FailureKind::NotOpenEnv, "another service"),
            (
                "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: nonsense\r\n\r\n",
                FailureKind::NotOpenEnv,
                "not valid",
            ),
        ] {
            let failure = answered(answer).unwrap_err();
            assert_eq!(failure.kind, kind, "{answer}");
            assert!(failure.message.contains(words), "{} lacks {words}", failure.message);
        }
        let unasked = format!("{SWITCHED}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
        assert_eq!(answered(&unasked).unwrap_err().kind, FailureKind::NotOpenEnv);
    }

    #[test]
    fn retry_after_is_passed_on() {
        let failure = answered("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n").unwrap_err();
        assert_eq!(failure.kind, FailureKind::UpgradeRefused { status: 503 });
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_head_without_end_is_given_up() {
        let (mut upgrade, _) = Upgrade::request(&address(), "/ws", &[]);
        let mut verdict = upgrade.take(b"HTTP/1.1 101 X\r\n", &address());
        for _ in 0..2000 {
            if verdict.is_err() {
                break;
            }
            verdict =
                upgrade.take(b"X-Filler: 0123456789012345678901234567890123456789\r\n", &address());
        }
        assert!(verdict.unwrap_err().message.contains("64 KiB"));
    }
}
