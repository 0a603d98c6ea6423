//! One connection through the proxy.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    select,
    sync::watch,
    time::sleep,
};

use super::{
    fault::{Fault, FrameEffect, Frames, HttpAnswer},
    frames::{HEADER_BYTES_MAX, parse_header, text_header},
    handle::{Live, Tally},
    line::{Line, Over, thawed},
};

/// How much is read from a socket at a time.
const READ_BYTES: usize = 16 * 1024;

/// The longest HTTP head that is looked through for its end.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The largest frame that is kept whole in order to be sent twice.
const DUPLICATE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Serves one client until its connection is over.
pub(super) async fn relay(
    mut client: TcpStream,
    target: SocketAddr,
    fault: Fault,
    live: watch::Receiver<Live>,
    tally: &Tally,
) {
    if let Fault::Answer(answer) = &fault {
        tally.struck();
        // The client may be gone before it has its answer: that is its own affair.
        let _ = answer_instead(client, answer).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        reset(&client);
        return;
    };
    // Delays here are made on purpose only. Where the option is refused, the socket is dead anyway.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let black_hole = AtomicBool::new(false);
    let outcome = {
        // Borrowed halves: owned ones would end their stream when dropped, ahead of any reset.
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let line = Line::new(to_client, live.clone(), &fault, tally, &black_hole);
        let buffer = BytesMut::new();
        let mut down = Down { server: from_server, buffer, line, fault, frame: 0, tally };
        let up = up(from_client, to_server, live.clone(), &black_hole);
        let mut stop = live.clone();
        select! {
            outcome = async { tokio::try_join!(up, down.run(live)) } => outcome.map(|_| ()),
            _ = stop.wait_for(|live| live.stopped) => Err(Over::Gone),
        }
    };
    if outcome == Err(Over::Reset) {
        reset(&client);
        reset(&server);
    }
}

/// Makes the close of this socket a reset.
fn reset(socket: &TcpStream) {
    // Where it fails the socket is already dead, which is what was wanted.
    let _ = socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
}

async fn answer_instead(mut client: TcpStream, answer: &HttpAnswer) -> std::io::Result<()> {
    let mut request = BytesMut::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < HEAD_BYTES_MAX {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    client.write_all(&answer.bytes()).await?;
    client.shutdown().await?;
    // Until the client closes, so that unread bytes of its own do not reset what it was sent.
    while client.read_buf(&mut request).await? > 0 {
        request.clear();
    }
    Ok(())
}

/// Carries bytes from the client to the server until the client ends its stream.
async fn up(
    client: ReadHalf<'_>,
    mut server: WriteHalf<'_>,
    mut live: watch::Receiver<Live>,
    black_hole: &AtomicBool,
) -> Result<(), Over> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        client.readable().await?;
        let bytes = match client.try_read(&mut buffer) {
            Ok(0) if black_hole.load(Ordering::Relaxed) => return Err(Over::Gone),
            Ok(0) => return Ok(server.shutdown().await?),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            // A client that resets its connection resets the server's.
            Err(_) => return Err(Over::Reset),
        };
        thawed(&mut live).await?;
        if !black_hole.load(Ordering::Relaxed) {
            server.write_all(&buffer[..bytes]).await?;
        }
    }
}

/// The way from the server to the client.
struct Down<'a> {
    server: ReadHalf<'a>,
    /// Read and not yet passed on.
    buffer: BytesMut,
    line: Line<'a>,
    fault: Fault,
    /// The number of the next message.
    frame: u32,
    tally: &'a Tally,
}

impl Down<'_> {
    async fn run(&mut self, mut live: watch::Receiver<Live>) -> Result<(), Over> {
        live.mark_unchanged();
        self.line.accepted().await?;
        if self.head(&mut live).await? {
            while self.frame(&mut live).await? {}
        }
        // Not WebSocket, or the stream ended within a frame: what there is passes as it is.
        loop {
            self.line.send(&self.buffer).await?;
            self.buffer.clear();
            if !self.fill(&mut live).await? {
                return self.line.end().await;
            }
        }
    }

    /// Passes the HTTP head; whether WebSocket frames follow it.
    async fn head(&mut self, live: &mut watch::Receiver<Live>) -> Result<bool, Over> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|end| end == b"\r\n\r\n") {
                break end + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX || !self.fill(live).await? {
                return Ok(false);
            }
        };
        let head = self.buffer.split_to(end);
        self.line.send(&head).await?;
        Ok(head.starts_with(b"HTTP/1.1 101"))
    }

    /// Passes one frame; whether there was a whole one.
    async fn frame(&mut self, live: &mut watch::Receiver<Live>) -> Result<bool, Over> {
        let header = loop {
            if let Some(header) = parse_header(&self.buffer) {
                break header;
            }
            debug_assert!(self.buffer.len() < HEADER_BYTES_MAX, "a header this long is whole");
            if !self.fill(live).await? {
                return Ok(false);
            }
        };
        let effect = if header.begins_message { self.next_message().await? } else { None };
        let whole = header.header_bytes as u64 + header.payload_bytes;
        match effect {
            None => self.pass(whole, live).await,
            Some(FrameEffect::Hold(duration)) => {
                sleep(duration).await;
                self.pass(whole, live).await
            }
            Some(FrameEffect::Truncate) => {
                let kept = header.header_bytes as u64 + header.payload_bytes / 2;
                let passed = self.pass(kept, live).await?;
                self.line.close().await?;
                Ok(passed && self.pass(whole - kept, live).await?)
            }
            Some(FrameEffect::Duplicate) if whole <= DUPLICATE_BYTES_MAX => {
                // The bound above makes this fit a usize.
                let whole = whole as usize;
                while self.buffer.len() < whole {
                    if !self.fill(live).await? {
                        return Ok(false);
                    }
                }
                let frame = self.buffer.split_to(whole);
                self.line.send(&frame).await?;
                self.line.send(&frame).await?;
                Ok(true)
            }
            Some(FrameEffect::Duplicate) => self.pass(whole, live).await,
            Some(FrameEffect::CorruptHeader) => {
                // The three reserved bits, none of which was negotiated.
                self.buffer[0] |= 0x70;
                self.pass(whole, live).await
            }
            Some(FrameEffect::CorruptPayload) => {
                let last = u64::from(header.payload_bytes > 0);
                if !self.pass(whole - last, live).await? || !self.have(last, live).await? {
                    return Ok(false);
                }
                self.buffer.advance(last as usize);
                self.line.send(&[0xff][..last as usize]).await?;
                Ok(true)
            }
            Some(FrameEffect::Drop) => self.skip(whole, live).await,
            Some(FrameEffect::Inject { bytes }) => {
                self.inject(bytes).await?;
                self.pass(whole, live).await
            }
        }
    }

    /// A message begins: strikes if its number is the point, and says what befalls it.
    async fn next_message(&mut self) -> Result<Option<FrameEffect>, Over> {
        let index = self.frame;
        self.frame = self.frame.saturating_add(1);
        self.line.frame(index).await?;
        let Fault::Frames(frames, effect) = self.fault else { return Ok(None) };
        let hit = match frames {
            Frames::Only(only) | Frames::Any(only) => index == only,
            Frames::From(from) => index >= from,
        };
        if hit {
            self.tally.struck();
        }
        Ok(hit.then_some(effect))
    }

    /// Passes `bytes` bytes; whether there were so many.
    async fn pass(&mut self, bytes: u64, live: &mut watch::Receiver<Live>) -> Result<bool, Over> {
        let mut left = bytes;
        while left > 0 {
            if self.buffer.is_empty() && !self.fill(live).await? {
                return Ok(false);
            }
            let now = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.line.send(&self.buffer[..now]).await?;
            self.buffer.advance(now);
            left -= now as u64;
        }
        Ok(true)
    }

    /// Drops `bytes` bytes; whether there were so many.
    async fn skip(&mut self, bytes: u64, live: &mut watch::Receiver<Live>) -> Result<bool, Over> {
        let mut left = bytes;
        while left > 0 {
            if self.buffer.is_empty() && !self.fill(live).await? {
                return Ok(false);
            }
            let now = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.buffer.advance(now);
            left -= now as u64;
        }
        Ok(true)
    }

    /// Whether at least `bytes` bytes are there, reading as needed.
    async fn have(&mut self, bytes: u64, live: &mut watch::Receiver<Live>) -> Result<bool, Over> {
        while (self.buffer.len() as u64) < bytes {
            if !self.fill(live).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends a message that the server never sent, in pieces: it may be larger than memory should be.
    async fn inject(&mut self, bytes: u64) -> Result<(), Over> {
        const BEFORE: &[u8] = br#"{"type":"observation","data":{"observation":{"text":""#;
        const AFTER: &[u8] = br#""}}}"#;
        let frame_bytes = bytes.max((BEFORE.len() + AFTER.len()) as u64);
        let mut left = frame_bytes - (BEFORE.len() + AFTER.len()) as u64;
        self.line.send(&text_header(frame_bytes)).await?;
        self.line.send(BEFORE).await?;
        let filling = vec![b'x'; 4 * READ_BYTES];
        while left > 0 {
            let now = filling.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.line.send(&filling[..now]).await?;
            left -= now as u64;
        }
        self.line.send(AFTER).await
    }

    /// Reads more from the server, and lets effects strike that are ordered meanwhile; whether more
    /// came.
    async fn fill(&mut self, live: &mut watch::Receiver<Live>) -> Result<bool, Over> {
        self.buffer.reserve(READ_BYTES);
        loop {
            select! {
                read = self.server.read_buf(&mut self.buffer) => {
                    // A server that resets its connection resets the client's.
                    return read.map(|bytes| bytes > 0).map_err(|_| Over::Reset);
                }
                changed = live.changed() => {
                    changed.map_err(|_| Over::Gone)?;
                    let ordered = live.borrow_and_update().ordered;
                    if let Some(effect) = ordered {
                        self.line.strike(effect).await?;
                    }
                }
            }
        }
    }
}
