//! What a language model's calls of one episode are together: a tree of conversations, and the tokens of
//! the one that led to the episode's end.

use crate::{
    Generated, GeneratedKind, VersionSpan,
    record::{Tokens, TurnSpan},
};

/// The conversation that an episode ended with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// Its tokens.
    pub tokens: Tokens,
    /// Spans of them: what was sampled, and what it was an answer to.
    pub turns: Vec<TurnSpan>,
    /// Which branch of the episode's tree it is; 0 is the first.
    pub branch: u32,
    /// The branch that it forked from.
    pub parent_branch: Option<u32>,
}

impl Conversation {
    /// The conversation that the agent's last generation ends. Nothing is tokenised for it: it is that
    /// generation's prompt and tokens, and of earlier ones those that it continues *token by token*.
    ///
    /// A generation continues the one that it names as its parent, or, where it names none, the last one
    /// of which its prompt is a continuation. Where the named parent's tokens are not the prompt's
    /// beginning, it begins a branch of its own.
    #[must_use]
    pub fn of(generations: &[Generated]) -> Self {
        let plays = |it: &Generated| it.kind == GeneratedKind::Agent && !it.token_ids.is_empty();
        let Some(last) = generations.iter().rposition(plays) else { return Self::default() };
        let parents: Vec<_> = (0..=last).map(|it| parent(generations, it)).collect();
        let (branch, parent_branch) = branch(generations, &parents, last);
        let mut chain = vec![last];
        while let Some(earlier) = parents[chain[chain.len() - 1]] {
            chain.push(earlier);
        }
        chain.reverse();
        let (tokens, turns) = tokens(chain.iter().map(|it| &generations[*it]));
        Self { tokens, turns, branch, parent_branch }
    }
}

/// The generation that this one continues, if it does.
fn parent(generations: &[Generated], index: usize) -> Option<usize> {
    let it = &generations[index];
    let continues = |earlier: usize| {
        let earlier = &generations[earlier];
        let (prompt, sampled) = (&earlier.prompt_token_ids, &earlier.token_ids);
        let rest = it.prompt_token_ids.strip_prefix(&prompt[..]);
        !sampled.is_empty() && rest.is_some_and(|rest| rest.starts_with(sampled))
    };
    match it.parent {
        Some(named) => Some(named as usize).filter(|named| *named < index && continues(*named)),
        None => (0..index)
            .rev()
            .find(|it| generations[*it].kind == GeneratedKind::Agent && continues(*it)),
    }
}

/// The branch of a generation, and the branch that that one forked from.
fn branch(generations: &[Generated], parents: &[Option<usize>], last: usize) -> (u32, Option<u32>) {
    let mut of: Vec<(u32, Option<u32>)> = Vec::with_capacity(last + 1);
    let mut continued = vec![false; last + 1];
    let mut next = 0;
    for index in 0..=last {
        let same = match parents[index] {
            Some(parent) if !continued[parent] => {
                // A side call takes nobody's place.
                continued[parent] = generations[index].kind == GeneratedKind::Agent;
                Some(of[parent])
            }
            _ => None,
        };
        of.push(same.unwrap_or_else(|| {
            // One that re-renders what was said names the generation that it tells anew.
            let from = parents[index].or(generations[index].parent.map(|it| it as usize));
            let from = from.and_then(|it| of.get(it)).map(|it| it.0);
            let new = (next, from);
            if generations[index].kind == GeneratedKind::Agent {
                next += 1;
            }
            new
        }));
    }
    of[last]
}

/// The tokens of generations of which each continues the one before.
fn tokens<'a>(chain: impl Iterator<Item = &'a Generated>) -> (Tokens, Vec<TurnSpan>) {
    let mut tokens = Tokens::default();
    let mut turns = Vec::new();
    let (mut has_logprobs, mut has_versions) = (true, true);
    for it in chain {
        let begin = tokens.token_ids.len();
        let given = &it.prompt_token_ids[begin..];
        let (start, end) =
            (it.prompt_token_ids.len(), it.prompt_token_ids.len() + it.token_ids.len());
        if begin == 0 {
            tokens.prompt_len = count(start);
        }
        tokens.token_ids.extend_from_slice(given);
        tokens.token_ids.extend_from_slice(&it.token_ids);
        tokens.loss_mask.resize(start, 0);
        if it.loss_mask.len() == it.token_ids.len() {
            tokens.loss_mask.extend_from_slice(&it.loss_mask);
        } else {
            tokens.loss_mask.resize(end, 1);
        }
        has_logprobs &= it.logprobs.len() == it.token_ids.len();
        tokens.logprobs.resize(start, 0.0);
        tokens.logprobs.extend_from_slice(&it.logprobs);
        tokens.logprobs.resize(end, 0.0);
        let covered: usize = it.policy_versions.iter().map(|it| it.tokens as usize).sum();
        has_versions &= covered == it.token_ids.len();
        if let Some(first) = it.policy_versions.first() {
            VersionSpan::add(&mut tokens.policy_versions, first.version, count(given.len()));
        }
        for it in &it.policy_versions {
            VersionSpan::add(&mut tokens.policy_versions, it.version, it.tokens);
        }
        turns.push(turn("user", begin, start));
        turns.push(turn("assistant", start, end));
    }
    if !has_logprobs {
        tokens.logprobs.clear();
    }
    if !has_versions {
        tokens.policy_versions.clear();
    }
    turns.retain(|it| it.start < it.end);
    (tokens, turns)
}

fn turn(role: &str, start: usize, end: usize) -> TurnSpan {
    TurnSpan {
        role: role.to_owned(),
        start: count(start),
        end: count(end),
        tool: String::new(),
        finish_reason: String::new(),
        generation_us: 0,
        environment_us: 0,
        queue_us: 0,
    }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use crate::PolicyVersion;

    use super::*;

    fn generated(prompt: &[u32], sampled: &[u32], version: u64) -> Generated {
        Generated {
            prompt_token_ids: prompt.to_vec(),
            token_ids: sampled.to_vec(),
            logprobs: vec![-0.5; sampled.len()],
            loss_mask: vec![1; sampled.len()],
            policy_versions: vec![VersionSpan {
                version: PolicyVersion(version),
                tokens: count(sampled.len()),
            }],
            parent: None,
            kind: GeneratedKind::Agent,
        }
    }

    #[test]
    fn turns_that_continue_each_other_are_one_conversation() {
        let mut second = generated(&[1, 2, 3, 4, 9], &[5], 8);
        second.loss_mask = vec![0];
        let it = Conversation::of(&[generated(&[1, 2], &[3, 4], 7), second]);
        assert_eq!(it.tokens.token_ids, [1, 2, 3, 4, 9, 5]);
        assert_eq!(it.tokens.prompt_len, 2);
        assert_eq!(it.tokens.loss_mask, [0, 0, 1, 1, 0, 0]);
        assert_eq!(it.tokens.logprobs, [0.0, 0.0, -0.5, -0.5, 0.0, -0.5]);
        let versions: Vec<_> =
            it.tokens.policy_versions.iter().map(|it| (it.version.0, it.tokens)).collect();
        assert_eq!(versions, [(7, 4), (8, 2)]);
        let turns: Vec<_> = it.turns.iter().map(|it| (&it.role[..], it.start, it.end)).collect();
        assert_eq!(
            turns,
            [("user", 0, 2), ("assistant", 2, 4), ("user", 4, 5), ("assistant", 5, 6)]
        );
        assert_eq!((it.branch, it.parent_branch), (0, None));
    }

    #[test]
    fn what_was_told_anew_is_another_branch() {
        let first = generated(&[1, 2], &[3, 4], 0);
        let told_anew = Generated { parent: Some(0), ..generated(&[1, 2, 30, 9], &[5], 0) };
        let after = Generated { parent: Some(1), ..generated(&[1, 2, 30, 9, 5, 9], &[6], 0) };
        let it = Conversation::of(&[first, told_anew, after]);
        assert_eq!(it.tokens.token_ids, [1, 2, 30, 9, 5, 9, 6]);
        assert_eq!(it.tokens.loss_mask, [0, 0, 0, 0, 1, 0, 1]);
        assert_eq!((it.branch, it.parent_branch), (1, Some(0)));
    }

    #[test]
    fn two_answers_to_the_same_are_two_branches() {
        let discarded =
            Generated { kind: GeneratedKind::Discarded, ..generated(&[1, 2], &[8, 8], 0) };
        let aside = Generated { kind: GeneratedKind::Auxiliary, ..generated(&[1, 2, 3], &[8], 0) };
        let all =
            [discarded, generated(&[1, 2], &[3], 0), aside, generated(&[1, 2, 3, 9], &[4], 0)];
        let it = Conversation::of(&all);
        assert_eq!(it.tokens.token_ids, [1, 2, 3, 9, 4]);
        assert_eq!(it.branch, 0);
        let all = [
            generated(&[1], &[2], 0),
            generated(&[1, 2, 9], &[3], 0),
            generated(&[1, 2, 7], &[4], 0),
        ];
        let it = Conversation::of(&all);
        assert_eq!(it.tokens.token_ids, [1, 2, 7, 4]);
        assert_eq!((it.branch, it.parent_branch), (1, Some(0)));
    }

    #[test]
    fn what_is_unknown_stays_unknown() {
        let mut odd = generated(&[1, 2], &[3, 4], 0);
        odd.logprobs.clear();
        odd.policy_versions.clear();
        odd.loss_mask.clear();
        let it = Conversation::of(&[odd]);
        assert!(it.tokens.logprobs.is_empty());
        assert!(it.tokens.policy_versions.is_empty());
        assert_eq!(it.tokens.loss_mask, [0, 0, 1, 1]);
        assert_eq!(Conversation::of(&[]), Conversation::default());
        // The version alone is known.
        let bare = Generated {
            policy_versions: vec![VersionSpan { version: PolicyVersion(3), tokens: 0 }],
            ..Generated::default()
        };
        assert_eq!(Conversation::of(&[bare]), Conversation::default());
        // Parents that cannot be are none.
        let odd = Generated { parent: Some(7), ..generated(&[1], &[2], 0) };
        assert_eq!(Conversation::of(&[odd]).tokens.token_ids, [1, 2]);
    }
}
