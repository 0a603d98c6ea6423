//! Prompts as continuations: random trees of generations, shortened and put together again.

use envmill_protocol::{
    Generated, GeneratedKind,
    record::{Conversation, check_prompts, shorten_prompts, whole_prompt},
};
use proptest::{collection::vec, option, prelude::*};

use crate::trajectories::{any_generations, example};

/// A generation that goes on from an earlier one: from all of it, or from so many of its ids.
#[derive(Clone, Debug)]
struct Next {
    from: prop::sample::Index,
    kept: Option<prop::sample::Index>,
    told: Vec<u32>,
    sampled: Vec<u32>,
    /// The earlier one is named, another is, or none.
    parent: Option<Option<prop::sample::Index>>,
    kind: GeneratedKind,
}

fn next() -> impl Strategy<Value = Next> {
    let kind = prop_oneof![
        4 => Just(GeneratedKind::Agent),
        1 => Just(GeneratedKind::Auxiliary),
        1 => Just(GeneratedKind::Discarded),
    ];
    // Few ids, so that what was rendered anew agrees by chance, too.
    let ids = |most| vec(0..3u32, 0..most);
    let index = any::<prop::sample::Index>;
    (index(), option::of(index()), ids(4), ids(4), option::of(option::of(index())), kind).prop_map(
        |(from, kept, told, sampled, parent, kind)| Next {
            from,
            kept,
            told,
            sampled,
            parent,
            kind,
        },
    )
}

/// The generations, with whole prompts.
fn tree(nexts: Vec<Next>) -> Vec<Generated> {
    let mut all: Vec<Generated> = Vec::new();
    for Next { from, kept, told, sampled, parent, kind } in nexts {
        let from = (!all.is_empty()).then(|| from.index(all.len()));
        let mut prompt = from.map_or_else(Vec::new, |it| everything(&all[it]));
        if let Some(kept) = kept {
            prompt.truncate(kept.index(prompt.len() + 1));
        }
        prompt.extend(told);
        // Also one that does not exist yet.
        let named = parent.map(|it| it.map_or(from, |other| Some(other.index(all.len() + 1))));
        all.push(Generated {
            prompt_token_ids: prompt,
            token_ids: sampled,
            parent: named.flatten().map(|it| u32::try_from(it).unwrap()),
            kind,
            ..Generated::default()
        });
    }
    all
}

fn everything(whole: &Generated) -> Vec<u32> {
    [&whole.prompt_token_ids[..], &whole.token_ids].concat()
}

/// The tokens of the conversation that the last generation of the agent ends, by looking at all of them.
fn tokens(whole: &[Generated]) -> (Vec<u32>, Vec<usize>) {
    let is_agent = |it: &Generated| it.kind == GeneratedKind::Agent;
    let continues = |later: usize, earlier: usize| {
        let earlier = &whole[earlier];
        let prompt = &whole[later].prompt_token_ids;
        !earlier.token_ids.is_empty() && prompt.starts_with(&everything(earlier))
    };
    let spoken = |it: &Generated| is_agent(it) && !it.token_ids.is_empty();
    let mut chain: Vec<usize> = whole.iter().rposition(spoken).into_iter().collect();
    while let Some(&last) = chain.last() {
        let earlier = match whole[last].parent {
            Some(named) => {
                Some(named as usize).filter(|named| *named < last && continues(last, *named))
            }
            None => (0..last).rev().find(|it| is_agent(&whole[*it]) && continues(last, *it)),
        };
        match earlier {
            Some(earlier) => chain.push(earlier),
            None => break,
        }
    }
    let tokens = chain.first().map_or_else(Vec::new, |last| everything(&whole[*last]));
    chain.reverse();
    (tokens, chain.iter().map(|it| whole[*it].prompt_token_ids.len()).collect())
}

proptest! {
    #[test]
    fn what_was_shortened_is_put_together_again(nexts in vec(next(), 0..24)) {
        let whole = tree(nexts);
        let mut shortened = whole.clone();
        shorten_prompts(&mut shortened).unwrap();
        prop_assert_eq!(check_prompts(&shortened), Ok(()));
        for (index, it) in whole.iter().enumerate() {
            prop_assert_eq!(&whole_prompt(&shortened, index), &it.prompt_token_ids);
            prop_assert_eq!(shortened[index].prompt_len(), it.prompt_token_ids.len());
        }
        // Nothing is left that could be shared.
        let mut again = shortened.clone();
        shorten_prompts(&mut again).unwrap();
        prop_assert_eq!(again, &shortened[..]);
        // The conversation is the same, and as it is by looking at everything.
        let conversation = Conversation::of(&shortened, &[]);
        prop_assert_eq!(&Conversation::of(&whole, &[]), &conversation);
        let (tokens, prompts) = tokens(&whole);
        prop_assert_eq!(&conversation.tokens.token_ids, &tokens);
        let begins: Vec<_> = conversation
            .turns
            .iter()
            .filter(|it| it.role == "assistant")
            .map(|it| it.start as usize)
            .collect();
        prop_assert_eq!(begins, prompts);
    }

    #[test]
    fn nothing_that_generations_say_of_themselves_panics(mut generations in any_generations()) {
        let possible = check_prompts(&generations).is_ok();
        for index in 0..=generations.len() {
            let whole = whole_prompt(&generations, index);
            let length = generations.get(index).map_or(0, Generated::prompt_len);
            prop_assert!(whole.len() == length || !possible);
        }
        let before = Conversation::of(&generations, &[]);
        let shortened = shorten_prompts(&mut generations);
        prop_assert_eq!(shortened.is_ok(), possible);
        if possible {
            prop_assert_eq!(Conversation::of(&generations, &[]), before);
        }
    }
}

#[test]
fn the_example_is_its_conversation() {
    let record = example();
    let conversation = Conversation::of(&record.generations, &record.steps);
    assert_eq!((conversation.tokens, conversation.turns), (record.tokens, record.turns));
    assert_eq!(whole_prompt(&record.generations, 1), [1, 887, 13, 40, 41, 2, 902]);
}
