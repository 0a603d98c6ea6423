//! As much of an HTTP client as a health probe needs.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

/// How long a probe waits for each read and write.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer a probe reads.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Sends `GET path` to `server` on a connection of its own; the status and the body of the answer.
///
/// # Errors
///
/// When the server cannot be reached, does not answer within some seconds, or answers something that
/// is not HTTP.
pub fn get(server: SocketAddr, path: &str) -> Result<(u16, String)> {
    // HTTP/1.0, so that the answer ends with the connection and is never chunked.
    ask(server, path, &format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n"))
}

/// Sends `POST path` with a JSON body to `server` on a connection of its own; the status and the body
/// of the answer.
///
/// # Errors
///
/// As for [`get`].
pub fn post(server: SocketAddr, path: &str, json: &str) -> Result<(u16, String)> {
    let length = json.len();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {server}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{json}"
    );
    ask(server, path, &request)
}

fn ask(server: SocketAddr, path: &str, request: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&server, PROBE_TIMEOUT)
        .with_context(|| format!("cannot connect to {server}"))?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .with_context(|| format!("{server} did not answer {path} with HTTP: {head:?}"))?;
    Ok((status, body.to_owned()))
}
