//! Stepping a range is stepping its rows.

use envmill_native::{BatchEnv, CartPole, Columns, FrozenLake, Reset, Synthetic, SyntheticOptions};
use proptest::prelude::*;
use std::{ops::Range, time::Duration};

/// Every column of every row after some steps.
#[derive(Debug, PartialEq)]
struct Played<E> {
    observations: Vec<E>,
    rewards: Vec<f64>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
    failed: Vec<u8>,
    delays_ns: Vec<u64>,
}

fn play<B: BatchEnv<Action = u8>>(
    mut environment: B,
    actions: &[Vec<u8>],
    ranges: &[Range<usize>],
) -> Played<B::Element> {
    let rows = actions[0].len();
    let width = B::OBSERVATION_WIDTH;
    environment.resize(rows);
    let mut played = Played {
        observations: vec![B::Element::default(); rows * width],
        rewards: vec![0.0; rows],
        terminated: vec![0; rows],
        truncated: vec![0; rows],
        failed: vec![0; rows],
        delays_ns: vec![0; rows],
    };
    let resets: Vec<_> = (0..rows as u64)
        .map(|row| Reset { seed: Some(row * 7), start: B::Start::default() })
        .collect();
    environment.reset_range(0..rows, &vec![1; rows], &resets, &mut played.observations);
    for actions in actions {
        for range in ranges {
            let range = range.clone();
            environment.step_range(
                range.clone(),
                &actions[range.clone()],
                &mut Columns {
                    observations: &mut played.observations[range.start * width..range.end * width],
                    rewards: &mut played.rewards[range.clone()],
                    terminated: &mut played.terminated[range.clone()],
                    truncated: &mut played.truncated[range.clone()],
                    failed: &mut played.failed[range.clone()],
                    delays_ns: &mut played.delays_ns[range.clone()],
                },
            );
        }
        // Automatic resets are a second pass, with the ended rows as its mask.
        let ended = played.terminated.clone();
        environment.reset_range(
            0..rows,
            &ended,
            &vec![Reset::default(); rows],
            &mut played.observations,
        );
    }
    played
}

fn single_rows(rows: usize) -> Vec<Range<usize>> {
    (0..rows).rev().map(|row| row..row + 1).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_range_is_its_rows(
        actions in (1usize..70).prop_flat_map(|rows| {
            prop::collection::vec(prop::collection::vec(0u8..2, rows), 1..40)
        }),
        cut in 0usize..70,
    ) {
        let rows = actions[0].len();
        let cut = cut.min(rows);
        let whole = [0..cut, cut..rows];
        prop_assert_eq!(
            play(CartPole::default(), &actions, &whole),
            play(CartPole::default(), &actions, &single_rows(rows))
        );
        prop_assert_eq!(
            play(FrozenLake::default(), &actions, &whole),
            play(FrozenLake::default(), &actions, &single_rows(rows))
        );
        let options = SyntheticOptions {
            step: Duration::from_millis(3),
            jitter: 0.5,
            tail: 0.1,
            fail_rate: 0.1,
            episode_steps: 9,
            ..SyntheticOptions::default()
        };
        prop_assert_eq!(
            play(Synthetic::new(options.clone()), &actions, &whole),
            play(Synthetic::new(options), &actions, &single_rows(rows))
        );
    }
}
