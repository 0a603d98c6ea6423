//! What a step brings, read in place and kept flat: nothing is made for a token but its place in two lists.

use std::ops::Range;

use envmill_protocol::PolicyVersion;

use super::{
    id::{self, Named, Place},
    matrix::Matrix,
    msgpack::{Malformed, Reader},
    versions::Layout,
    zmtp::Message,
};

/// So much of what a failed call says is kept.
const FAILURE: usize = 2048;
/// So many requests of a client before us are ended per step.
const STRANGERS: usize = 256;

/// A step, decoded. It is used again for every step.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) outputs: Vec<Output>,
    /// Of all outputs.
    pub(super) tokens: Vec<u32>,
    /// Of all outputs that have some.
    pub(super) logprobs: Vec<f32>,
    /// Of all outputs that have some: the most likely tokens at each place and their log-probabilities.
    pub(super) top: Vec<(u32, f32)>,
    pub(super) stats: Option<Stats>,
    pub(super) utility: Option<Utility>,
    /// The version that sampled, if it is one of ours.
    pub(super) version: Option<PolicyVersion>,
    /// Requests that a client before us left there.
    pub(super) strangers: Vec<String>,
}

/// What one request got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) place: Place,
    pub(super) tokens: Range<usize>,
    /// `None`: none were sent.
    pub(super) logprobs: Option<Range<usize>>,
    /// Where its most likely tokens are; as many for each of its tokens.
    pub(super) top: Range<usize>,
    pub(super) end: Option<End>,
    /// How many of the prompt's tokens were found in the cache, where it is said.
    pub(super) cached: Option<u32>,
    /// Microseconds that the request had waited when it was first scheduled, where it is said.
    pub(super) queued_us: Option<u64>,
}

/// The engine's word for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By the end-of-turn token.
    Turn,
    /// By a stop token.
    Stop(u32),
    Length,
    Abort,
    /// Something failed, for this request.
    Failed,
    /// A reason that cannot be, for what we ask.
    Odd(u64),
}

/// How busy the engine was in this step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stats {
    pub(super) running: u64,
    pub(super) waiting: u64,
    pub(super) kv_cache: f64,
    /// Since the step before.
    pub(super) prefix_queries: u64,
    pub(super) prefix_hits: u64,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Utility {
    pub(super) call: u64,
    pub(super) failure: Option<String>,
}

/// Why a message is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Nonsense {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Odd(&'static str),
}

impl Step {
    /// Reads a step. What it had before is gone; after an error, what it has means nothing.
    pub(super) fn read(
        &mut self,
        message: Message<'_>,
        layout: &Layout,
        run: u32,
    ) -> Result<(), Nonsense> {
        self.outputs.clear();
        self.tokens.clear();
        self.logprobs.clear();
        self.top.clear();
        self.strangers.clear();
        (self.stats, self.utility, self.version) = (None, None, None);

        let mut reader = Reader::new(message.frame(0).unwrap_or_default());
        let fields = reader.array()?;
        for field in 0..fields {
            if field == 1 {
                for _ in 0..reader.array()? {
                    self.output(&mut reader, message, layout, run)?;
                }
            } else if field == layout.step.stats {
                self.stats = stats(&mut reader)?;
            } else if field == layout.step.utility {
                self.utility = utility(&mut reader)?;
            } else if field == layout.step.weight_version {
                self.version = version(&mut reader)?;
            } else {
                reader.skip()?;
            }
        }
        if reader.is_empty() { Ok(()) } else { Err(Nonsense::Odd("there is more behind a step")) }
    }

    fn output<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        message: Message<'a>,
        layout: &Layout,
        run: u32,
    ) -> Result<(), Nonsense> {
        let fields = reader.array()?;
        if fields < 2 {
            return Err(Nonsense::Odd("an output without a request's id or tokens"));
        }
        let name = reader.str()?;
        let place = match id::read(name, run) {
            Named::Ours(place) => place,
            named => {
                if named == Named::Before && self.strangers.len() < STRANGERS {
                    self.strangers.push(String::from_utf8_lossy(name).into_owned());
                }
                return Ok(reader.skip_all(fields - 1)?);
            }
        };
        let start = self.tokens.len();
        for _ in 0..reader.array()? {
            self.tokens.push(reader.u32()?);
        }
        let mut output = Output {
            place,
            tokens: start..self.tokens.len(),
            logprobs: None,
            top: 0..0,
            end: None,
            cached: None,
            queued_us: None,
        };
        let (mut finish, mut stop) = (None, None);
        for field in 2..fields {
            // Most fields of most outputs.
            if reader.nil() {
                continue;
            }
            if field == 2 {
                let before = self.top.len();
                output.logprobs = Some(self.logprobs(reader, message, output.tokens.clone())?);
                output.top = before..self.top.len();
            } else if field == layout.output.finish {
                finish = Some(reader.uint()?);
            } else if field == layout.output.stop && !reader.is_str() {
                stop = Some(reader.u32()?);
            } else if field == layout.output.events {
                output.queued_us = queued_us(reader)?;
            } else if field == layout.output.prefill {
                output.cached = cached(reader)?;
            } else {
                reader.skip()?;
            }
        }
        output.end = finish.map(|finish| match (finish, stop) {
            (0, None) => End::Turn,
            (0, Some(token)) => End::Stop(token),
            (1, _) => End::Length,
            (2, _) => End::Abort,
            (3, _) => End::Failed,
            (other, _) => End::Odd(other),
        });
        self.outputs.push(output);
        Ok(())
    }

    /// `[token ids, log-probabilities, ranks, nil]`, of which the first two have a row a token, the sampled
    /// token in the first column, and in the others as many most likely tokens as any request of the step has
    /// asked for.
    fn logprobs<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        message: Message<'a>,
        tokens: Range<usize>,
    ) -> Result<Range<usize>, Nonsense> {
        let fields = reader.array()?;
        if fields < 2 {
            return Err(Nonsense::Odd("log-probabilities without token ids or without values"));
        }
        let ids = Matrix::read(reader, message)?;
        let values = Matrix::read(reader, message)?;
        reader.skip_all(fields - 2)?;
        let columns = ids.columns;
        if ids.rows != tokens.len() || values.rows != tokens.len() || values.columns != columns {
            return Err(Nonsense::Odd("not as many log-probabilities as tokens"));
        }
        let start = self.logprobs.len();
        for (row, token) in tokens.enumerate() {
            if ids.int(row, 0) != self.tokens.get(token).copied().map(i64::from) {
                return Err(Nonsense::Odd(
                    "log-probabilities of other tokens than the sampled ones",
                ));
            }
            const ODD: Nonsense = Nonsense::Odd("log-probabilities of an odd type");
            self.logprobs.push(values.float(row, 0).ok_or(ODD)?);
            for column in 1..columns {
                let id = ids.int(row, column).and_then(|it| u32::try_from(it).ok()).ok_or(ODD)?;
                self.top.push((id, values.float(row, column).ok_or(ODD)?));
            }
        }
        Ok(start..self.logprobs.len())
    }
}

/// Of how the prompt was taken in, how much was found in the cache.
fn cached(reader: &mut Reader<'_>) -> Result<Option<u32>, Malformed> {
    let mut cached = None;
    for _ in 0..reader.map()? {
        match reader.str()? {
            b"num_cached_tokens" => cached = Some(reader.u32()?),
            _ => reader.skip()?,
        }
    }
    Ok(cached)
}

/// Of what happened to a request, the time from when it was queued until it was scheduled first.
fn queued_us(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    const QUEUED: u64 = 1;
    const SCHEDULED: u64 = 2;
    let (mut queued, mut scheduled) = (None, None);
    for _ in 0..reader.array()? {
        let (mut kind, mut at) = (None, None);
        for _ in 0..reader.map()? {
            match reader.str()? {
                b"type" => kind = Some(reader.uint()?),
                b"timestamp" => at = Some(reader.float()?),
                _ => reader.skip()?,
            }
        }
        match kind {
            Some(QUEUED) => queued = queued.or(at),
            Some(SCHEDULED) => scheduled = scheduled.or(at),
            _ => {}
        }
    }
    // Seconds; what is no time at all becomes 0.
    let between = queued.zip(scheduled).map(|(queued, scheduled)| (scheduled - queued) * 1e6);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    Ok(between.map(|it: f64| it as u64))
}

fn stats(reader: &mut Reader<'_>) -> Result<Option<Stats>, Malformed> {
    if reader.nil() {
        return Ok(None);
    }
    let mut stats = Stats::default();
    for _ in 0..reader.map()? {
        match reader.str()? {
            b"num_running_reqs" => stats.running = reader.uint()?,
            b"num_waiting_reqs" | b"num_skipped_waiting_reqs" => {
                stats.waiting = stats.waiting.saturating_add(reader.uint()?);
            }
            b"kv_cache_usage" => stats.kv_cache = reader.float()?,
            b"prefix_cache_stats" if !reader.nil() => {
                for _ in 0..reader.map()? {
                    match reader.str()? {
                        b"queries" => stats.prefix_queries = reader.uint()?,
                        b"hits" => stats.prefix_hits = reader.uint()?,
                        _ => reader.skip()?,
                    }
                }
            }
            b"prefix_cache_stats" => {}
            _ => reader.skip()?,
        }
    }
    Ok(Some(stats))
}

/// `[call, failure, result]`; results are not asked for.
fn utility(reader: &mut Reader<'_>) -> Result<Option<Utility>, Nonsense> {
    if reader.nil() {
        return Ok(None);
    }
    let fields = reader.array()?;
    if fields < 2 {
        return Err(Nonsense::Odd("the answer to a call without its number"));
    }
    // Some have negative numbers: they are said unasked, and none of ours.
    let Ok(call) = reader.uint() else {
        reader.skip_all(fields)?;
        return Ok(None);
    };
    let failure = if reader.nil() {
        None
    } else {
        let failure = reader.str()?;
        Some(String::from_utf8_lossy(failure.get(..FAILURE).unwrap_or(failure)).into_owned())
    };
    reader.skip_all(fields - 2)?;
    Ok(Some(Utility { call, failure }))
}

/// The decimal text of a version. Others ("default", before the first is set) say nothing here.
fn version(reader: &mut Reader<'_>) -> Result<Option<PolicyVersion>, Malformed> {
    if reader.nil() {
        return Ok(None);
    }
    let text = reader.str()?;
    Ok(std::str::from_utf8(text).ok().and_then(|it| it.parse().ok()).map(PolicyVersion))
}
