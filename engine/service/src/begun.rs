//! Attempts that have begun at episodes without a record: what a later life of the engine tells of them.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use envmill_protocol::{Trajectory, record::Attempt};
use prost::Message as _;

/// The name of the note that they are in.
const NOTE: &str = "begun";
/// Up to so many go into the journal with its next batch. More are written down once a second: they are those
/// of short episodes, of which a kill takes many that have just begun.
const AT_ONCE_MAX: usize = 256;

/// Attempts at a job's episodes that have no record yet.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// How many there were at each episode, in all lives.
    attempts: BTreeMap<u64, u32>,
    /// How many of these were in earlier lives.
    earlier: HashMap<u64, u32>,
    is_dirty: bool,
    is_due: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Note {
    /// The episodes, each as often as attempts at it have begun.
    #[prost(uint64, repeated, tag = "1")]
    episodes: Vec<u64>,
}

impl Begun {
    /// As the journal's notes have them, but for episodes that are recorded.
    pub(crate) fn restored(
        notes: &BTreeMap<String, Bytes>,
        is_recorded: impl Fn(u64) -> bool,
    ) -> Result<Self, prost::DecodeError> {
        let note = notes.get(NOTE).cloned().map(Note::decode).transpose()?.unwrap_or_default();
        let mut begun = Self::default();
        for episode in note.episodes.into_iter().filter(|it| !is_recorded(*it)) {
            begun.count(episode);
        }
        begun.earlier = begun.attempts.iter().map(|(&episode, &count)| (episode, count)).collect();
        Ok(begun)
    }

    fn count(&mut self, episode: u64) {
        let count = self.attempts.entry(episode).or_default();
        *count = count.saturating_add(1);
    }

    /// Attempts at these episodes begin.
    pub(crate) fn add(&mut self, episodes: &[u64]) {
        episodes.iter().for_each(|it| self.count(*it));
        self.is_dirty |= !episodes.is_empty();
    }

    /// An episode is recorded: its record has the attempts of earlier lives before its own.
    pub(crate) fn complete(&mut self, episode: u64, trajectory: &mut Trajectory) {
        self.is_dirty |= self.attempts.remove(&episode).is_some();
        let earlier = self.earlier.remove(&episode).unwrap_or(0);
        let interrupted = || Attempt {
            server: String::new(),
            started_us: 0,
            ended_us: 0,
            steps: 0,
            cause: "interrupted".into(),
            message: "the engine ended before the episode was recorded".into(),
        };
        trajectory.attempts.splice(0..0, (0..earlier).map(|_| interrupted()));
    }

    /// A second has passed.
    pub(crate) const fn tick(&mut self) {
        self.is_due = true;
    }

    /// What the journal has to be told.
    pub(crate) fn take_note(&mut self) -> Option<(String, Bytes)> {
        let is_due = std::mem::take(&mut self.is_due) || self.attempts.len() <= AT_ONCE_MAX;
        if !self.is_dirty || !is_due {
            return None;
        }
        self.is_dirty = false;
        let each = |(&episode, &count): (&u64, &u32)| (0..count).map(move |_| episode);
        let note = Note { episodes: self.attempts.iter().flat_map(each).collect() };
        Some((NOTE.into(), note.encode_to_vec().into()))
    }
}

#[cfg(test)]
mod tests {
    use envmill_protocol::record::End;

    use super::*;

    fn causes(begun: &mut Begun, episode: u64) -> Vec<String> {
        let mut it = Trajectory::bare(String::new(), End::Completed { mapped: true });
        it.attempts = vec![Attempt {
            server: "s".into(),
            started_us: 1,
            ended_us: 2,
            steps: 3,
            cause: String::new(),
            message: String::new(),
        }];
        begun.complete(episode, &mut it);
        it.attempts.into_iter().map(|it| it.cause).collect()
    }

    fn again(begun: &mut Begun) -> Begun {
        let notes: BTreeMap<_, _> = begun.take_note().into_iter().collect();
        Begun::restored(&notes, |episode| episode == 9).unwrap()
    }

    #[test]
    fn attempts_of_earlier_lives_come_before_those_of_this_one() {
        let mut first = Begun::default();
        first.add(&[3, 4, 9, 3]);
        assert_eq!(causes(&mut first, 4), [""]);
        let mut second = again(&mut first);
        assert_eq!(causes(&mut second, 9), [""], "it was recorded before");
        second.add(&[3, 5]);
        let mut third = again(&mut second);
        assert_eq!(causes(&mut third, 3), ["interrupted", "interrupted", "interrupted", ""]);
        assert_eq!(causes(&mut third, 5), ["interrupted", ""]);
        assert_eq!(causes(&mut third, 5), [""], "they are told once");
        assert!(again(&mut third).attempts.is_empty());
    }

    #[test]
    fn many_are_written_down_once_a_second() {
        let mut begun = Begun::default();
        assert_eq!(begun.take_note(), None, "nothing has changed");
        begun.add(&(0..1000).collect::<Vec<_>>());
        assert_eq!(begun.take_note(), None);
        begun.tick();
        assert!(begun.take_note().is_some());
        begun.tick();
        assert_eq!(begun.take_note(), None, "it is written down");
    }

    #[test]
    fn a_note_that_is_none_is_refused() {
        let notes = BTreeMap::from([(NOTE.to_owned(), Bytes::from_static(b"\xff"))]);
        assert!(Begun::restored(&notes, |_| false).is_err());
    }
}
