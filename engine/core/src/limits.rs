//! Where an episode is cut short: at the job's number of steps, at the memory that it may take, and where
//! the episodes under way hold too much memory together. Not every environment ends its episodes.

use envmill_protocol::{
    Failure, FailureKind, Generated, Observed, Spoken,
    record::{ImpossiblePrompt, Step, Truncation, shorten_prompt},
};

use crate::{Core, episode::EpisodeKey};

/// Each time that an episode has grown by so many bytes, it is compared with all the others.
const LOOK_EVERY: u64 = 4 << 20;

/// Why what was generated for an episode is not added to it.
pub(crate) enum NotTaken {
    /// The episode would take more memory than it may.
    TooLarge,
    /// A prompt cannot be put together.
    Impossible(ImpossiblePrompt),
}

impl Core {
    /// Adds steps to what was played of an episode, and tells what cuts it short, if anything does. What
    /// follows that is not kept.
    pub(crate) fn take_steps(
        &mut self,
        key: EpisodeKey,
        steps: impl IntoIterator<Item = Step>,
    ) -> Option<Truncation> {
        for step in steps {
            if !self.takes(key, step.bytes()) {
                return Some(Truncation::EpisodeBytes);
            }
            self.episode(key)?.play.steps.push(step);
        }
        let episode = self.episodes[key.0 as usize].as_mut()?;
        let play = &mut episode.play;
        let options = &self.jobs[episode.job].options;
        if options.max_steps.is_some_and(|most| play.steps.len() >= most as usize) {
            return Some(Truncation::MaxSteps);
        }
        let is_due = std::mem::replace(&mut play.is_to_be_compared, false);
        let (bytes, has_reserved) = (play.bytes, options.episode_bytes_max.is_some());
        let is_cut = is_due && !has_reserved && self.is_one_too_large(bytes);
        is_cut.then_some(Truncation::MaxBytes)
    }

    /// Adds what was generated for an episode's next step. From here on prompts are kept as what they add
    /// to the generations before them. All is added, or nothing.
    pub(crate) fn take_generations(
        &mut self,
        key: EpisodeKey,
        generated: Vec<Generated>,
    ) -> Result<(), NotTaken> {
        let Some(episode) = self.episode(key) else { return Ok(()) };
        let play = &mut episode.play;
        let (before, step) = (play.generations.len(), u32::try_from(play.steps.len()).ok());
        for mut it in generated {
            it.step = it.step.or(step);
            if let Err(impossible) = shorten_prompt(&play.generations, &mut it) {
                play.generations.truncate(before);
                return Err(NotTaken::Impossible(impossible));
            }
            play.generations.push(it);
        }
        let bytes = play.generations[before..].iter().map(Generated::bytes).sum();
        if self.takes(key, bytes) {
            return Ok(());
        }
        if let Some(episode) = self.episode(key) {
            episode.play.generations.truncate(before);
        }
        Err(NotTaken::TooLarge)
    }

    /// Adds to an episode's messages. False if it is too large for that, and nothing was added.
    pub(crate) fn take_spoken(&mut self, key: EpisodeKey, spoken: Spoken) -> bool {
        let Spoken { messages, sampling } = spoken;
        if !self.takes(key, messages.len() as u64) {
            return false;
        }
        let Some(episode) = self.episode(key) else { return true };
        let play = &mut episode.play;
        if !messages.is_empty() {
            play.messages.push(if play.messages.is_empty() { b'[' } else { b',' });
            play.messages.extend_from_slice(&messages);
        }
        if !sampling.is_empty() {
            play.sampling = sampling;
        }
        true
    }

    /// Adds the first observation to an episode. It fails if that is too large.
    pub(crate) fn take_first(&mut self, key: EpisodeKey, observed: Observed) -> Option<Failure> {
        let bytes = observed.bytes();
        if self.takes(key, bytes) {
            self.episode(key)?.play.reset = Some(observed);
            return None;
        }
        let job = self.episode(key)?.job;
        let most = self.jobs[job].options.episode_bytes_max.unwrap_or(u64::MAX);
        let message = format!(
            "the first observation takes {bytes} bytes, and an episode may take {most} \
             (`episode_bytes_max`)"
        );
        Some(Failure::kept(FailureKind::Limit, message))
    }

    /// Counts so many bytes more to what was played of an episode. False if that is more than it may take,
    /// and nothing was counted.
    fn takes(&mut self, key: EpisodeKey, bytes: u64) -> bool {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return false };
        let play = &mut episode.play;
        let sum = play.bytes.saturating_add(bytes);
        let most = self.jobs[episode.job].options.episode_bytes_max;
        if most.is_some_and(|most| sum > most) {
            return false;
        }
        play.is_to_be_compared |= play.bytes / LOOK_EVERY < sum / LOOK_EVERY;
        play.bytes = sum;
        true
    }

    /// Whether everything together takes too much memory, and an episode of so many bytes, for which
    /// nothing is reserved, no less than its share of what such episodes take.
    fn is_one_too_large(&self, bytes: u64) -> bool {
        let has_reserved = |job: usize| self.jobs[job].options.episode_bytes_max.is_some();
        let others = self.episodes.iter().flatten().filter(|it| !has_reserved(it.job));
        let held = others.map(|episode| episode.play.bytes).filter(|&bytes| bytes > 0);
        let (sum, count) = held.fold((0, 0), |(sum, count), bytes| (sum + bytes, count + 1));
        self.reserved() + sum > self.options.steps_bytes_max && bytes.saturating_mul(count) >= sum
    }
}
