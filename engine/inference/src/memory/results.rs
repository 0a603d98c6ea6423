//! Rows of results.

use envmill_protocol::{PolicyVersion, VersionSpan};
use envmill_ring::{Batch, RaggedRows, ReadError};

use crate::{Chunk, Error, ErrorKind, Finish, Finished, TopLogprobs};

use super::layout::told;

const PART: u8 = 1;
const END: u8 = 2;
const FAILED: u8 = 3;
const DONE: u8 = 4;
const LOAD: u8 = 5;

const UNKNOWN: u32 = u32::MAX;

/// Nobody knows how long it has waited.
const NO_TIME: u64 = u64::MAX;

/// A version that the engine calls by a name that is no number.
const NO_VERSION: u64 = u64::MAX;

/// What a row says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// A part of a generation, or its end.
    Chunk(Chunk),
    /// A generation or a question has failed.
    Failed(Error),
    /// A question is answered.
    Done,
    /// How busy the engine is, as JSON.
    Load(Vec<u8>),
}

/// The columns of a batch, but for the tokens, which are copied straight to where they belong. To be used
/// again.
#[derive(Debug, Default)]
pub(super) struct Results {
    numbers: Vec<u64>,
    kinds: Vec<u8>,
    whys: Vec<u8>,
    stop_tokens: Vec<u32>,
    cached: Vec<u32>,
    queue_us: Vec<u64>,
    tokens: Vec<u32>,
    logprobs: Vec<u32>,
    versions: RaggedRows,
    texts: RaggedRows,
    top_tokens: Vec<u32>,
    top_logprobs: Vec<u32>,
}

impl Results {
    /// Reads a batch.
    pub(super) fn read(&mut self, batch: &Batch<'_>) -> Result<(), ReadError> {
        batch.fixed(told::NUMBER, &mut self.numbers)?;
        batch.fixed(told::KIND, &mut self.kinds)?;
        batch.fixed(told::WHY, &mut self.whys)?;
        batch.fixed(told::STOP_TOKEN, &mut self.stop_tokens)?;
        batch.fixed(told::CACHED, &mut self.cached)?;
        batch.fixed(told::QUEUE_US, &mut self.queue_us)?;
        batch.ragged_bounds(told::TOKENS, &mut self.tokens)?;
        batch.ragged_bounds(told::LOGPROBS, &mut self.logprobs)?;
        batch.ragged(told::VERSIONS, &mut self.versions)?;
        batch.ragged(told::TEXT, &mut self.texts)?;
        batch.ragged_bounds(told::TOP_TOKENS, &mut self.top_tokens)?;
        batch.ragged_bounds(told::TOP_LOGPROBS, &mut self.top_logprobs)
    }

    /// A row of the batch that was read: whose it is, and what it says. `version` is what the engine
    /// samples from as far as this end knows. The outer error means that the plug-in is to be given up.
    pub(super) fn row(
        &self,
        batch: &Batch<'_>,
        row: usize,
        version: PolicyVersion,
    ) -> Result<(u64, Told), Error> {
        let number = self.numbers[row];
        let text = self.texts.slice(row).unwrap_or_default();
        let told = match self.kinds[row] {
            kind @ (PART | END) => {
                let mut chunk = Chunk { version, ..Chunk::default() };
                let (tokens, logprobs) = (
                    self.tokens[row]..self.tokens[row + 1],
                    self.logprobs[row]..self.logprobs[row + 1],
                );
                batch
                    .copy_ragged(told::TOKENS, tokens, &mut chunk.token_ids)
                    .map_err(|it| broken(&it))?;
                batch
                    .copy_ragged(told::LOGPROBS, logprobs, &mut chunk.logprobs)
                    .map_err(|it| broken(&it))?;
                chunk.top_logprobs = self.top(batch, row, chunk.token_ids.len())?;
                if kind == END {
                    chunk.finished = Some(self.finished(row, text, version)?);
                }
                Told::Chunk(chunk)
            }
            FAILED => Told::Failed(failed(self.whys[row], text)),
            DONE => Told::Done,
            LOAD => Told::Load(text.to_vec()),
            odd => return Err(nonsense(format!("a row of the kind {odd}"))),
        };
        Ok((number, told))
    }

    /// The most likely tokens at each place of a row: at all of them, as many as at the others.
    fn top(&self, batch: &Batch<'_>, row: usize, places: usize) -> Result<TopLogprobs, Error> {
        let mut top = TopLogprobs::default();
        let (tokens, logprobs) = (
            self.top_tokens[row]..self.top_tokens[row + 1],
            self.top_logprobs[row]..self.top_logprobs[row + 1],
        );
        if tokens.is_empty() && logprobs.is_empty() {
            return Ok(top);
        }
        let (mut token_ids, mut theirs) = (Vec::<u32>::new(), Vec::<f32>::new());
        batch.copy_ragged(told::TOP_TOKENS, tokens, &mut token_ids).map_err(|it| broken(&it))?;
        batch.copy_ragged(told::TOP_LOGPROBS, logprobs, &mut theirs).map_err(|it| broken(&it))?;
        let each = token_ids.len().checked_div(places).unwrap_or(0);
        if each == 0 || each * places != token_ids.len() || theirs.len() != token_ids.len() {
            let (found, known) = (token_ids.len(), theirs.len());
            return Err(nonsense(format!(
                "{found} most likely tokens and {known} log-probabilities at {places} places"
            )));
        }
        for (ids, theirs) in token_ids.chunks_exact(each).zip(theirs.chunks_exact(each)) {
            top.push(ids.iter().copied().zip(theirs.iter().copied()), u32::MAX);
        }
        Ok(top)
    }

    fn finished(&self, row: usize, text: &[u8], known: PolicyVersion) -> Result<Finished, Error> {
        let finish = match self.whys[row] {
            1 => Finish::EndOfTurn,
            2 => Finish::StopToken(self.stop_tokens[row]),
            3 => Finish::StopText(String::from_utf8_lossy(text).into_owned()),
            4 => Finish::Length,
            5 => Finish::Aborted,
            odd => return Err(nonsense(format!("{odd} as the reason for an end"))),
        };
        let (spans, rest) = self.versions.slice(row).unwrap_or_default().as_chunks::<16>();
        if !rest.is_empty() {
            return Err(nonsense("half a span of versions".into()));
        }
        let versions = spans.iter().map(|it| span(it, known)).collect();
        let cached = self.cached[row];
        let cached_tokens = (cached != UNKNOWN).then_some(cached);
        let waited = self.queue_us[row];
        let queue_us = (waited != NO_TIME).then_some(waited);
        Ok(Finished { versions, cached_tokens, queue_us, ..Finished::new(finish) })
    }
}

/// A version and how many tokens it has sampled.
fn span(bytes: &[u8; 16], known: PolicyVersion) -> VersionSpan {
    let [v0, v1, v2, v3, v4, v5, v6, v7, t0, t1, t2, t3, ..] = *bytes;
    let version = match u64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7]) {
        NO_VERSION => known,
        number => PolicyVersion(number),
    };
    VersionSpan { version, tokens: u32::from_le_bytes([t0, t1, t2, t3]) }
}

fn failed(why: u8, text: &[u8]) -> Error {
    let kind = match why {
        1 => ErrorKind::Refused,
        2 => ErrorKind::Busy,
        3 => ErrorKind::Lost,
        5 => ErrorKind::Unsupported,
        _ => ErrorKind::Nonsense,
    };
    Error::new(kind, String::from_utf8_lossy(text))
}

/// The plug-in's segment makes no sense.
pub(super) fn broken(error: &ReadError) -> Error {
    nonsense(error.to_string())
}

fn nonsense(what: String) -> Error {
    Error::new(ErrorKind::Nonsense, what)
}
