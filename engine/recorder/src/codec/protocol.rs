//! What crosses the core's boundary.

use envmill_protocol::{
    Command, Decision, Ended, EpisodeIndex, EpisodeStart, Event, Failure, FailureKind, Generated,
    GeneratedKind, Generation, JobId, Observed, Outcome, Phase, PolicyError, PolicyVersion,
    Request, Reward, ServerId, SessionFate, Slot, Spoken, Turn, VersionSpan,
};

use super::{
    Decode, Encode, Malformed, Source,
    lists::{enums, newtypes, structs},
};

newtypes! { Slot Generation ServerId JobId EpisodeIndex PolicyVersion }

structs! {
    Command { slot, generation, request }
    Event { slot, generation, outcome }
    Observed { observation, reward, metadata, ended }
    Reward { value, raw }
    Failure { kind, session, message, retry_after, details }
    Turn { slot, generation, job, episode, seed, step, environment, observed, start }
    EpisodeStart { task_id, reset_parameters }
    Decision { slot, generation, action, generations, spoken }
    Spoken { messages, sampling }
    PolicyError { message, truncates }
    Generated {
        prompt_token_ids, token_ids, logprobs, loss_mask, policy_versions, parent, kind,
        prompt_shared, step, finish_reason, tool, generation_us, queue_us
    }
    VersionSpan { version, tokens }
}

enums! {
    Request {
        0: Open { server },
        1: Reset { parameters },
        2: Step { action },
        3: State,
        4: ToolCall { request },
        5: Close,
    }
    Outcome {
        0: Opened,
        1: Reset(observed),
        2: Stepped(observed),
        3: State(state),
        4: ToolResult(result),
        5: Failed(failure),
        6: Closed,
    }
    Ended { 0: Terminated, 1: TerminatedUnmapped, 2: Truncated }
    SessionFate { 0: Kept, 1: Lost }
    Phase { 0: Connect, 1: FirstReset, 2: Reset, 3: Step, 4: Policy, 5: Episode, 6: Job, 7: Scoring }
    GeneratedKind { 0: Agent, 1: Auxiliary, 2: Discarded }
    FailureKind {
        0: NameResolution,
        1: Unreachable,
        2: Tls,
        3: UpgradeRefused { status },
        4: NotOpenEnv,
        5: Capacity,
        6: Factory,
        7: Refused,
        8: Invalid,
        9: Environment,
        10: Session,
        11: Closed { code },
        12: Disconnected,
        13: Protocol,
        14: TooLarge,
        15: Deadline(phase),
        16: Policy,
        17: Driver,
        18: NoServer,
        19: Limit,
        20: Attach,
        21: Expired,
        22: Scorer,
        23: Poison,
        24: Paused,
    }
}
