//! Records that tests look into.

use envmill_protocol::{Trajectory, record::read_json_line};
use serde_json::{Value, json};

/// The example of `docs/record.md`: two steps by a language model, on the second attempt.
const CONVERSATION: &str = include_str!("testing/conversation.jsonl");

/// What a change makes of the example.
pub(crate) fn changed(change: impl FnOnce(&mut Value)) -> Trajectory {
    let mut value = serde_json::from_str(CONVERSATION).unwrap();
    change(&mut value);
    read_json_line(value.to_string().as_bytes()).unwrap()
}

pub(crate) fn conversation() -> Trajectory {
    changed(|_| {})
}

/// One step without a language model and without a reward.
pub(crate) fn cartpole() -> Trajectory {
    changed(|it| {
        for (key, value) in [
            ("trajectory_id", json!("cart-00000007")),
            ("job_id", json!("cart")),
            ("group_id", json!(7)),
            ("sample_index", json!(0)),
            ("task_id", json!("")),
            ("environment", json!("native:cartpole")),
            ("seed", json!(7)),
            ("reset_parameters", json!({"seed": 7})),
            ("reward", Value::Null),
            ("reward_components", json!({})),
            ("end", json!({"kind": "truncated", "cause": "max_steps"})),
            ("generations", json!([])),
            ("turns", json!([])),
            ("messages", Value::Null),
            ("sampling", Value::Null),
            ("blobs", json!([])),
            ("metrics", json!({})),
        ] {
            it[key] = value;
        }
        it["tokens"] = json!({"token_ids": [], "prompt_len": 0, "loss_mask": [], "logprobs": [],
            "policy_versions": []});
        it["provenance"]["server"] = json!("native:cartpole");
        it["provenance"]["environment_fingerprint"] = json!("00aa11bb");
        it["attempts"] = json!([it["attempts"][1].clone()]);
        it["steps"] = json!([it["steps"][0].clone()]);
        it["steps"][0]["reward"] = Value::Null;
        it["timing"]["policy_version_started"] = json!(0);
        it["timing"]["policy_version_ended"] = json!(0);
    })
}
