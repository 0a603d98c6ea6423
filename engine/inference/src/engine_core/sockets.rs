//! The sockets that an engine dials, and the folder they are in.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use crate::{Error, ErrorKind};

/// The longest path that a Unix socket can have.
const LONGEST: usize = 107;
/// A word about an engine larger than this was not written here.
const LARGEST: u64 = 64 << 10;

/// The files of a channel.
#[derive(Debug)]
pub(super) struct Folder {
    input: PathBuf,
    output: PathBuf,
    /// What the engine said of itself, for whoever comes after us while it still runs.
    engine: PathBuf,
}

impl Folder {
    /// Makes the folder, if need be.
    pub(super) fn new(folder: &Path) -> Result<Self, Error> {
        let refused = |what: String| Error::new(ErrorKind::Refused, what);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .and_then(|()| fs::canonicalize(folder))
            .map_err(|error| refused(format!("{}: {error}", folder.display())))
            .and_then(|folder| {
                let it = Self {
                    input: folder.join("input.sock"),
                    output: folder.join("output.sock"),
                    engine: folder.join("engine.msgpack"),
                };
                let Some(path) = it.output.to_str() else {
                    return Err(refused(format!("{}: no text", folder.display())));
                };
                if path.len() > LONGEST {
                    return Err(refused(format!(
                        "{path} is too long for a socket; take a shorter one"
                    )));
                }
                Ok(it)
            })
    }

    /// Binds the sockets of requests and of tokens.
    pub(super) fn bind(&self) -> Result<(UnixListener, UnixListener), Error> {
        Ok((bind(&self.input)?, bind(&self.output)?))
    }

    /// The paths of the two, which were found to be text.
    pub(super) fn paths(&self) -> (String, String) {
        (self.input.to_string_lossy().into_owned(), self.output.to_string_lossy().into_owned())
    }

    /// What the last engine said of itself, if nobody saw its end.
    pub(super) fn engine(&self) -> Option<Vec<u8>> {
        let len = fs::metadata(&self.engine).ok()?.len();
        if len > LARGEST { None } else { fs::read(&self.engine).ok() }
    }

    /// Keeps what the engine said of itself; or forgets it. That is half a kibibyte, once for each start
    /// of an engine, so it is written where it is known. Without it, an engine is only taken up again when
    /// it is started again, so a failure is no more than a word in the log.
    pub(super) fn keep(&self, engine: Option<&[u8]>) {
        let done = match engine {
            Some(it) => fs::write(&self.engine, it),
            None => match fs::remove_file(&self.engine) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            },
        };
        if let Err(error) = done {
            tracing::warn!(path = %self.engine.display(), %error, "what the engine is was not kept");
        }
    }

    /// Takes the sockets away.
    pub(super) fn remove(&self) {
        for it in [&self.input, &self.output] {
            // Somebody else may have been faster.
            let _ = fs::remove_file(it);
        }
    }
}

/// Binds a socket. One that a process left behind, and that nobody listens at, is taken away first.
fn bind(path: &Path) -> Result<UnixListener, Error> {
    let refused =
        |what: String| Error::new(ErrorKind::Refused, format!("{}: {what}", path.display()));
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(refused("there is a file, which is no socket".to_owned()));
        }
        match UnixStream::connect(path) {
            Ok(_) => {
                return Err(refused(
                    "another process listens here; take another folder".to_owned(),
                ));
            }
            Err(_) => fs::remove_file(path).map_err(|error| refused(error.to_string()))?,
        }
    }
    let listener = UnixListener::bind(path).map_err(|error| refused(error.to_string()))?;
    listener.set_nonblocking(true).map_err(|error| refused(error.to_string()))?;
    Ok(listener)
}
