//! Where a server is, from the URL that people write.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// A URL that cannot be used, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is no server's URL: {problem}")]
pub struct AddressError {
    /// The URL as given, without what stands before an `@`.
    pub url: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

/// A server's place: what `http`, `https`, `ws` and `wss` URLs have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    secure: bool,
    /// A name or an address, an IPv6 one without brackets.
    host: String,
    port: u16,
    /// The path below which the server's endpoints are, without a slash at its end.
    base: String,
    /// `?session_id=…` and the like, with the question mark; empty without.
    query: String,
}

impl Address {
    /// Reads `http://host:port`, `wss://host/base/ws` and what lies between.
    ///
    /// # Errors
    ///
    /// When it is no such URL.
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let fail = |problem: &str| {
            let shown = match (url.find("://"), url.rfind('@')) {
                (Some(scheme), Some(at)) if at > scheme => {
                    format!("{}://…@{}", &url[..scheme], &url[at + 1..])
                }
                _ => url.to_owned(),
            };
            Err(AddressError { url: shown, problem: problem.to_owned() })
        };
        let trimmed = url.trim();
        let Some((scheme, rest)) = trimmed.split_once("://") else {
            return fail("it has no scheme; write http://host:port");
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return fail("its scheme is none of http, https, ws and wss"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return fail("credentials do not belong in it; give them in an Authorization header");
        }
        let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, port))) if host.parse::<Ipv6Addr>().is_ok() => (host, port),
            Some(_) => return fail("the address in brackets is no IPv6 address"),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let name_like =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(name_like) {
            return fail("its host name is missing or has characters that no host name has");
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(digits) => match digits.parse() {
                Ok(port) if port > 0 => port,
                _ => return fail("its port is no number from 1 to 65535"),
            },
            None => return fail("after the host, a port begins with a colon"),
        };
        if !path.chars().all(|c| c.is_ascii_graphic()) {
            return fail("its path has spaces or characters that must be percent-encoded");
        }
        let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
        let base = path.trim_end_matches('/');
        let base = base.strip_suffix("/ws").unwrap_or(base).trim_end_matches('/');
        Ok(Self {
            secure,
            host: host.to_owned(),
            port,
            base: base.to_owned(),
            query: query.to_owned(),
        })
    }

    /// Whether the connection is encrypted.
    pub(crate) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The name or address, an IPv6 one without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The host as an address, where it is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// What stands in the `Host` header: the port only where it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.secure, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The path and query of an endpoint, such as `/ws`; with the id of a session that exists, where
    /// that is to be attached to.
    pub(crate) fn path(&self, endpoint: &str, attach: Option<&str>) -> String {
        let mut path = format!("{}{endpoint}{}", self.base, self.query);
        if let Some(id) = attach {
            path.push(if self.query.is_empty() { '?' } else { '&' });
            path.push_str("session_id=");
            for byte in id.bytes() {
                if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                    path.push(char::from(byte));
                } else {
                    path.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        path
    }

    /// The HTTP URL of an endpoint, such as `/schema`.
    pub(crate) fn http(&self, endpoint: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}{endpoint}", self.authority(), self.base)
    }
}

impl fmt::Display for Address {
    /// The URL of the session endpoint, without its query, which may hold a session id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}/ws", self.authority(), self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_leads_to_the_session_endpoint() {
        for (url, session) in [
            ("http://h:8000", "ws://h:8000/ws"),
            ("http://h:8000/", "ws://h:8000/ws"),
            ("ws://h:8000/ws", "ws://h:8000/ws"),
            ("ws://h:8000/ws/", "ws://h:8000/ws"),
            ("https://h/base", "wss://h/base/ws"),
            ("wss://h/base/ws", "wss://h/base/ws"),
            ("WSS://h:443", "wss://h/ws"),
            ("http://h:443", "ws://h:443/ws"),
            ("http://127.0.0.1:80", "ws://127.0.0.1/ws"),
            ("http://[::1]:8000/x", "ws://[::1]:8000/x/ws"),
            (" http://h#part ", "ws://h/ws"),
            ("http://news/ws", "ws://news/ws"),
            ("http://h/views", "ws://h/views/ws"),
        ] {
            assert_eq!(Address::parse(url).unwrap().to_string(), session, "{url}");
        }
    }

    #[test]
    fn a_query_goes_to_the_session_endpoint_only() {
        let address = Address::parse("ws://h/ws?session_id=s").unwrap();
        assert_eq!(address.path("/ws", None), "/ws?session_id=s");
        assert_eq!(address.path("/ws", Some("a b")), "/ws?session_id=s&session_id=a%20b");
        assert_eq!(address.http("/schema"), "http://h/schema");
        assert_eq!(address.to_string(), "ws://h/ws");
    }

    #[test]
    fn errors_name_the_remedy_and_no_secret() {
        for (url, word) in [
            ("localhost:8000", "http://"),
            ("ftp://h", "scheme"),
            ("http://", "host"),
            ("http://h:0", "port"),
            ("http://h:99999", "port"),
            ("http://h:", "port"),
            ("http://[::1", "IPv6"),
            ("http://[::1]8", "colon"),
            ("http://h h", "host"),
            ("http://h/a b", "percent"),
            ("http://me:secret@h", "Authorization"),
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(error.problem.contains(word), "{url}: {error}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
