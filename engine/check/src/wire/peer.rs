//! Where a server is, and how it is reached.

use std::{
    fmt, io,
    net::{TcpStream, ToSocketAddrs},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tungstenite::http::Uri;

use super::{link::Link, stop::Stop, trouble::Trouble};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a server is reached.
#[derive(Clone, Default)]
pub struct PeerOptions {
    /// Its base URL: `http`, `https`, `ws` or `wss`.
    pub url: String,
    /// Headers for every request.
    pub headers: Vec<(String, String)>,
    /// Certificates (PEM) to trust besides the web's own.
    pub ca: Option<PathBuf>,
    /// How long any answer may take.
    pub timeout: Duration,
    /// Ends all waits.
    pub stop: Stop,
}

/// A server cannot be spoken with as the options say.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The URL is none.
    #[error("`{url}` cannot be used: {why}; write http://HOST:PORT or https://HOST")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The authorities cannot be used.
    #[error("--ca {}: {why}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A server to speak with.
#[derive(Clone)]
pub struct Peer {
    host: String,
    port: u16,
    path: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) headers: Vec<(String, String)>,
    timeout: Duration,
    stop: Stop,
    options: PeerOptions,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may be secrets.
        f.debug_struct("Peer").field("host", &self.host).field("port", &self.port).finish()
    }
}

impl Peer {
    /// Connects to nobody yet.
    ///
    /// # Errors
    ///
    /// The URL or the file of authorities cannot be used.
    pub fn new(options: PeerOptions) -> Result<Self, PeerError> {
        let PeerOptions { url, headers, ca, timeout, stop } = options.clone();
        let wrong = |why: &str| PeerError::Url { url: url.clone(), why: why.into() };
        let uri: Uri = url.trim().parse().map_err(|_| wrong("it is no URL"))?;
        let is_encrypted = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(wrong("its scheme is not http, https, ws or wss")),
        };
        let host = uri.host().ok_or_else(|| wrong("it names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/ws").unwrap_or(path).to_owned();
        let mut roots: Vec<CertificateDer<'static>> = Vec::new();
        if let Some(path) = ca {
            let wrong = |why: String| PeerError::Authorities { path: path.clone(), why };
            roots = CertificateDer::pem_file_iter(&path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| wrong(error.to_string()))?;
            if roots.is_empty() {
                return Err(wrong("it has no certificate".into()));
            }
        }
        let tls = if is_encrypted {
            let name = ServerName::try_from(host.clone())
                .map_err(|_| wrong("its host can have no certificate"))?;
            let mut trusted = RootCertStore::empty();
            let web = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
            trusted.add_parsable_certificates(roots.iter().chain(web).cloned());
            let mut config =
                ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                    .with_safe_default_protocol_versions()
                    .map_err(|error| wrong(&error.to_string()))?
                    .with_root_certificates(trusted)
                    .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some((Arc::new(config), name))
        } else {
            None
        };
        Ok(Self { host, port, path, tls, roots, headers, timeout, stop, options })
    }

    /// The same at another URL.
    pub(crate) fn at(&self, url: &str) -> Result<Self, PeerError> {
        Self::new(PeerOptions { url: url.into(), ..self.options.clone() })
    }

    /// How long any answer may take.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What ends all waits.
    pub(crate) const fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Whether it is on this host, with nothing in between that could do what is not its fault.
    pub(crate) fn is_local(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Its port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a path, for WebSockets or for HTTP.
    pub(super) fn url(&self, scheme: &str, path: &str) -> String {
        let Self { host, port, path: base, .. } = self;
        let s = if self.tls.is_some() { "s" } else { "" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{scheme}{s}://{host}:{port}{base}{path}")
    }

    /// TCP alone, of which the server has heard nothing yet.
    pub(crate) fn tcp(&self) -> Result<TcpStream, Trouble> {
        let wrong = |error: io::Error| Trouble::Connect(error.to_string());
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(wrong)?;
        let mut last = Trouble::Connect(format!("{} has no address", self.host));
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT.min(self.timeout)) {
                Ok(tcp) => {
                    tcp.set_nodelay(true).map_err(wrong)?;
                    return Ok(tcp);
                }
                Err(error) => last = Trouble::Connect(error.to_string()),
            }
        }
        Err(last)
    }

    /// A connection that is ready for HTTP.
    pub(super) fn link(&self, tcp: TcpStream) -> Result<Link, Trouble> {
        let tls = self.tls.as_ref().map(|(config, name)| {
            ClientConnection::new(Arc::clone(config), name.clone())
                .map_err(|error| Trouble::Connect(error.to_string()))
        });
        Ok(Link::new(tcp, tls.transpose()?, self.stop.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_sockets_and_pages() {
        let peer = |url: &str| Peer::new(PeerOptions { url: url.into(), ..PeerOptions::default() });
        let urls = |url: &str| {
            let peer = peer(url).unwrap();
            (peer.url("ws", "/ws"), peer.is_local())
        };
        assert_eq!(urls("http://127.0.0.1:8000/"), ("ws://127.0.0.1:8000/ws".into(), true));
        assert_eq!(urls("ws://[::1]:80/a/ws"), ("ws://[::1]:80/a/ws".into(), true));
        assert_eq!(urls("https://a.b"), ("wss://a.b:443/ws".into(), false));
        for wrong in ["a.b:80", "ftp://a.b", "", "http://"] {
            assert!(peer(wrong).is_err(), "{wrong}");
        }
    }
}
