//! From columns back to records. Columns that are not known here are ignored.

use std::time::Duration;

use arrow_array::{
    Array, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array, LargeBinaryArray,
    LargeStringArray, RecordBatch, StringArray, StructArray, UInt8Array, UInt32Array, UInt64Array,
};
use arrow_schema::Schema;
use bytes::Bytes;
use envmill_protocol::{
    Ended, Generated, GeneratedKind, Observed, PolicyVersion, Reward, Trajectory, VersionSpan,
    record::{
        Attempt, Blob, ContentHash, End, Provenance, SCHEMA_VERSION, Step, Timing, Tokens,
        TurnSpan, check_prompts,
    },
};

use crate::{
    FormatError, SCHEMA_VERSION_KEY,
    columns::{Lists, Table, raw, text},
    error::guarded,
};

/// The records of a batch, in its order. Their texts are copies: the batch can go.
///
/// # Errors
///
/// It is no batch of records, was written by a newer version, or is damaged.
pub fn decode(batch: &RecordBatch) -> Result<Vec<Trajectory>, FormatError> {
    let found = schema_version(batch.schema_ref()).ok_or(FormatError::NoRecords)?;
    if found > SCHEMA_VERSION {
        return Err(FormatError::NewerSchema { found });
    }
    guarded(|| {
        let table = StructArray::from(batch.clone());
        let records = Records::new(Table(&table))?;
        (0..table.len()).map(|row| records.at(row)).collect()
    })
}

/// The version of the records that have this schema, if it is one of records.
pub(crate) fn schema_version(schema: &Schema) -> Option<u32> {
    schema.metadata().get(SCHEMA_VERSION_KEY).and_then(|text| text.parse().ok())
}

/// The columns of one kind of thing, and how a row becomes it.
macro_rules! rows {
    (
        $(#[$doc:meta])*
        $name:ident { $($field:ident: $type:ty = $read:ident $(as $column:literal)?,)* }
    ) => {
        $(#[$doc])*
        struct $name<'a> {
            $($field: $type,)*
        }

        impl<'a> $name<'a> {
            fn new(table: Table<'a>) -> Result<Self, FormatError> {
                Ok(Self { $($field: rows!(@read table $read $field $($column)?),)* })
            }
        }
    };
    (@read $table:ident column $field:ident) => { $table.column(stringify!($field))? };
    (@read $table:ident later $field:ident) => { $table.later(stringify!($field))? };
    (@read $table:ident lists $field:ident) => { $table.lists(stringify!($field))? };
    (@read $table:ident structs $field:ident) => { ListOf::new($table, stringify!($field))? };
    (@read $table:ident table $field:ident) => { Rows::of($table.table(stringify!($field))?)? };
    (@read $table:ident nullable $field:ident) => {
        Nullable::new($table, stringify!($field))?
    };
    (@read $table:ident all $field:ident) => { Rows::of($table)? };
}

/// What reads rows of a table.
trait Rows<'a>: Sized {
    fn of(table: Table<'a>) -> Result<Self, FormatError>;
}

/// A column of lists of structs.
struct ListOf<'a, T> {
    lists: Lists<'a, StructArray>,
    rows: T,
}

impl<'a, T: Rows<'a>> ListOf<'a, T> {
    fn new(table: Table<'a>, column: &'static str) -> Result<Self, FormatError> {
        let lists: Lists<'a, StructArray> = table.lists(column)?;
        let rows = T::of(Table(lists.items))?;
        Ok(Self { lists, rows })
    }

    fn at<O>(
        &self,
        row: usize,
        read: impl Fn(&T, usize) -> Result<O, FormatError>,
    ) -> Result<Vec<O>, FormatError> {
        self.lists.rows(row).map(|row| read(&self.rows, row)).collect()
    }
}

/// A column of structs that may be null.
struct Nullable<'a, T> {
    structs: &'a StructArray,
    rows: T,
}

impl<'a, T: Rows<'a>> Nullable<'a, T> {
    fn new(table: Table<'a>, column: &'static str) -> Result<Self, FormatError> {
        let structs: &StructArray = table.column(column)?;
        Ok(Self { structs, rows: T::of(Table(structs))? })
    }
}

macro_rules! all_rows {
    ($($name:ident)*) => {
        $(impl<'a> Rows<'a> for $name<'a> {
            fn of(table: Table<'a>) -> Result<Self, FormatError> {
                Self::new(table)
            }
        })*
    };
}

all_rows! {
    Records Provenances Attempts Observeds Steps Numbers Ends TokenRows Versions Generations Turns
    Blobs Timings
}

rows!(Records {
    trajectory_id: &'a StringArray = column,
    job_id: &'a StringArray = column,
    group_id: &'a UInt64Array = column,
    sample_index: &'a UInt32Array = column,
    task_id: &'a StringArray = column,
    environment: &'a StringArray = column,
    branch_id: &'a UInt32Array = column,
    parent_branch: &'a UInt32Array = column,
    agent_id: &'a UInt32Array = column,
    seed: &'a UInt64Array = column,
    reset_parameters: &'a LargeStringArray = column,
    provenance: Provenances<'a> = table,
    attempts: ListOf<'a, Attempts<'a>> = structs,
    reset: Nullable<'a, Observeds<'a>> = nullable,
    steps: ListOf<'a, Steps<'a>> = structs,
    reward: &'a Float64Array = column,
    reward_components: ListOf<'a, Numbers<'a>> = structs,
    end: Ends<'a> = table,
    tokens: TokenRows<'a> = table,
    generations: ListOf<'a, Generations<'a>> = structs,
    turns: ListOf<'a, Turns<'a>> = structs,
    messages: &'a LargeStringArray = column,
    sampling: &'a LargeStringArray = column,
    blobs: ListOf<'a, Blobs<'a>> = structs,
    metrics: ListOf<'a, Numbers<'a>> = structs,
    timing: Timings<'a> = table,
    content_hash: &'a FixedSizeBinaryArray = column,
});

impl Records<'_> {
    fn at(&self, row: usize) -> Result<Trajectory, FormatError> {
        let reset = &self.reset;
        let hash = self.content_hash.value(row).try_into();
        let generations = self.generations.at(row, Generations::at)?;
        check_prompts(&generations)?;
        Ok(Trajectory {
            trajectory_id: text(self.trajectory_id, row),
            job_id: text(self.job_id, row),
            group_id: self.group_id.value(row),
            sample_index: self.sample_index.value(row),
            task_id: text(self.task_id, row),
            environment: text(self.environment, row),
            branch_id: self.branch_id.value(row),
            parent_branch: self.parent_branch.is_valid(row).then(|| self.parent_branch.value(row)),
            agent_id: self.agent_id.value(row),
            seed: self.seed.is_valid(row).then(|| self.seed.value(row)),
            reset_parameters: raw(self.reset_parameters, row),
            provenance: self.provenance.at(row),
            attempts: self.attempts.at(row, |attempts, row| Ok(attempts.at(row)))?,
            reset: reset.structs.is_valid(row).then(|| reset.rows.at(row)).transpose()?,
            steps: self.steps.at(row, Steps::at)?,
            reward: self.reward.is_valid(row).then(|| self.reward.value(row)),
            reward_components: self.reward_components.at(row, |n, row| Ok(n.at(row)))?,
            end: self.end.at(row)?,
            tokens: self.tokens.at(row)?,
            generations,
            turns: self.turns.at(row, |turns, row| Ok(turns.at(row)))?,
            messages: raw(self.messages, row),
            sampling: raw(self.sampling, row),
            blobs: self.blobs.at(row, |blobs, row| Ok(blobs.at(row)))?,
            metrics: self.metrics.at(row, |numbers, row| Ok(numbers.at(row)))?,
            timing: self.timing.at(row),
            content_hash: ContentHash(hash.map_err(|_| FormatError::Column {
                column: "content_hash",
                problem: "not 16 bytes wide",
            })?),
        })
    }
}

rows!(Provenances {
    server: &'a StringArray = column,
    session_id: &'a StringArray = column,
    episode_in_session: &'a UInt32Array = column,
    environment_fingerprint: &'a StringArray = column,
});

impl Provenances<'_> {
    fn at(&self, row: usize) -> Provenance {
        Provenance {
            server: text(self.server, row),
            session_id: text(self.session_id, row),
            episode_in_session: self.episode_in_session.value(row),
            environment_fingerprint: text(self.environment_fingerprint, row),
        }
    }
}

rows!(Attempts {
    server: &'a StringArray = column,
    started_us: &'a UInt64Array = column,
    ended_us: &'a UInt64Array = column,
    steps: &'a UInt32Array = column,
    cause: &'a StringArray = column,
    message: &'a StringArray = column,
});

impl Attempts<'_> {
    fn at(&self, row: usize) -> Attempt {
        Attempt {
            server: text(self.server, row),
            started_us: self.started_us.value(row),
            ended_us: self.ended_us.value(row),
            steps: self.steps.value(row),
            cause: text(self.cause, row),
            message: text(self.message, row),
        }
    }
}

rows!(
    /// The answers to resets and steps. A reward's number is read from its text, which has it all.
    Observeds {
        observation: &'a LargeStringArray = column,
        reward_raw: &'a LargeStringArray = column,
        metadata: &'a LargeStringArray = column,
        ended: &'a StringArray = column,
    }
);

impl Observeds<'_> {
    fn at(&self, row: usize) -> Result<Observed, FormatError> {
        let ended = self.ended.is_valid(row).then(|| self.ended.value(row));
        let ended = ended.map(|name| Ended::from_name(name).ok_or_else(|| unknown("ended", name)));
        Ok(Observed {
            observation: raw(self.observation, row).into(),
            reward: Reward::from_raw(raw(self.reward_raw, row)),
            metadata: raw(self.metadata, row),
            ended: ended.transpose()?,
        })
    }
}

rows!(Steps {
    action: &'a LargeStringArray = column,
    observed: Observeds<'a> = all,
    environment_us: &'a UInt32Array = column,
    policy_us: &'a UInt32Array = column,
});

impl Steps<'_> {
    fn at(&self, row: usize) -> Result<Step, FormatError> {
        Ok(Step {
            action: raw(self.action, row),
            observed: self.observed.at(row)?,
            environment_us: self.environment_us.value(row),
            policy_us: self.policy_us.value(row),
        })
    }
}

rows!(Numbers {
    name: &'a StringArray = column,
    value: &'a Float64Array = column,
});

impl Numbers<'_> {
    fn at(&self, row: usize) -> (String, f64) {
        (text(self.name, row), self.value.value(row))
    }
}

rows!(Ends {
    kind: &'a StringArray = column,
    cause: &'a StringArray = column,
    message: &'a StringArray = column,
    session_lost: &'a BooleanArray = column,
    retry_after_ns: &'a UInt64Array = column,
});

impl Ends<'_> {
    fn at(&self, row: usize) -> Result<End, FormatError> {
        let retry_after = self.retry_after_ns.is_valid(row).then(|| self.retry_after_ns.value(row));
        End::from_words(
            self.kind.value(row),
            self.cause.value(row),
            if self.message.is_valid(row) { text(self.message, row) } else { String::new() },
            self.session_lost.is_valid(row) && self.session_lost.value(row),
            retry_after.map(Duration::from_nanos),
        )
        .ok_or_else(|| {
            let value = format!("{}: {}", self.kind.value(row), self.cause.value(row));
            FormatError::UnknownValue { field: "end", value }
        })
    }
}

rows!(TokenRows {
    token_ids: Lists<'a, UInt32Array> = lists,
    prompt_len: &'a UInt32Array = column,
    loss_mask: Lists<'a, UInt8Array> = lists,
    logprobs: Lists<'a, Float32Array> = lists,
    policy_versions: ListOf<'a, Versions<'a>> = structs,
});

impl TokenRows<'_> {
    fn at(&self, row: usize) -> Result<Tokens, FormatError> {
        Ok(Tokens {
            token_ids: u32s(&self.token_ids, row),
            prompt_len: self.prompt_len.value(row),
            loss_mask: self.loss_mask.items.values()[self.loss_mask.rows(row)].to_vec(),
            logprobs: self.logprobs.items.values()[self.logprobs.rows(row)].to_vec(),
            policy_versions: self.policy_versions.at(row, |spans, row| Ok(spans.at(row)))?,
        })
    }
}

rows!(Versions {
    version: &'a UInt64Array = column,
    tokens: &'a UInt32Array = column,
});

impl Versions<'_> {
    fn at(&self, row: usize) -> VersionSpan {
        let version = PolicyVersion(self.version.value(row));
        VersionSpan { version, tokens: self.tokens.value(row) }
    }
}

rows!(Generations {
    prompt_token_ids: Lists<'a, UInt32Array> = lists,
    token_ids: Lists<'a, UInt32Array> = lists,
    logprobs: Lists<'a, Float32Array> = lists,
    loss_mask: Lists<'a, UInt8Array> = lists,
    policy_versions: ListOf<'a, Versions<'a>> = structs,
    parent: &'a UInt32Array = column,
    kind: &'a StringArray = column,
    prompt_shared: Option<&'a UInt32Array> = later,
    step: Option<&'a UInt32Array> = later,
    finish_reason: Option<&'a StringArray> = later,
    tool: Option<&'a StringArray> = later,
    generation_us: Option<&'a UInt64Array> = later,
    queue_us: Option<&'a UInt64Array> = later,
});

impl Generations<'_> {
    fn at(&self, row: usize) -> Result<Generated, FormatError> {
        let kind = self.kind.value(row);
        Ok(Generated {
            prompt_token_ids: u32s(&self.prompt_token_ids, row),
            token_ids: u32s(&self.token_ids, row),
            logprobs: self.logprobs.items.values()[self.logprobs.rows(row)].to_vec(),
            loss_mask: self.loss_mask.items.values()[self.loss_mask.rows(row)].to_vec(),
            policy_versions: self.policy_versions.at(row, |spans, row| Ok(spans.at(row)))?,
            parent: self.parent.is_valid(row).then(|| self.parent.value(row)),
            kind: GeneratedKind::from_name(kind)
                .ok_or_else(|| unknown("generations.kind", kind))?,
            prompt_shared: self.prompt_shared.map_or(0, |it| it.value(row)),
            step: self.step.filter(|it| it.is_valid(row)).map(|it| it.value(row)),
            finish_reason: self.finish_reason.map_or_else(String::new, |it| text(it, row)),
            tool: self.tool.map_or_else(String::new, |it| text(it, row)),
            generation_us: self.generation_us.map_or(0, |it| it.value(row)),
            queue_us: self.queue_us.map_or(0, |it| it.value(row)),
        })
    }
}

rows!(Turns {
    role: &'a StringArray = column,
    start: &'a UInt32Array = column,
    end: &'a UInt32Array = column,
    tool: &'a StringArray = column,
    finish_reason: &'a StringArray = column,
    generation_us: &'a UInt64Array = column,
    environment_us: &'a UInt64Array = column,
    queue_us: &'a UInt64Array = column,
});

impl Turns<'_> {
    fn at(&self, row: usize) -> TurnSpan {
        TurnSpan {
            role: text(self.role, row),
            start: self.start.value(row),
            end: self.end.value(row),
            tool: text(self.tool, row),
            finish_reason: text(self.finish_reason, row),
            generation_us: self.generation_us.value(row),
            environment_us: self.environment_us.value(row),
            queue_us: self.queue_us.value(row),
        }
    }
}

rows!(Blobs {
    name: &'a StringArray = column,
    dtype: &'a StringArray = column,
    shape: Lists<'a, UInt64Array> = lists,
    data: &'a LargeBinaryArray = column,
});

impl Blobs<'_> {
    fn at(&self, row: usize) -> Blob {
        Blob {
            name: text(self.name, row),
            dtype: text(self.dtype, row),
            shape: self.shape.items.values()[self.shape.rows(row)].to_vec(),
            data: Bytes::copy_from_slice(self.data.value(row)),
        }
    }
}

rows!(Timings {
    run_started_unix_us: &'a UInt64Array = column,
    started_us: &'a UInt64Array = column,
    reset_us: &'a UInt64Array = column,
    ended_us: &'a UInt64Array = column,
    policy_version_started: &'a UInt64Array = column,
    policy_version_ended: &'a UInt64Array = column,
});

impl Timings<'_> {
    fn at(&self, row: usize) -> Timing {
        Timing {
            run_started_unix_us: self.run_started_unix_us.value(row),
            started_us: self.started_us.value(row),
            reset_us: self.reset_us.value(row),
            ended_us: self.ended_us.value(row),
            policy_version_started: PolicyVersion(self.policy_version_started.value(row)),
            policy_version_ended: PolicyVersion(self.policy_version_ended.value(row)),
        }
    }
}

fn u32s(lists: &Lists<'_, UInt32Array>, row: usize) -> Vec<u32> {
    lists.items.values()[lists.rows(row)].to_vec()
}

fn unknown(field: &'static str, value: &str) -> FormatError {
    FormatError::UnknownValue { field, value: value.into() }
}
