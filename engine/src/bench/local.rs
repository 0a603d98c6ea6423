//! Where a server is: on this machine, and in which processes.

use std::net::{IpAddr, TcpListener, ToSocketAddrs, UdpSocket};

use envmill_bench::processes;

/// The host and port of a URL; `None` if it has none that can be told.
fn address(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let default = if matches!(scheme, "https" | "wss") { 443 } else { 80 };
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':').map_or(Some(default), |port| port.parse().ok())?;
        return Some((host.into(), port));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => Some((host.into(), port.parse().ok()?)),
        None => Some((authority.into(), default)),
    }
}

/// Whether a URL leads to this machine: to its loopback network, or to an address of its own.
pub(super) fn is_local(url: &str) -> bool {
    let Some((host, port)) = address(url) else { return false };
    let addresses = (host.as_str(), port).to_socket_addrs();
    addresses.is_ok_and(|mut all| all.all(|address| is_own(address.ip())))
}

/// An address that can be bound is one of this machine's.
fn is_own(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok() || TcpListener::bind((ip, 0)).is_ok()
}

/// The processes that serve a URL, if it leads to this machine and they may be seen.
pub(super) fn serving(url: &str) -> Vec<u32> {
    match address(url) {
        Some((_, port)) if is_local(url) => processes::listening_on(port),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_found_in_urls() {
        for (url, expected) in [
            ("http://localhost:8000", ("localhost", 8000)),
            ("https://user:pass@h.example/path", ("h.example", 443)),
            ("ws://[::1]:80/ws", ("::1", 80)),
            ("http://h?x=1", ("h", 80)),
        ] {
            assert_eq!(address(url), Some((expected.0.to_owned(), expected.1)), "{url}");
        }
        assert_eq!(address("native:echo"), None);
        assert_eq!(address("http://h:port"), None);
    }

    #[test]
    fn this_machine_is_told_from_others() {
        assert!(is_local("http://127.0.0.1:1") && is_local("http://127.8.0.1:1"));
        assert!(!is_local("http://192.0.2.1:80") && !is_local("no url"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Children that other tests start have the socket, too, until they run their own programs.
        assert!(serving(&url).contains(&std::process::id()));
    }
}
