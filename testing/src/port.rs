//! Choosing a port for a server that cannot choose its own.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// A loopback TCP port that nothing listened on a moment ago. Another process may take it before the
/// caller does, so a server started on it may have to be started again on another one.
///
/// # Errors
///
/// When the machine has no free port.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free loopback port")?;
    Ok(listener.local_addr()?.port())
}
