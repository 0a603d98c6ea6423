//! The search for the fastest channel that a server offers on this host.

use std::{fmt, path::PathBuf, time::Duration};

use http::Uri;
use tokio::{runtime::Handle, time::timeout};

use crate::{
    Error, ErrorKind, Inference as _, VllmMemory, VllmMemoryOptions,
    http::{Link, Offer},
    memory::VERSION,
};

use super::here;

/// How a vLLM is spoken with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over HTTP, as its URL says; and why nothing faster is used, if something was offered.
    Http {
        /// Why not.
        instead: Option<String>,
    },
    /// Through the shared memory of Envmill's plug-in, whose socket this is.
    Memory {
        /// The socket.
        socket: PathBuf,
    },
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { instead: None } => f.write_str("HTTP"),
            Self::Http { instead: Some(why) } => write!(f, "HTTP, as {why}"),
            Self::Memory { socket } => write!(f, "shared memory ({})", socket.display()),
        }
    }
}

/// What came of a search.
pub(super) enum Found {
    /// This channel answers, and is the same engine's.
    Memory(VllmMemory, PathBuf),
    /// Nothing is offered.
    Nothing,
    /// Something is, for others: the server is not reached on this host, or not alone.
    NotHere(String),
    /// Something is that does not work.
    Broken(String),
    /// Nobody answers. The server may be starting.
    Nobody(Error),
}

/// For each answer, over HTTP and from the plug-in: vLLM's event loop is busy at times.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks a server what it offers, and tries it.
pub(super) async fn search(http: &Link, runtime: &Handle) -> Found {
    let offer = match timeout(PATIENCE, http.offer()).await {
        Ok(Ok(Some(offer))) => offer,
        Ok(Ok(None)) => return Found::Nothing,
        Ok(Err(error)) if error.kind == ErrorKind::Nonsense => return Found::Broken(error.message),
        Ok(Err(error)) => return Found::Nobody(error),
        Err(_) => return Found::Nobody(Error::new(ErrorKind::Silent, "no answer")),
    };
    let Offer { version, socket: Some(socket), engine, host, port } = offer else {
        return Found::Nothing;
    };
    if let Some(why) = elsewhere(http.url(), &host, port).await {
        return Found::NotHere(why);
    }
    if version != VERSION {
        return Found::Broken(format!(
            "its plug-in speaks version {version} of shared memory, not {VERSION}: install the `envmill` \
             of this version for vLLM"
        ));
    }
    let options =
        VllmMemoryOptions { engine: Some(engine), ..VllmMemoryOptions::new(socket.clone()) };
    let memory = match VllmMemory::new(options, runtime.clone()) {
        Ok(memory) => memory,
        Err(error) => return Found::Broken(error.message),
    };
    // A question to vLLM itself: what answers it is the whole way there and back.
    match timeout(PATIENCE, memory.load()).await {
        Ok(Ok(_)) => Found::Memory(memory, socket),
        Ok(Err(error)) => Found::Broken(error.message),
        Err(_) => Found::Broken(format!(
            "nothing came over {} for {} s",
            socket.display(),
            PATIENCE.as_secs()
        )),
    }
}

/// Why the socket of a server is none of ours: what is between it and its URL may speak with others, too.
async fn elsewhere(url: &str, host: &str, port: Option<u16>) -> Option<String> {
    if host.is_empty() || host != here::host() {
        return Some("its plug-in is on another host".to_owned());
    }
    let Ok(url) = url.parse::<Uri>() else { return Some("its URL is none".to_owned()) };
    if port != Some(here::port(&url)) {
        let port = port.map_or_else(|| "no port".to_owned(), |it| format!("port {it}"));
        return Some(format!("its plug-in is behind something: vLLM itself has {port}"));
    }
    if !here::is_own_address(&url).await {
        return Some("its URL leads to no address of this host".to_owned());
    }
    None
}
