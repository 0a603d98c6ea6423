//! One episode for people.

mod conversation;
mod spoken;

use std::fmt::{self, Display, Write as _};

use envmill_protocol::{Observed, Trajectory, record::End};

pub use self::spoken::TokenText;
use crate::{
    Paint, escaped, folded,
    text::{counted, lossy, number, time},
};

/// So many bytes of a text are shown where not all of it is asked for.
const FOLDED_BYTES: usize = 240;

/// How an episode is shown: turn by turn, with the conversation of a language model after it. What came
/// from outside is escaped.
#[derive(Clone, Copy, Default)]
pub struct Show<'a> {
    /// Whether long texts are shown to their ends, and tokens one by one.
    pub full: bool,
    /// Colours.
    pub paint: Paint,
    /// What token ids come to as text, if somebody knows.
    pub tokenizer: Option<&'a dyn TokenText>,
}

impl fmt::Debug for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Show").field("full", &self.full).finish_non_exhaustive()
    }
}

impl Show<'_> {
    /// The lines of an episode, each with its end.
    #[must_use]
    pub fn text(&self, record: &Trajectory) -> String {
        let mut page = Page { text: String::new(), show: *self };
        page.head(record);
        page.outcome(record);
        if let Some(reset) = &record.reset {
            page.blank();
            page.observed("reset", reset);
        }
        for (index, step) in record.steps.iter().enumerate() {
            page.blank();
            let name = format!("step {index}");
            page.line(&name, &page.fold(&lossy(&step.action)));
            page.observed("", &step.observed);
            let (environment, policy) =
                (time(f64::from(step.environment_us)), time(f64::from(step.policy_us)));
            if step.environment_us > 0 || step.policy_us > 0 {
                let text = format!("environment {environment}, policy {policy}");
                page.line("", &self.paint.faint(text));
            }
        }
        page.conversation(record);
        page.text
    }
}

/// What is being written.
struct Page<'a> {
    text: String,
    show: Show<'a>,
}

impl Page<'_> {
    fn line(&mut self, name: &str, text: &str) {
        let name = self.show.paint.strong(format_args!("{name:<11}"));
        let _ = writeln!(self.text, "{name} {text}");
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    fn fold(&self, text: &str) -> String {
        folded(text, (!self.show.full).then_some(FOLDED_BYTES))
    }

    fn head(&mut self, record: &Trajectory) {
        let id = self.show.paint.strong(escaped(&record.trajectory_id));
        self.line("episode", &id);
        let mut about =
            format!("{}, group {}, sample {}", record.job_id, record.group_id, record.sample_index);
        if !record.task_id.is_empty() {
            let _ = write!(about, ", task {}", record.task_id);
        }
        if let Some(seed) = record.seed {
            let _ = write!(about, ", seed {seed}");
        }
        self.line("job", &self.fold(about.trim_start_matches(", ")));
        let place = &record.provenance;
        if !(record.environment.is_empty() && place.server.is_empty()) {
            let text = format!(
                "{} on {}, session {}, its episode {}",
                record.environment, place.server, place.session_id, place.episode_in_session
            );
            self.line("played", &self.fold(&text));
        }
        if !place.environment_fingerprint.is_empty() {
            self.line("fingerprint", &escaped(&place.environment_fingerprint));
        }
        if !record.reset_parameters.is_empty() {
            self.line("parameters", &self.fold(&lossy(&record.reset_parameters)));
        }
        for (index, attempt) in record.attempts.iter().enumerate() {
            if attempt.cause.is_empty() {
                continue;
            }
            let text = format!(
                "{index} on {}: {} after {}: {}",
                attempt.server,
                attempt.cause,
                counted(u64::from(attempt.steps), "step"),
                attempt.message
            );
            self.line("attempt", &self.show.paint.bad(self.fold(&text)));
        }
    }

    fn outcome(&mut self, record: &Trajectory) {
        let paint = self.show.paint;
        let mut end = format!("{}: {}", record.end.name(), record.end.cause());
        if let End::Failed(failure) = &record.end {
            let _ = write!(end, ": {}", failure.message);
        }
        let end = self.fold(&end);
        let end = match record.end {
            End::Completed { .. } => paint.good(end),
            End::Failed(_) => paint.bad(end),
            _ => end,
        };
        self.line("end", &end);
        let mut reward = record.reward.map_or_else(|| "none, which is not 0".to_owned(), number);
        if !record.reward_components.is_empty() {
            let _ = write!(reward, " ({})", named(&record.reward_components));
        }
        self.line("reward", &self.fold(&reward));
        let timing = &record.timing;
        let took = timing.ended_us.saturating_sub(timing.started_us);
        let mut text = counted(record.steps.len() as u64, "step");
        if took > 0 {
            let _ = write!(text, " in {}", time(took as f64));
        }
        let (from, to) = (timing.policy_version_started, timing.policy_version_ended);
        if to.0 > 0 {
            let _ = write!(text, ", policy versions {} to {}", version(from), version(to));
        }
        self.line("steps", &text);
        if !record.metrics.is_empty() {
            self.line("metrics", &self.fold(&named(&record.metrics)));
        }
        for blob in &record.blobs {
            let text = format!(
                "{}: {} {:?}, {} bytes",
                blob.name,
                blob.dtype,
                blob.shape,
                blob.data.len()
            );
            self.line("blob", &self.fold(&text));
        }
        self.line("hash", &record.content_hash.to_string());
    }

    fn observed(&mut self, name: &str, observed: &Observed) {
        let shown = format!("→ {}", self.fold(&lossy(&observed.observation)));
        self.line(name, &shown);
        if !observed.metadata.is_empty() {
            let text = format!("metadata {}", self.fold(&lossy(&observed.metadata)));
            self.line("", &self.show.paint.faint(text));
        }
        let reward = match &observed.reward.raw {
            raw if raw.is_empty() => "missing".to_owned(),
            raw => self.fold(&lossy(raw)),
        };
        let mut text = format!("reward {reward}");
        if let Some(ended) = observed.ended {
            let _ = write!(text, ", {}", self.show.paint.strong(ended.name()));
        }
        if name != "reset" || observed.ended.is_some() || observed.reward.value.is_some() {
            self.line("", &text);
        }
    }
}

fn named(numbers: &[(String, f64)]) -> String {
    let all: Vec<_> =
        numbers.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
    all.join(", ")
}

/// A policy version as `--policy-version` takes it.
fn version(version: envmill_protocol::PolicyVersion) -> impl Display {
    match version.lineage() {
        0 => version.step().to_string(),
        lineage => format!("{lineage}:{}", version.step()),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::testing::{cartpole, changed, conversation};

    #[test]
    fn an_episode_of_a_language_model_is_shown_turn_by_turn() {
        expect![[r#"
            episode     maze-3-1
            job         maze, group 3, sample 1, task corridor, seed 17
            played      maze on ws://10.0.0.7:8000, session s5-2, its episode 0
            fingerprint 9f2c61d0
            parameters  {"seed":17}
            attempt     0 on ws://10.0.0.6:8000: disconnected after 1 step: the connection broke
            end         completed: terminated
            reward      0.5 (door 1, wall -0.5)
            steps       2 steps in 269.78 ms, policy versions 12 to 12
            metrics     tool_calls 2
            blob        routed_experts: int16 [2, 1, 2], 8 bytes
            hash        3080082d8fab3ad930989c52a751b99c

            reset       → {"metadata":{},"text":"a corridor"}

            step 0      {"message":"to the left"}
                        → {"metadata":{},"text":"a wall"}
                        reward -0.5
                        environment 5.12 ms, policy 80.21 ms

            step 1      {"message":"to the right"}
                        → {"metadata":{"truncated":false},"text":"the door"}
                        metadata {"truncated":false}
                        reward 1, terminated
                        environment 4.87 ms, policy 75.31 ms

            tokens      10: a prompt of 3, 6 to be trained on (▶)
            logprobs    mean -0.425, least -1.5
            versions    10 tokens × 12
            turn          user 0 to 3
            turn        ▶ assistant 3 to 6, 3 trained on, log-probabilities mean -0.54, least -1.5, stop, generated in 79.10 ms
            turn          tool 6 to 7, environment 5.12 ms
            turn        ▶ assistant 7 to 10, 3 trained on, log-probabilities mean -0.31, least -0.7, stop, generated in 74.40 ms, queued 800 µs

            generation  0: 3 sampled after a prompt of 3, log-probabilities mean -0.54, least -1.5, version 3 tokens × 12
            generation  1: 3 sampled after a prompt of 7, continues 0, log-probabilities mean -0.31, least -0.7, version 3 tokens × 12

            user          a corridor
        "#]].assert_eq(&Show::default().text(&conversation()));
    }

    /// A tokenizer of words.
    struct Words;

    impl TokenText for Words {
        fn text(&self, ids: &[u32]) -> String {
            let word = |id: &u32| match id {
                2 => "</s>\n".to_owned(),
                40 => "go".to_owned(),
                41 => " left\u{1b}[2J".to_owned(),
                _ => format!("<{id}>"),
            };
            ids.iter().map(word).collect()
        }
    }

    fn spoken(record: &Trajectory, full: bool) -> String {
        let text = Show { full, tokenizer: Some(&Words), ..Show::default() }.text(record);
        let start = text.find("tokens      ").or(text.find("generation  ")).unwrap();
        text[start..].to_owned()
    }

    #[test]
    fn tokens_are_text_where_a_tokenizer_is_known_and_those_to_be_trained_on_are_marked() {
        let record = changed(|it| {
            // Of the first answer one token is not trained on.
            it["tokens"]["loss_mask"] = json!([0, 0, 0, 1, 0, 1, 0, 1, 1, 1]);
            it["generations"][1]["kind"] = json!("discarded");
        });
        expect![[r#"
            tokens      10: a prompt of 3, 5 to be trained on (▶)
            logprobs    mean -0.21, least -0.7
            versions    10 tokens × 12
            turn          user 0 to 3
                            <1><887><13>
            turn        ▶ assistant 3 to 6, 2 trained on, log-probabilities mean -0.06, least -0.11, stop, generated in 79.10 ms
                          ▶ go
                             left\x1b[2J
                          ▶ </s>
            turn          tool 6 to 7, environment 5.12 ms
                            <902>
            turn        ▶ assistant 7 to 10, 3 trained on, log-probabilities mean -0.31, least -0.7, stop, generated in 74.40 ms, queued 800 µs
                          ▶ go<77></s>

            generation  0: 3 sampled after a prompt of 3, log-probabilities mean -0.54, least -1.5, version 3 tokens × 12
            generation  1: 3 sampled after a prompt of 7, continues 0, discarded, log-probabilities mean -0.31, least -0.7, version 3 tokens × 12
                          ▶ go<77></s>

            user          a corridor
        "#]]
        .assert_eq(&spoken(&record, false));
    }

    #[test]
    fn what_no_turn_or_conversation_has_is_text_as_well() {
        let record = changed(|it| {
            it["tokens"]["token_ids"] = json!([]);
            it["tokens"]["loss_mask"] = json!([]);
            it["tokens"]["logprobs"] = json!([]);
            it["tokens"]["policy_versions"] = json!([]);
            it["turns"] = json!([]);
        });
        let text = spoken(&record, false);
        assert!(text.contains("\n              ▶ go left\\x1b[2J</s>\n"), "{text}");
        assert!(text.contains("<1><887><13>"), "{text}");
        let record = changed(|it| it["turns"] = json!([]));
        let text = spoken(&record, false);
        assert_eq!(text.matches("▶ go").count(), 2, "{text}");
        let many = changed(|it| {
            it["tokens"]["token_ids"] = json!(vec![887; 1000]);
            it["tokens"]["loss_mask"] = json!(vec![0; 1000]);
            it["turns"] = json!([]);
        });
        assert!(spoken(&many, false).contains("…(5000 bytes)"));
        assert!(spoken(&many, true).contains(&"<887>".repeat(1000)));
    }

    #[test]
    fn an_episode_without_a_model_has_no_conversation() {
        expect![[r#"
            episode     cart-00000007
            job         cart, group 7, sample 0, seed 7
            played      native:cartpole on native:cartpole, session s5-2, its episode 0
            fingerprint 00aa11bb
            parameters  {"seed":7}
            end         truncated: max_steps
            reward      none, which is not 0
            steps       1 step in 269.78 ms
            hash        3080082d8fab3ad930989c52a751b99c

            reset       → {"metadata":{},"text":"a corridor"}

            step 0      {"message":"to the left"}
                        → {"metadata":{},"text":"a wall"}
                        reward null
                        environment 5.12 ms, policy 80.21 ms
        "#]]
        .assert_eq(&Show::default().text(&cartpole()));
    }

    #[test]
    fn nothing_that_a_server_says_reaches_the_terminal_as_it_is() {
        let wild = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}";
        let record = changed(|it| {
            for key in ["trajectory_id", "job_id", "task_id", "environment"] {
                it[key] = json!(wild);
            }
            for key in ["server", "session_id", "environment_fingerprint"] {
                it["provenance"][key] = json!(wild);
            }
            it["attempts"][0]["message"] = json!(wild);
            it["attempts"][0]["cause"] = json!(wild);
            it["reset"]["observation"] = json!(wild);
            it["steps"][0]["action"] = json!({ wild: wild });
            it["steps"][0]["metadata"] = json!(wild);
            it["end"] = json!({"kind": "failed", "cause": "environment", "message": wild,
                "session_lost": false});
            it["reward_components"] = json!({ wild: 1.0 });
            it["metrics"] = json!({ wild: 1.0 });
            it["blobs"][0]["name"] = json!(wild);
            it["turns"][1]["tool"] = json!(wild);
            it["turns"][1]["role"] = json!(wild);
            it["turns"][1]["finish_reason"] = json!(wild);
            it["messages"] = json!([{"role": wild, "content": wild}, {"role": "tool",
                "content": {"a": wild}, "name": wild, "tool_calls": [wild]}]);
        });
        for full in [false, true] {
            let text = Show { full, ..Show::default() }.text(&record);
            let acts = |it: char| (it.is_control() && it != '\n') || it == '\u{202e}';
            assert!(!text.contains(acts), "{text:?}");
            assert!(text.contains("\\x1b]0;owned\\x07"), "{text}");
        }
    }

    #[test]
    fn long_texts_are_folded_unless_all_is_asked_for() {
        let record = changed(|it| it["reset"]["observation"] = json!("x".repeat(5000)));
        let text = Show::default().text(&record);
        assert!(text.contains("…(5002 bytes)") && !text.contains(&"x".repeat(300)), "{text}");
        let text = Show { full: true, ..Show::default() }.text(&record);
        assert!(text.contains(&"x".repeat(5000)), "{text}");
    }
}
