//! What the scorers of a job say of one episode, put together.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use envmill_core::{Input, Score, Scored, ToScore};
use envmill_protocol::record::write_json_line;

use super::{Pool, attempts::Unscored};
use crate::driver::Control;

/// An episode until each of its scorers has said something, or one has failed.
pub(super) struct Verdict {
    episode: ToScore,
    scorers: Arc<[Pool]>,
    /// The driver that waits for it.
    control: Control,
    /// Whether nobody waits for it any more: it was told, or the episode is recorded without it.
    is_over: AtomicBool,
    /// By scorer.
    said: Mutex<Vec<Option<Score>>>,
}

/// One scorer's part in a verdict: what waits in its queue.
pub(crate) struct Item {
    verdict: Arc<Verdict>,
    scorer: usize,
}

impl Verdict {
    pub(super) fn new(episode: ToScore, scorers: Arc<[Pool]>, control: Control) -> Self {
        let said = Mutex::new(vec![None; scorers.len()]);
        Self { episode, scorers, control, is_over: AtomicBool::new(false), said }
    }

    /// What the scorer with this number is to judge.
    pub(super) const fn item(verdict: Arc<Self>, scorer: usize) -> Item {
        Item { verdict, scorer }
    }

    /// Nobody waits for it any more.
    pub(super) fn withdraw(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn add(&self, scorer: usize, score: Score) -> Option<Result<Score, String>> {
        // A panic under the lock leaves nothing half done.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        *said.get_mut(scorer)? = Some(score);
        if !said.iter().all(Option::is_some) {
            return None;
        }
        let scores: Vec<Score> = std::mem::take(&mut *said).into_iter().flatten().collect();
        drop(said);
        let options = self.scorers.iter().map(Pool::options);
        let judges: Vec<_> = options.map(|it| (it.name.as_str(), it.weight)).collect();
        Some(together(&judges, scores))
    }
}

impl Unscored for Item {
    fn write(&self, batch: &mut Vec<u8>) {
        write_json_line(batch, &self.verdict.episode.trajectory);
    }

    fn is_wanted(&self) -> bool {
        !self.verdict.is_over.load(Ordering::Relaxed)
    }

    fn answer(&self, result: Result<Score, String>) {
        let verdict = &*self.verdict;
        let result = match result {
            Ok(score) => match verdict.add(self.scorer, score) {
                Some(whole) => whole,
                None => return,
            },
            // Where one has failed, nobody waits for the others.
            Err(problem) => Err(problem),
        };
        if !verdict.is_over.swap(true, Ordering::Relaxed) {
            let ticket = verdict.episode.ticket;
            verdict.control.send(Input::Scored(Scored { ticket, result }));
        }
    }
}

/// The score that those of several scorers come to, given their names and weights. The reward is the sum of
/// theirs, each times its weight; one that counts and is missing leaves it missing. Of one scorer alone the
/// components are as it names them. Of several each one's reward is a component by its name, and its
/// components are called `NAME/COMPONENT`.
///
/// # Errors
///
/// The sum is not finite.
fn together(judges: &[(&str, f64)], scores: Vec<Score>) -> Result<Score, String> {
    let counting = judges.iter().zip(&scores).filter(|((_, weight), _)| *weight != 0.0);
    let rewards = counting.map(|((_, weight), score)| score.reward.map(|reward| weight * reward));
    let sum = rewards.reduce(|sum, reward| sum.zip(reward).map(|(sum, reward)| sum + reward));
    let reward = sum.flatten();
    if reward.is_some_and(|reward| !reward.is_finite()) {
        return Err("the scorers' rewards, each times its weight, come to no finite number".into());
    }
    let is_alone = judges.len() == 1;
    let mut components = Vec::new();
    for ((name, _), score) in judges.iter().zip(scores) {
        if is_alone {
            components = score.components;
            continue;
        }
        components.extend(score.reward.map(|reward| ((*name).to_owned(), reward)));
        let its = score.components.into_iter();
        components.extend(its.map(|(part, value)| (format!("{name}/{part}"), value)));
    }
    Ok(Score { reward, components })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(reward: Option<f64>, components: &[(&str, f64)]) -> Score {
        let components = components.iter().map(|&(name, value)| (name.to_owned(), value));
        Score { reward, components: components.collect() }
    }

    #[test]
    fn one_scorers_word_stays_as_it_is() {
        let said = score(Some(0.1), &[("b", 1.0), ("a", 2.0)]);
        assert_eq!(together(&[("one", 1.0)], vec![said.clone()]), Ok(said.clone()));
        let halved = score(Some(0.05), &[("b", 1.0), ("a", 2.0)]);
        assert_eq!(together(&[("one", 0.5)], vec![said]), Ok(halved));
        let missing = score(None, &[("a", 2.0)]);
        assert_eq!(together(&[("one", 1.0)], vec![missing.clone()]), Ok(missing));
    }

    #[test]
    fn several_are_added_up_by_their_weights() {
        let judges = [("rules", 2.0), ("judge", -0.5), ("length", 0.0)];
        let rules = || score(Some(1.5), &[("format", 1.0)]);
        let judge = || score(Some(4.0), &[]);
        let whole = together(&judges, vec![rules(), judge(), score(None, &[("steps", 7.0)])]);
        let parts = [("rules", 1.5), ("rules/format", 1.0), ("judge", 4.0), ("length/steps", 7.0)];
        assert_eq!(whole, Ok(score(Some(1.0), &parts)), "what has the weight 0 does not count");
        let whole = together(&judges, vec![rules(), score(None, &[]), score(Some(9.0), &[])]);
        let parts = [("rules", 1.5), ("rules/format", 1.0), ("length", 9.0)];
        assert_eq!(whole, Ok(score(None, &parts)), "what is missing is not zero");
    }

    #[test]
    fn what_counts_nowhere_is_no_reward() {
        assert_eq!(together(&[("a", 0.0)], vec![score(Some(1.0), &[])]), Ok(Score::default()));
    }

    #[test]
    fn what_is_not_finite_is_said() {
        let scores = vec![score(Some(1e308), &[]), score(Some(1e308), &[])];
        let error = together(&[("a", 1.0), ("b", 1.0)], scores).unwrap_err();
        assert!(error.contains("no finite number"), "{error}");
    }
}
