//! The file that what was captured goes to: a line for each episode.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use envmill_capture::{Captured, TraceError};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, Take};

/// A line is read in pieces of so many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// `traces.jsonl`.
pub(super) struct Traces {
    path: PathBuf,
    file: Mutex<File>,
}

/// Where in the file an episode's line is. It has each call's whole prompt and request, and may be long: it is
/// never in memory as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    begin: u64,
    pub(super) bytes: u64,
}

impl Traces {
    /// The file, to which lines are added.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    /// Writes an episode down. Where that fails, nothing of it is left.
    pub(super) fn keep(
        &self,
        captured: &Captured,
        reward: Option<f64>,
        metadata: &Value,
    ) -> Result<Line, TraceError> {
        // A panic under the lock leaves half a line at worst, as a kill does.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = file.metadata()?.len();
        let mut out = BufWriter::new(&mut *file);
        let written = write(&mut out, captured, reward, metadata);
        // What is still in there is not to be written when it is dropped.
        drop(out.into_parts());
        match written {
            Ok(()) => Ok(Line { begin, bytes: file.metadata()?.len() - begin }),
            Err(error) => {
                file.set_len(begin)?;
                Err(error)
            }
        }
    }

    /// A line as the body of an answer.
    pub(super) async fn body(&self, line: Line) -> io::Result<Body> {
        let mut file = tokio::fs::File::open(&self.path).await?;
        file.seek(SeekFrom::Start(line.begin)).await?;
        Ok(Body::from_stream(stream::try_unfold(file.take(line.bytes), piece)))
    }
}

/// What is still to be read of a line.
type Rest = Take<tokio::fs::File>;

/// What comes next, and the rest.
async fn piece(mut file: Rest) -> io::Result<Option<(Bytes, Rest)>> {
    let mut piece = BytesMut::with_capacity(PIECE_BYTES);
    let count = file.read_buf(&mut piece).await?;
    Ok((count > 0).then(|| (piece.freeze(), file)))
}

fn write(
    out: &mut impl Write,
    captured: &Captured,
    reward: Option<f64>,
    metadata: &Value,
) -> Result<(), TraceError> {
    let Captured { branches, auxiliary, .. } = captured;
    write!(
        out,
        "{{\"reward\":{},\"metadata\":{metadata},\"branches\":{branches},\"auxiliary\":{auxiliary},\"trace\":",
        json!(reward)
    )?;
    captured.write_training_trace(out)?;
    out.write_all(b"}\n")?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use envmill_capture::{Begun, Call, End, Kept, Timings};
    use envmill_protocol::{Generated, GeneratedKind};

    use super::*;

    fn captured(logprobs: Vec<f32>) -> Captured {
        let generated = Generated { token_ids: vec![7], logprobs, ..Generated::default() };
        let call = Call {
            generation: Some(0),
            parent: None,
            begun: Begun::Anew,
            kind: GeneratedKind::Agent,
            end: End::Closed,
            sampling: Bytes::new(),
            response: Kept::Json(Bytes::new()),
            timings: Timings::default(),
        };
        let mut captured = Captured::default();
        (captured.generations, captured.calls) = (vec![generated], vec![call]);
        captured
    }

    #[test]
    fn an_episode_is_a_line_and_one_that_cannot_be_written_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("traces.jsonl");
        let traces = Traces::open(&path).unwrap();
        let first = traces.keep(&captured(vec![-0.5]), Some(1.0), &Value::Null).unwrap();
        let error = traces.keep(&captured(Vec::new()), None, &Value::Null).unwrap_err();
        assert!(error.to_string().contains("no log-probabilities"), "{error}");
        // Also by another one that finds the file.
        let traces = Traces::open(&path).unwrap();
        let second = traces.keep(&Captured::default(), None, &json!({"a": "b\n"})).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        assert_eq!((lines.len(), &lines[0]["reward"]), (2, &json!(1.0)));
        assert_eq!(lines[0]["trace"]["turns"][0]["completion_token_ids"], json!([7]));
        assert_eq!(lines[1]["metadata"], json!({"a": "b\n"}));
        assert_eq!(second, Line { begin: first.bytes, bytes: text.len() as u64 - first.bytes });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(async {
            let body = traces.body(second).await.unwrap();
            axum::body::to_bytes(body, usize::MAX).await.unwrap()
        });
        assert_eq!(read, text.as_bytes()[first.bytes as usize..]);
    }
}
