//! A batch until each of its episodes has its answer: what is tried again, and how.

use std::time::Duration;

use envmill_core::Score;

use super::{ScorerOptions, answer};
use crate::callable::{Caller, Fault, Remedy};

/// The first pause before a call is tried again; it doubles with each in a row.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest of these pauses, unless a server asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The longest pause that a server may ask for.
const PAUSE_ASKED_MAX: Duration = Duration::from_secs(60);
/// The most bytes of one batch, but for one of a single episode or a whole group.
const BATCH_BYTES_MAX: usize = 32 << 20;

/// One of a batch.
pub(super) trait Unscored {
    /// Appends its record as JSON.
    fn write(&self, batch: &mut Vec<u8>);
    /// Whether somebody still waits for its score.
    fn is_wanted(&self) -> bool;
    fn answer(&self, result: Result<Score, String>);
}

/// What it takes to score batches.
pub(super) struct Attempts<'a> {
    pub(super) options: &'a ScorerOptions,
    pub(super) caller: &'a mut dyn Caller,
    /// Waits for so long; false if there is to be no more.
    pub(super) pause: &'a dyn Fn(Duration) -> bool,
}

impl Attempts<'_> {
    /// Scores a batch: each of its episodes is answered, unless the pool ends or it is not wanted.
    ///
    /// What fails as a whole is tried again, in halves if something in it may be the cause, so that an
    /// episode that a scorer cannot take does not take others with it. A group is never taken apart.
    pub(super) fn score<T: Unscored>(&mut self, batch: &[T]) {
        self.part(batch, self.options.retries);
    }

    fn part<T: Unscored>(&mut self, part: &[T], retries: u32) {
        let can_split = part.len() > 1 && !self.options.group;
        let mut left = retries;
        let mut pause = PAUSE_MIN;
        while part.iter().any(Unscored::is_wanted) {
            let fault = match self.call(part, can_split) {
                Ok(results) => {
                    for (it, result) in part.iter().zip(results) {
                        it.answer(result.map_err(|problem| self.signed(&problem)));
                    }
                    return;
                }
                Err(fault) => fault,
            };
            if !(self.pause)(Duration::ZERO) {
                return;
            }
            tracing::debug!(
                scorer = self.options.name,
                episodes = part.len(),
                fault.message,
                "no answer"
            );
            match fault.remedy {
                Remedy::Halves if can_split => return self.halves(part, left),
                Remedy::Nothing => return self.fail(part, &fault),
                _ if left == 0 => return self.fail(part, &fault),
                Remedy::AgainInHalves if can_split => return self.halves(part, left - 1),
                Remedy::Again(asked) => {
                    pause = pause.max(asked.unwrap_or_default().min(PAUSE_ASKED_MAX));
                }
                Remedy::Halves | Remedy::AgainInHalves => {}
            }
            left -= 1;
            if !(self.pause)(pause) {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn halves<T: Unscored>(&mut self, part: &[T], retries: u32) {
        let (first, second) = part.split_at(part.len() / 2);
        self.part(first, retries);
        self.part(second, retries);
    }

    fn call<T: Unscored>(
        &mut self,
        part: &[T],
        can_split: bool,
    ) -> Result<Vec<Result<Score, String>>, Fault> {
        let mut batch = b"{\"episodes\":[".to_vec();
        for (number, it) in part.iter().enumerate() {
            if number > 0 {
                batch.push(b',');
            }
            it.write(&mut batch);
            if can_split && batch.len() > BATCH_BYTES_MAX {
                return Err(Fault::new(Remedy::Halves, "too large for one batch"));
            }
        }
        batch.extend_from_slice(b"]}");
        let answer = self.caller.call(&batch)?;
        answer::read(&answer, part.len(), &self.options.weights)
            .map_err(|problem| Fault::new(Remedy::Nothing, problem))
    }

    fn fail<T: Unscored>(&self, part: &[T], fault: &Fault) {
        let message = self.signed(&fault.message);
        tracing::warn!(scorer = self.options.name, episodes = part.len(), message, "no scores");
        for it in part {
            it.answer(Err(message.clone()));
        }
    }

    fn signed(&self, problem: &str) -> String {
        format!("scorer {}: {problem}", self.options.name)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::BTreeMap,
    };

    use serde_json::Value;

    use super::*;
    use crate::scorer::Source;

    struct Episode {
        index: u32,
        is_wanted: Cell<bool>,
        answers: RefCell<Vec<Result<Score, String>>>,
    }

    impl Unscored for Episode {
        fn write(&self, batch: &mut Vec<u8>) {
            batch.extend_from_slice(self.index.to_string().as_bytes());
        }

        fn is_wanted(&self) -> bool {
            self.is_wanted.get()
        }

        fn answer(&self, result: Result<Score, String>) {
            self.answers.borrow_mut().push(result);
        }
    }

    fn episodes(count: u32) -> Vec<Episode> {
        let episode =
            |index| Episode { index, is_wanted: Cell::new(true), answers: RefCell::default() };
        (0..count).map(episode).collect()
    }

    /// Answers each batch as told, given its episodes, and notes them.
    struct Puppet<F> {
        answer: F,
        calls: Vec<Vec<u64>>,
    }

    impl<F: FnMut(&[u64]) -> Option<Remedy>> Caller for Puppet<F> {
        fn call(&mut self, batch: &[u8]) -> Result<Vec<u8>, Fault> {
            let batch: Value = serde_json::from_slice(batch).unwrap();
            let episodes = batch["episodes"].as_array().unwrap();
            let indices: Vec<u64> = episodes.iter().map(|it| it.as_u64().unwrap()).collect();
            self.calls.push(indices.clone());
            if let Some(remedy) = (self.answer)(&indices) {
                return Err(Fault::new(remedy, "no"));
            }
            let scores: Vec<_> = indices.iter().map(|it| format!("{{\"reward\":{it}}}")).collect();
            Ok(format!("{{\"scores\":[{}]}}", scores.join(",")).into_bytes())
        }
    }

    fn options(group: bool) -> ScorerOptions {
        ScorerOptions {
            name: "judge".into(),
            source: Source::Python {
                function: "a:b".into(),
                interpreter: None,
                path: Vec::new(),
                processes: 1,
            },
            timeout: Duration::from_secs(1),
            retries: 2,
            batch_max: 8,
            in_flight_max: 8,
            weights: BTreeMap::new(),
            group,
            weight: 1.0,
        }
    }

    /// The calls that were made, and who got a score.
    fn played(
        count: u32,
        group: bool,
        answer: impl FnMut(&[u64]) -> Option<Remedy>,
    ) -> (Vec<Vec<u64>>, Vec<bool>) {
        let episodes = episodes(count);
        let options = options(group);
        let mut caller = Puppet { answer, calls: Vec::new() };
        let mut attempts = Attempts { options: &options, caller: &mut caller, pause: &|_| true };
        attempts.score(&episodes);
        let scored = episodes.iter().map(|it| {
            let answers = it.answers.borrow();
            let [answer] = &answers[..] else { panic!("{answers:?}") };
            match answer {
                Ok(score) => {
                    assert_eq!(score.reward, Some(it.index.into()));
                    true
                }
                Err(message) => {
                    assert!(message.starts_with("scorer judge: "), "{message}");
                    false
                }
            }
        });
        let scored = scored.collect();
        (caller.calls, scored)
    }

    #[test]
    fn a_batch_is_one_call() {
        let (calls, scored) = played(3, false, |_| None);
        assert_eq!((calls.len(), scored), (1, vec![true; 3]));
    }

    #[test]
    fn who_is_not_there_is_asked_again_for_the_same() {
        let mut left = 2;
        let (calls, scored) = played(2, false, |_| {
            left -= 1;
            (left >= 0).then_some(Remedy::Again(None))
        });
        assert_eq!((calls, scored), (vec![vec![0, 1]; 3], vec![true; 2]));
        let (calls, scored) = played(2, false, |_| Some(Remedy::Again(None)));
        assert_eq!((calls.len(), scored), (3, vec![false; 2]));
    }

    #[test]
    fn one_that_cannot_be_taken_takes_no_other_with_it() {
        for remedy in [Remedy::Halves, Remedy::AgainInHalves] {
            let (_, scored) = played(4, false, |batch| batch.contains(&2).then_some(remedy));
            assert_eq!(scored, [true, true, false, true], "{remedy:?}");
        }
        // Too long a batch takes no more calls than there are retries, in each of its parts.
        let (calls, scored) = played(8, false, |_| Some(Remedy::AgainInHalves));
        assert_eq!((calls.len(), scored), (7, vec![false; 8]));
    }

    #[test]
    fn a_group_is_not_taken_apart() {
        for remedy in [Remedy::Halves, Remedy::AgainInHalves] {
            let (calls, scored) = played(4, true, |_| Some(remedy));
            assert_eq!((calls, scored), (vec![vec![0, 1, 2, 3]; 3], vec![false; 4]));
        }
    }

    #[test]
    fn what_will_not_help_is_not_tried() {
        let (calls, scored) = played(4, false, |_| Some(Remedy::Nothing));
        assert_eq!((calls.len(), scored), (1, vec![false; 4]));
    }

    #[test]
    fn what_nobody_wants_is_not_asked_for() {
        let episodes = episodes(2);
        episodes.iter().for_each(|it| it.is_wanted.set(false));
        let options = options(false);
        let mut caller = Puppet { answer: |_: &[u64]| None, calls: Vec::new() };
        Attempts { options: &options, caller: &mut caller, pause: &|_| true }.score(&episodes);
        assert!(caller.calls.is_empty() && episodes[0].answers.borrow().is_empty());
    }
}
