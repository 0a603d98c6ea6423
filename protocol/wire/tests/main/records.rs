//! Records for tests, and images in plain memory.

use bytes::Bytes;
use envmill_wire::{self as wire, layout::Plan};
use prost::Message as _;

/// A record with one of everything that an image has an array for.
pub(crate) fn record() -> wire::Trajectory {
    let step = |reward: Option<f64>| wire::Step {
        action: Bytes::from_static(b"{\"move\":1}"),
        observed: Some(wire::Observed {
            observation: Bytes::from_static(b"{\"board\":[0,1]}"),
            reward,
            ..wire::Observed::default()
        }),
        environment_us: 250,
        policy_us: 1_000,
    };
    wire::Trajectory {
        trajectory_id: "maze.1-00000007".into(),
        job_id: "maze.1".into(),
        group_id: 3,
        sample_index: 1,
        reward: Some(1.5),
        steps: vec![step(Some(0.5)), step(None), step(Some(1.0))],
        tokens: Some(wire::Tokens {
            token_ids: vec![1, 50_256, 7, u32::MAX, 9],
            prompt_len: 2,
            loss_mask: Bytes::from_static(&[0, 0, 1, 1, 1]),
            logprobs: vec![0.0, 0.0, -0.25, -1.5, -0.125],
            policy_versions: vec![wire::VersionSpan { version: None, tokens: 5 }],
        }),
        generations: vec![
            wire::Generated {
                prompt_token_ids: vec![1, 50_256],
                token_ids: vec![7],
                kind: "agent".into(),
                step: Some(0),
                finish_reason: "stop".into(),
                tool: "look".into(),
                generation_us: 700,
                ..wire::Generated::default()
            },
            // All of the first, and nothing new.
            wire::Generated {
                prompt_shared: 3,
                token_ids: vec![u32::MAX, 9],
                parent: Some(0),
                kind: "agent".into(),
                step: Some(2),
                queue_us: 70,
                ..wire::Generated::default()
            },
        ],
        blobs: vec![
            blob("routed_experts", "int16", &[2, 3], &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]),
            blob("nothing", "uint8", &[0], &[]),
            blob("weights", "bfloat16", &[2], &[0x80, 0x3f, 0x00, 0x40]),
        ],
        messages: Bytes::from_static(b"[{\"role\":\"user\",\"content\":\"go\"}]"),
        ..wire::Trajectory::default()
    }
}

pub(crate) fn blob(name: &str, dtype: &str, shape: &[u64], data: &'static [u8]) -> wire::Blob {
    let data = Bytes::from_static(data);
    wire::Blob { name: name.into(), dtype: dtype.into(), shape: shape.to_vec(), data }
}

/// The image of a record, in memory that held something else before.
pub(crate) fn image(record: &wire::Trajectory) -> Vec<u8> {
    let plan = Plan::of(record.encode_to_vec().into()).unwrap();
    let mut image = vec![0xAA; plan.bytes()];
    plan.write(&mut image);
    image
}
