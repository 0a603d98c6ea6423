//! Whether there is something to learn from.
//!
//! Proves nothing about a policy that is not at hand. What it tells: the share of groups (episodes of one
//! seed) whose rewards are all the same, from which a group-relative method learns nothing, and how much
//! more a given policy wins than random actions. Without `--policy` the best of some constant actions
//! stands in, which is a weak stand-in. Shares have Wilson's interval, means Student's. None of it is an
//! error.

use std::{collections::BTreeMap, time::Instant};

use crate::{
    finding::{
        Severity::{Note, Warning},
        Sheet,
    },
    play::{Choice, Episode, Halt, Player},
    sample::SAMPLES,
    statistics::{Estimate, mean, share},
    subject::Subject,
};

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let sample = subject.sample()?;
    let sums: Vec<(u32, f64)> = sample
        .random
        .iter()
        .filter_map(|(group, episode)| Some((*group, episode.sum()?)))
        .collect();
    if sums.is_empty() {
        sheet.absent("zero-variance", "groups of one seed", "there are no rewards");
        return Ok(());
    }
    let mut groups: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (group, sum) in &sums {
        groups.entry(*group).or_default().push(*sum);
    }
    groups.retain(|_, sums| sums.len() == SAMPLES as usize);
    let is_flat = |sums: &&Vec<f64>| sums.iter().all(|sum| sum.total_cmp(&sums[0]).is_eq());
    let flat = groups.values().filter(is_flat).count();
    let flat_share = share(flat, groups.len());
    let told = format!(
        "{flat} of {} groups of {SAMPLES} episodes of random actions have one reward for all: {} (95 %, \
         Wilson)",
        groups.len(),
        flat_share.told(2)
    );
    if groups.is_empty() {
        sheet.unchecked("zero-variance", "groups of one seed", "no group was played whole");
    } else if flat_share.value > 0.5 {
        // A few groups tell little.
        let severity = if flat_share.low > 0.5 { Warning } else { Note };
        sheet.add(
            severity,
            "zero-variance",
            "most groups have no variance: there is no gradient in them",
            told,
            "make rewards finer, choose tasks of the policy's level, or drop such groups with \
             --group-filter zero-variance",
        );
    } else {
        sheet.pass("zero-variance", "groups of one seed have rewards that differ", told);
    }
    let returns: Vec<f64> = sums.into_iter().map(|(_, sum)| sum).collect();
    headroom(subject, sheet, mean(&returns))
}

/// What a policy wins over random actions.
fn headroom(subject: &Subject<'_>, sheet: &mut Sheet, random: Estimate) -> Result<(), Halt> {
    let (name, best) = match &subject.baseline {
        Some(baseline) => {
            let until = subject.until(30);
            let mut player = Player::new(subject);
            let mut sums = Vec::new();
            for (number, script) in baseline.scripts.iter().enumerate() {
                if Instant::now() >= until || subject.peer.stop().is_asked() {
                    break;
                }
                let group = (number as u64) / u64::from(SAMPLES);
                let seed = script.seed.unwrap_or(subject.options.seed.wrapping_add(group));
                let steps_max = subject.options.max_steps;
                let episode = player.play(seed, &mut Choice::script(script), steps_max)?;
                sums.extend(episode.sum());
            }
            (baseline.name.clone(), mean(&sums))
        }
        None => {
            let best = subject
                .sample()?
                .constant
                .iter()
                .map(|(action, episodes)| {
                    let sums: Vec<f64> = episodes.iter().filter_map(Episode::sum).collect();
                    (format!("always {action} (the best of some, a weak stand-in)"), mean(&sums))
                })
                .filter(|(_, sum)| sum.low.is_finite())
                .max_by(|a, b| a.1.value.total_cmp(&b.1.value));
            let Some(best) = best else {
                sheet.unchecked(
                    "headroom",
                    "what a policy wins over random actions",
                    "no policy to compare: give --policy replay:FILE or constant:JSON",
                );
                return Ok(());
            };
            best
        }
    };
    let told = format!(
        "mean return {} of random actions, {} of {name} (95 %, Student)",
        random.told(3),
        best.told(3)
    );
    if best.low > random.high {
        sheet.pass("headroom", "there is something to win over random actions", told);
    } else {
        sheet.add(
            Note,
            "headroom",
            "no policy at hand wins more than random actions",
            told,
            "give a better one with --policy replay:FILE to see how much there is to win",
        );
    }
    Ok(())
}
