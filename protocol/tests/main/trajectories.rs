//! Records to test with: a plausible one, and arbitrary ones.

use std::time::Duration;

use bytes::Bytes;
use envmill_protocol::{
    Ended, Failure, FailureKind, Generated, GeneratedKind, Observed, Phase, PolicyVersion, Reward,
    SessionFate, Trajectory, VersionSpan,
    record::{
        Attempt, Blob, Cancellation, ContentHash, End, Provenance, Step, Timing, Tokens,
        Truncation, TurnSpan, check_prompts, content_hash,
    },
};
use proptest::{collection::vec, option, prelude::*};

use crate::json_texts;

/// An episode of two steps on the second attempt, by a language model: the example of
/// `docs/record.md`.
pub(crate) fn example() -> Trajectory {
    let observed = |observation: &'static str, reward: &'static str| Observed {
        observation: observation.into(),
        reward: Reward::from_raw(reward.into()),
        ..Observed::default()
    };
    let steps = vec![
        Step {
            action: r#"{"message":"to the left"}"#.into(),
            observed: observed(r#"{"text":"a wall","metadata":{}}"#, "-0.5"),
            environment_us: 5120,
            policy_us: 80210,
        },
        Step {
            action: r#"{"message":"to the right"}"#.into(),
            observed: Observed {
                metadata: r#"{"truncated":false}"#.into(),
                ended: Some(Ended::Terminated),
                ..observed(r#"{"text":"the door","metadata":{"truncated":false}}"#, "1")
            },
            environment_us: 4870,
            policy_us: 75310,
        },
    ];
    let generated = |prompt: &[u32], sampled: &[u32], logprobs: &[f32]| Generated {
        prompt_token_ids: prompt.into(),
        token_ids: sampled.into(),
        logprobs: logprobs.into(),
        loss_mask: vec![1; sampled.len()],
        policy_versions: vec![VersionSpan {
            version: PolicyVersion(12),
            tokens: u32::try_from(sampled.len()).unwrap(),
        }],
        finish_reason: "stop".into(),
        ..Generated::default()
    };
    let turn = |role: &str, start, end| TurnSpan {
        role: role.into(),
        start,
        end,
        tool: String::new(),
        finish_reason: if role == "assistant" { "stop".into() } else { String::new() },
        generation_us: 0,
        environment_us: 0,
        queue_us: 0,
    };
    let mut trajectory = Trajectory {
        trajectory_id: "maze-3-1".into(),
        job_id: "maze".into(),
        group_id: 3,
        sample_index: 1,
        task_id: "corridor".into(),
        environment: "maze".into(),
        branch_id: 0,
        parent_branch: None,
        agent_id: 0,
        seed: Some(17),
        reset_parameters: r#"{"seed":17}"#.into(),
        provenance: Provenance {
            server: "ws://10.0.0.7:8000".into(),
            session_id: "s5-2".into(),
            episode_in_session: 0,
            environment_fingerprint: "9f2c61d0".into(),
        },
        attempts: vec![
            Attempt {
                server: "ws://10.0.0.6:8000".into(),
                started_us: 1_000_250,
                ended_us: 1_093_400,
                steps: 1,
                cause: "disconnected".into(),
                message: "the connection broke".into(),
            },
            Attempt {
                server: "ws://10.0.0.7:8000".into(),
                started_us: 1_093_410,
                ended_us: 1_270_030,
                steps: 2,
                cause: String::new(),
                message: String::new(),
            },
        ],
        reset: Some(observed(r#"{"text":"a corridor","metadata":{}}"#, "null")),
        steps,
        reward: Some(0.5),
        reward_components: vec![("door".into(), 1.0), ("wall".into(), -0.5)],
        end: End::Completed { mapped: true },
        tokens: Tokens {
            token_ids: vec![1, 887, 13, 40, 41, 2, 902, 40, 77, 2],
            prompt_len: 3,
            loss_mask: vec![0, 0, 0, 1, 1, 1, 0, 1, 1, 1],
            logprobs: vec![0.0, 0.0, 0.0, -0.11, -1.5, -0.01, 0.0, -0.2, -0.7, -0.03],
            policy_versions: vec![VersionSpan { version: PolicyVersion(12), tokens: 10 }],
        },
        generations: vec![
            Generated {
                step: Some(0),
                generation_us: 79_100,
                ..generated(&[1, 887, 13], &[40, 41, 2], &[-0.11, -1.5, -0.01])
            },
            Generated {
                prompt_shared: 6,
                parent: Some(0),
                step: Some(1),
                generation_us: 74_400,
                queue_us: 800,
                ..generated(&[902], &[40, 77, 2], &[-0.2, -0.7, -0.03])
            },
        ],
        turns: vec![
            turn("user", 0, 3),
            TurnSpan { generation_us: 79_100, ..turn("assistant", 3, 6) },
            TurnSpan { environment_us: 5120, ..turn("user", 6, 7) },
            TurnSpan { generation_us: 74_400, queue_us: 800, ..turn("assistant", 7, 10) },
        ],
        messages: r#"[{"role":"user","content":"a corridor"}]"#.into(),
        sampling: r#"{"temperature":1.0}"#.into(),
        blobs: vec![Blob {
            name: "routed_experts".into(),
            dtype: "int16".into(),
            shape: vec![2, 1, 2],
            data: Bytes::from_static(&[0, 0, 3, 0, 1, 0, 2, 0]),
        }],
        metrics: vec![("tool_calls".into(), 2.0)],
        timing: Timing {
            run_started_unix_us: 1_795_467_742_000_000,
            started_us: 1_000_250,
            reset_us: 1_098_700,
            ended_us: 1_270_030,
            policy_version_started: PolicyVersion(12),
            policy_version_ended: PolicyVersion(12),
        },
        content_hash: ContentHash::default(),
    };
    trajectory.content_hash = content_hash(&trajectory);
    trajectory
}

/// Any record, of any sense or none.
pub(crate) fn any_trajectory() -> impl Strategy<Value = Trajectory> {
    let names = (any::<[String; 4]>(), any::<(u64, u32, u32, Option<u32>, u32, Option<u64>)>());
    let played = (optional_json(), vec(attempt(), 0..3), option::of(observed()), vec(step(), 0..4));
    let scored = (option::of(finite()), numbers(), end());
    let texts =
        (tokens(), vec(generated(), 0..3), vec(turn(), 0..3), optional_json(), optional_json());
    let rest = (vec(blob(), 0..2), numbers(), timing(), any::<[u8; 16]>(), provenance());
    (names, played, scored, texts, rest).prop_map(|(names, played, scored, texts, rest)| {
        let ([trajectory_id, job_id, task_id, environment], numbers) = names;
        let (group_id, sample_index, branch_id, parent_branch, agent_id, seed) = numbers;
        let (reset_parameters, attempts, reset, steps) = played;
        let (reward, reward_components, end) = scored;
        let (tokens, generations, turns, messages, sampling) = texts;
        let (blobs, metrics, timing, hash, provenance) = rest;
        let generations = possible(generations);
        Trajectory {
            trajectory_id,
            job_id,
            group_id,
            sample_index,
            task_id,
            environment,
            branch_id,
            parent_branch,
            agent_id,
            seed,
            reset_parameters,
            provenance,
            attempts,
            reset,
            steps,
            reward,
            reward_components,
            end,
            tokens,
            generations,
            turns,
            messages,
            sampling,
            blobs,
            metrics,
            timing,
            content_hash: ContentHash(hash),
        }
    })
}

/// A text without newlines, which records do not keep between tokens.
fn json() -> impl Strategy<Value = Bytes> {
    json_texts::value().prop_map(|text| text.replace(['\n', '\r'], " ").into())
}

/// The text of an object, or nothing.
fn optional_json() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        json_texts::object().prop_map(|text| text.replace(['\n', '\r'], " ").into()),
    ]
}

fn finite() -> impl Strategy<Value = f64> {
    prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO
}

/// NaN is not equal to itself, so it has a test of its own.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![finite(), prop::num::f64::INFINITE]
}

fn logprobs() -> impl Strategy<Value = Vec<f32>> {
    use prop::num::f32::{INFINITE, NORMAL, SUBNORMAL, ZERO};
    vec(NORMAL | SUBNORMAL | ZERO | INFINITE, 0..6)
}

fn numbers() -> impl Strategy<Value = Vec<(String, f64)>> {
    vec((any::<String>(), number()), 0..3)
}

fn observed() -> impl Strategy<Value = Observed> {
    let ended = prop_oneof![
        Just(None),
        Just(Some(Ended::Terminated)),
        Just(Some(Ended::TerminatedUnmapped)),
        Just(Some(Ended::Truncated)),
    ];
    let reward = prop_oneof![Just(Bytes::new()), json()];
    let metadata = prop_oneof![Just(Bytes::new()), json()];
    (json(), reward, metadata, ended).prop_map(|(observation, reward, metadata, ended)| Observed {
        observation: observation.into(),
        reward: Reward::from_raw(reward),
        metadata,
        ended,
    })
}

fn step() -> impl Strategy<Value = Step> {
    (json(), observed(), any::<(u32, u32)>()).prop_map(
        |(action, observed, (environment_us, policy_us))| Step {
            action,
            observed,
            environment_us,
            policy_us,
        },
    )
}

fn attempt() -> impl Strategy<Value = Attempt> {
    any::<(String, u64, u64, u32, String, String)>().prop_map(
        |(server, started_us, ended_us, steps, cause, message)| Attempt {
            server,
            started_us,
            ended_us,
            steps,
            cause,
            message,
        },
    )
}

fn provenance() -> impl Strategy<Value = Provenance> {
    any::<(String, String, u32, String)>().prop_map(
        |(server, session_id, episode_in_session, environment_fingerprint)| Provenance {
            server,
            session_id,
            episode_in_session,
            environment_fingerprint,
        },
    )
}

fn versions() -> impl Strategy<Value = Vec<VersionSpan>> {
    let span = any::<(u64, u32)>()
        .prop_map(|(version, tokens)| VersionSpan { version: PolicyVersion(version), tokens });
    vec(span, 0..3)
}

fn tokens() -> impl Strategy<Value = Tokens> {
    (any::<(Vec<u32>, u32, Vec<u8>)>(), logprobs(), versions()).prop_map(
        |((token_ids, prompt_len, loss_mask), logprobs, policy_versions)| Tokens {
            token_ids,
            prompt_len,
            loss_mask,
            logprobs,
            policy_versions,
        },
    )
}

/// Any generations, whether they can be or not.
#[allow(dead_code, reason = "other crates' tests share this file")]
pub(crate) fn any_generations() -> impl Strategy<Value = Vec<Generated>> {
    vec(generated(), 0..6)
}

/// Generations that share no more of their prompts than there is.
fn possible(mut generations: Vec<Generated>) -> Vec<Generated> {
    for index in 0..generations.len() {
        while check_prompts(&generations[..=index]).is_err() {
            generations[index].prompt_shared /= 2;
        }
    }
    generations
}

fn generated() -> impl Strategy<Value = Generated> {
    let kind = prop_oneof![
        Just(GeneratedKind::Agent),
        Just(GeneratedKind::Auxiliary),
        Just(GeneratedKind::Discarded),
    ];
    let ids = || vec(any::<u32>(), 0..6);
    let prompt = (ids(), 0..9u32, prop_oneof![any::<Option<u32>>(), option::of(0..3u32)]);
    let lists = (ids(), logprobs(), vec(0..2u8, 0..6), versions());
    let rest = any::<(Option<u32>, String, String, u64, u64)>();
    (prompt, lists, kind, rest).prop_map(|(prompt, lists, kind, rest)| {
        let (prompt_token_ids, prompt_shared, parent) = prompt;
        let (token_ids, logprobs, loss_mask, policy_versions) = lists;
        let (step, finish_reason, tool, generation_us, queue_us) = rest;
        Generated {
            prompt_token_ids,
            prompt_shared,
            token_ids,
            logprobs,
            loss_mask,
            policy_versions,
            parent,
            kind,
            step,
            finish_reason,
            tool,
            generation_us,
            queue_us,
        }
    })
}

fn turn() -> impl Strategy<Value = TurnSpan> {
    any::<(String, u32, u32, String, String, [u64; 3])>().prop_map(
        |(role, start, end, tool, finish_reason, [generation_us, environment_us, queue_us])| {
            TurnSpan {
                role,
                start,
                end,
                tool,
                finish_reason,
                generation_us,
                environment_us,
                queue_us,
            }
        },
    )
}

fn blob() -> impl Strategy<Value = Blob> {
    any::<(String, String, Vec<u64>, Vec<u8>)>().prop_map(|(name, dtype, shape, data)| Blob {
        name,
        dtype,
        shape,
        data: data.into(),
    })
}

fn timing() -> impl Strategy<Value = Timing> {
    any::<[u64; 6]>().prop_map(|[run, started, reset, ended, version_started, version_ended]| {
        Timing {
            run_started_unix_us: run,
            started_us: started,
            reset_us: reset,
            ended_us: ended,
            policy_version_started: PolicyVersion(version_started),
            policy_version_ended: PolicyVersion(version_ended),
        }
    })
}

fn end() -> impl Strategy<Value = End> {
    let kind = prop_oneof![
        Just(FailureKind::Disconnected),
        any::<u16>().prop_map(|code| FailureKind::Closed { code }),
        any::<u16>().prop_map(|status| FailureKind::UpgradeRefused { status }),
        prop::sample::select(Phase::ALL.as_slice()).prop_map(FailureKind::Deadline),
    ];
    let failed = (kind, any::<bool>(), "\\PC{0,20}", any::<Option<u64>>()).prop_map(
        |(kind, lost, message, retry_after)| {
            End::Failed(Failure {
                kind,
                session: if lost { SessionFate::Lost } else { SessionFate::Kept },
                message,
                retry_after: retry_after.map(Duration::from_nanos),
                details: Bytes::new(),
            })
        },
    );
    prop_oneof![
        any::<bool>().prop_map(|mapped| End::Completed { mapped }),
        prop::sample::select(Truncation::ALL.as_slice()).prop_map(End::Truncated),
        failed,
        prop::sample::select(Cancellation::ALL.as_slice()).prop_map(End::Cancelled),
        Just(End::Stale),
        any::<String>().prop_map(End::Filtered),
    ]
}
