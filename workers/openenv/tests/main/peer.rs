//! Servers made of threads and raw sockets, which do exactly what a test says.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tungstenite::handshake::derive_accept_key;

/// A server whose every connection is played by one function, each on its own thread.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(play: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let play = Arc::new(play);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let play = Arc::clone(&play);
                thread::spawn(move || play(Peer { stream, number }));
            }
        });
        Self { address, accepted }
    }

    /// A server that upgrades, and then plays.
    pub(crate) fn upgraded(play: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::start(move |mut peer| {
            peer.upgrade();
            play(peer);
        })
    }

    /// A server that answers every request as an environment would that never ends.
    pub(crate) fn environment() -> Self {
        Self::upgraded(|mut peer| while peer.answer_one() {})
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// One connection, seen from its server.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    /// How many connections came before.
    pub(crate) number: usize,
}

/// A frame from the client, unmasked.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const OBSERVATION: &str =
    r#"{"type":"observation","data":{"observation":{"n":1},"reward":0.5,"done":false}}"#;

pub(crate) const CAPACITY: &str = r#"{"type":"error","data":{"message":"Server at capacity: 1/1 sessions active","code":"CAPACITY_REACHED","active_sessions":1,"max_sessions":1}}"#;

impl Peer {
    /// Reads up to the empty line; the head of the request.
    pub(crate) fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if self.stream.read(&mut byte).unwrap_or(0) == 0 {
                break;
            }
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// The answer to an upgrade whose head was read.
    pub(crate) fn switch(head: &str) -> String {
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .unwrap_or_default();
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        )
    }

    pub(crate) fn upgrade(&mut self) {
        let head = self.head();
        self.write(Self::switch(&head).as_bytes());
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        // The client may have gone, which is its right.
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            n @ 0..126 => frame.push(n as u8),
            n @ 126..65_536 => {
                frame.push(126);
                frame.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                frame.push(127);
                frame.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        self.write(&Self::frame(first, payload));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.send(0x81, text.as_bytes());
    }

    pub(crate) fn close(&mut self, code: u16) {
        self.send(0x88, &code.to_be_bytes());
    }

    /// The next frame; `None` when the client has gone.
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        self.try_receive().ok()
    }

    fn try_receive(&mut self) -> io::Result<Frame> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        assert_eq!(head[0] & 0xf0, 0x80, "final, no reserved bits");
        assert_eq!(head[1] & 0x80, 0x80, "a client masks");
        let length = match head[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length)?;
                u16::from_be_bytes(length).into()
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length)?;
                u64::from_be_bytes(length)
            }
            short => short.into(),
        };
        let mut mask = [0; 4];
        self.stream.read_exact(&mut mask)?;
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload)?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Ok(Frame { opcode: head[0] & 0x0f, payload })
    }

    /// The next text frame, as a text; `None` when the client has gone or closes.
    pub(crate) fn request(&mut self) -> Option<String> {
        match self.receive()? {
            Frame { opcode: 1, payload } => Some(String::from_utf8(payload).unwrap()),
            _ => None,
        }
    }

    /// Answers a reset or step that has been read already.
    pub(crate) fn answer_text(&mut self) {
        self.text(OBSERVATION);
    }

    /// Answers one request as an environment would; says whether there was one.
    pub(crate) fn answer_one(&mut self) -> bool {
        let Some(request) = self.request() else { return false };
        if request.contains(r#""type":"close""#) {
            self.close(1000);
            return false;
        }
        if request.contains(r#""type":"state""#) {
            self.text(r#"{"type":"state","data":{"episode_id":null,"step_count":3}}"#);
        } else if request.contains(r#""type":"mcp""#) {
            self.text(r#"{"type":"mcp","data":{"jsonrpc":"2.0","id":1,"result":{}}}"#);
        } else {
            self.text(OBSERVATION);
        }
        true
    }

    /// Waits until the client has gone.
    pub(crate) fn drain(&mut self) {
        let _ = io::copy(&mut self.stream, &mut io::sink());
    }
}
