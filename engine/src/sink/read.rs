//! Reading records back, whatever form they were kept in.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use envmill_formats::{FormatError, ParquetReader, StreamReader};
use envmill_protocol::{
    Trajectory,
    record::{ReadError, SCHEMA_VERSION, read_json_line},
};

/// The first bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";
/// The first bytes of an Arrow IPC stream: a continuation mark.
const ARROW: &[u8] = &[0xFF; 4];

/// A file of records cannot be read, or not to its end. Those before are good.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot read the records of {}: {why}", .path.display())]
pub struct RecordsError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: Why,
}

/// Why records cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Why {
    /// The system refuses.
    #[error(transparent)]
    Io(Arc<io::Error>),
    /// A line is no record.
    #[error(transparent)]
    Line(Arc<ReadError>),
    /// The last line has no end: it was being written when the run was killed.
    #[error("the last line is not whole")]
    Torn,
    /// A batch is no records.
    #[error(transparent)]
    Batch(Arc<FormatError>),
}

impl Why {
    /// Whether the data ends or breaks here, rather than being out of reach or of a version that is
    /// not known.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Io(_) => false,
            Self::Line(error) => matches!(**error, ReadError::Malformed(_)),
            Self::Torn => true,
            Self::Batch(error) => error.is_damage(),
        }
    }

    /// Whether the data ends in the middle of a record or batch, as that of a run that was killed.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        match self {
            Self::Io(_) | Self::Line(_) => false,
            Self::Torn => true,
            Self::Batch(error) => error.is_cut(),
        }
    }
}

/// Reads the records of a file one after another: JSON lines, an Arrow IPC stream or Parquet, told
/// apart by the file's first bytes. Memory holds one line or batch at a time. After an error, which
/// is the first damage or the file's torn end, it is over.
pub struct Records {
    path: PathBuf,
    source: Option<Source>,
    batch: std::vec::IntoIter<Trajectory>,
    whole_bytes: u64,
}

enum Source {
    Lines(BufReader<File>),
    Stream(StreamReader<BufReader<File>>),
    Parquet(Box<ParquetReader>),
}

impl Records {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is a Parquet file that was not finished.
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        let wrong = |why| RecordsError { path: path.to_owned(), why };
        let io = |error| wrong(Why::Io(Arc::new(error)));
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let start = file.fill_buf().map_err(io)?;
        let source = if start.starts_with(PARQUET) {
            let reader = ParquetReader::new(File::open(path).map_err(io)?);
            let reader = reader.map_err(|error| wrong(Why::Batch(Arc::new(error))))?;
            Source::Parquet(Box::new(reader))
        } else if !start.is_empty() && start.starts_with(&ARROW[..start.len().min(ARROW.len())]) {
            Source::Stream(StreamReader::new(file))
        } else {
            Source::Lines(file)
        };
        let (path, source) = (path.to_owned(), Some(source));
        Ok(Self { path, source, batch: Vec::new().into_iter(), whole_bytes: 0 })
    }

    /// Whether each record is a line of its own, which ends at [`whole_bytes`](Self::whole_bytes) when it
    /// has been read.
    #[must_use]
    pub const fn is_lines(&self) -> bool {
        matches!(self.source, Some(Source::Lines(_)))
    }

    /// How many bytes of the file the records so far take, those of their batch included: where it
    /// can be cut and go on. Not known for Parquet, which cannot go on.
    #[must_use]
    pub const fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// Whether its records are in columns of an earlier version, behind which none of this version fit.
    pub(super) fn has_older_columns(&self) -> bool {
        match &self.source {
            Some(Source::Stream(stream)) => {
                stream.schema_version().is_some_and(|version| version < SCHEMA_VERSION)
            }
            _ => false,
        }
    }

    fn read(&mut self) -> Result<Option<Vec<Trajectory>>, Why> {
        match &mut self.source {
            None => Ok(None),
            Some(Source::Lines(lines)) => {
                let mut line = Vec::new();
                let length =
                    lines.read_until(b'\n', &mut line).map_err(|error| Why::Io(Arc::new(error)))?;
                if length == 0 {
                    return Ok(None);
                }
                if !line.ends_with(b"\n") {
                    return Err(Why::Torn);
                }
                let record = read_json_line(&line).map_err(|error| Why::Line(Arc::new(error)))?;
                self.whole_bytes += length as u64;
                Ok(Some(vec![record]))
            }
            Some(Source::Stream(stream)) => {
                let batch = stream.next().transpose();
                self.whole_bytes = stream.whole_bytes();
                batch.map_err(|error| Why::Batch(Arc::new(error)))
            }
            Some(Source::Parquet(reader)) => {
                reader.next().transpose().map_err(|error| Why::Batch(Arc::new(error)))
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Trajectory, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.batch.next() {
                return Some(Ok(record));
            }
            match self.read() {
                Ok(Some(batch)) => self.batch = batch.into_iter(),
                Ok(None) => {
                    self.source = None;
                    return None;
                }
                Err(why) => {
                    self.source = None;
                    return Some(Err(RecordsError { path: self.path.clone(), why }));
                }
            }
        }
    }
}
