//! Whether a server runs on this host.

use std::{fs, time::Duration};

use http::Uri;
use tokio::{net::TcpStream, time::timeout};

/// A connection within one host takes no time; a busy one may take some.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kernel that runs here since it was started, in containers, too. Empty where the system does not say.
pub(super) fn host() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The port that a URL leads to.
pub(super) fn port(url: &Uri) -> u16 {
    let default = if url.scheme_str() == Some("https") { 443 } else { 80 };
    url.port_u16().unwrap_or(default)
}

/// Whether a URL leads to this host's own address: both ends of a connection have it then. A balancer
/// elsewhere has an address of its own, whoever stands behind it.
pub(super) async fn is_own_address(url: &Uri) -> bool {
    // An address of IPv6 stands in brackets.
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect((host, port(url)))).await else {
        return false;
    };
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(ours), Ok(theirs)) => ours.ip() == theirs.ip(),
        _ => false,
    }
}
