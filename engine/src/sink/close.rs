//! What is made from the records once a run is over.

use std::io::{self, BufWriter, Write};

use envmill_formats::{FormatError, write_parquet};

use super::{Format, OutputDirectory, Records, SinkError, directory::DIFFERENCES, episode_record};
use crate::replay::{Recording, Replayed, compare};

/// Batches of about this many records go into the Parquet writer at a time.
const ROWS: usize = 256;

/// Makes `trajectories.parquet` from the stream of a run that asked for it, and `results.jsonl` if
/// `episode_records`; compares the records with `recording`, into `differences.jsonl`. Each takes its name once it is whole; the stream is removed after that.
///
/// # Errors
///
/// What is to be made cannot be written. The records are then still where the run wrote them.
pub fn close(
    directory: &OutputDirectory,
    episode_records: bool,
    recording: Option<&Recording>,
) -> Result<Option<Replayed>, SinkError> {
    let running = directory.running();
    let mut replayed = None;
    if let Some(recording) = recording {
        directory
            .write_whole(DIFFERENCES, |file| {
                let mut out = BufWriter::new(file);
                let records = Records::open(&running).map_err(io::Error::other)?;
                replayed = Some(compare(recording, records, &mut out)?);
                out.flush()
            })
            .map_err(|source| SinkError::new(directory.path().join(DIFFERENCES), source))?;
    }
    if episode_records {
        let name = directory.episode_records();
        directory
            .write_whole(name, |file| {
                let mut out = BufWriter::new(file);
                for record in Records::open(&running).map_err(io::Error::other)? {
                    episode_record::write_line(&mut out, &record.map_err(io::Error::other)?)?;
                }
                out.flush()
            })
            .map_err(|source| SinkError::new(directory.path().join(name), source))?;
    }
    if directory.format() == Format::Parquet {
        let target = directory.records();
        directory
            .write_whole(Format::Parquet.final_file(), |file| {
                let mut records = Records::open(&running).map_err(io::Error::other)?;
                let batches = std::iter::from_fn(|| {
                    let batch: Result<Vec<_>, _> = records.by_ref().take(ROWS).collect();
                    match batch {
                        Ok(batch) if batch.is_empty() => None,
                        Ok(batch) => Some(Ok(batch)),
                        Err(error) => Some(Err(FormatError::Io(io::Error::other(error)))),
                    }
                });
                write_parquet(BufWriter::new(file), batches)
                    .map_err(FormatError::into_io)?
                    .1
                    .flush()
            })
            .and_then(|()| std::fs::remove_file(&running))
            .map_err(|source| SinkError::new(target, source))?;
    }
    Ok(replayed)
}
