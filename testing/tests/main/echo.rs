//! A WebSocket server on threads that echoes every message, and a client for it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use tungstenite::{Message, WebSocket, handshake::HandshakeError};

/// Starts it; it lives as long as the test process.
pub(crate) fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let Ok(mut socket) = tungstenite::accept(stream.unwrap()) else { return };
                while let Ok(message) = socket.read() {
                    if message.is_text() && socket.send(message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A client whose reads give up after `patience`.
pub(crate) fn connect(
    address: SocketAddr,
    patience: Duration,
) -> Result<WebSocket<TcpStream>, tungstenite::Error> {
    let stream = TcpStream::connect(address).map_err(tungstenite::Error::Io)?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let url = format!("ws://{address}/ws");
    let config = tungstenite::protocol::WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    match tungstenite::client::client_with_config(url, stream, Some(config)) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(error)) => Err(error),
        Err(HandshakeError::Interrupted(_)) => {
            Err(tungstenite::Error::Io(std::io::ErrorKind::TimedOut.into()))
        }
    }
}

/// One message there, one back.
pub(crate) fn exchange(
    socket: &mut WebSocket<TcpStream>,
    text: &str,
) -> Result<String, tungstenite::Error> {
    socket.send(Message::text(text))?;
    Ok(socket.read()?.to_text()?.to_owned())
}
