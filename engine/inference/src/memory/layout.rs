//! The columns of both segments, and what numbers in them mean.

use envmill_ring::{ColumnSpec, DType, Layout, LayoutError};

use crate::TOP_LOGPROBS_MAX;

use super::VllmMemoryOptions;

/// The version of all that is said here.
pub(crate) const VERSION: u32 = 3;

/// A side's state while it waits for room.
pub(super) const WAITS: u32 = 1;

/// Columns of requests.
pub(super) mod asked {
    pub(in super::super) const NUMBER: usize = 0;
    pub(in super::super) const KIND: usize = 1;
    pub(in super::super) const FLAGS: usize = 2;
    pub(in super::super) const MAX_TOKENS: usize = 3;
    pub(in super::super) const MIN_TOKENS: usize = 4;
    pub(in super::super) const TOP_K: usize = 5;
    pub(in super::super) const TEMPERATURE: usize = 6;
    pub(in super::super) const TOP_P: usize = 7;
    pub(in super::super) const MIN_P: usize = 8;
    pub(in super::super) const SEED: usize = 9;
    pub(in super::super) const TOP_LOGPROBS: usize = 10;
    pub(in super::super) const CONSTRAINT: usize = 11;
    pub(in super::super) const TOKENS: usize = 12;
    pub(in super::super) const STOP_TOKENS: usize = 13;
    pub(in super::super) const TEXT: usize = 14;
    pub(in super::super) const SCHEMA: usize = 15;
}

/// Columns of results.
pub(super) mod told {
    pub(in super::super) const NUMBER: usize = 0;
    pub(in super::super) const KIND: usize = 1;
    pub(in super::super) const WHY: usize = 2;
    pub(in super::super) const STOP_TOKEN: usize = 3;
    pub(in super::super) const CACHED: usize = 4;
    pub(in super::super) const QUEUE_US: usize = 5;
    pub(in super::super) const TOKENS: usize = 6;
    pub(in super::super) const LOGPROBS: usize = 7;
    pub(in super::super) const VERSIONS: usize = 8;
    pub(in super::super) const TEXT: usize = 9;
    pub(in super::super) const TOP_TOKENS: usize = 10;
    pub(in super::super) const TOP_LOGPROBS: usize = 11;
}

/// The least that an error's text and the versions of a generation take: the plug-in's word.
pub(super) const TEXT_BYTES_MIN: u32 = 8000;

/// The segment of requests.
pub(super) fn requests(options: &VllmMemoryOptions) -> Result<Layout, LayoutError> {
    let text = u64::from(options.text_bytes);
    let columns = [
        ColumnSpec::fixed("number", DType::U64, &[]),
        ColumnSpec::fixed("kind", DType::U8, &[]),
        ColumnSpec::fixed("flags", DType::U8, &[]),
        ColumnSpec::fixed("max_tokens", DType::U32, &[]),
        ColumnSpec::fixed("min_tokens", DType::U32, &[]),
        ColumnSpec::fixed("top_k", DType::U32, &[]),
        ColumnSpec::fixed("temperature", DType::F32, &[]),
        ColumnSpec::fixed("top_p", DType::F32, &[]),
        ColumnSpec::fixed("min_p", DType::F32, &[]),
        ColumnSpec::fixed("seed", DType::U64, &[]),
        ColumnSpec::fixed("top_logprobs", DType::U32, &[]),
        ColumnSpec::fixed("constraint", DType::U8, &[]),
        ColumnSpec::ragged("tokens", u64::from(options.prompt_tokens) * 4),
        ColumnSpec::ragged("stop_tokens", text),
        ColumnSpec::ragged("text", text),
        ColumnSpec::ragged("schema", u64::from(options.schema_bytes)),
    ];
    Layout::new(options.rows, options.slots, columns)
}

/// The segment of results, which the plug-in makes as it is asked to.
pub(super) fn results(options: &VllmMemoryOptions) -> Result<Layout, LayoutError> {
    let tokens = u64::from(options.sampled_tokens) * 4;
    // As many of the most likely tokens as can be asked for, at each of them: what is told of tokens always
    // has room for those.
    let top = tokens * u64::from(TOP_LOGPROBS_MAX);
    let text = u64::from(options.text_bytes);
    let columns = [
        ColumnSpec::fixed("number", DType::U64, &[]),
        ColumnSpec::fixed("kind", DType::U8, &[]),
        ColumnSpec::fixed("why", DType::U8, &[]),
        ColumnSpec::fixed("stop_token", DType::U32, &[]),
        ColumnSpec::fixed("cached", DType::U32, &[]),
        ColumnSpec::fixed("queue_us", DType::U64, &[]),
        ColumnSpec::ragged("tokens", tokens),
        ColumnSpec::ragged("logprobs", tokens),
        ColumnSpec::ragged("versions", text),
        ColumnSpec::ragged("text", text),
        ColumnSpec::ragged("top_tokens", top),
        ColumnSpec::ragged("top_logprobs", top),
    ];
    Layout::new(options.rows, options.slots, columns)
}
