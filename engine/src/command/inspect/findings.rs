//! What conversions, replays and comparisons have found, as they are told.

use std::path::Path;

use envmill_inspect::{Difference, escaped, folded, json_line};
use serde_json::{Map, Value, json};

use super::Page;
use crate::{
    inspect::{
        convert::{Converted, Target},
        diff::Diff,
        replay::{Found, Replay},
    },
    progress::say,
};

/// So many differences are told where not all are asked for.
const SHOWN: usize = 10;
/// So many bytes of what differs.
const BYTES: usize = 120;

impl Page {
    pub(super) fn converted(&mut self, converted: &Converted, target: Target, out: &Path) {
        let left_out = converted.left_out.as_ref();
        let lost = target.loses();
        let is_collected = converted.about.files.iter().any(|file| file.form == "episode-record");
        if self.json {
            let value = json!({
                "written": converted.written,
                "left_out": left_out.map_or(0, |(count, _)| *count),
                "left_out_why": left_out.map(|(_, why)| why),
                "loses": lost,
                "out": out.display().to_string(),
            });
            self.line(&json_line(&value));
            return;
        }
        let text = format!("{} to {}", converted.written, out.display());
        self.named("written", &escaped(&text));
        if !lost.is_empty() {
            say(&format!("lost: {lost}"));
        }
        if is_collected {
            say(
                "an EpisodeRecord has no first observation, timings, tokens and attempts: nor have these",
            );
        }
        if let Some((count, why)) = left_out {
            say(&format!("left out: {count} records; of the first, {why}"));
        }
    }

    pub(super) fn replay(&mut self, replay: &Replay) {
        if self.json {
            let causes: Map<String, Value> = replay
                .causes
                .iter()
                .map(|(cause, count)| (cause.name().to_owned(), (*count).into()))
                .collect();
            let found: Vec<_> = replay.found.iter().map(found_json).collect();
            let value = json!({
                "matched": replay.matched,
                "differed": replay.differed,
                "not_played": replay.not_played,
                "skipped": replay.skipped,
                "causes": causes,
                "differences": found,
            });
            self.line(&json_line(&value));
            self.flush();
            return;
        }
        let Replay { matched, differed, not_played, skipped, .. } = replay;
        let text =
            format!("{matched} matched, {differed} differed, {not_played} could not be played");
        self.named("replayed", &text);
        if *skipped > 0 {
            let text = format!(
                "{skipped} that had failed or were cancelled, or have no first observation"
            );
            self.named("skipped", &text);
        }
        for (cause, count) in &replay.causes {
            self.named("cause", &format!("{count} × {}: {}", cause.name(), cause.explained()));
        }
        let shown = if self.full { replay.found.len() } else { SHOWN };
        for found in replay.found.iter().take(shown) {
            self.difference(&found.trajectory_id, &found.difference, found.cause.name());
            if !found.failure.is_empty() {
                self.named("", &format!("  {}", folded(&found.failure, Some(4 * BYTES))));
            }
        }
        self.more(replay.found.len(), shown);
        self.flush();
    }

    pub(super) fn diff(&mut self, diff: &Diff) {
        if self.json {
            let found: Vec<_> = diff
                .found
                .iter()
                .map(|(id, difference)| Value::Object(difference_json(id, difference)))
                .collect();
            let value = json!({
                "matched": diff.matched,
                "differed": diff.differed,
                "missing": diff.missing,
                "added": diff.added,
                "differences": found,
            });
            self.line(&json_line(&value));
            return;
        }
        let Diff { matched, differed, missing, added, .. } = diff;
        let text = format!(
            "{matched} matched, {differed} differed, {missing} missing there, {added} there only"
        );
        self.named("compared", &text);
        let shown = if self.full { diff.found.len() } else { SHOWN };
        for (id, difference) in diff.found.iter().take(shown) {
            self.difference(id, difference, "");
        }
        self.more(diff.found.len(), shown);
    }

    fn named(&mut self, name: &str, text: &str) {
        let name = self.paint.strong(format_args!("{name:<11}"));
        self.line(&format!("{name} {text}"));
    }

    fn more(&mut self, found: usize, shown: usize) {
        if found > shown {
            self.named("", &format!("and {} more: --full tells them", found - shown));
        }
    }

    fn difference(&mut self, id: &str, difference: &Difference, cause: &str) {
        let place = match (difference.step, difference.what) {
            (Some(step), what) => format!("{what} of step {step}"),
            (None, "reset") => "first observation".to_owned(),
            (None, what) => what.to_owned(),
        };
        let (pointer, recorded, played) = parted(difference);
        let most = (!self.full).then_some(BYTES);
        let (recorded, played) = (folded(&recorded, most), folded(&played, most));
        let at = if pointer.is_empty() {
            String::new()
        } else {
            format!(" at {}", folded(&pointer, most))
        };
        let cause = if cause.is_empty() { String::new() } else { format!(" ({cause})") };
        let id = self.paint.bad(escaped(id));
        self.named("differs", &format!("{id}: {place}{at}: was {recorded}, is {played}{cause}"));
    }
}

/// The pointer to the first difference, and what stands there: the whole texts where there is none.
fn parted(difference: &Difference) -> (String, String, String) {
    match difference.pointer() {
        Some((pointer, was, is)) => (pointer, was.to_string(), is.to_string()),
        None => (String::new(), difference.recorded.clone(), difference.played.clone()),
    }
}

fn difference_json(id: &str, difference: &Difference) -> Map<String, Value> {
    let (pointer, recorded, played) = match difference.pointer() {
        Some((pointer, was, is)) => (Some(pointer), was, is),
        None => (None, difference.recorded.clone().into(), difference.played.clone().into()),
    };
    let mut object = Map::new();
    object.insert("trajectory_id".into(), id.into());
    object.insert("step".into(), difference.step.into());
    object.insert("what".into(), difference.what.into());
    object.insert("pointer".into(), pointer.into());
    object.insert("recorded".into(), recorded);
    object.insert("played".into(), played);
    object
}

fn found_json(found: &Found) -> Value {
    let mut object = difference_json(&found.trajectory_id, &found.difference);
    object.insert("cause".into(), found.cause.name().into());
    object.insert("failure".into(), found.failure.clone().into());
    Value::Object(object)
}
