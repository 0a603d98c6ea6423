//! Making a TCP connection without waiting for it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use envmill_protocol::{Failure, FailureKind};
use mio::net::TcpStream;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::address::Address;

/// A peer that has said nothing for so long is asked by the system whether it is there.
const SILENCE_BEFORE_PROBES: Duration = Duration::from_secs(30);
/// It is asked again after so long.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// It is gone if so many questions on end have no answer.
const PROBES: u32 = 3;

/// Begins a connection, from `source` where one is given. It stands once the socket is writable and
/// [`established`] says so.
pub(crate) fn begin(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let stream = match source {
        None => TcpStream::connect(to)?,
        Some(source) => {
            let socket = Socket::new(
                Domain::for_address(to),
                Type::STREAM.nonblocking().cloexec(),
                Some(Protocol::TCP),
            )?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            match socket.connect(&to.into()) {
                Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                    return Err(error);
                }
                _ => TcpStream::from_std(socket.into()),
            }
        }
    };
    // A request is one small write that must leave at once.
    stream.set_nodelay(true)?;
    watch(&stream)?;
    Ok(stream)
}

/// Has the system find out about a peer that vanishes while nothing is said: within a minute, where its own
/// defaults take two hours. What was asked for has deadlines of its own. There is no `TCP_USER_TIMEOUT`: it would
/// also end the connection to a server that is too busy to read what it is sent.
fn watch(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(SILENCE_BEFORE_PROBES)
        .with_interval(PROBE_INTERVAL)
        .with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Whether the connection stands by now.
pub(crate) fn established(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the process itself has no room for another socket, so that another address would not
/// help.
pub(crate) fn is_limit(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::ADDRINUSE)
    )
}

/// What a connection that did not come about means.
pub(crate) fn failure(error: &io::Error, address: &Address, tried: usize) -> Failure {
    let (kind, what) = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => (
            FailureKind::Limit,
            "this process may open no more files; raise its limit (ulimit -n, or LimitNOFILE of \
             a systemd unit) or ask for fewer sessions"
                .to_owned(),
        ),
        Some(Errno::NFILE) => (
            FailureKind::Limit,
            "this machine may open no more files; raise fs.file-max".to_owned(),
        ),
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => (
            FailureKind::Limit,
            "no local address and port is left to connect from; widen \
             net.ipv4.ip_local_port_range, give several source addresses of this machine, or ask \
             for fewer sessions"
                .to_owned(),
        ),
        Some(Errno::CONNREFUSED) => (
            FailureKind::Unreachable,
            "connection refused; is the server running there?".to_owned(),
        ),
        _ => (FailureKind::Unreachable, error.to_string()),
    };
    let tried = if tried > 1 { format!(" (the last of {tried} addresses)") } else { String::new() };
    Failure::lost(kind, format!("cannot connect to {address}{tried}: {what}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_peer_that_vanishes_is_found_out_within_a_minute() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        for source in [None, Some(to.ip())] {
            let stream = begin(to, source).unwrap();
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
            let (time, interval) =
                (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
            let probes = socket.tcp_keepalive_retries().unwrap();
            assert_eq!(time + interval * probes, Duration::from_mins(1));
            assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        }
    }

    #[test]
    fn limits_name_their_remedy() {
        let address = Address::parse("http://h:8000").unwrap();
        for (errno, kind, word) in [
            (Errno::MFILE, FailureKind::Limit, "ulimit -n"),
            (Errno::ADDRNOTAVAIL, FailureKind::Limit, "ip_local_port_range"),
            (Errno::CONNREFUSED, FailureKind::Unreachable, "running"),
        ] {
            let error = io::Error::from(errno);
            let failure = failure(&error, &address, 1);
            assert_eq!(failure.kind, kind);
            assert_eq!(is_limit(&error), kind == FailureKind::Limit);
            assert!(failure.message.contains(word), "{}", failure.message);
            assert!(failure.message.contains("ws://h:8000/ws"));
        }
    }
}
