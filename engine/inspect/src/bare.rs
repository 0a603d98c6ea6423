//! Records of which others tell only parts.

use bytes::Bytes;
use envmill_protocol::{
    Trajectory,
    record::{ContentHash, End, Provenance, Timing, Tokens},
};

/// A record that says nothing but its name and how it ended.
pub(crate) fn bare(trajectory_id: String, end: End) -> Trajectory {
    Trajectory {
        trajectory_id,
        job_id: String::new(),
        group_id: 0,
        sample_index: 0,
        task_id: String::new(),
        environment: String::new(),
        branch_id: 0,
        parent_branch: None,
        agent_id: 0,
        seed: None,
        reset_parameters: Bytes::new(),
        provenance: Provenance::default(),
        attempts: Vec::new(),
        reset: None,
        steps: Vec::new(),
        reward: None,
        reward_components: Vec::new(),
        end,
        tokens: Tokens::default(),
        generations: Vec::new(),
        turns: Vec::new(),
        messages: Bytes::new(),
        sampling: Bytes::new(),
        blobs: Vec::new(),
        metrics: Vec::new(),
        timing: Timing::default(),
        content_hash: ContentHash::default(),
    }
}
