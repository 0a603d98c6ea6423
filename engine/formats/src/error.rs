//! Why records cannot be read from columns, or written to them.

use std::io;

use arrow_schema::ArrowError;
use envmill_protocol::record::{ImpossiblePrompt, SCHEMA_VERSION};
use parquet::errors::ParquetError;

/// A file of columns cannot be read or written. What was read before stays good.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The system refuses to read or write.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no Arrow data, or damaged, or ends in mid-batch.
    #[error("no whole Arrow data: {0}")]
    Arrow(#[from] ArrowError),
    /// It is no Parquet file, or damaged, or was never finished.
    #[error("no whole Parquet file: {0}")]
    Parquet(#[from] ParquetError),
    /// It lies about itself in a way that the libraries stumble over.
    #[error("damaged data: {0}")]
    Damaged(String),
    /// A newer version of this program wrote it: read it with that one.
    #[error("the records have schema version {found}; this program reads up to {SCHEMA_VERSION}")]
    NewerSchema {
        /// The file's version.
        found: u32,
    },
    /// Its schema does not say which version it has: it is no file of records.
    #[error("there are columns, but not those of trajectory records")]
    NoRecords,
    /// A column is missing or of another type.
    #[error("the column `{column}` is {problem}")]
    Column {
        /// The column's name.
        column: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A field has the right type and says what this version does not know.
    #[error("`{field}` says what is not known here: {value:?}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A generation shares ids of its prompt with another one that does not have them.
    #[error(transparent)]
    Prompt(#[from] ImpossiblePrompt),
}

impl FormatError {
    /// Whether the data ends in the middle of a batch, as that of a writer that was killed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        let is_end = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        match self {
            Self::Io(error) | Self::Arrow(ArrowError::IoError(_, error)) => is_end(error),
            _ => false,
        }
    }

    /// As an error of reading or writing: the system's own where it was that.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Io(error) => error,
            other => io::Error::other(other),
        }
    }

    /// Whether the data ends or breaks here, rather than being another version's: what is before
    /// can be kept, and what follows cannot be read by anybody.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Arrow(_) | Self::Parquet(_) | Self::Damaged(_))
    }
}

/// Runs a read of data that may be damaged in any way. The libraries check what they read and return
/// errors; where a lie gets past their checks into an assertion, it ends here as an error, too.
pub(crate) fn guarded<T>(read: impl FnOnce() -> Result<T, FormatError>) -> Result<T, FormatError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
            .unwrap_or_default();
        Err(FormatError::Damaged(message))
    })
}
