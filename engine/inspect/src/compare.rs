//! Where two plays of one episode part.

use envmill_protocol::{Ended, Observed, Trajectory};

use crate::pointer::{pointer_between, without};

/// How two plays are compared.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// JSON pointers into observations: what stands there may differ (the id of a process, a time).
    pub ignored: Vec<String>,
    /// Parts that are not looked at: words of [`Difference::what`].
    pub without: Vec<&'static str>,
}

/// The first thing in which two plays differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The step, from 0; `None` for the reset and the end.
    pub step: Option<usize>,
    /// `reset`, `observation`, `reward`, `metadata`, `ended`, `action`, `length` or `end`.
    pub what: &'static str,
    /// What it was: as received, or in words.
    pub recorded: String,
    /// What it is.
    pub played: String,
}

impl Difference {
    /// Where within the two texts they part; see [`pointer_between`].
    #[must_use]
    pub fn pointer(&self) -> Option<(String, serde_json::Value, serde_json::Value)> {
        pointer_between(&self.recorded, &self.played)
    }
}

impl Comparison {
    /// The first difference between what was recorded and what was played, if there is one.
    #[must_use]
    pub fn first_difference(
        &self,
        recorded: &Trajectory,
        played: &Trajectory,
    ) -> Option<Difference> {
        match (&recorded.reset, &played.reset) {
            (Some(was), Some(is)) => {
                if let Some(mut found) = self.observed(None, was, is) {
                    if found.what == "observation" {
                        found.what = "reset";
                    }
                    return Some(found);
                }
            }
            (None, None) => {}
            (was, is) => {
                let word = |reset: &Option<Observed>| {
                    if reset.is_some() { "a reset" } else { "no reset" }.to_owned()
                };
                return Some(difference(None, "reset", word(was), word(is)));
            }
        }
        for (index, (was, is)) in recorded.steps.iter().zip(&played.steps).enumerate() {
            let step = Some(index);
            if !is_same(&was.action, &is.action) {
                return Some(difference(step, "action", text(&was.action), text(&is.action)));
            }
            if let Some(found) = self.observed(step, &was.observed, &is.observed) {
                return Some(found);
            }
        }
        let (was, is) = (recorded.steps.len(), played.steps.len());
        if was != is {
            let (step, was, is) = (Some(was.min(is)), was.to_string(), is.to_string());
            return Some(difference(step, "length", was, is));
        }
        let end = |record: &Trajectory| format!("{}: {}", record.end.name(), record.end.cause());
        let (was, is) = (end(recorded), end(played));
        (was != is).then(|| difference(None, "end", was, is))
    }

    fn observed(&self, step: Option<usize>, was: &Observed, is: &Observed) -> Option<Difference> {
        for (what, was, is) in [
            ("observation", was.observation.text(), is.observation.text()),
            ("reward", &was.reward.raw, &is.reward.raw),
            ("metadata", &was.metadata, &is.metadata),
        ] {
            if self.without.contains(&what) || is_same(was, is) {
                continue;
            }
            let (was, is) = (text(was), text(is));
            if what == "observation" && self.is_same_apart(&was, &is) {
                continue;
            }
            return Some(difference(step, what, was, is));
        }
        let word = |one: &Observed| one.ended.map_or("", Ended::name).to_owned();
        (was.ended != is.ended).then(|| difference(step, "ended", word(was), word(is)))
    }

    fn is_same_apart(&self, was: &str, is: &str) -> bool {
        if self.ignored.is_empty() {
            return false;
        }
        let left = |text| without(text, &self.ignored);
        left(was).is_some_and(|was| Some(was) == left(is))
    }
}

const fn difference(
    step: Option<usize>,
    what: &'static str,
    recorded: String,
    played: String,
) -> Difference {
    Difference { step, what, recorded, played }
}

/// Whether two texts are the same but for the line breaks that JSON lines do not keep.
fn is_same(was: &[u8], is: &[u8]) -> bool {
    let line = |byte: u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
    was.len() == is.len() && was.iter().zip(is).all(|(&was, &is)| line(was) == line(is))
}

fn text(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).into_owned()
}
