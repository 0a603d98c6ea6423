//! What a language model's calls of one episode are together: a tree of conversations, and the tokens of
//! the one that led to the episode's end.

use crate::{
    Generated, GeneratedKind, VersionSpan,
    record::{
        Step, Tokens, TurnSpan,
        prompts::{agreement, base, common, pieces},
    },
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
    ///
    /// `steps` are the episode's: where a generation says which step its action became, what it was told
    /// then is a span that says how long the environment took for it. Costs what the generations' ids
    /// take, and for each that names no parent a look at all before it.
    #[must_use]
    pub fn of(generations: &[Generated], steps: &[Step]) -> Self {
        let plays = |it: &Generated| it.kind == GeneratedKind::Agent && !it.token_ids.is_empty();
        let Some(last) = generations.iter().rposition(plays) else { return Self::default() };
        let parents = parents(&generations[..=last]);
        let (branch, parent_branch) = branch(generations, &parents, last);
        let mut chain = vec![last];
        while let Some(earlier) = parents[chain[chain.len() - 1]] {
            chain.push(earlier);
        }
        chain.reverse();
        let tokens = tokens(generations, &chain);
        let turns = turns(chain.iter().map(|it| &generations[*it]), steps);
        Self { tokens, turns, branch, parent_branch }
    }
}

/// The generation that each one continues, if it does.
fn parents(generations: &[Generated]) -> Vec<Option<usize>> {
    // How far each prompt agrees with its base: what is kept may say less than is so.
    let shared: Vec<usize> = generations
        .iter()
        .enumerate()
        .map(|(index, it)| {
            let shared = it.prompt_shared as usize;
            let Some(base) = base(index, it.parent) else { return shared };
            shared + agreement(generations, base, shared, &it.prompt_token_ids)
        })
        .collect();
    let continues = |index: usize| match generations[index].parent {
        Some(_) => base(index, generations[index].parent)
            .filter(|base| is_whole_of(&generations[*base], shared[index])),
        None => continued(generations, &shared, index),
    };
    (0..generations.len()).map(continues).collect()
}

/// The last generation of which the prompt of one without a parent is a continuation. How far the prompt
/// agrees with its base is known, how far that agrees with its own, and so on: ids are compared only where
/// these are the same.
fn continued(generations: &[Generated], shared: &[usize], index: usize) -> Option<usize> {
    let prompt = generations[index].prompt_len();
    let rest = |from| pieces(generations, index, from..prompt);
    let mut known = base(index, None).map(|base| (base, shared[index]));
    for earlier in (0..index).rev() {
        let it = &generations[earlier];
        let agrees = match known {
            Some((at, agrees)) if at == earlier => {
                known = base(at, it.parent).map(|base| {
                    let mut both = shared[at];
                    if both == it.prompt_len() {
                        both += agreement(generations, base, both, &it.token_ids);
                    }
                    let with_base = if agrees == both {
                        let there = pieces(generations, base, both..prompt);
                        both + common(&there, &rest(both))
                    } else {
                        agrees.min(both)
                    };
                    (base, with_base)
                });
                agrees
            }
            _ if it.kind == GeneratedKind::Agent && it.length() <= prompt => {
                common(&pieces(generations, earlier, 0..it.length()), &rest(0))
            }
            _ => continue,
        };
        if it.kind == GeneratedKind::Agent && is_whole_of(it, agrees) {
            return Some(earlier);
        }
    }
    None
}

/// Whether so many ids are all of a generation's, and it has sampled any.
fn is_whole_of(generated: &Generated, ids: usize) -> bool {
    !generated.token_ids.is_empty() && ids >= generated.length()
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
fn tokens(generations: &[Generated], chain: &[usize]) -> Tokens {
    let mut tokens = Tokens::default();
    let (mut has_logprobs, mut has_versions) = (true, true);
    for index in chain {
        let it = &generations[*index];
        let begin = tokens.token_ids.len();
        let (start, end) = (it.prompt_len(), it.length());
        if begin == 0 {
            tokens.prompt_len = count(start);
        }
        for piece in pieces(generations, *index, begin..end) {
            tokens.token_ids.extend_from_slice(piece);
        }
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
            VersionSpan::add(&mut tokens.policy_versions, first.version, count(start - begin));
        }
        for it in &it.policy_versions {
            VersionSpan::add(&mut tokens.policy_versions, it.version, it.tokens);
        }
    }
    if !has_logprobs {
        tokens.logprobs.clear();
    }
    if !has_versions {
        tokens.policy_versions.clear();
    }
    tokens
}

/// The same as spans: what was said to the model, and what it said.
fn turns<'a>(chain: impl Iterator<Item = &'a Generated>, steps: &[Step]) -> Vec<TurnSpan> {
    let mut turns = Vec::new();
    let mut before: Option<&Generated> = None;
    for it in chain {
        let begin = before.map_or(0, Generated::length);
        let tool = before.map_or("", |before| &before.tool);
        let from = before.map_or(Some(0), |before| before.step);
        turns.push(TurnSpan {
            role: if tool.is_empty() { "user" } else { "tool" }.to_owned(),
            start: count(begin),
            end: count(it.prompt_len()),
            tool: tool.to_owned(),
            finish_reason: String::new(),
            generation_us: 0,
            environment_us: environment_us(steps, from, it.step),
            queue_us: 0,
        });
        turns.push(TurnSpan {
            role: "assistant".to_owned(),
            start: count(it.prompt_len()),
            end: count(it.length()),
            tool: it.tool.clone(),
            finish_reason: it.finish_reason.clone(),
            generation_us: it.generation_us,
            environment_us: 0,
            queue_us: it.queue_us,
        });
        before = Some(it);
    }
    turns.retain(|it| it.start < it.end);
    turns
}

/// How long the environment took for the steps from one on and before another.
fn environment_us(steps: &[Step], from: Option<u32>, to: Option<u32>) -> u64 {
    let range = from.zip(to).map(|(from, to)| from as usize..(to as usize).min(steps.len()));
    let between = range.and_then(|range| steps.get(range)).unwrap_or_default();
    between.iter().map(|step| u64::from(step.environment_us)).sum()
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use crate::{Observed, PolicyVersion, record::shorten_prompts};

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
            finish_reason: "stop".to_owned(),
            ..Generated::default()
        }
    }

    /// The conversation, which is the same whether prompts are whole or not.
    fn of(generations: &[Generated]) -> Conversation {
        let mut shortened = generations.to_vec();
        shorten_prompts(&mut shortened).unwrap();
        let conversation = Conversation::of(&shortened, &[]);
        assert_eq!(Conversation::of(generations, &[]), conversation);
        conversation
    }

    #[test]
    fn turns_that_continue_each_other_are_one_conversation() {
        let mut second = generated(&[1, 2, 3, 4, 9], &[5], 8);
        second.loss_mask = vec![0];
        let it = of(&[generated(&[1, 2], &[3, 4], 7), second]);
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
    fn spans_say_what_generations_and_steps_say() {
        let step = |environment_us| Step {
            action: "{}".into(),
            observed: Observed::default(),
            environment_us,
            policy_us: 0,
        };
        let listed = Generated {
            step: Some(1),
            tool: "look,go".into(),
            generation_us: 70,
            queue_us: 7,
            ..generated(&[1], &[2], 0)
        };
        // Both tools are steps of their own, and the model is told both answers.
        let after = Generated {
            step: Some(3),
            finish_reason: "length".into(),
            ..generated(&[1, 2, 3], &[4], 0)
        };
        let steps = [step(100), step(20), step(3), step(1000)];
        let it = Conversation::of(&[listed.clone(), after.clone()], &steps);
        let shown: Vec<_> = it
            .turns
            .iter()
            .map(|it| (&*it.role, &*it.tool, &*it.finish_reason, it.environment_us))
            .collect();
        assert_eq!(
            shown,
            [
                ("user", "", "", 100),
                ("assistant", "look,go", "stop", 0),
                ("tool", "look,go", "", 23),
                ("assistant", "", "length", 0),
            ]
        );
        assert_eq!((it.turns[1].generation_us, it.turns[1].queue_us), (70, 7));
        // Where it is not known which step is whose, nor is how long it took.
        for step in [None, Some(0), Some(9)] {
            let odd = Generated { step, ..after.clone() };
            let it = Conversation::of(&[listed.clone(), odd], &steps[..2]);
            assert_eq!(it.turns[2].environment_us, if step == Some(9) { 20 } else { 0 });
        }
    }

    #[test]
    fn what_was_told_anew_is_another_branch() {
        let first = generated(&[1, 2], &[3, 4], 0);
        let told_anew = Generated { parent: Some(0), ..generated(&[1, 2, 30, 9], &[5], 0) };
        let after = Generated { parent: Some(1), ..generated(&[1, 2, 30, 9, 5, 9], &[6], 0) };
        let it = of(&[first, told_anew, after]);
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
        let it = of(&all);
        assert_eq!(it.tokens.token_ids, [1, 2, 3, 9, 4]);
        assert_eq!(it.branch, 0);
        let all = [
            generated(&[1], &[2], 0),
            generated(&[1, 2, 9], &[3], 0),
            generated(&[1, 2, 7], &[4], 0),
        ];
        let it = of(&all);
        assert_eq!(it.tokens.token_ids, [1, 2, 7, 4]);
        assert_eq!((it.branch, it.parent_branch), (1, Some(0)));
    }

    #[test]
    fn what_is_unknown_stays_unknown() {
        let mut odd = generated(&[1, 2], &[3, 4], 0);
        odd.logprobs.clear();
        odd.policy_versions.clear();
        odd.loss_mask.clear();
        let it = of(&[odd]);
        assert!(it.tokens.logprobs.is_empty());
        assert!(it.tokens.policy_versions.is_empty());
        assert_eq!(it.tokens.loss_mask, [0, 0, 1, 1]);
        assert_eq!(of(&[]), Conversation::default());
        // The version alone is known.
        let bare = Generated {
            policy_versions: vec![VersionSpan { version: PolicyVersion(3), tokens: 0 }],
            ..Generated::default()
        };
        assert_eq!(of(&[bare]), Conversation::default());
        // Parents that cannot be are none.
        let odd = Generated { parent: Some(7), ..generated(&[1], &[2], 0) };
        assert_eq!(of(&[odd]).tokens.token_ids, [1, 2]);
    }
}
