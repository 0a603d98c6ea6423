//! What an engine says when it starts, and what it is told.

use super::{
    life::Known,
    msgpack::{Malformed, Reader, array, map, nil, str},
    versions,
};
use crate::{Error, ErrorKind};

/// What an engine says on the handshake's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It wants to know where to go.
    Hello,
    /// It is there.
    Ready,
}

/// Reads a status; `None`: another one than is known.
pub(super) fn status(message: &[u8]) -> Result<Option<Status>, Malformed> {
    let mut reader = Reader::new(message);
    let mut status = None;
    for _ in 0..reader.map()? {
        match reader.str()? {
            b"status" => {
                status = match reader.str()? {
                    b"HELLO" => Some(Status::Hello),
                    b"READY" => Some(Status::Ready),
                    _ => None,
                }
            }
            _ => reader.skip()?,
        }
    }
    Ok(status)
}

/// Where to go: the paths of the two sockets.
pub(super) fn init(out: &mut Vec<u8>, input: &str, output: &str) {
    map(out, 2);
    str(out, "addresses");
    map(out, 5);
    for (key, path) in [("inputs", input), ("outputs", output)] {
        str(out, key);
        array(out, 1);
        str(out, &format!("ipc://{path}"));
    }
    for key in ["coordinator_input", "coordinator_output", "frontend_stats_publish_address"] {
        str(out, key);
        nil(out);
    }
    str(out, "parallel_config");
    map(out, 0);
}

/// Reads what an engine says of itself when it is ready.
pub(super) fn known(message: &[u8]) -> Result<Known, Error> {
    let nonsense = |what: String| {
        Error::new(ErrorKind::Nonsense, format!("it says that it is ready, and then {what}"))
    };
    let (version, max_model_len) = read(message).map_err(|it| nonsense(it.to_string()))?;
    let Some(version) = version else {
        let message = "this vLLM does not say which version it is; reach it over HTTP or gRPC";
        return Err(Error::new(ErrorKind::Unsupported, message));
    };
    let Some(layout) = versions::layout(&version) else {
        return Err(Error::new(ErrorKind::Unsupported, versions::unknown(&version)));
    };
    let max_model_len =
        max_model_len.ok_or_else(|| nonsense("not how long prompts are".to_owned()))?;
    Ok(Known { layout, max_model_len })
}

fn read(message: &[u8]) -> Result<(Option<String>, Option<u32>), Malformed> {
    let mut reader = Reader::new(message);
    let (mut version, mut max_model_len) = (None, None);
    for _ in 0..reader.map()? {
        match reader.str()? {
            b"vllm_version" if reader.is_str() => {
                version = Some(String::from_utf8_lossy(reader.str()?).into_owned());
            }
            b"max_model_len" => max_model_len = Some(reader.u32()?),
            _ => reader.skip()?,
        }
    }
    Ok((version, max_model_len))
}
