//! Which local address a connection leaves from.
//!
//! Between two addresses there are about 28,000 connections, one for each local port that the system
//! gives out, and long before they run out it takes milliseconds to find one that is free: at 16,000
//! a fifth of all CPU time went into that search. Across a network more local addresses must be
//! given; on the loopback network there are millions, and they are used without asking.

use std::net::{IpAddr, Ipv4Addr};

/// So many connections leave from one loopback address before the next is used. Ports are found at
/// once while this many of 28,000 are taken.
const CONNECTIONS_PER_LOOPBACK: usize = 4096;

/// Where one connection may leave from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source {
    /// From where the system likes; from this address where it goes to the loopback network.
    Any { loopback: Option<Ipv4Addr> },
    /// From this address.
    Given(IpAddr),
}

impl Source {
    /// The address for a connection to `to`; `None` leaves it to the system.
    pub(crate) fn towards(self, to: IpAddr) -> Option<IpAddr> {
        match self {
            Self::Given(address) => Some(address),
            Self::Any { loopback } => {
                loopback.filter(|_| to.is_ipv4() && to.is_loopback()).map(IpAddr::V4)
            }
        }
    }
}

/// The addresses to leave from.
#[derive(Debug)]
pub(crate) struct Sources {
    given: Vec<IpAddr>,
    next: usize,
}

impl Sources {
    pub(crate) const fn new(given: Vec<IpAddr>) -> Self {
        Self { given, next: 0 }
    }

    /// The source of a connection beside `connections` others.
    pub(crate) fn next(&mut self, connections: usize) -> Source {
        if let Some(address) = self.given.get(self.next) {
            self.next = (self.next + 1) % self.given.len();
            return Source::Given(*address);
        }
        let number = u8::try_from(connections / CONNECTIONS_PER_LOOPBACK).unwrap_or(u8::MAX - 1);
        let loopback = (number > 0).then(|| Ipv4Addr::new(127, 0, 0, number.saturating_add(1)));
        Source::Any { loopback }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn given_addresses_take_turns() {
        let given: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).into();
        let mut sources = Sources::new(given.clone());
        for connections in 0..5 {
            let source = sources.next(connections * 10_000).towards(LOOPBACK);
            assert_eq!(source, Some(given[connections % 2]));
        }
    }

    #[test]
    fn loopback_addresses_change_before_ports_get_scarce() {
        let mut sources = Sources::new(Vec::new());
        let mut towards = |connections, to| {
            sources.next(connections).towards(to).map(|address| address.to_string())
        };
        assert_eq!(towards(4_095, LOOPBACK), None);
        assert_eq!(towards(4_096, LOOPBACK).as_deref(), Some("127.0.0.2"));
        assert_eq!(towards(16_384, LOOPBACK).as_deref(), Some("127.0.0.5"));
        assert_eq!(towards(10_000_000, LOOPBACK).as_deref(), Some("127.0.0.255"));
        assert_eq!(towards(16_384, ELSEWHERE), None);
        assert_eq!(towards(16_384, IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)), None);
    }
}
