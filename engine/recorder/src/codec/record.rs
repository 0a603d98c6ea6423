//! The trajectory record, as it goes into the hash over what came out.

use envmill_protocol::{
    Trajectory,
    record::{
        Attempt, Blob, Cancellation, ContentHash, End, FirstObservations, GroupOutcome,
        GroupRecord, MemberAttempt, MemberRecord, Provenance, Step, Timing, Tokens, Truncation,
        TurnSpan,
    },
};

use super::{
    Decode, Encode, Malformed, Source,
    lists::{enums, newtypes, structs},
};

newtypes! { ContentHash }

structs! {
    Trajectory {
        trajectory_id, job_id, group_id, sample_index, task_id, environment, branch_id,
        parent_branch, agent_id, seed, reset_parameters, provenance, attempts, reset, steps, reward,
        reward_components, end, tokens, generations, turns, messages, sampling, blobs, metrics,
        timing, content_hash
    }
    GroupRecord {
        job_id, group_id, task_id, environment, seed, asked, oversampled, complete_at, used, outcome,
        filter, refill_of, first_observations, duplicates, steps_used, steps_wasted, tokens_used,
        tokens_wasted, started_us, ended_us, members
    }
    MemberRecord {
        trajectory_id, sample_index, used, end, reward, steps, tokens, first_observation, attempts
    }
    MemberAttempt { cause, steps, tokens }
    Provenance { server, session_id, episode_in_session, environment_fingerprint }
    Attempt { server, started_us, ended_us, steps, cause, message }
    Step { action, observed, environment_us, policy_us }
    Tokens { token_ids, prompt_len, loss_mask, logprobs, policy_versions }
    TurnSpan { role, start, end, tool, finish_reason, generation_us, environment_us, queue_us }
    Blob { name, dtype, shape, data }
    Timing {
        run_started_unix_us, started_us, reset_us, ended_us, policy_version_started,
        policy_version_ended
    }
}

enums! {
    End {
        0: Completed { mapped },
        1: Truncated(why),
        2: Failed(failure),
        3: Cancelled(why),
        4: Stale,
        5: Filtered(filter),
    }
    GroupOutcome { 0: Complete, 1: Short, 2: Filtered }
    FirstObservations { 0: Unknown, 1: Agree, 2: Differ }
    Truncation {
        0: Environment, 1: MaxSteps, 2: EpisodeDeadline, 3: EnvironmentError, 4: MaxBytes,
        5: EpisodeBytes, 6: MaxTokens, 7: Malformed
    }
    Cancellation { 0: Drained, 1: Cancelled, 2: JobDeadline, 3: Stopped, 4: Cut, 5: GroupDeadline, 6: Stale }
}
