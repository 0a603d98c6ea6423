//! Thousands of hostile worlds, each from one number, and those that once found something.
//!
//! Many more: `cargo xtask seeds --count 100000`. That each check in the core is needed by some
//! pinned seed: `cargo xtask mutants`.

use std::{collections::BTreeMap, process::Command};

use envmill_protocol::{FailureKind, record::End};
use envmill_world::{
    Failed, World, each, play, play_resumed, play_resumed_whole_groups, play_whole_groups,
    whole_groups_of,
};

/// One seed a line; what follows a `#` says what it has found.
const PINNED: &str = include_str!("pinned_seeds.txt");

fn pinned() -> Vec<u64> {
    let lines = PINNED.lines().map(|line| line.split('#').next().unwrap().trim());
    lines.filter(|line| !line.is_empty()).map(|line| line.parse().unwrap()).collect()
}

fn all_are_clean<T>(seeds: &[u64], play: impl Fn(u64) -> Result<T, Failed> + Sync) {
    let mut failed: Vec<Failed> = Vec::new();
    let mut played = 0;
    each(seeds, play, |outcome| {
        played += 1;
        failed.extend(outcome.err());
        failed.len() < 10
    });
    let told: Vec<String> = failed
        .iter()
        .map(|world| format!("seed {} fails:\n  {}", world.seed, world.violations.join("\n  ")))
        .collect();
    assert!(
        failed.is_empty(),
        "{}\npin these in pinned_seeds.txt, with what was wrong",
        told.join("\n")
    );
    assert_eq!(played, seeds.len());
}

#[test]
fn pinned_seeds_are_clean() {
    let seeds = pinned();
    assert!(!seeds.is_empty());
    all_are_clean(&seeds, play);
    all_are_clean(&seeds, play_resumed);
}

/// What an engine that was killed has left is gone on with, and nothing is lost or doubled.
#[test]
fn killed_worlds_go_on() {
    all_are_clean(&(10_000..11_500).collect::<Vec<u64>>(), play_resumed);
}

#[test]
fn thousands_of_seeds_are_clean() {
    all_are_clean(&(0..6_000).collect::<Vec<u64>>(), play);
}

/// Groups that are scored as one, by scorers that fail as a whole, in part or not at all: each episode has its
/// one record, and no group waits for ever.
#[test]
fn worlds_that_score_whole_groups_are_clean() {
    all_are_clean(&(0..2_500).collect::<Vec<u64>>(), play_whole_groups);
    all_are_clean(&(10_000..10_500).collect::<Vec<u64>>(), play_resumed_whole_groups);
}

/// Without this the worlds above could be clean because nothing happens in them.
#[test]
fn scorers_of_whole_groups_fail_in_every_way() {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..150 {
        let world = World::played(whole_groups_of(seed));
        for record in &world.records {
            let what = match &record.end {
                End::Failed(failure) if failure.kind == FailureKind::Scorer => {
                    failure.message.clone()
                }
                End::Completed { .. } if record.reward.is_none() => "no reward".into(),
                End::Completed { .. } => "a reward".into(),
                _ => continue,
            };
            *seen.entry(what).or_default() += 1;
        }
    }
    for what in [
        "an exception",
        "it has not answered in time",
        "fewer scores than members",
        "it cannot be judged",
        "no reward",
        "a reward",
    ] {
        assert!(seen.get(what).is_some_and(|count| *count >= 10), "{what}: {seen:?}");
    }
}

const HASHED: std::ops::Range<u64> = 100..130;

fn hashes() -> Vec<String> {
    HASHED.map(|seed| format!("{seed} is {}", play(seed).unwrap().hash)).collect()
}

/// Its output is read by the test below, from another process.
#[test]
fn a_seed_has_a_hash() {
    let first = hashes();
    assert_eq!(first, hashes());
    println!("{}", first.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_records_in_another_process() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "seeds::a_seed_has_a_hash", "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    for line in hashes() {
        assert!(told.contains(&line), "{line} is not in:\n{told}");
    }
}
