//! Where a store lives.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, StorageBackend};

use crate::OpenError;

/// Pages that are kept in memory; payloads that are read again are rarely read twice.
const CACHE_BYTES: usize = 32 << 20;

/// Where a store lives. It is opened again after an error, since a disk that was full need not stay so.
pub enum Medium {
    /// A file, made where there is none.
    File(PathBuf),
    /// Anything else that holds bytes, for tests: a function that opens it.
    Backend(Box<dyn FnMut() -> Box<dyn StorageBackend> + Send>),
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Backend(_) => f.write_str("Backend"),
        }
    }
}

impl Medium {
    pub(crate) fn open(&mut self) -> Result<Database, DatabaseError> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        match self {
            Self::File(path) => {
                if !path.try_exists()? {
                    make(&builder, path)?;
                }
                builder.open(path)
            }
            Self::Backend(open) => builder.create_with_backend(Opened(open())),
        }
    }

    /// Whether there is anything: opening would make it.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        match self {
            Self::File(path) => fs::metadata(path).map(drop).map_err(OpenError::Io),
            Self::Backend(_) => Ok(()),
        }
    }

    /// How much room it takes, where that can be told.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match self {
            Self::File(path) => Some(std::fs::metadata(path).ok()?.len()),
            Self::Backend(_) => None,
        }
    }
}

/// A file gets its name when there is something in it: without power half-way there is no store, and not
/// one that cannot be opened.
fn make(builder: &Builder, path: &Path) -> Result<(), DatabaseError> {
    let unfinished = path.with_extension("new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => (),
    }
    builder.create(&unfinished)?.close()?;
    fs::rename(&unfinished, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    Ok(())
}

/// A backend whose type is not known here.
#[derive(Debug)]
struct Opened(Box<dyn StorageBackend>);

impl StorageBackend for Opened {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}
