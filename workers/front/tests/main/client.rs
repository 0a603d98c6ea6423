//! As much of an HTTP and of a WebSocket client as the tests need. They send what a test says, right
//! or wrong.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;
use tungstenite::{
    Message, WebSocket,
    protocol::{CloseFrame, WebSocketConfig},
};

/// How long an answer may take. Generous: it only ends tests that would hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends one request with a JSON body and reads its answer.
pub(crate) fn ask(server: SocketAddr, method: &str, path: &str, body: &[u8]) -> Answer {
    ask_as(server, method, path, "Content-Type: application/json\r\n", body)
}

/// The same with headers of one's own, each with its line's end.
pub(crate) fn ask_as(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let mut stream = send(server, method, path, headers, body);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, headers: head.to_owned(), body: body.to_owned() }
}

/// Sends one request, and leaves its answer unread.
pub(crate) fn send(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // HTTP/1.0, so that the answer ends with the connection and is never chunked.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {server}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    stream
}

/// A JSON-RPC call by `POST /mcp`.
pub(crate) fn rpc(server: SocketAddr, method: &str, params: &Value) -> Value {
    let body = rpc_text(method, params);
    let answer = ask(server, "POST", "/mcp", body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

pub(crate) fn rpc_text(method: &str, params: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

/// A session made over HTTP.
pub(crate) fn create(server: SocketAddr) -> String {
    let response = rpc(server, "openenv/session/create", &serde_json::json!({}));
    response["result"]["session_id"].as_str().unwrap_or_else(|| panic!("{response}")).to_owned()
}

/// What comes over a WebSocket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Came {
    Frame(Value),
    Closed(u16),
}

/// A WebSocket.
pub(crate) struct Ws(WebSocket<TcpStream>);

impl Ws {
    pub(crate) fn open(server: SocketAddr, path: &str) -> Self {
        Self::try_open(server, path).unwrap_or_else(|status| panic!("{path}: {status}"))
    }

    /// The status if there is no WebSocket.
    pub(crate) fn try_open(server: SocketAddr, path: &str) -> Result<Self, u16> {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let url = format!("ws://{server}{path}");
        let config = Some(WebSocketConfig::default());
        match tungstenite::client::client_with_config(url, stream, config) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                Err(response.status().as_u16())
            }
            Err(error) => panic!("{path}: {error}"),
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    pub(crate) fn send_binary(&mut self, bytes: &'static [u8]) {
        self.0.send(Message::binary(bytes)).unwrap();
    }

    /// The next frame, or the close.
    pub(crate) fn came(&mut self) -> Came {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => {
                    return Came::Frame(serde_json::from_str(&text).unwrap());
                }
                Ok(Message::Close(frame)) => {
                    let code = frame.map_or(1005, |CloseFrame { code, .. }| code.into());
                    // The answer to the close is written by the next read.
                    let _ = self.0.read();
                    return Came::Closed(code);
                }
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[track_caller]
    pub(crate) fn frame(&mut self) -> Value {
        match self.came() {
            Came::Frame(frame) => frame,
            Came::Closed(code) => panic!("closed with {code}"),
        }
    }

    pub(crate) fn ask(&mut self, text: &str) -> Value {
        self.send(text);
        self.frame()
    }

    /// Closes and waits until that is answered.
    pub(crate) fn close(mut self) {
        self.0.close(None).unwrap();
        while self.0.read().is_ok() {}
    }
}
