//! Prompts as continuations: a generation keeps of its prompt what its base does not have already.
//!
//! In an episode of many turns each prompt begins with the one before it and what was sampled then. Kept
//! whole, prompts would take the square of the conversation's length. A generation's *base* is the one
//! that its `parent` names; where it names none, the one before it. Its prompt begins with
//! `prompt_shared` ids of the base's prompt and sampled ids, and `prompt_token_ids` is the rest.

use std::ops::Range;

use crate::Generated;

/// Why a generation's prompt cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImpossiblePrompt {
    /// The parent is not earlier, or it is the first and names none.
    #[error(
        "generation {index} shares the first {shared} ids of its prompt, and there is no earlier one that \
         it could share them with"
    )]
    NoBase {
        /// The generation's index.
        index: usize,
        /// Its `prompt_shared`.
        shared: u32,
    },
    /// It shares more than there is.
    #[error(
        "generation {index} shares the first {shared} ids of its prompt with generation {base}, which has \
         {length}"
    )]
    TooMany {
        /// The generation's index.
        index: usize,
        /// Its `prompt_shared`.
        shared: u32,
        /// Its base's index.
        base: usize,
        /// Ids of the base, prompt and sampled ones together.
        length: usize,
    },
    /// The prompt's length does not fit 32 bits.
    #[error("generation {index} has a prompt of {length} ids, and at most {most} can be counted", most = u32::MAX)]
    TooLong {
        /// The generation's index.
        index: usize,
        /// Ids of its prompt.
        length: usize,
    },
}

/// The whole prompt of a generation, put together from those before it. Empty if there is no such
/// generation. Costs about a copy of the prompt.
///
/// Of generations that [`check_prompts`] refuses, ids that are nowhere are left out.
#[must_use]
pub fn whole_prompt(generations: &[Generated], index: usize) -> Vec<u32> {
    let length = generations.get(index).map_or(0, Generated::prompt_len);
    pieces(generations, index, 0..length).concat()
}

/// Shortens a generation's prompt to what its base does not have; `earlier` are those before it. What is
/// shared already stays so, and the prompt stays the same.
///
/// # Errors
///
/// It shares what is not there; nothing has changed then.
pub fn shorten_prompt(
    earlier: &[Generated],
    generated: &mut Generated,
) -> Result<(), ImpossiblePrompt> {
    check(earlier, generated)?;
    if generated.prompt_token_ids.is_empty() {
        return Ok(());
    }
    let Some(base) = base(earlier.len(), generated.parent) else { return Ok(()) };
    let from = generated.prompt_shared as usize;
    let more = agreement(earlier, base, from, &generated.prompt_token_ids);
    if more > 0 {
        // A list of its own: what is cut off is not to be held any longer.
        generated.prompt_token_ids = generated.prompt_token_ids[more..].to_vec();
        generated.prompt_shared = u32::try_from(from + more).unwrap_or(u32::MAX);
    }
    Ok(())
}

/// Shortens the prompts of an episode's generations, in order.
///
/// # Errors
///
/// As [`shorten_prompt`], at the first that shares what is not there.
pub fn shorten_prompts(generations: &mut [Generated]) -> Result<(), ImpossiblePrompt> {
    for index in 0..generations.len() {
        let (earlier, rest) = generations.split_at_mut(index);
        shorten_prompt(earlier, &mut rest[0])?;
    }
    Ok(())
}

/// Whether all prompts of an episode's generations can be put together.
///
/// # Errors
///
/// The first that cannot.
pub fn check_prompts(generations: &[Generated]) -> Result<(), ImpossiblePrompt> {
    generations.iter().enumerate().try_for_each(|(index, it)| check(&generations[..index], it))
}

fn check(earlier: &[Generated], it: &Generated) -> Result<(), ImpossiblePrompt> {
    let (index, shared) = (earlier.len(), it.prompt_shared);
    let length = it.prompt_len();
    if u32::try_from(length).is_err() {
        return Err(ImpossiblePrompt::TooLong { index, length });
    }
    match base(index, it.parent) {
        _ if shared == 0 => Ok(()),
        None => Err(ImpossiblePrompt::NoBase { index, shared }),
        Some(base) => match earlier[base].length() {
            length if shared as usize <= length => Ok(()),
            length => Err(ImpossiblePrompt::TooMany { index, shared, base, length }),
        },
    }
}

/// The index of the generation that the one at `index` shares its prompt's beginning with.
pub(super) fn base(index: usize, parent: Option<u32>) -> Option<usize> {
    match parent {
        Some(named) => Some(named as usize).filter(|named| *named < index),
        None => index.checked_sub(1),
    }
}

/// The ids at a range of a generation's prompt and sampled ids, in order, where they lie. Costs a look at
/// each generation that they lie in.
pub(super) fn pieces(generations: &[Generated], index: usize, range: Range<usize>) -> Vec<&[u32]> {
    let mut pieces = Vec::new();
    let (mut next, mut end) = (Some(index), range.end);
    while let Some((at, it)) = next.and_then(|at| Some((at, generations.get(at)?))) {
        let (shared, prompt) = (it.prompt_shared as usize, it.prompt_len());
        for (begin, ids) in [(prompt, &it.token_ids), (shared, &it.prompt_token_ids)] {
            end = end.min(begin + ids.len());
            let from = range.start.max(begin);
            if from < end {
                pieces.push(&ids[from - begin..end - begin]);
            }
            end = end.min(begin);
        }
        if end <= range.start {
            break;
        }
        next = base(at, it.parent);
    }
    pieces.reverse();
    pieces
}

/// How many ids of `ids` are those of a generation's prompt and sampled ids, from one on.
pub(super) fn agreement(
    generations: &[Generated],
    index: usize,
    from: usize,
    ids: &[u32],
) -> usize {
    let there = pieces(generations, index, from..from + ids.len());
    common(&there, &[ids])
}

/// How many ids two lists of pieces have in common at their beginning.
pub(super) fn common(left: &[&[u32]], right: &[&[u32]]) -> usize {
    /// So many are compared at once.
    const STRIDE: usize = 64;
    let (mut lefts, mut rights) = (left.iter().copied(), right.iter().copied());
    let (mut left, mut right): (&[u32], &[u32]) = (&[], &[]);
    let mut sum = 0;
    loop {
        if left.is_empty() {
            let Some(next) = lefts.next() else { return sum };
            left = next;
            continue;
        }
        if right.is_empty() {
            let Some(next) = rights.next() else { return sum };
            right = next;
            continue;
        }
        let most = left.len().min(right.len());
        let (this, that) = (&left[..most], &right[..most]);
        let strides = this.chunks_exact(STRIDE).zip(that.chunks_exact(STRIDE));
        let begin = strides.take_while(|(this, that)| this == that).count() * STRIDE;
        let ones = this[begin..].iter().zip(&that[begin..]);
        let same = begin + ones.take_while(|(this, that)| this == that).count();
        sum += same;
        if same < most {
            return sum;
        }
        (left, right) = (&left[most..], &right[most..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(prompt: &[u32], sampled: &[u32], parent: Option<u32>) -> Generated {
        Generated {
            prompt_token_ids: prompt.to_vec(),
            token_ids: sampled.to_vec(),
            parent,
            ..Generated::default()
        }
    }

    #[test]
    fn a_prompt_keeps_what_its_base_does_not_have() {
        let mut generations = vec![
            generated(&[1, 2], &[3], None),
            // Continues the one before.
            generated(&[1, 2, 3, 4], &[5, 6], None),
            // Was rendered anew in the midst of what was sampled.
            generated(&[1, 2, 3, 4, 5, 9], &[7], None),
            // Goes back to the first.
            generated(&[1, 2, 3, 8], &[9], Some(0)),
            generated(&[1, 2, 3, 8], &[], None),
            generated(&[7], &[], None),
        ];
        let whole: Vec<_> = generations.iter().map(|it| it.prompt_token_ids.clone()).collect();
        shorten_prompts(&mut generations).unwrap();
        let kept: Vec<_> =
            generations.iter().map(|it| (it.prompt_shared, it.prompt_token_ids.clone())).collect();
        let expected: [(u32, &[u32]); 6] =
            [(0, &[1, 2]), (3, &[4]), (5, &[9]), (3, &[8]), (4, &[]), (0, &[7])];
        assert_eq!(kept, expected.map(|(shared, rest)| (shared, rest.to_vec())));
        for (index, whole) in whole.iter().enumerate() {
            assert_eq!(&whole_prompt(&generations, index), whole);
        }
        assert!(whole_prompt(&generations, 6).is_empty());
    }

    #[test]
    fn an_episode_of_many_turns_takes_what_its_conversation_takes() {
        let mut generations = Vec::new();
        let mut said = vec![0; 10];
        for turn in 0..100 {
            let mut next = generated(&said, &[turn; 300], turn.checked_sub(1));
            shorten_prompt(&generations, &mut next).unwrap();
            generations.push(next);
            said.extend([turn; 300]);
            said.extend([turn + 1000; 20]);
        }
        let kept: usize = generations.iter().map(|it| it.prompt_token_ids.len()).sum();
        assert_eq!(kept, 10 + 99 * 20);
        assert_eq!(whole_prompt(&generations, 99), said[..said.len() - 320]);
    }

    #[test]
    fn what_is_not_there_cannot_be_shared() {
        let shares =
            |shared, parent| Generated { prompt_shared: shared, ..generated(&[5], &[6], parent) };
        let first = generated(&[1, 2], &[3], None);
        let of = |it: Generated| check_prompts(&[first.clone(), it]);
        assert_eq!(of(shares(3, None)), Ok(()));
        assert_eq!(of(shares(3, Some(0))), Ok(()));
        assert_eq!(
            of(shares(4, None)),
            Err(ImpossiblePrompt::TooMany { index: 1, shared: 4, base: 0, length: 3 })
        );
        for parent in [1, 2, u32::MAX] {
            let none = ImpossiblePrompt::NoBase { index: 1, shared: 1 };
            assert_eq!(of(shares(1, Some(parent))), Err(none));
            assert_eq!(of(shares(0, Some(parent))), Ok(()));
        }
        assert_eq!(
            check_prompts(&[shares(1, None)]),
            Err(ImpossiblePrompt::NoBase { index: 0, shared: 1 })
        );
        assert_eq!(
            of(shares(u32::MAX, None)),
            Err(ImpossiblePrompt::TooLong { index: 1, length: u32::MAX as usize + 1 })
        );
        // Nothing of it panics.
        let mut odd = shares(u32::MAX, None);
        assert!(shorten_prompt(std::slice::from_ref(&first), &mut odd).is_err());
        assert_eq!(whole_prompt(&[first, odd], 1), [1, 2, 3, 5]);
    }
}
