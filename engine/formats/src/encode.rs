//! From records to columns. The schema is what this writes: there is no second description of it
//! that could differ.

use std::sync::{Arc, OnceLock};

use arrow_array::{
    BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array, LargeBinaryArray, ListArray,
    RecordBatch, StringArray, StructArray, UInt8Array, UInt32Array, UInt64Array,
};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use envmill_protocol::{
    Ended, Generated, Observed, SessionFate, Trajectory, VersionSpan,
    record::{Blob, End, SCHEMA_VERSION},
};

use crate::columns::{Columns, lists, raws, texts};

/// The key of the record's schema version in the schema's metadata.
pub const SCHEMA_VERSION_KEY: &str = "envmill.schema_version";

/// The schema of every batch.
#[must_use]
pub fn schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        encode(&[]).map_or_else(|_| Arc::new(Schema::empty()), |batch| batch.schema())
    });
    Arc::clone(schema)
}

/// Records as one batch, a row each. The caller bounds how many and how large they are: a column of
/// short texts and a list hold 2^31 bytes and items over all rows; raw JSON and blobs are not bound
/// so.
///
/// # Errors
///
/// None that a record can cause; it says that columns have different lengths, which would be a bug.
pub fn encode(records: &[Trajectory]) -> Result<RecordBatch, ArrowError> {
    let columns = identity(records)?;
    let columns = play(columns, records)?;
    let columns = tokens(columns, records)?;
    rest(columns, records)?.batch([(SCHEMA_VERSION_KEY.into(), SCHEMA_VERSION.to_string())])
}

fn identity(records: &[Trajectory]) -> Result<Columns, ArrowError> {
    let provenance = Columns::default()
        .with("server", texts(records.iter().map(|r| r.provenance.server.as_str())))
        .with("session_id", texts(records.iter().map(|r| r.provenance.session_id.as_str())))
        .with("episode_in_session", u32s(records.iter().map(|r| r.provenance.episode_in_session)))
        .with(
            "environment_fingerprint",
            texts(records.iter().map(|r| r.provenance.environment_fingerprint.as_str())),
        );
    let attempts = || records.iter().flat_map(|record| &record.attempts);
    let attempt = Columns::default()
        .with("server", texts(attempts().map(|attempt| attempt.server.as_str())))
        .with("started_us", u64s(attempts().map(|attempt| attempt.started_us)))
        .with("ended_us", u64s(attempts().map(|attempt| attempt.ended_us)))
        .with("steps", u32s(attempts().map(|attempt| attempt.steps)))
        .with("cause", texts(attempts().map(|attempt| attempt.cause.as_str())))
        .with("message", texts(attempts().map(|attempt| attempt.message.as_str())));
    Ok(Columns::default()
        .with("trajectory_id", texts(records.iter().map(|r| r.trajectory_id.as_str())))
        .with("job_id", texts(records.iter().map(|r| r.job_id.as_str())))
        .with("group_id", u64s(records.iter().map(|r| r.group_id)))
        .with("sample_index", u32s(records.iter().map(|r| r.sample_index)))
        .with("task_id", texts(records.iter().map(|r| r.task_id.as_str())))
        .with("environment", texts(records.iter().map(|r| r.environment.as_str())))
        .with("branch_id", u32s(records.iter().map(|r| r.branch_id)))
        .with_optional(
            "parent_branch",
            records.iter().map(|r| r.parent_branch).collect::<UInt32Array>(),
        )
        .with("agent_id", u32s(records.iter().map(|r| r.agent_id)))
        .with_optional("seed", records.iter().map(|r| r.seed).collect::<UInt64Array>())
        .with_optional("reset_parameters", raws(records.iter().map(|r| &r.reset_parameters)))
        .with("provenance", provenance.structs(None)?)
        .with("attempts", lists(records.iter().map(|r| r.attempts.len()), attempt.structs(None)?)?))
}

fn play(columns: Columns, records: &[Trajectory]) -> Result<Columns, ArrowError> {
    let nothing = Observed::default();
    let resets: Vec<&Observed> =
        records.iter().map(|record| record.reset.as_ref().unwrap_or(&nothing)).collect();
    let has_reset: NullBuffer = records.iter().map(|record| record.reset.is_some()).collect();
    let steps = || records.iter().flat_map(|record| &record.steps);
    let shown: Vec<&Observed> = steps().map(|step| &step.observed).collect();
    let step = Columns::default().with_optional("action", raws(steps().map(|step| &step.action)));
    let step = observed(step, &shown)
        .with("environment_us", u32s(steps().map(|step| step.environment_us)))
        .with("policy_us", u32s(steps().map(|step| step.policy_us)));
    Ok(columns
        .with_optional("reset", observed(Columns::default(), &resets).structs(Some(has_reset))?)
        .with("steps", lists(records.iter().map(|r| r.steps.len()), step.structs(None)?)?)
        .with_optional("reward", records.iter().map(|r| r.reward).collect::<Float64Array>())
        .with("reward_components", numbers(records, |record| &record.reward_components)?)
        .with("end", ends(records)?))
}

fn observed(columns: Columns, observed: &[&Observed]) -> Columns {
    let ended = observed.iter().map(|one| one.ended.map(Ended::name));
    columns
        .with_optional("observation", raws(observed.iter().map(|one| one.observation.text())))
        .with_optional(
            "reward",
            observed.iter().map(|one| one.reward.value).collect::<Float64Array>(),
        )
        .with_optional("reward_raw", raws(observed.iter().map(|one| &one.reward.raw)))
        .with_optional("metadata", raws(observed.iter().map(|one| &one.metadata)))
        .with_optional("ended", ended.collect::<StringArray>())
}

fn ends(records: &[Trajectory]) -> Result<StructArray, ArrowError> {
    let failures = || {
        records.iter().map(|record| match &record.end {
            End::Failed(failure) => Some(failure),
            _ => None,
        })
    };
    let causes: Vec<String> = records.iter().map(|record| record.end.cause()).collect();
    let nanoseconds =
        |wait: std::time::Duration| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
    Columns::default()
        .with("kind", texts(records.iter().map(|record| record.end.name())))
        .with("cause", texts(causes.iter().map(String::as_str)))
        .with_optional(
            "message",
            failures().map(|f| f.map(|f| f.message.as_str())).collect::<StringArray>(),
        )
        .with_optional(
            "session_lost",
            failures().map(|f| f.map(|f| f.session == SessionFate::Lost)).collect::<BooleanArray>(),
        )
        .with_optional(
            "retry_after_ns",
            failures().map(|f| f?.retry_after.map(nanoseconds)).collect::<UInt64Array>(),
        )
        .structs(None)
}

fn tokens(columns: Columns, records: &[Trajectory]) -> Result<Columns, ArrowError> {
    let all = || records.iter().map(|record| &record.tokens);
    let tokens = Columns::default()
        .with("token_ids", u32_lists(all().map(|tokens| &tokens.token_ids[..]))?)
        .with("prompt_len", u32s(all().map(|tokens| tokens.prompt_len)))
        .with("loss_mask", u8_lists(all().map(|tokens| &tokens.loss_mask[..]))?)
        .with("logprobs", f32_lists(all().map(|tokens| &tokens.logprobs[..]))?)
        .with("policy_versions", versions(all().map(|tokens| &tokens.policy_versions[..]))?);
    let all = || records.iter().flat_map(|record| &record.generations);
    let generation = Columns::default()
        .with("prompt_token_ids", u32_lists(all().map(|one| &one.prompt_token_ids[..]))?)
        .with("token_ids", u32_lists(all().map(|one| &one.token_ids[..]))?)
        .with("logprobs", f32_lists(all().map(|one| &one.logprobs[..]))?)
        .with("loss_mask", u8_lists(all().map(|one| &one.loss_mask[..]))?)
        .with("policy_versions", versions(all().map(|one| &one.policy_versions[..]))?)
        .with_optional("parent", all().map(|one: &Generated| one.parent).collect::<UInt32Array>())
        .with("kind", texts(all().map(|one| one.kind.name())))
        .with("prompt_shared", u32s(all().map(|one| one.prompt_shared)))
        .with_optional("step", all().map(|one| one.step).collect::<UInt32Array>())
        .with("finish_reason", texts(all().map(|one| one.finish_reason.as_str())))
        .with("tool", texts(all().map(|one| one.tool.as_str())))
        .with("generation_us", u64s(all().map(|one| one.generation_us)))
        .with("queue_us", u64s(all().map(|one| one.queue_us)));
    let all = || records.iter().flat_map(|record| &record.turns);
    let turn = Columns::default()
        .with("role", texts(all().map(|turn| turn.role.as_str())))
        .with("start", u32s(all().map(|turn| turn.start)))
        .with("end", u32s(all().map(|turn| turn.end)))
        .with("tool", texts(all().map(|turn| turn.tool.as_str())))
        .with("finish_reason", texts(all().map(|turn| turn.finish_reason.as_str())))
        .with("generation_us", u64s(all().map(|turn| turn.generation_us)))
        .with("environment_us", u64s(all().map(|turn| turn.environment_us)))
        .with("queue_us", u64s(all().map(|turn| turn.queue_us)));
    Ok(columns
        .with("tokens", tokens.structs(None)?)
        .with(
            "generations",
            lists(records.iter().map(|r| r.generations.len()), generation.structs(None)?)?,
        )
        .with("turns", lists(records.iter().map(|r| r.turns.len()), turn.structs(None)?)?))
}

fn rest(columns: Columns, records: &[Trajectory]) -> Result<Columns, ArrowError> {
    let blobs = || records.iter().flat_map(|record| &record.blobs);
    let shapes = blobs().flat_map(|blob: &Blob| blob.shape.iter().copied());
    let blob = Columns::default()
        .with("name", texts(blobs().map(|blob| blob.name.as_str())))
        .with("dtype", texts(blobs().map(|blob| blob.dtype.as_str())))
        .with("shape", lists(blobs().map(|blob| blob.shape.len()), u64s(shapes))?)
        .with("data", LargeBinaryArray::from_iter_values(blobs().map(|blob| &blob.data)));
    let timings = || records.iter().map(|record| &record.timing);
    let timing = Columns::default()
        .with("run_started_unix_us", u64s(timings().map(|timing| timing.run_started_unix_us)))
        .with("started_us", u64s(timings().map(|timing| timing.started_us)))
        .with("reset_us", u64s(timings().map(|timing| timing.reset_us)))
        .with("ended_us", u64s(timings().map(|timing| timing.ended_us)))
        .with(
            "policy_version_started",
            u64s(timings().map(|timing| timing.policy_version_started.0)),
        )
        .with("policy_version_ended", u64s(timings().map(|timing| timing.policy_version_ended.0)));
    let hashes: Vec<u8> = records.iter().flat_map(|record| record.content_hash.0).collect();
    Ok(columns
        .with_optional("messages", raws(records.iter().map(|r| &r.messages)))
        .with_optional("sampling", raws(records.iter().map(|r| &r.sampling)))
        .with("blobs", lists(records.iter().map(|r| r.blobs.len()), blob.structs(None)?)?)
        .with("metrics", numbers(records, |record| &record.metrics)?)
        .with("timing", timing.structs(None)?)
        .with("content_hash", FixedSizeBinaryArray::try_new(16, Buffer::from_vec(hashes), None)?))
}

fn numbers(
    records: &[Trajectory],
    numbers: impl Fn(&Trajectory) -> &Vec<(String, f64)>,
) -> Result<ListArray, ArrowError> {
    let all = || records.iter().flat_map(&numbers);
    let entry = Columns::default()
        .with("name", texts(all().map(|(name, _)| name.as_str())))
        .with("value", Float64Array::from_iter_values(all().map(|(_, value)| *value)));
    lists(records.iter().map(|record| numbers(record).len()), entry.structs(None)?)
}

fn versions<'a>(
    rows: impl Iterator<Item = &'a [VersionSpan]> + Clone,
) -> Result<ListArray, ArrowError> {
    let spans = || rows.clone().flatten();
    let span = Columns::default()
        .with("version", u64s(spans().map(|span| span.version.0)))
        .with("tokens", u32s(spans().map(|span| span.tokens)));
    lists(rows.map(<[_]>::len), span.structs(None)?)
}

fn u32s(values: impl Iterator<Item = u32>) -> UInt32Array {
    UInt32Array::from_iter_values(values)
}

fn u64s(values: impl Iterator<Item = u64>) -> UInt64Array {
    UInt64Array::from_iter_values(values)
}

fn u32_lists<'a>(rows: impl Iterator<Item = &'a [u32]> + Clone) -> Result<ListArray, ArrowError> {
    lists(rows.clone().map(<[_]>::len), u32s(rows.flatten().copied()))
}

fn u8_lists<'a>(rows: impl Iterator<Item = &'a [u8]> + Clone) -> Result<ListArray, ArrowError> {
    lists(rows.clone().map(<[_]>::len), UInt8Array::from_iter_values(rows.flatten().copied()))
}

fn f32_lists<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone) -> Result<ListArray, ArrowError> {
    lists(rows.clone().map(<[_]>::len), Float32Array::from_iter_values(rows.flatten().copied()))
}
