//! Messages as they are read.

use std::{io, ops::Range};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::ZmtpError;

/// At least so much room is offered to every read.
const ROOM: usize = 64 << 10;
/// An empty buffer larger than this is given back.
const KEPT: usize = 1 << 20;
/// A message is one frame and one for each array that was too large to be within it.
const FRAMES: usize = 1 << 16;

/// What has been read and not yet been taken. It holds at most one message that is not complete, of at
/// most `limit` bytes, and what one read brought besides.
#[derive(Debug)]
pub(crate) struct Messages {
    buffer: Vec<u8>,
    /// Where the first message that was not taken begins.
    start: usize,
    /// How far its frames are known, from there.
    scanned: usize,
    /// Its frames, from there.
    frames: Vec<Range<usize>>,
    /// The sum of their sizes.
    size: u64,
    /// It was returned, and is behind us as soon as the next one is asked for.
    taken: bool,
    limit: usize,
}

/// What a peer sends.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Message(Message<'a>),
    /// A command: its name's length, its name, its data.
    Command(&'a [u8]),
}

/// A message's frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    bytes: &'a [u8],
    frames: &'a [Range<usize>],
}

impl<'a> Message<'a> {
    #[cfg(test)]
    pub(crate) const fn new(bytes: &'a [u8], frames: &'a [Range<usize>]) -> Self {
        Self { bytes, frames }
    }

    pub(crate) fn frame(&self, index: usize) -> Option<&'a [u8]> {
        self.bytes.get(self.frames.get(index)?.clone())
    }
}

impl Messages {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            frames: Vec::new(),
            size: 0,
            taken: false,
            limit,
        }
    }

    pub(crate) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// What was read and is not behind us.
    pub(crate) fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// So many bytes are behind us.
    pub(crate) fn behind(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.buffer.len());
    }

    /// True if the end would come in the middle of a message.
    pub(crate) fn is_within(&self) -> bool {
        let taken = if self.taken { self.scanned } else { 0 };
        self.unread().len() > taken
    }

    /// Reads once. 0 is the end.
    ///
    /// Cancel safe: what was read is in the buffer.
    pub(crate) async fn fill<R: AsyncRead + Unpin>(&mut self, io: &mut R) -> io::Result<usize> {
        self.drop_taken();
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            if self.buffer.capacity() > KEPT {
                self.buffer = Vec::new();
            }
        } else if self.start >= self.buffer.len() / 2 {
            // What is left is no more than what goes, so that moving it is paid for.
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        // The buffer grows with what has come, never with what a frame says will come.
        self.buffer.reserve(ROOM);
        io.read_buf(&mut self.buffer).await
    }

    /// The next message, if all of it is there.
    pub(crate) fn next(&mut self) -> Result<Option<Item<'_>>, ZmtpError> {
        self.drop_taken();
        loop {
            let bytes = self.buffer.get(self.start..).unwrap_or_default();
            let Some(head) = head(bytes.get(self.scanned..).unwrap_or_default())? else {
                return Ok(None);
            };
            self.check(&head)?;
            // Not larger than the limit, which is a usize.
            let size = usize::try_from(head.size).unwrap_or(usize::MAX);
            let frame = self.scanned + head.len..(self.scanned + head.len).saturating_add(size);
            if frame.end > bytes.len() {
                return Ok(None);
            }
            self.scanned = frame.end;
            self.size += head.size;
            self.frames.push(frame);
            if !head.more {
                self.taken = true;
                let bytes = self.buffer.get(self.start..).unwrap_or_default();
                let message = Message { bytes, frames: &self.frames };
                return Ok(Some(if head.command {
                    Item::Command(message.frame(0).unwrap_or_default())
                } else {
                    Item::Message(message)
                }));
            }
        }
    }

    /// Refuses a frame by its head, before anything is kept for it.
    fn check(&self, head: &Head) -> Result<(), ZmtpError> {
        if head.command && (head.more || !self.frames.is_empty()) {
            return Err(ZmtpError::Command);
        }
        let size = self.size.saturating_add(head.size);
        if size > self.limit as u64 {
            return Err(ZmtpError::TooLarge { size, limit: self.limit });
        }
        if self.frames.len() >= FRAMES {
            return Err(ZmtpError::TooMany(FRAMES));
        }
        Ok(())
    }

    fn drop_taken(&mut self) {
        if std::mem::take(&mut self.taken) {
            self.behind(self.scanned);
            self.scanned = 0;
            self.size = 0;
            self.frames.clear();
        }
    }
}

/// What stands before a frame.
struct Head {
    more: bool,
    command: bool,
    size: u64,
    /// Of the head itself.
    len: usize,
}

fn head(bytes: &[u8]) -> Result<Option<Head>, ZmtpError> {
    let Some(&flags) = bytes.first() else { return Ok(None) };
    if flags & !0b111 != 0 {
        return Err(ZmtpError::Flags(flags));
    }
    let (size, len) = if flags & 0b10 == 0 {
        let Some(&size) = bytes.get(1) else { return Ok(None) };
        (u64::from(size), 2)
    } else {
        let Some(size) = bytes.get(1..9).and_then(|it| it.first_chunk::<8>()) else {
            return Ok(None);
        };
        (u64::from_be_bytes(*size), 9)
    };
    Ok(Some(Head { more: flags & 0b1 != 0, command: flags & 0b100 != 0, size, len }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::frame, *};

    fn taken(messages: &mut Messages) -> Result<Vec<Vec<Vec<u8>>>, ZmtpError> {
        let mut all = Vec::new();
        while let Some(item) = messages.next()? {
            let Item::Message(message) = item else { continue };
            all.push((0..).map_while(|it| message.frame(it).map(<[u8]>::to_vec)).collect());
        }
        Ok(all)
    }

    fn of(bytes: &[u8], limit: usize) -> Messages {
        Messages { buffer: bytes.to_vec(), ..Messages::new(limit) }
    }

    #[test]
    fn a_claim_is_refused_before_it_comes_true() {
        let mut large = vec![0x02];
        large.extend_from_slice(&u64::MAX.to_be_bytes());
        assert!(matches!(of(&large, 100).next(), Err(ZmtpError::TooLarge { .. })));
        assert!(matches!(of(&[0, 101], 100).next(), Err(ZmtpError::TooLarge { size: 101, .. })));
        // In sum, too.
        let mut sum = vec![1, 60];
        sum.extend_from_slice(&[0; 60]);
        sum.extend_from_slice(&[0, 60]);
        assert!(matches!(of(&sum, 100).next(), Err(ZmtpError::TooLarge { size: 120, .. })));
        assert!(matches!(of(&[8, 0], 100).next(), Err(ZmtpError::Flags(8))));
        assert!(matches!(of(&[5, 0], 100).next(), Err(ZmtpError::Command)));
        let many = [1, 0].repeat(FRAMES + 1);
        assert!(matches!(of(&many, 100).next(), Err(ZmtpError::TooMany(_))));
    }

    proptest! {
        #[test]
        fn messages_come_whole_however_they_are_cut(
            sent in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 1..4), 0..8),
            cuts in proptest::collection::vec(1_usize..400, 1..40),
        ) {
            let mut bytes = Vec::new();
            for message in &sent {
                for (index, it) in message.iter().enumerate() {
                    frame(&mut bytes, it, index + 1 < message.len());
                }
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (mut messages, mut got, mut rest) = (Messages::new(4096), Vec::new(), &bytes[..]);
            let mut cuts = cuts.into_iter().cycle();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                runtime.block_on(messages.fill(&mut &now[..])).unwrap();
                got.extend(taken(&mut messages).unwrap());
                rest = later;
            }
            prop_assert!(!messages.is_within());
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = taken(&mut of(&bytes, 1000));
        }
    }
}
