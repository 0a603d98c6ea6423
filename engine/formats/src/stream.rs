//! Arrow IPC streams: records while they are played.

use std::io::{self, Read};

use envmill_protocol::Trajectory;

use crate::{FormatError, decode, decode::schema_version, encode, error::guarded, schema};

/// Makes the bytes of an Arrow IPC stream, for someone else to write: the schema before the first
/// batch, each batch whole, and the end.
pub struct StreamWriter {
    writer: arrow_ipc::writer::StreamWriter<Vec<u8>>,
}

impl StreamWriter {
    /// For a stream that begins, or one that goes on after batches that are there (`continued`) and
    /// so has its schema already.
    ///
    /// # Errors
    ///
    /// None that a caller can cause.
    pub fn new(continued: bool) -> Result<Self, FormatError> {
        let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &schema())?;
        if continued {
            writer.get_mut().clear();
        }
        Ok(Self { writer })
    }

    /// The bytes of one batch with these records, after what must stand before it. A reader gets all
    /// of them or, where the bytes are cut, none.
    ///
    /// # Errors
    ///
    /// None that a record can cause.
    pub fn batch(&mut self, records: &[Trajectory]) -> Result<Vec<u8>, FormatError> {
        self.writer.write(&encode(records)?)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    /// The bytes that end the stream.
    ///
    /// # Errors
    ///
    /// None that a caller can cause.
    pub fn end(mut self) -> Result<Vec<u8>, FormatError> {
        self.writer.finish()?;
        Ok(std::mem::take(self.writer.get_mut()))
    }
}

/// Reads the batches of a stream one after another. It ends at the stream's end, at the end of a file
/// that was cut between two batches, or with an error at the first thing that is no whole batch.
pub struct StreamReader<R: Read> {
    reader: Option<arrow_ipc::reader::StreamReader<Counted<R>>>,
    refused: Option<FormatError>,
    whole_bytes: u64,
}

impl<R: Read> StreamReader<R> {
    /// Reads from `read`, which should be buffered. A file that is empty or ends within its schema
    /// has no batches, and an error in their place.
    pub fn new(read: R) -> Self {
        let opened = guarded(|| {
            let counted = Counted { read, bytes: 0 };
            Ok(arrow_ipc::reader::StreamReader::try_new(counted, None)?)
        });
        match opened {
            Ok(reader) => {
                let whole_bytes = reader.get_ref().bytes;
                Self { reader: Some(reader), refused: None, whole_bytes }
            }
            Err(error) => Self { reader: None, refused: Some(error), whole_bytes: 0 },
        }
    }

    /// The version of the stream's records; `None` if it has not said.
    #[must_use]
    pub fn schema_version(&self) -> Option<u32> {
        schema_version(&self.reader.as_ref()?.schema())
    }

    /// How many bytes the schema and the batches read so far take: where a file is to be cut and
    /// can go on.
    #[must_use]
    pub const fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }
}

impl<R: Read> Iterator for StreamReader<R> {
    type Item = Result<Vec<Trajectory>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.refused.take() {
            return Some(Err(error));
        }
        let reader = self.reader.as_mut()?;
        let batch = guarded(|| reader.next().transpose().map_err(FormatError::from)).transpose();
        let records = batch.map(|batch| decode(&batch?));
        match &records {
            Some(Ok(_)) => self.whole_bytes = reader.get_ref().bytes,
            // After damage nothing tells where the next batch would begin.
            _ => self.reader = None,
        }
        records
    }
}

/// Counts the bytes that were read.
struct Counted<R> {
    read: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
