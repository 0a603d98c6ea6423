//! What a language model said and heard.

use std::fmt::Write as _;

use envmill_protocol::{GeneratedKind, Trajectory, VersionSpan, record::TurnSpan};
use serde_json::Value;

use super::{Page, version};
use crate::{
    escaped,
    text::{counted, lossy, number, time},
};

/// So many token ids stand in a line.
const IDS_A_LINE: usize = 16;
/// Marks what was sampled by the policy.
pub(super) const SAMPLED: &str = "▶";

impl Page<'_> {
    pub(super) fn conversation(&mut self, record: &Trajectory) {
        if !record.tokens.token_ids.is_empty() {
            self.blank();
            self.tokens(record);
            for turn in &record.turns {
                self.turn(record, turn);
            }
            if record.turns.is_empty() {
                self.spoken(&record.tokens.token_ids, &record.tokens.loss_mask);
            }
        }
        if !record.generations.is_empty() {
            self.blank();
            self.generations(record);
        }
        let messages: Option<Vec<Value>> = serde_json::from_slice(&record.messages).ok();
        match messages {
            Some(messages) if !messages.is_empty() => {
                self.blank();
                for message in &messages {
                    self.message(message);
                }
            }
            None if !record.messages.is_empty() => {
                self.blank();
                let text = self.fold(&lossy(&record.messages));
                self.line("messages", &text);
            }
            _ => {}
        }
    }

    fn tokens(&mut self, record: &Trajectory) {
        let tokens = &record.tokens;
        let trained = tokens.loss_mask.iter().filter(|mask| **mask > 0).count();
        let text = format!(
            "{}: a prompt of {}, {trained} to be trained on ({SAMPLED})",
            tokens.token_ids.len(),
            tokens.prompt_len
        );
        self.line("tokens", &text);
        let text = match logprobs(&tokens.logprobs, &tokens.loss_mask) {
            Some(text) => text,
            None => "unknown".to_owned(),
        };
        self.line("logprobs", &text);
        if !tokens.policy_versions.is_empty() {
            self.line("versions", &versions(&tokens.policy_versions));
        }
        if record.branch_id > 0 || record.parent_branch.is_some() {
            let mut text = format!("this is branch {}", record.branch_id);
            if let Some(parent) = record.parent_branch {
                let _ = write!(text, ", forked from branch {parent}");
            }
            self.line("branch", &text);
        }
    }

    fn turn(&mut self, record: &Trajectory, turn: &TurnSpan) {
        let tokens = &record.tokens;
        let span = turn.start as usize..turn.end as usize;
        let mask = tokens.loss_mask.get(span.clone()).unwrap_or_default();
        let trained = mask.iter().filter(|mask| **mask > 0).count();
        let mut text = format!("{} {} to {}", turn.role, turn.start, turn.end);
        if !turn.tool.is_empty() {
            let _ = write!(text, ", tool {}", turn.tool);
        }
        if trained > 0 {
            let _ = write!(text, ", {trained} trained on");
            let logprobs = tokens.logprobs.get(span.clone()).unwrap_or_default();
            if let Some(logprobs) = self::logprobs(logprobs, mask) {
                let _ = write!(text, ", log-probabilities {logprobs}");
            }
        }
        if !turn.finish_reason.is_empty() {
            let _ = write!(text, ", {}", turn.finish_reason);
        }
        for (what, us) in [
            ("generated in", turn.generation_us),
            ("environment", turn.environment_us),
            ("queued", turn.queue_us),
        ] {
            if us > 0 {
                let _ = write!(text, ", {what} {}", time(us as f64));
            }
        }
        let text = self.fold(&text);
        let text = if trained > 0 {
            self.show.paint.good(format_args!("{SAMPLED} {text}"))
        } else {
            format!("  {text}")
        };
        self.line("turn", &text);
        self.spoken(tokens.token_ids.get(span.clone()).unwrap_or_default(), mask);
        if self.show.full {
            for ids in tokens.token_ids.get(span).unwrap_or_default().chunks(IDS_A_LINE) {
                let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                self.line("", &self.show.paint.faint(format_args!("  {}", ids.join(" "))));
            }
        }
    }

    fn generations(&mut self, record: &Trajectory) {
        for (index, it) in record.generations.iter().enumerate() {
            let mut text = format!(
                "{index}: {} sampled after a prompt of {}",
                it.token_ids.len(),
                it.prompt_len()
            );
            if let Some(parent) = it.parent {
                let _ = write!(text, ", continues {parent}");
            }
            if it.kind != GeneratedKind::Agent {
                let _ = write!(text, ", {}", it.kind.name());
            }
            match self::logprobs(&it.logprobs, &vec![1; it.logprobs.len()]) {
                Some(logprobs) => {
                    let _ = write!(text, ", log-probabilities {logprobs}");
                }
                None => text.push_str(", log-probabilities unknown"),
            }
            if !it.policy_versions.is_empty() {
                let _ = write!(text, ", version {}", versions(&it.policy_versions));
            }
            if !it.finish_reason.is_empty() {
                let _ = write!(text, ", ended by {}", escaped(&it.finish_reason));
            }
            if !it.tool.is_empty() {
                let _ = write!(text, ", calls {}", escaped(&it.tool));
            }
            if it.generation_us > 0 {
                let _ = write!(text, ", {}", time(it.generation_us as f64));
            }
            self.line("generation", &text);
            // What the conversation has was shown with it.
            if record.tokens.token_ids.is_empty() || it.kind != GeneratedKind::Agent {
                // What the generation before has shown is not shown again.
                if it.parent.is_none() || it.prompt_shared > 0 {
                    self.spoken(&it.prompt_token_ids, &[]);
                }
                self.spoken(&it.token_ids, &it.loss_mask);
            }
        }
    }

    fn message(&mut self, message: &Value) {
        let word = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default();
        let role = word("role");
        let is_sampled = role == "assistant";
        let mark = if is_sampled { SAMPLED } else { " " };
        let mut lines = Vec::new();
        match message.get("content") {
            None | Some(Value::Null) => {}
            // Lines of text stay lines.
            Some(Value::String(text)) if !text.is_empty() => {
                let most = (!self.show.full).then_some(super::FOLDED_BYTES);
                let (shown, rest) = match most {
                    Some(most) if text.len() > most => {
                        let end = text.floor_char_boundary(most);
                        (&text[..end], format!("…({} bytes)", text.len()))
                    }
                    _ => (&text[..], String::new()),
                };
                lines.extend(shown.lines().map(|line| crate::escaped(line).into_owned()));
                if let Some(last) = lines.last_mut() {
                    last.push_str(&rest);
                }
            }
            Some(Value::String(_)) => {}
            Some(other) => lines.push(self.fold(&other.to_string())),
        }
        if let Some(calls) = message.get("tool_calls").and_then(Value::as_array) {
            for call in calls {
                let function = call.get("function").unwrap_or(call);
                let name = function.get("name").and_then(Value::as_str);
                let text = match (name, function.get("arguments")) {
                    (Some(name), Some(Value::String(arguments))) => format!("{name}({arguments})"),
                    (Some(name), Some(arguments)) => format!("{name}({arguments})"),
                    _ => call.to_string(),
                };
                lines.push(format!("calls {}", self.fold(&text)));
            }
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
        let role = self.fold(role);
        for (index, line) in lines.into_iter().enumerate() {
            let name = if index == 0 { role.as_str() } else { "" };
            let line = format!("{mark} {line}");
            let line = if is_sampled { self.show.paint.good(line) } else { line };
            self.line(name, line.trim_end());
        }
    }
}

/// What is known of the log-probabilities of the tokens that were sampled.
fn logprobs(logprobs: &[f32], mask: &[u8]) -> Option<String> {
    if logprobs.is_empty() || logprobs.len() != mask.len() {
        return None;
    }
    let sampled = || logprobs.iter().zip(mask).filter(|(_, mask)| **mask > 0).map(|(it, _)| *it);
    let count = sampled().count();
    if count == 0 {
        return None;
    }
    let sum: f64 = sampled().map(f64::from).sum();
    let least = sampled().fold(f32::INFINITY, f32::min);
    Some(format!("mean {}, least {}", number(sum / count as f64), number(f64::from(least))))
}

fn versions(spans: &[VersionSpan]) -> String {
    let all: Vec<_> = spans
        .iter()
        .map(|span| {
            format!("{} × {}", counted(u64::from(span.tokens), "token"), version(span.version))
        })
        .collect();
    all.join(", ")
}
