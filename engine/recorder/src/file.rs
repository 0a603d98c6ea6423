//! The file: a header, then frames, each with its length and checksum.

use std::io::{self, Read};

use bytes::Bytes;

use crate::{
    codec::Source,
    digest::Digest,
    entry::{self, Entry},
};

/// The first bytes of every recording.
const MAGIC: [u8; 8] = *b"ENVMREC\n";

/// The version of the form. A replay must know everything that it reads, so it takes its own only.
pub const VERSION: u32 = 11;

/// The largest frame, in bytes. An input beyond it stops the recording.
pub const FRAME_BYTES_MAX: usize = 256 << 20;

/// Before each frame's body: its length and the CRC-32 of it.
pub(crate) const FRAME_HEAD_BYTES: usize = 8;

/// What is allocated at once for a frame that announces more.
const FIRST_ALLOCATION_BYTES: u64 = 64 * 1024;

/// The header of a file.
pub(crate) fn header() -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_le_bytes());
    header
}

/// Makes a frame of the body that stands in `frame` after room for its head. `false` if it is too
/// large for one.
pub(crate) fn seal(frame: &mut [u8]) -> bool {
    let Some((head, body)) = frame.split_first_chunk_mut::<FRAME_HEAD_BYTES>() else {
        return false;
    };
    let Ok(length) = u32::try_from(body.len()) else { return false };
    if body.len() > FRAME_BYTES_MAX {
        return false;
    }
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    true
}

/// Why a file, or the rest of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("cannot read the recording: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("this is no flight recording of envmill")]
    NotARecording,
    /// Another version of the program wrote it: use that one.
    #[error("the recording has version {found}, and this program reads version {VERSION}")]
    Version {
        /// The recording's version.
        found: u32,
    },
    /// It ends within a frame: the run was killed. What was read before is whole.
    #[error("the recording ends within the frame at byte {at}: the run was cut off there")]
    Cut {
        /// Where the frame begins.
        at: u64,
    },
    /// A frame is not what was written.
    #[error("the frame at byte {at} is damaged: {problem}")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads a recording, entry by entry. Whatever the bytes are, it gives entries or an error.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    at: u64,
    /// Nothing can be read any more.
    is_over: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read. `from` should be buffered.
    ///
    /// # Errors
    ///
    /// It is no recording, or one of another version.
    pub fn new(mut from: R) -> Result<Self, ReadError> {
        let mut header = [0; MAGIC.len() + 4];
        let found = fill(&mut from, &mut header)?;
        let Some((magic, version)) = header.split_first_chunk::<{ MAGIC.len() }>() else {
            return Err(ReadError::NotARecording);
        };
        if found < header.len() || *magic != MAGIC {
            return Err(ReadError::NotARecording);
        }
        let found = version.first_chunk().map_or(0, |version| u32::from_le_bytes(*version));
        if found != VERSION {
            return Err(ReadError::Version { found });
        }
        Ok(Self { from, at: header.len() as u64, is_over: false })
    }

    /// The next entry; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// The rest cannot be read; every call after it gives `None`.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        Ok(self.next_with_digest()?.map(|(_, entry)| entry))
    }

    pub(crate) fn next_with_digest(&mut self) -> Result<Option<(Digest, Entry)>, ReadError> {
        if self.is_over {
            return Ok(None);
        }
        let read = self.read();
        self.is_over = !matches!(read, Ok(Some(_)));
        read
    }

    fn read(&mut self) -> Result<Option<(Digest, Entry)>, ReadError> {
        let at = self.at;
        let damaged =
            |problem: &dyn ToString| ReadError::Damaged { at, problem: problem.to_string() };
        let mut head = [0; FRAME_HEAD_BYTES];
        match fill(&mut self.from, &mut head)? {
            0 => return Ok(None),
            FRAME_HEAD_BYTES => {}
            _ => return Err(ReadError::Cut { at }),
        }
        let [a, b, c, d, checksum @ ..] = head;
        let length = u32::from_le_bytes([a, b, c, d]);
        if length as usize > FRAME_BYTES_MAX {
            return Err(damaged(&format!("it announces {length} bytes")));
        }
        let mut body = Vec::with_capacity(u64::from(length).min(FIRST_ALLOCATION_BYTES) as usize);
        self.from.by_ref().take(length.into()).read_to_end(&mut body)?;
        if body.len() < length as usize {
            return Err(ReadError::Cut { at });
        }
        if crc32fast::hash(&body) != u32::from_le_bytes(checksum) {
            return Err(damaged(&"its checksum does not match"));
        }
        self.at += (FRAME_HEAD_BYTES + body.len()) as u64;
        let entry = entry::decode(&mut Source::new(Bytes::from(body)));
        entry.map(Some).map_err(|problem| damaged(&problem))
    }
}

/// Reads until `into` is full or nothing more comes; how much came.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
