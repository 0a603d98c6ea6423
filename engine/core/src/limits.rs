//! Where an episode is cut short: at the job's number of steps, and where the episodes under way hold
//! too much memory together. Not every environment ends its episodes.

use envmill_protocol::record::{Step, Truncation};

use crate::{Core, episode::EpisodeKey};

/// Each time that an episode has grown by so many bytes, it is compared with all the others.
const LOOK_EVERY: u64 = 4 << 20;

impl Core {
    /// Adds steps to what was played of an episode, and tells what cuts it short, if anything does.
    pub(crate) fn take_steps(
        &mut self,
        key: EpisodeKey,
        steps: impl IntoIterator<Item = Step>,
    ) -> Option<Truncation> {
        let episode = self.episodes[key.0 as usize].as_mut()?;
        let play = &mut episode.play;
        let before = play.bytes;
        for step in steps {
            play.bytes += step.bytes();
            play.steps.push(step);
        }
        let max_steps = self.jobs[episode.job].options.max_steps;
        if max_steps.is_some_and(|most| play.steps.len() >= most as usize) {
            return Some(Truncation::MaxSteps);
        }
        let is_due = before / LOOK_EVERY < play.bytes / LOOK_EVERY;
        let bytes = play.bytes;
        (is_due && self.is_one_too_large(bytes)).then_some(Truncation::MaxBytes)
    }

    /// Whether all steps together take too much memory, and an episode of so many bytes no less than
    /// its share of it.
    fn is_one_too_large(&self, bytes: u64) -> bool {
        let held = self.episodes.iter().flatten().map(|episode| episode.play.bytes);
        let (sum, count) = held
            .filter(|&bytes| bytes > 0)
            .fold((0, 0), |(sum, count), bytes| (sum + bytes, count + 1));
        sum > self.options.steps_bytes_max && bytes.saturating_mul(count) >= sum
    }
}
