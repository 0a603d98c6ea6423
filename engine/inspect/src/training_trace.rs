//! OpenEnv's `TrainingTrace`, version 1: what harnesses and trainers keep of the calls of a model.

use std::collections::HashMap;

use envmill_protocol::{
    Generated, GeneratedKind, PolicyVersion, Spoken, Trajectory, VersionSpan,
    record::{Conversation, End, content_hash, shorten_prompts, spoken_in_call},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

/// A trace, or a line of `traces.jsonl` around one.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    turns: Option<Vec<Entry>>,
    #[serde(default)]
    trace: Option<Box<Line>>,
    /// What `envmill capture` was told that the episode was worth.
    #[serde(default)]
    reward: Option<f64>,
}

#[derive(Deserialize)]
struct Entry {
    node_id: String,
    prompt_token_ids: Vec<u32>,
    completion_token_ids: Vec<u32>,
    per_token_logps: Vec<f32>,
    loss_mask: Vec<u8>,
    /// What the model was asked, and what it answered, as OpenAI's API has them.
    #[serde(default)]
    request: Value,
    #[serde(default)]
    response: Value,
    #[serde(default)]
    metadata: Metadata,
}

impl Entry {
    fn kind(&self) -> GeneratedKind {
        self.metadata.kind.as_str().and_then(GeneratedKind::from_name).unwrap_or_default()
    }

    /// What its call tells beside tokens; of the sampling, what was in force, where Envmill has written it.
    fn spoken(&self) -> Spoken {
        let spoken = spoken_in_call(&self.request, &self.response);
        if !self.metadata.sampling.is_object() {
            return spoken;
        }
        Spoken { sampling: self.metadata.sampling.to_string().into(), ..spoken }
    }
}

/// What Envmill adds.
#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    trajectory_id: String,
    #[serde(default)]
    group_id: u64,
    #[serde(default)]
    sample_index: u32,
    #[serde(default)]
    task_id: String,
    #[serde(default)]
    environment: String,
    #[serde(default)]
    kind: Value,
    #[serde(default)]
    parent: Value,
    /// The same in what `envmill capture` writes.
    #[serde(default)]
    parent_node_id: Value,
    #[serde(default)]
    policy_versions: Value,
    #[serde(default)]
    step: Value,
    #[serde(default)]
    finish_reason: Value,
    #[serde(default)]
    sampling: Value,
    #[serde(default)]
    tool: Value,
    #[serde(default)]
    generation_us: Value,
    #[serde(default)]
    queue_us: Value,
}

/// A trace that is no record.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It is not JSON of the shape.
    #[error(transparent)]
    Shape(#[from] serde_json::Error),
    /// It is of another version.
    #[error("its schema_version is {0}, and 1 is understood")]
    Version(u64),
    /// There is nothing in it.
    #[error("it has no turns")]
    NoTurns,
    /// A turn's lists do not fit each other.
    #[error("turn {node}: {what}")]
    Turn {
        /// The turn's node.
        node: String,
        /// What does not fit.
        what: String,
    },
}

/// Whether a line is a `TrainingTrace`, or what `envmill capture` writes around one, by its keys.
#[must_use]
pub fn is_training_trace(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Keys {
        schema_version: Option<IgnoredAny>,
        turns: Option<Vec<Node>>,
        trace: Option<Box<Keys>>,
        trajectory_id: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Node {
        #[serde(rename = "node_id")]
        _node_id: IgnoredAny,
    }
    serde_json::from_slice::<Keys>(line).is_ok_and(|keys| {
        let keys = keys.trace.as_deref().unwrap_or(&keys);
        keys.schema_version.is_some() && keys.turns.is_some() && keys.trajectory_id.is_none()
    })
}

/// A line as a record: its generations, and the conversation that they come to, its messages, too, where the
/// agent's last call is told with its request. A trace tells of no steps and rewards, and not how its episode
/// ended: it counts as completed, and has no score but the one that `envmill capture` was told.
///
/// # Errors
///
/// The line is no `TrainingTrace`, or one whose lists do not fit each other.
pub fn read_training_trace(line: &[u8]) -> Result<Trajectory, TraceError> {
    let line: Line = serde_json::from_slice(line)?;
    let reward = line.reward;
    let Line { schema_version, turns, .. } = match line.trace {
        Some(trace) => *trace,
        None => line,
    };
    let schema_version = schema_version.unwrap_or_default();
    if schema_version != 1 {
        return Err(TraceError::Version(schema_version));
    }
    let turns = turns.unwrap_or_default();
    let first = turns.first().ok_or(TraceError::NoTurns)?;
    let Metadata { trajectory_id, group_id, sample_index, task_id, environment, .. } =
        &first.metadata;
    let (group_id, sample_index) = (*group_id, *sample_index);
    let trajectory_id =
        if trajectory_id.is_empty() { first.node_id.clone() } else { trajectory_id.clone() };
    let (task_id, environment) = (task_id.clone(), environment.clone());
    let nodes: HashMap<String, usize> =
        turns.iter().enumerate().map(|(index, turn)| (turn.node_id.clone(), index)).collect();
    let last = turns.iter().rev().find(|it| it.kind() == GeneratedKind::Agent);
    let Spoken { messages, sampling } = last.map(Entry::spoken).unwrap_or_default();
    let messages = if messages.is_empty() {
        messages
    } else {
        [&b"["[..], &messages[..], b"]"].concat().into()
    };
    let mut generations = turns
        .into_iter()
        .enumerate()
        .map(|(index, turn)| generated(turn, index, &nodes))
        .collect::<Result<Vec<_>, _>>()?;
    // Whole prompts share nothing that could be missing; one that is too long stays as it is.
    let _ = shorten_prompts(&mut generations);
    let Conversation { tokens, turns, branch, parent_branch } = Conversation::of(&generations, &[]);
    let mut record = Trajectory {
        group_id,
        sample_index,
        task_id,
        environment,
        branch_id: branch,
        parent_branch,
        reward,
        tokens,
        generations,
        turns,
        messages,
        sampling,
        ..Trajectory::bare(trajectory_id, End::Completed { mapped: false })
    };
    record.content_hash = content_hash(&record);
    Ok(record)
}

fn generated(
    turn: Entry,
    index: usize,
    nodes: &HashMap<String, usize>,
) -> Result<Generated, TraceError> {
    let kind = turn.kind();
    let Entry { node_id, prompt_token_ids, completion_token_ids, per_token_logps, .. } = turn;
    let (prompt, sampled) = (prompt_token_ids.len(), completion_token_ids.len());
    for (name, length, wanted) in [
        ("per_token_logps", per_token_logps.len(), sampled),
        ("loss_mask", turn.loss_mask.len(), prompt + sampled),
    ] {
        if length != wanted {
            let what = format!("{name} has {length} entries for {wanted} tokens");
            return Err(TraceError::Turn { node: node_id, what });
        }
    }
    let Metadata { parent, parent_node_id, policy_versions, .. } = &turn.metadata;
    let parent = if parent.is_null() { parent_node_id } else { parent };
    let word = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let number = |it: &Value| it.as_u64().unwrap_or_default();
    let parent = parent.as_str().and_then(|name| nodes.get(name)).filter(|it| **it < index);
    Ok(Generated {
        prompt_token_ids,
        token_ids: completion_token_ids,
        logprobs: per_token_logps,
        loss_mask: turn.loss_mask[prompt..].to_vec(),
        policy_versions: versions(policy_versions, sampled),
        parent: parent.and_then(|it| u32::try_from(*it).ok()),
        kind,
        prompt_shared: 0,
        step: turn.metadata.step.as_u64().and_then(|it| u32::try_from(it).ok()),
        finish_reason: word(&turn.metadata.finish_reason),
        tool: word(&turn.metadata.tool),
        generation_us: number(&turn.metadata.generation_us),
        queue_us: number(&turn.metadata.queue_us),
    })
}

/// Spans as Envmill writes them (step, lineage and tokens, or version and tokens), if they cover all tokens;
/// otherwise it is not known which weights sampled what.
fn versions(told: &Value, sampled: usize) -> Vec<VersionSpan> {
    let span = |it: &Value| {
        let numbers: Vec<u64> = it.as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?;
        let (version, tokens) = match numbers[..] {
            [step, lineage, tokens] => {
                (PolicyVersion::new(u16::try_from(lineage).ok()?, step)?, tokens)
            }
            [version, tokens] => (PolicyVersion(version), tokens),
            _ => return None,
        };
        Some(VersionSpan { version, tokens: u32::try_from(tokens).ok()? })
    };
    let spans: Option<Vec<VersionSpan>> =
        told.as_array().and_then(|spans| spans.iter().map(span).collect());
    let covers = |spans: &Vec<VersionSpan>| {
        spans.iter().map(|it| u64::from(it.tokens)).sum::<u64>() == sampled as u64
    };
    spans.filter(covers).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"{"schema_version":1,"turns":[
        {"node_id":"a/0","prompt_token_ids":[1,2],"completion_token_ids":[3,4],"per_token_logps":[-0.5,-1.0],
         "loss_mask":[0,0,1,1],"request":{},"response":{},
         "metadata":{"trajectory_id":"a","group_id":3,"policy_versions":[[7,1,2]]}},
        {"node_id":"a/1","prompt_token_ids":[1,2,3,4,5],"completion_token_ids":[6],"per_token_logps":[-0.25],
         "loss_mask":[0,0,0,0,0,1],"request":{},"response":{},
         "metadata":{"parent":"a/0","policy_versions":[[8,1]]}}]}"#;

    #[test]
    fn a_trace_is_a_record_of_its_generations() {
        assert!(is_training_trace(TRACE.as_bytes()));
        let record = read_training_trace(TRACE.as_bytes()).unwrap();
        assert_eq!((&*record.trajectory_id, record.group_id, record.reward), ("a", 3, None));
        assert_eq!(record.tokens.token_ids, [1, 2, 3, 4, 5, 6]);
        assert_eq!(record.tokens.loss_mask, [0, 0, 1, 1, 0, 1]);
        assert_eq!((record.tokens.prompt_len, record.generations[1].parent), (2, Some(0)));
        let first = &record.generations[0].policy_versions[0];
        assert_eq!((first.version.step(), first.version.lineage(), first.tokens), (7, 1, 2));
        assert_eq!(record.generations[1].policy_versions[0].version, PolicyVersion(8));
    }

    #[test]
    fn what_capture_writes_has_its_reward() {
        let line = format!(r#"{{"reward":0.5,"branches":1,"trace":{TRACE}}}"#);
        assert!(is_training_trace(line.as_bytes()));
        let record = read_training_trace(line.as_bytes()).unwrap();
        assert_eq!((record.reward, record.generations.len()), (Some(0.5), 2));
        assert!(record.messages.is_empty() && record.sampling.is_empty());
        // The prompt of the second continues the first, and is kept as what it adds.
        let second = &record.generations[1];
        assert_eq!((second.prompt_shared, &second.prompt_token_ids[..]), (4, &[5][..]));
        let asked = r#""request":{"messages":[{"role":"user","content":"é"}],"top_p":0.5,"n":1},
            "response":{"choices":[{"message":{"role":"assistant","content":"ah"}}]},
            "metadata":{"parent_node_id":"a/0","finish_reason":"length","tool":"look","generation_us":9,"queue_us":3,"#;
        let told = line.replace(
            r#""request":{},"response":{},
         "metadata":{"parent":"a/0","#,
            asked,
        );
        let record = read_training_trace(told.as_bytes()).unwrap();
        assert_eq!(
            record.messages,
            r#"[{"content":"é","role":"user"},{"content":"ah","role":"assistant"}]"#
        );
        assert_eq!(record.sampling, r#"{"top_p":0.5}"#);
        // What was in force says more than what was asked for.
        let forced = told.replace(
            r#""finish_reason":"length","#,
            r#""finish_reason":"length","sampling":{"temperature":1.0},"#,
        );
        let forced = read_training_trace(forced.as_bytes()).unwrap();
        assert_eq!(forced.sampling, r#"{"temperature":1.0}"#);
        let (it, turn) = (&record.generations[1], &record.turns[3]);
        assert_eq!((it.parent, &*it.finish_reason, &*it.tool), (Some(0), "length", "look"));
        assert_eq!((turn.generation_us, turn.queue_us, &*turn.tool), (9, 3, "look"));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for (before, after, expected) in [
            (
                "\"loss_mask\":[0,0,1,1]",
                "\"loss_mask\":[1,1]",
                "a/0: loss_mask has 2 entries for 4",
            ),
            ("[-0.5,-1.0]", "[-0.5]", "a/0: per_token_logps has 1 entries for 2"),
            ("\"schema_version\":1", "\"schema_version\":2", "schema_version is 2"),
            ("[1,2]", "[1,-2]", "invalid value"),
        ] {
            let error = read_training_trace(TRACE.replacen(before, after, 1).as_bytes());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(read_training_trace(br#"{"schema_version":1,"turns":[]}"#).is_err());
        for line in ["", "{}", r#"{"schema_version":1,"trajectory_id":"x","turns":[]}"#] {
            assert!(!is_training_trace(line.as_bytes()), "{line}");
        }
    }
}
