//! An engine that dials in as vLLM's does, over plain blocking sockets, and does what a test says.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// The two connections of an engine that is ready.
pub(crate) struct Engine {
    pub(crate) input: UnixStream,
    pub(crate) output: UnixStream,
}

/// Greets as `libzmq` does, and says what we are.
pub(crate) fn greet<S: std::io::Read + Write>(stream: &mut S, kind: &str, identity: &[u8]) {
    let mut hello = [0; 64];
    (hello[0], hello[8], hello[9], hello[10], hello[11]) = (0xff, 1, 0x7f, 3, 1);
    hello[12..16].copy_from_slice(b"NULL");
    // In two parts, as it does until it knows the other's version.
    stream.write_all(&hello[..11]).unwrap();
    let mut theirs = [0; 64];
    stream.read_exact(&mut theirs).unwrap();
    assert_eq!(&theirs[10..16], b"\x03\x01NULL");
    stream.write_all(&hello[11..]).unwrap();
    let mut ready = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", kind.as_bytes()), ("Identity", identity)] {
        ready.push(name.len() as u8);
        ready.extend_from_slice(name.as_bytes());
        ready.extend_from_slice(&(value.len() as u32).to_be_bytes());
        ready.extend_from_slice(value);
    }
    stream.write_all(&[4, ready.len() as u8]).unwrap();
    stream.write_all(&ready).unwrap();
    let (flags, theirs) = frame(stream);
    assert_eq!(flags & 4, 4);
    assert!(theirs.starts_with(b"\x05READY\x0bSocket-Type"));
}

/// A frame, and its flags.
pub(crate) fn frame<S: std::io::Read>(stream: &mut S) -> (u8, Vec<u8>) {
    let mut flags = [0];
    stream.read_exact(&mut flags).unwrap();
    let len = if flags[0] & 2 == 0 {
        let mut len = [0];
        stream.read_exact(&mut len).unwrap();
        usize::from(len[0])
    } else {
        let mut len = [0; 8];
        stream.read_exact(&mut len).unwrap();
        usize::try_from(u64::from_be_bytes(len)).unwrap()
    };
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    (flags[0], bytes)
}

/// A message of one frame.
pub(crate) fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![2];
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
    out
}

/// Says HELLO, and returns what is answered.
pub(crate) fn hello(address: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    greet(&mut stream, "DEALER", &[0, 0]);
    stream.write_all(&framed(&golden("hello"))).unwrap();
    frame(&mut stream).1
}

impl Engine {
    /// Dials both sockets and says that it is ready, as a vLLM of this version.
    pub(crate) fn connect(folder: &Path, version: &str) -> Self {
        let connect = |name, kind, identity: &[u8]| {
            let mut stream = UnixStream::connect(folder.join(name)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            greet(&mut stream, kind, identity);
            stream
        };
        let mut input = connect("input.sock", "DEALER", &[0, 0]);
        let mut ready = golden("ready");
        let at = ready.windows(6).position(|it| it == b"0.32.0").unwrap();
        ready[at..at + 6].copy_from_slice(version.as_bytes());
        input.write_all(&framed(&ready)).unwrap();
        Self { input, output: connect("output.sock", "PUSH", b"") }
    }

    /// The next message: the byte that says what it is, and itself.
    pub(crate) fn asked(&mut self) -> (u8, Vec<u8>) {
        let (flags, kind) = frame(&mut self.input);
        assert_eq!((flags, kind.len()), (1, 1));
        let (flags, message) = frame(&mut self.input);
        assert_eq!(flags & 1, 0);
        (kind[0], message)
    }

    /// The next message, which is a request: its name.
    pub(crate) fn added(&mut self) -> String {
        let (kind, message) = self.asked();
        assert_eq!((kind, message[0]), (0, 0x99));
        name(&message[1..])
    }

    /// The next message, which ends these.
    pub(crate) fn aborted(&mut self) -> Vec<String> {
        let (kind, message) = self.asked();
        assert_eq!((kind, message[0] & 0xf0), (1, 0x90));
        let (mut names, mut rest) = (Vec::new(), &message[1..]);
        while !rest.is_empty() {
            names.push(name(rest));
            rest = &rest[2 + names.last().unwrap().len()..];
        }
        names
    }

    /// A step that brings these requests a token each, with a log-probability, and an end if one is given.
    pub(crate) fn step(&mut self, names: &[&str], token: u8, finish: Option<u8>) {
        self.output.write_all(&framed(&step(names, token, finish))).unwrap();
    }
}

/// A string of 32 to 255 bytes.
fn name(bytes: &[u8]) -> String {
    assert_eq!(bytes[0], 0xd9);
    String::from_utf8(bytes[2..2 + usize::from(bytes[1])].to_vec()).unwrap()
}

/// A step, of version 5. Tokens are below 128.
pub(crate) fn step(names: &[&str], token: u8, finish: Option<u8>) -> Vec<u8> {
    let mut out = vec![0x99, 0, 0x90 | names.len() as u8];
    for name in names {
        out.extend_from_slice(&[0x97, 0xd9, name.len() as u8]);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&[0x91, token]);
        // [["<i4", [1, 1], ids], ["<f4", [1, 1], values], ["<i8", [1], ranks], nil]
        out.push(0x94);
        out.extend_from_slice(b"\x93\xa3<i4\x92\x01\x01\xd6\x03");
        out.extend_from_slice(&u32::from(token).to_le_bytes());
        out.extend_from_slice(b"\x93\xa3<f4\x92\x01\x01\xd6\x03");
        out.extend_from_slice(&(-1.5_f32).to_le_bytes());
        out.extend_from_slice(b"\x93\xa3<i8\x91\x01\xd7\x03\0\0\0\0\0\0\0\0\xc0");
        out.extend_from_slice(&[0xc0, 0xc0, finish.unwrap_or(0xc0), 0xc0]);
    }
    out.extend_from_slice(&[
        0xc0, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xc0, 0xc0, 0xc0, 0xa1, b'5',
    ]);
    out
}

/// A recorded message of one frame.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let text = include_str!("golden/vllm-0.32.0-arrays-within.txt");
    let line = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    (0..line.len())
        .step_by(2)
        .map(|it| u8::from_str_radix(&line[it..it + 2], 16).unwrap())
        .collect()
}
